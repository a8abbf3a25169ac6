"""The program: verbs by name, the options they share, and one way from a command to an exit code."""

import contextlib
import functools
import inspect
import io
import os
import shlex
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import typer

from p2pnet.cli import shell_completion
from p2pnet.cli.coercion import QuickCommand, QuickGroup
from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.render import Output
from p2pnet.cli.session import On, Session, cannot_write_stdout

COMPLETE = "_P2PNET_COMPLETE"
"""The variable with which a shell asks for completions, after the script that `p2pnet completion` prints."""
Command: TypeAlias = Callable[[Session], Coroutine[Any, Any, Outcome]]
"""What a verb's function returns: the work, with its own options already in it."""

app = typer.Typer(
    name="p2pnet",
    cls=QuickGroup,
    help="Put an artifact into a network of QUIC peers and see who got it, when, and through whom.",
    epilog="\b\nStart here:\n  p2pnet up demo --nodes 10\n  p2pnet inject demo --size 64KiB\n  p2pnet down demo",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: it reads well anywhere, and rich need not be imported for it
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


About: TypeAlias = Literal["subnet", "new subnet", "machine", "operator", "objects", "subnets", "nothing"]
"""What a verb is about, which decides what `--on`, `-n` and `--context` mean to it, and whether it has them."""

_CURRENT = "[default: the current one]"
_PLACES: dict[About, dict[str, str]] = {
    "subnet": {
        "on": "Where the subnet lives.  [default: NAME is looked up here, then in the current context]",
        "namespace": "Its namespace, in a cluster.  [default: the context's]",
        "context": f"Its cluster, by a context of the kubeconfig.  {_CURRENT}",
    },
    "new subnet": {
        "on": "Where to start it.  [default: local]",
        "namespace": "Namespace to start it in, in a cluster.  [default: the document's, else the context's]",
        "context": f"Cluster to start it in, by a context of the kubeconfig.  {_CURRENT}",
    },
    "machine": {
        "on": "What to check: this machine, or a cluster.  [default: local]",
        "namespace": "Namespace to check rights in, in a cluster.  [default: the context's]",
        "context": f"Cluster to check, by a context of the kubeconfig.  {_CURRENT}",
    },
    "operator": {
        "on": "Kind of cluster.  [default: cluster]",
        "namespace": "The operator's own: p2pnet-system and no other, it serves all.",
        "context": f"The cluster, by a context of the kubeconfig.  {_CURRENT}",
    },
    "subnets": {
        "on": "List those of one target alone.  [default: those of all]",
        "namespace": "List those of this namespace of a cluster.  [default: the context's]",
        "context": f"List those of this cluster, by a context of the kubeconfig.  {_CURRENT}",
    },
    "objects": {"namespace": "Namespace of the objects.  [default: the document's, else `default`]"},
    "nothing": {},
}
_TYPED: dict[str, tuple[Any, tuple[str, ...], str | None]] = {
    "on": (On | None, ("--on",), None),
    "namespace": (str | None, ("-n", "--namespace"), "NAME"),
    "context": (str | None, ("--context",), "NAME"),
}
"""Option of a place -> its type, how it is typed, and what stands for its value."""

_ALWAYS: dict[str, tuple[Any, Any]] = {
    "output": (Annotated[Output, typer.Option("-o", "--output", help="How to print the result.")], Output.TABLE),
    "quiet": (Annotated[bool, typer.Option("-q", "--quiet", help="No progress, notes and hints.")], False),
    "verbose": (
        Annotated[bool, typer.Option("-v", "--verbose", help="The whole traceback, should p2pnet itself fail.")],
        False,
    ),
}


def verb(example: str, *, about: About = "subnet") -> Callable[[Callable[..., Command]], Callable[..., Command]]:
    """Register a function as a verb of its name: its parameters, then the shared options, then one example."""

    def register(body: Callable[..., Command]) -> Callable[..., Command]:
        own = inspect.signature(body, eval_str=True).parameters.values()
        shared = _shared(about)

        @functools.wraps(body)
        def invoke(**arguments: Any) -> None:
            chosen: dict[str, Any] = dict.fromkeys(_TYPED) | {name: arguments.pop(name) for name in shared}
            work = functools.partial(body, **arguments)
            raise typer.Exit(_execute(work, arguments.get("name"), body.__name__.rstrip("_"), **chosen))

        added = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
            for name, (kind, default) in shared.items()
        ]
        keyword_only = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
        signature = inspect.Signature([*keyword_only, *added])
        invoke.__signature__ = signature  # type: ignore[attr-defined] # what inspect, and so typer, reads first
        invoke.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
        app.command(body.__name__.rstrip("_"), cls=QuickCommand, epilog=f"\b\nExample:\n  {example}")(invoke)
        return body

    return register


