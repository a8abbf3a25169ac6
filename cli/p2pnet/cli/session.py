"""What every command is given besides its own options: streams, a target, a progress listener."""

import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO

from p2pnet.cli.documents import Document
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.program import as_called, placed
from p2pnet.cli.progress import NoProgress, ProgressListener, listener_for
from p2pnet.cli.render import Output, render
from p2pnet.cli.target_choice import Place
from p2pnet.cli.targets.target import Target
from p2pnet.cli.terminal import (
    colours_wanted,
    drop_stdout,
    encodes_unicode,
    takes_control_sequences,
    terminal_height,
    terminal_width,
)
from p2pnet.cli.trends import Trends

CLEAR = "\x1b[H\x1b[2J\x1b[3J"


@dataclass
class Session:
    """One invocation. `target` finds where a NAME lives; tests put a fake there."""

    target: Callable[[], Target]
    output: Output = Output.TABLE
    quiet: bool = False
    listener: ProgressListener = field(default_factory=NoProgress)
    stdout: TextIO = field(default_factory=lambda: sys.stdout)
    stderr: TextIO = field(default_factory=lambda: sys.stderr)
    now: Callable[[], float] = time.time
    resume: tuple[str, ...] = ()
    """Commands that continue what an interrupt left; a command sets it as soon as there is something to come back to."""
    interrupted_note: str = "interrupted"
    next_step: str = ""
    """The next step after an error that names none of its own."""
    place: Place = field(default_factory=Place)
    """`--on`, `-n` and `--context`, for verbs that need them without a target, and for commands to type next."""
    name: str = ""
    """The NAME that was typed."""

    @property
    def interactive(self) -> bool:
        """Whether a person can be asked."""
        return sys.stdin is not None and sys.stdin.isatty() and self.stderr.isatty()

    def show(self, document: Document, *, clear: bool = False, trends: Trends | None = None) -> None:
        """Draw a document on stdout now; `clear` begins at the top of a terminal, and fits it. `trends`: of a watched status."""
        terminal = self.stdout.isatty()
        fits = clear and terminal and takes_control_sequences()
        text = render(
            document,
            self.output,
            width=terminal_width(self.stdout),
            colour=terminal and colours_wanted(),
            now=self.now(),
            ascii_only=not encodes_unicode(self.stdout),
            height=terminal_height() if fits else None,
            trends=trends,
        )
        try:
            self.stdout.write((CLEAR if fits else "") + text)
            self.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise cannot_write_stdout(error) from error

    def note(self, text: str) -> None:
        """Something worth knowing, on stderr, even off a terminal; `-q` silences it."""
        self.remark(f"note: {text}")

    def remark(self, line: str) -> None:
        """A line on stderr that `-q` silences."""
        if not self.quiet:
            self.listener.close()
            self.say(f"{line}\n")

    def say(self, text: str) -> None:
        """Write to stderr, with commands that work when they are typed. Nobody listening there is no error.

        What was typed (`where:`) stays as it was.
        """
        lines = [line if line.startswith("where:") else self._placed(line) for line in text.split("\n")]
        with contextlib.suppress(OSError, ValueError):
            self.stderr.write(as_called("\n".join(lines)))
            self.stderr.flush()

    def finish(self, outcome: Outcome) -> int:
        """Draw an outcome; its exit code."""
        self.listener.close()
        if outcome.document is not None:
            try:
                self.show(outcome.document)
            except BrokenPipeError:  # whoever read it has seen enough; what it means is said all the same
                drop_stdout()
        if outcome.failure is not None:
            self.say("\n".join(outcome.failure.lines()) + "\n")
        if outcome.next and not self.quiet:
            self.say(self.advice(outcome.next))
        return outcome.exit_code

    def advice(self, commands: tuple[str, ...]) -> str:
        """The lines that name commands worth typing next."""
        return "Next: " + "\n      ".join(self._placed(command, at_end=True) for command in commands) + "\n"

    def _placed(self, text: str, *, at_end: bool = False) -> str:
        return placed(text, self.place.options(), name=self.name, at_end=at_end)


def open_session(target: Callable[[], Target], *, output: Output, quiet: bool, place: Place, name: str = "") -> Session:
    """The session of this process."""

    def found() -> Target:
        there = target()
        if session.place == place:  # else a verb says itself where
            session.place = place.of(there)
        return there

    listener = listener_for(quiet=quiet, colour=colours_wanted())
    session = Session(target=found, output=output, quiet=quiet, listener=listener, place=place, name=name)
    return session


def cannot_write_stdout(error: OSError) -> CommandError:
    """The failure of a result that has nowhere to go; what Python still holds of it is dropped."""
    drop_stdout()
    return CommandError(
        f"the result cannot be written: {error.strerror}",
        where="stdout",
        next_step="make room where it goes; runs are kept: p2pnet report NAME",
    )
