"""Command lines that we print somewhere, read by the real application without running anything."""

import re
from collections.abc import Iterator
from typing import Any

import typer

from p2pnet.cli import verbs as _verbs  # noqa: F401 registers every verb
from p2pnet.cli.app import app

COMMAND = re.compile(r"(?<![-\w/.])(?:kubectl )?p2pnet ((?:[a-z]+)(?: +[^`'\";|)#\\\n]*)?)")
"""A command line in a text, up to what ends it in prose."""


def application() -> Any:
    """The whole application as typer runs it."""
    return typer.main.get_command(app)


def parse(words: list[str]) -> None:
    """Read a command line. Raises what typer raises for a verb, an option or a value that does not exist."""
    whole = application()
    with whole.make_context("p2pnet", list(words), resilient_parsing=False) as context:
        name, command, rest = whole.resolve_command(context, list(words))
        command.make_context(name, rest, parent=context)


def unknown(text: str, options: dict[str, set[str]]) -> Iterator[str]:
    """The commands in a text whose verb or whose options do not exist, in words."""
    for found in COMMAND.finditer(text):
        verb, *rest = found.group(1).split()
        if verb not in options:
            yield f"{found.group(0)!r}: there is no verb {verb}"
            continue
        for word in rest:
            option = re.match(r"--?[a-z][-a-z]*", word)
            if option and option.group(0) not in options[verb]:
                yield f"{found.group(0)!r}: {verb} has no {option.group(0)}"


def options_of_verbs() -> dict[str, set[str]]:
    """Verb -> how its options are typed."""
    return {
        name: {typed for parameter in command.params for typed in (*parameter.opts, *parameter.secondary_opts)}
        | {"--help"}
        for name, command in application().commands.items()
    }
