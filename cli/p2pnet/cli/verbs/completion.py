"""`completion`: the script that makes a shell ask p2pnet what a word may be completed to."""

from dataclasses import dataclass

from p2pnet.cli.app import COMPLETE
from p2pnet.cli.outcome import Outcome
from p2pnet.cli.session import Session, cannot_write_stdout


@dataclass(frozen=True, slots=True)
class Options:
    """As on the command line."""

    shell: str


async def run(options: Options, session: Session) -> Outcome:
    """Text for the shell itself, whatever `-o` says; no file is written."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined] # of its own options

    script = get_completion_script(prog_name="p2pnet", complete_var=COMPLETE, shell=options.shell)
    try:
        session.stdout.write(f"{script}\n")
        session.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise cannot_write_stdout(error) from error
    return Outcome()
