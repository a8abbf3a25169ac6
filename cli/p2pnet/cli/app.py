"""The program: its verbs by name, each imported only when it is asked for, and the way from the words typed to an exit code."""

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
import typer.core

from p2pnet.cli import shell_completion
from p2pnet.cli.coercion import MARK, QuickCommand, QuickGroup
from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.options import VerbOptions
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.program import VERBS, as_called, command_line, program_name
from p2pnet.cli.session import Session, cannot_write_stdout, open_session
from p2pnet.cli.target_choice import find_target

VERBS_PACKAGE = "p2pnet.cli.verbs"
SIM_HINT = "p2pnet sim -f FILE simulates a document, from its start to its report"
"""What to do where a verb wants nodes that run, and `--on sim` was said."""
Work: TypeAlias = Callable[[Session], Coroutine[Any, Any, Outcome]]
"""What a verb does, with its own options already in it."""


class VerbCommand(QuickCommand):
    """A verb. Typer makes the dataclass of its options; what its module's `run` does with them ends in an exit code."""

    def invoke(self, ctx: Any) -> int:
        """The exit code."""
        options = super().invoke(ctx)
        run = importlib.import_module(f"{VERBS_PACKAGE}.{self.name}").run
        return _execute(str(self.name), partial(run, options), options)


class VerbCommands(Mapping[str, Any]):
    """Verb -> its command, made from the module of that name when it is asked for."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in VERBS:
            raise KeyError(name)
        if name not in self._made:
            module = importlib.import_module(f"{VERBS_PACKAGE}.{name}")
            alone = typer.Typer(add_completion=False, rich_markup_mode=None)
            example = as_called(f"\b\nExample:\n  {module.EXAMPLE}")
            alone.command(name, cls=VerbCommand, epilog=example)(getattr(module, f"{name.title()}Options"))
            self._made[name] = typer.main.get_command(alone)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(VERBS)

    def __len__(self) -> int:
        return len(VERBS)


class VerbGroup(QuickGroup):
    """The program without a verb. Lists and completes verbs without importing any."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = VerbCommands()  # type: ignore[assignment] # only read

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The list of verbs in the help."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Verbs, then options, that begin with what is typed."""
        own = typer.core.TyperCommand.shell_complete(self, ctx, incomplete)
        verbs = [(name, help_) for name, help_ in VERBS.items() if name.startswith(incomplete)]
        return [*shell_completion.items(verbs), *own]


app = typer.Typer(
    name="p2pnet",
    cls=VerbGroup,
    help="Put an artifact into a network of QUIC peers and see who got it, when, and through whom.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: it reads well anywhere, and rich need not be imported for it
    pretty_exceptions_enable=False,
    epilog=as_called(
        "\b\nStart here:\n  p2pnet up demo --nodes 10\n  p2pnet inject demo --size 64KiB\n  p2pnet down demo"
    ),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _execute(verb: str, work: Work, options: VerbOptions) -> int:
    from p2pnet.cli.exit_handling import run_command  # with asyncio, which help does without

    def tell(where: str) -> None:
        session.remark(where)  # a target is found through the session, which exists by then

    name = getattr(options, "name", None)
    find = partial(find_target, options.place, name=name, verb=verb, tell=tell)
    session = open_session(find, output=options.output, quiet=options.quiet, place=options.place, name=str(name or ""))
    return run_command(session, work, verbose=options.verbose)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"p2pnet {version('p2pnet')}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    del version  # its callback has done the work


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `p2pnet ARGUMENTS` (default: of this process); the exit code. Nothing but a person's Ctrl-C gets out of here."""
    _ready_streams()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if os.environ.get(shell_completion.VARIABLE):
        return shell_completion.answer(typer.main.get_command(app))
    try:
        code = typer.main.get_command(app).main(words, prog_name=program_name(), standalone_mode=False)
    except typer.TyperException as error:
        return _usage(error, words)
    except typer.Abort:
        return ExitCode.INTERRUPTED
    except SystemExit:  # how typer ends when nobody reads its help to the end
        return ExitCode.OK
    except OSError as error:  # only help and version are written here
        return _unwritten(error)
    return code if isinstance(code, int) else ExitCode.OK


def _unwritten(error: OSError) -> int:
    failure = cannot_write_stdout(error)
    with contextlib.suppress(OSError):
        sys.stderr.write(as_called("\n".join(failure.lines()) + "\n"))
    return failure.exit_code


def _ready_streams() -> None:
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started us
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 ours until the end
        elif hasattr(stream, "reconfigure") and name != "stdin":
            stream.reconfigure(errors="replace")  # a latin-1 terminal shows `?`, it does not end a run


def _usage(error: typer.TyperException, words: list[str]) -> int:
    context = getattr(error, "ctx", None)
    verb = f" {words[0]}" if words and words[0] in VERBS else ""
    path = context.command_path if context is not None else f"{program_name()}{verb}"
    if not words:
        sys.stderr.write(error.format_message() + "\n")  # the help itself
        return ExitCode.USAGE
    failure = CommandError(
        _in_a_line(error.format_message().replace("Value error, ", "")),
        where=command_line(words),
        next_step=SIM_HINT if "'sim' is not one of" in error.format_message() else f"{path} --help",
    )
    sys.stderr.write(as_called("\n".join(failure.lines()) + "\n"))
    return failure.exit_code


def _in_a_line(message: str) -> str:
    """A message of the parser, which sets what can be chosen below each other."""
    return " ".join(
        message.replace(MARK, "").replace(repr(MARK)[1:-1], "").replace(". Choose from:", ": choose one of").split()
    ).rstrip(".")
