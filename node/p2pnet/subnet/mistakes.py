"""Words for what is wrong in a document: pydantic's errors as sentences with paths, and many sentences as one error.

Used by `subnet`, and by `scenario`, whose document holds one.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from p2pnet.model.errors import SpecError
from p2pnet.subnet.quantities import Document
from p2pnet.subnet.spec import Subnet

ERRORS_SHOWN_MAX = 10
PLACES_SHOWN_MAX = 3
KEYS_SHOWN_MAX = 4
FAR_CUTOFF = 0.75
"""How alike a key of another place must be to be meant, from 0 to 1; one of the same place needs difflib's 0.6."""
KINDS_IN_YAML = {
    "model_type": "should be a mapping", "dict_type": "should be a mapping", "list_type": "should be a list",
    "bool_type": "should be true or false", "bool_parsing": "should be true or false",
}  # fmt: skip
"""What pydantic calls by Python's names, as whoever writes YAML knows it."""

Place = tuple[int | str, ...]
"""Steps from the document down to a part of it: keys, and numbers in lists."""
Mistake = tuple[str, str]
"""Path in the document, and what is wrong there."""


def spec_error(sentences: Sequence[str], where: str = "") -> SpecError:
    """One error of all sentences, of which the first ten are shown; `where` goes before them."""
    shown = list(sentences[:ERRORS_SHOWN_MAX])
    if len(sentences) > len(shown):
        shown.append(f"... and {len(sentences) - len(shown)} more")
    return SpecError(
        where + shown[0] if len(shown) == 1 else f"{where}{len(sentences)} mistakes\n  " + "\n  ".join(shown)
    )


def sentences_of(error: ValidationError, within: Place = (), *, root: type[Document] = Subnet) -> list[str]:
    """`spec.groups[0].nodes: what is wrong` for each of pydantic's errors.

    `within`: where the part that was read stands in the document, which is a `root`; paths begin below it.
    """
    # A default that waits for a field that is wrong is no mistake of its own.
    found = [one for one in error.errors(include_url=False) if one["type"] != "default_factory_not_called"]
    return [_sentence(one, within, root) for one in found]


def twice(path: str, names: Iterable[str]) -> list[Mistake]:
    """Names that stand in a list a second time."""
    seen: set[str] = set()
    found: list[Mistake] = []
    for index, name in enumerate(names):
        if name in seen:
            found.append((f"{path}[{index}].name", f"{name!r} stands here twice"))
        seen.add(name)
    return found


def without_nulls(value: Any) -> Any:
    """As an API server keeps a document, without the nulls that mean "unset" there; a client's settings are its own."""
    if isinstance(value, Mapping):
        return {key: one if key == "settings" else without_nulls(one) for key, one in value.items() if one is not None}
    return [without_nulls(one) for one in value] if isinstance(value, list) else value


def _sentence(error: ErrorDetails, within: Place, root: type[Document]) -> str:
    path = ""
    for part in error["loc"]:
        if part == "[key]":  # pydantic's mark for "the key itself"
            continue
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    message = re.sub(r"^(?:Input|String|List|Dictionary) (?=should)", "", error["msg"])
    message = message.replace("Field required", "is missing").replace(" after validation", "")
    message = KINDS_IN_YAML.get(error["type"], message)
    if error["type"] == "extra_forbidden":
        message = _unknown_key((*within, *error["loc"]), root)
    elif error["type"] == "model_type" and (known := _part_at((*within, *error["loc"]), root)) is not None:
        message += f" with keys like {', '.join(_keys_of(known)[:KEYS_SHOWN_MAX])}"
    if error["type"].endswith(("_type", "_parsing")) and not isinstance(error["input"], dict | list):
        message += f", not {error['input']!r}"
    return f"{path or 'the document'}: {message}" if path or not within else message


def _unknown_key(loc: Place, root: type[Document]) -> str:
    """What a key that is not known there may have meant: one of that place, or one that belongs elsewhere."""
    *place, key = loc
    here = _part_at(place, root)
    near = get_close_matches(str(key), _keys_of(here), n=1) if here is not None else []
    if near:
        return f"unknown key, did you mean {near[0]!r}?"
    paths = _paths_by_key(root)
    meant = [str(key)] if str(key) in paths else get_close_matches(str(key), paths, n=1, cutoff=FAR_CUTOFF)
    if not meant:
        return "unknown key"
    places = paths[meant[0]][:PLACES_SHOWN_MAX]
    verb = "it belongs to" if meant[0] == key else "did you mean"
    return f"unknown key here, {verb} {' or '.join(places)}" + ("?" if verb == "did you mean" else "")


def _keys_of(part: type[Document]) -> list[str]:
    return [field.alias or name for name, field in part.model_fields.items()]


def _parts_in(annotation: object) -> list[type[Document]]:
    """The parts of the document that a field's type names, in a list or beside None too."""
    if isinstance(annotation, type) and issubclass(annotation, Document):
        return [annotation]
    return [part for argument in get_args(annotation) for part in _parts_in(argument)]


def _part_at(place: Sequence[int | str], root: type[Document]) -> type[Document] | None:
    """The part of the document at a path; None where keys are the user's own."""
    part: type[Document] | None = root
    for step in place:
        if isinstance(step, int):
            continue
        fields = {field.alias or name: field for name, field in part.model_fields.items()} if part is not None else {}
        inner = _parts_in(fields[step].annotation) if step in fields else []
        part = inner[0] if inner else None
    return part


@cache
def _paths_by_key(root: type[Document]) -> dict[str, list[str]]:
    """Where every key belongs, the shortest paths first: `degree` -> `spec.topology.degree`."""
    paths: dict[str, list[str]] = {}
    waiting: list[tuple[str, tuple[type[Document], ...]]] = [("", (root,))]
    for prefix, way in waiting:
        for name, field in way[-1].model_fields.items():
            path = prefix + (field.alias or name)
            paths.setdefault(field.alias or name, []).append(path)
            step = "[]." if get_origin(field.annotation) is list else "."
            # A part that holds itself is gone into once.
            waiting += [(path + step, (*way, inner)) for inner in _parts_in(field.annotation) if inner not in way]
    return {key: sorted(found, key=lambda path: (path.count("."), path)) for key, found in paths.items()}