def _shared(about: About) -> dict[str, tuple[Any, Any]]:
    """Name -> type and default of the options that a verb about this has besides its own."""
    shared = dict(_ALWAYS)
    for name, text in _PLACES[about].items():
        kind, typed, metavar = _TYPED[name]
        complete = shell_completion.contexts if name == "context" else None
        option = typer.Option(*typed, metavar=metavar, help=text, show_default=False, autocompletion=complete)
        shared[name] = (Annotated[kind, option], None)
    return shared


def _execute(
    prepare: Callable[[], Command],
    name: str | None,
    verb: str,
    *,
    output: Output,
    quiet: bool,
    verbose: bool,
    on: On | None,
    namespace: str | None,
    context: str | None,
) -> int:
    from p2pnet.cli.exit_handling import run_command
    from p2pnet.cli.session import open_session
    from p2pnet.cli.targets import find, is_plugin

    def tell(where: str) -> None:
        session.remark(where)  # which there is by then

    wanted = functools.partial(find, on, namespace, context, name=name, verb=verb, tell=tell)
    chosen = {"--on": on, "-n": namespace, "--context": context}
    typed = "".join(f" {option} {value}" for option, value in chosen.items() if value is not None)
    session = open_session(wanted, output=output, quiet=quiet, namespace=namespace, where=typed)
    session.plugin = is_plugin()
    session.on, session.context = on, context
    return run_command(session, prepare, verbose=verbose)


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
    from p2pnet.cli import verbs as _verbs  # noqa: F401 registers every verb

    _ready_streams()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if os.environ.get(COMPLETE):
        return _complete()
    try:
        code = typer.main.get_command(app).main(words, prog_name="p2pnet", standalone_mode=False)
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
        sys.stderr.write("\n".join(failure.lines()) + "\n")
    return failure.exit_code


def _complete() -> int:
    """Answer a shell that asks what a word may be completed to; nothing that goes wrong is said into the line being typed."""
    from typer.completion import completion_init  # type: ignore[attr-defined] # registers the shells

    completion_init()
    with contextlib.redirect_stderr(io.StringIO()), _without_rich():
        try:
            typer.main.get_command(app).main([], prog_name="p2pnet", complete_var=COMPLETE, standalone_mode=False)
        except SystemExit as ended:  # how typer ends here, with the code that fish asks for
            return ended.code if isinstance(ended.code, int) else ExitCode.OK
        except Exception:  # noqa: BLE001 as said
            return ExitCode.OK
    return ExitCode.OK


@contextlib.contextmanager
def _without_rich() -> Iterator[None]:
    """Keep typer from importing it, which takes 60 ms, to find markup that our explanations do not hold."""
    before = sys.modules.get("rich")
    sys.modules["rich"] = None  # type: ignore[assignment] # as the import system has it for what must not be imported
    try:
        yield
    finally:
        del sys.modules["rich"]
        if before is not None:
            sys.modules["rich"] = before


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
    path = context.command_path if context is not None else "p2pnet"
    if not words:
        sys.stderr.write(error.format_message() + "\n")  # the help itself
        return ExitCode.USAGE
    failure = CommandError(
        error.format_message().replace("Value error, ", "").rstrip("."),
        where=shlex.join(["p2pnet", *words]),
        next_step=f"{path} --help",
    )
    sys.stderr.write("\n".join(failure.lines()) + "\n")
    return failure.exit_code
