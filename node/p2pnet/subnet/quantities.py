"""How the Subnet document writes values: quantities, text that keeps its unit with the number beside it, and others' own.

Used by `subnet` only.
"""

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from math import isfinite
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticCustomError, core_schema

from p2pnet.model import limits, units
from p2pnet.model.errors import SpecError

SETTINGS_CHARS_MAX = 65_536  # of one client: a ConfigMap holds 1 MiB, and 8 clients twice, for nodes and for the lab
SETTINGS_DEPTH_MAX = 32
_INT_END = 1 << 63  # an API server makes larger numbers inexact
_TEXT_CHARS_MAX = 32
PATTERN_WORDS = "patternErrorMessage"  # known to editors: yaml-language-server and VS Code show it
Text = Annotated[str, Field(max_length=limits.NAME_CHARS_MAX)]
_seconds = lru_cache(maxsize=256)(units.parse_duration)  # one spec's texts are asked for once per node, again and again


class Document(BaseModel):
    """Base of every part of the document: camelCase keys, unknown keys refused, nothing converted silently."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=False, extra="forbid", strict=True, frozen=True, allow_inf_nan=False,
    )  # fmt: skip

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        from p2pnet.subnet.descriptions import descriptions_of

        found, texts = handler(schema), descriptions_of(cls)
        properties = handler.resolve_ref_schema(found).get("properties", {})
        for name, field in cls.model_fields.items():
            if name in texts and (there := properties.get(field.alias or name)) is not None:
                there.setdefault("description", texts[name])
        return found


def wrong(text: str, words: str) -> PydanticCustomError:
    """The error of a text that is none of what it should be: `'5' is no duration: ...`."""
    return PydanticCustomError("wrong_text", "{said}", {"said": f"{text!r} is {words}"})


def is_whole(pattern: str, text: str) -> bool:
    """Whether a whole text is of a pattern as CEL, which is Go's, reads it: a vertical tab or a wide space is no space to it."""
    return _as_go(pattern).fullmatch(text) is not None


@cache
def _as_go(pattern: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"(?<!\[)\\s", r"[ \\t\\n\\f\\r]", pattern), re.ASCII)


def pattern_schema(pattern: str, words: str) -> JsonSchemaValue:
    """The pattern of a text in a JSON Schema, with its words as editors and our CRDs show them."""
    return {"pattern": pattern, PATTERN_WORDS: words}


@dataclass(frozen=True, slots=True)
class Worded:
    """In an annotation: a text of a pattern, with words for one that is not. One pattern for Python, JSON Schema and CEL."""

    pattern: str
    """Matches the whole text, as regular expressions of Python and of Go read it alike."""
    words: str
    """What a text of another form is told after `'X' is`: `no name of a group: write ...`."""

    def check(self, text: str) -> str:
        """The text itself. Raises pydantic's error."""
        if not is_whole(self.pattern, text):
            raise wrong(text, self.words)
        return text

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(schema), **pattern_schema(self.pattern, self.words)}


class Quantity(str):
    """A text like `90ms`. It stays the text that was written (documents round-trip) and knows its number."""

    __slots__ = ()
    pattern: ClassVar[str]
    words: ClassVar[str]
    """What a text that is none is told after `'5' is`."""
    chars_max: ClassVar[int] = _TEXT_CHARS_MAX

    @staticmethod
    def parse(text: str) -> float:
        """The number in a text, in the base unit. Raises SpecError."""
        raise TypeError(f"{text!r}: a quantity of no kind")

    @property
    def number(self) -> float:
        """In the base unit."""
        return self.parse(self)

    @classmethod
    def read(cls, value: object) -> Self:
        """The quantity in a text. Raises pydantic's error, worded by `units`, for a bare number or a wrong unit."""
        if isinstance(value, str) and len(value) > cls.chars_max:
            raise PydanticCustomError("quantity", "write at most {chars} characters", {"chars": cls.chars_max})
        text = str(value)  # a bare number has no unit, which is what the message says
        try:
            cls.parse(text)
        except SpecError as error:
            raise PydanticCustomError("quantity", "{message}", {"message": str(error)}) from None
        if not is_whole(cls.pattern, text):  # a command line's options may have spaces around them
            raise wrong(text, cls.words)
        return cls(value)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.read, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "maxLength": cls.chars_max, **pattern_schema(cls.pattern, cls.words)}


