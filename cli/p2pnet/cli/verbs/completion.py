"""`completion`: the script that makes a shell ask p2pnet what a word may be completed to."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer

from p2pnet.cli.options import VerbOptions
from p2pnet.cli.outcome import Outcome
from p2pnet.cli.session import Session, cannot_write_stdout
from p2pnet.cli.shell_completion import VARIABLE

EXAMPLE = "p2pnet completion bash > ~/.local/share/bash-completion/completions/p2pnet"


class Shell(StrEnum):
    """Shells that words can be completed in."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@dataclass(frozen=True)
class CompletionOptions(VerbOptions):
    """Print a completion script.

    For verbs, options, and the names of subnets, nodes, runs and artifacts. Changes no file: put it where your shell
    looks for such scripts, or source it.
    """

    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.", show_default=False)]


async def run(options: CompletionOptions, session: Session) -> Outcome:
    """Text for the shell itself, whatever `-o` says; no file is written."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined] # of its own options

    script = get_completion_script(prog_name="p2pnet", complete_var=VARIABLE, shell=options.shell.value)
    try:
        session.stdout.write(f"{script}\n")
        session.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise cannot_write_stdout(error) from error
    return Outcome()
