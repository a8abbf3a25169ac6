"""Pages of the command line: verbs with their options, and exit codes."""

import ast
import inspect
from typing import Any

import typer
from docs.website.markup import block, code, page, plain, table

from p2pnet.cli import exit_code
from p2pnet.cli.app import app
from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.program import VERBS


def verbs_page() -> str:
    """Every verb: what it does, how it is typed, its arguments and options, an example."""
    intro = "Generated from the program. What scripts rely on, JSON and more, is in [the command line](../docs/cli.md)."
    overview = table(
        ("verb", ""), [(f"[{code(verb)}](#{_target(verb)})", plain(first)) for verb, first in VERBS.items()]
    )
    return page("# Verbs and options", intro, overview, *(verb_section(verb) for verb in VERBS))


def verb_section(verb: str) -> str:
    """One verb, as Markdown."""
    group: Any = typer.main.get_command(app)
    command = group.commands[verb]
    whole = group.make_context("p2pnet", [], resilient_parsing=True)
    with command.make_context(verb, [], parent=whole, resilient_parsing=True) as context:
        records = [one.get_help_record(context) for one in command.get_params(context)]
        usage = command.get_usage(context).partition(" ")[2]
    rows = [(code(typed), plain(meaning)) for typed, meaning in filter(None, records)]
    example = inspect.cleandoc(str(command.epilog)).partition("Example:")[2]
    paragraphs = [plain(one) for one in inspect.cleandoc(command.help or "").replace("\b", "").split("\n\n")]
    return page(
        f"({_target(verb)})=\n## {verb}",
        *paragraphs,
        block(" ".join(usage.split()), "text"),
        table(("typed", "meaning"), rows),
        block(inspect.cleandoc(example), "sh"),
    ).rstrip()


def _target(verb: str) -> str:
    return f"verb-{verb}"


def exit_code_meanings() -> dict[ExitCode, str]:
    """Code -> what it means: the string below each in the module of `ExitCode`."""
    [kind] = [node for node in ast.parse(inspect.getsource(exit_code)).body if isinstance(node, ast.ClassDef)]
    found = {}
    for member, text in zip(kind.body, kind.body[1:], strict=False):
        match member, text:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(value=ast.Constant(value=str(words))):
                found[ExitCode[name]] = words
    return found


def exit_codes_page() -> str:
    """Every exit code."""
    rows = [(str(int(one)), code(one.name), plain(words)) for one, words in exit_code_meanings().items()]
    intro = (
        "Generated from the program; a contract. Which verb gives which: [the command line](../docs/cli.md#exit-codes)."
    )
    return page("# Exit codes", intro, table(("code", "name", "meaning"), rows))