class DurationText(Quantity):
    """`90ms`, `30s`, `10m`, `2h`, `7d`."""

    __slots__ = ()
    pattern = r"^[0-9]+(\.[0-9]+)?\s*(us|ms|s|m|h|d)$"
    words = units.NO_DURATION

    @staticmethod
    def parse(text: str) -> float:
        """As `units.parse_duration`."""
        return units.parse_duration(text)

    @property
    def seconds(self) -> float:
        """The duration in seconds."""
        return _seconds(self)


class SizeText(Quantity):
    """`64KiB`, `128Mi`, `1MB`."""

    __slots__ = ()
    pattern = r"^[0-9]+(\.[0-9]+)?\s*(B|KB|kB|MB|GB|Ki|KiB|Mi|MiB|Gi|GiB)$"
    words = units.NO_SIZE

    @staticmethod
    def parse(text: str) -> float:
        """As `units.parse_size`."""
        return units.parse_size(text)

    @property
    def bytes(self) -> int:
        """The size in bytes."""
        return units.parse_size(self)


class BandwidthText(Quantity):
    """`50Mbit`, per second."""

    __slots__ = ()
    pattern = r"^[0-9]+(\.[0-9]+)?\s*([kKMG]?bit)$"
    words = units.NO_BANDWIDTH

    @staticmethod
    def parse(text: str) -> float:
        """As `units.parse_bandwidth`."""
        return units.parse_bandwidth(text)

    @property
    def bits_per_second(self) -> float:
        """The bandwidth in bits per second."""
        return units.parse_bandwidth(self)


class RateText(Quantity):
    """`6/m`, above zero."""

    __slots__ = ()
    pattern = r"^[0-9]+(\.[0-9]+)?\s*/[smh]$"
    words = units.NO_RATE

    @staticmethod
    def parse(text: str) -> float:
        """As `units.parse_rate`."""
        return units.parse_rate(text)

    @property
    def per_second(self) -> float:
        """Events per second."""
        return units.parse_rate(self)


class ShareText(Quantity):
    """`0.2%`."""

    __slots__ = ()
    pattern = r"^[0-9]+(\.[0-9]+)?\s*%$"
    words = units.NO_SHARE

    @staticmethod
    def parse(text: str) -> float:
        """As `units.parse_share`."""
        return units.parse_share(text)

    @property
    def ratio(self) -> float:
        """The share between 0 and 1."""
        return units.parse_share(self)


def check_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """JSON values alone, as many as a node's config has room for. Looks at no more than that: YAML's aliases multiply."""
    room = SETTINGS_CHARS_MAX
    waiting: list[tuple[str, object, int]] = [(key, value, 1) for key, value in settings.items()]
    while waiting:
        path, value, depth = waiting.pop()
        room -= len(path) + (len(value) if isinstance(value, str | list | dict) else 8)
        if room < 0 or depth > SETTINGS_DEPTH_MAX:
            raise PydanticCustomError(
                "settings",
                "hold more than {chars} characters, or {depth} values one inside the other",
                {"chars": SETTINGS_CHARS_MAX, "depth": SETTINGS_DEPTH_MAX},
            )
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            waiting += [(key, one, depth + 1) for key, one in value.items()]
        elif isinstance(value, list):
            waiting += [(path, one, depth + 1) for one in value]
        elif not _is_json(value):
            found = {"key": path, "kind": type(value).__name__}
            raise PydanticCustomError("settings", "{key}: a value of type {kind} that JSON does not have", found)
    return settings


def _is_json(value: object) -> bool:
    if isinstance(value, float):
        return isfinite(value)
    return value is None or isinstance(value, str | bool) or (isinstance(value, int) and -_INT_END <= value < _INT_END)
