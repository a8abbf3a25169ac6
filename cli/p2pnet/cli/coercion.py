"""The words of a command line turned into values without pydantic, which typer imports for it: 60 ms of every command.

Only words that are right go this way. All others, and kinds that are not known here, are left to typer, whose messages
stay its own. Should typer one day read words in another way, nothing here is called any more and nothing breaks.
"""

import os
import re
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from typer.core import TyperCommand, TyperGroup

WHOLE = re.compile(r"-?[0-9]{1,18}")


class UnsureError(Exception):
    """This word is typer's to judge."""


class Reader:
    """Stands in for typer's own reader of one parameter; asks that one, made only then, about everything it is not sure of."""

    def __init__(self, parameter: Any, typers: Callable[[], Any]) -> None:
        self._parameter = parameter
        self._typers = typers

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """What typer's reader would make of the value."""
        value = as_typed(value)
        try:
            return self._quick(value)
        except UnsureError:
            return self._typers().coerce(value, param=param, ctx=ctx)

    def _quick(self, value: Any) -> Any:
        descriptor = getattr(self._parameter, "type_descriptor", None)
        if descriptor is None:
            raise UnsureError
        kind, info = descriptor.annotation, descriptor.parameter_info
        several = self._parameter.multiple or self._parameter.nargs == -1
        if value is None:
            return () if several else None
        if not several:
            return read(value, kind, info)
        if get_origin(kind) is not list or not isinstance(value, list | tuple):
            raise UnsureError
        return [read(one, get_args(kind)[0], info) for one in value]


def read(value: Any, kind: Any, info: Any) -> Any:
    """A value of this kind. Raises UnsureError, and what a parser of ours raises."""
    if info.parser is not None:
        return info.parser(value)
    if get_origin(kind) is Literal and value in get_args(kind):
        return value
    if not isinstance(kind, type):
        raise UnsureError
    if issubclass(kind, Enum):
        return _choice(value, kind)
    if kind is Path:
        return _path(value)
    if kind is str and isinstance(value, str):
        return value
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int:
        return _number(value, info)
    raise UnsureError


def _choice(value: Any, kind: type[Enum]) -> Enum:
    if isinstance(value, kind):
        return value
    for member in kind:
        if member.value == value:
            return member
    raise UnsureError


def _path(value: Any) -> Path:
    if not isinstance(value, str | Path):
        raise UnsureError
    path = Path(value)
    try:
        readable = not path.exists() or os.access(path, os.R_OK)
    except (OSError, ValueError):
        readable = False
    if not readable:
        raise UnsureError
    return path


def _number(value: Any, info: Any) -> int:
    if isinstance(value, str) and WHOLE.fullmatch(value):
        value = int(value)
    low = info.min is None or (isinstance(value, int) and value >= info.min)
    high = info.max is None or (isinstance(value, int) and value <= info.max)
    if not isinstance(value, int) or not low or not high:
        raise UnsureError
    return value


COUNTED = ("run", "artifact", "base", "head")
"""Parameters that take a RUN or an ARTIFACT."""
MARK = "\0"  # before a `-N` while the words are parsed: nobody can type it
COUNTED_BACK = re.compile(r"latest(?:~([0-9]{1,6}))?|-([1-9][0-9]{0,5})")


def counted_back(word: str) -> int | None:
    """How many before the latest `latest`, `-1`, `-2` or `latest~1` mean; None for another word."""
    match = COUNTED_BACK.fullmatch(word)
    if match is None:
        return None
    return int(match[2]) - 1 if match[2] else int(match[1] or 0)


class QuickCommand(TyperCommand):
    """A verb whose parameters have a `Reader`; one that takes a RUN or an ARTIFACT takes `-1` for one, too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As typer does; `-1` would be an option there."""
        if any(parameter.name in COUNTED for parameter in self.params):
            args = _spelled_out(args, self.get_params(ctx))
        return super().parse_args(ctx, args)

    def get_params(self, ctx: Any) -> Any:
        """All of them, `--help` too."""
        return _hastened(super().get_params(ctx))


class QuickGroup(TyperGroup):
    """The same for the program itself."""

    def get_params(self, ctx: Any) -> Any:
        """All of them, `--help` too."""
        return _hastened(super().get_params(ctx))


def _spelled_out(args: list[str], parameters: list[Any]) -> list[str]:
    """The words with every `-N` that is no option's value marked, so that no parser takes it for an option."""
    valued = {
        option
        for parameter in parameters
        if parameter.param_type_name == "option" and not getattr(parameter, "is_flag", False)
        for option in parameter.opts
    }
    words: list[str] = []
    for place, word in enumerate(args):
        if word == "--":
            return words + args[place:]
        value = place > 0 and args[place - 1] in valued
        back = counted_back(word) if word.startswith("-") and not value else None
        words.append(word if back is None else f"{MARK}{word}")
    return words


def as_typed(value: Any) -> Any:
    """A word, or several, without the mark."""
    if isinstance(value, str):
        return value.removeprefix(MARK)
    if isinstance(value, list | tuple):
        return type(value)(map(as_typed, value))
    return value


def _hastened(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        typers = getattr(parameter, "get_runtime_param", None)
        if typers is not None and "get_runtime_param" not in vars(parameter):
            reader = Reader(parameter, typers)
            parameter.get_runtime_param = lambda reader=reader: reader
    return parameters
