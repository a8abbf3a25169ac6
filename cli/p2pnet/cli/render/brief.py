"""The short documents: tickets, files, withdrawals, removals, logs, and what `doctor` found."""

from rich.console import Group, RenderableType
from rich.text import Text

from p2pnet.cli.documents import (
    Examination,
    Fetched,
    Installation,
    LivePage,
    LogLines,
    Removal,
    RunTicket,
    WithdrawnArtifact,
)
from p2pnet.cli.render import text
from p2pnet.cli.terminal import clean
from p2pnet.model.log_lines import words_of
from p2pnet.model.text import plural
from p2pnet.model.units import format_size

LEVEL_STYLE = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red"}
CHECK_STYLE = {"ok": "green", "warning": "yellow", "failed": "bold red"}


def draw_ticket(ticket: RunTicket) -> RenderableType:
    """The run id alone, ready for `$(...)`."""
    return Text(ticket.run)


def draw_live_page(page: LivePage) -> RenderableType:
    """The address alone."""
    return Text(page.url)


def draw_fetched(fetched: Fetched) -> RenderableType:
    """Where the bytes went."""
    return Text(
        f"{clean(fetched.file)}  {format_size(fetched.size)} of {fetched.artifact[:16]} as {fetched.node} holds it"
    )


def draw_withdrawal(withdrawal: WithdrawnArtifact) -> RenderableType:
    """How many nodes let go of it."""
    return Text(f"{withdrawal.artifact[:16]} withdrawn: {plural(withdrawal.held, 'node')} held it")


def draw_removal(removal: Removal) -> RenderableType:
    """One line per subnet."""
    lines = [Text(f"{name} removed") for name in removal.removed]
    lines += [Text(f"{name} was already gone", style="dim") for name in removal.absent]
    return Group(*(lines or [Text("no subnet to remove", style="dim")]))


def draw_installation(installation: Installation) -> RenderableType:
    """One line per object."""
    lines = [Text(f"{one} applied") for one in installation.applied]
    lines += [Text(f"{one} removed") for one in installation.removed]
    lines += [Text(f"{one} was already gone", style="dim") for one in installation.absent]
    return Group(*lines)


def draw_logs(logs: LogLines) -> RenderableType:
    """`time level node words`, the node padded to the longest name; the line's own stamp and level are not repeated."""
    width = max((len(line.node) for line in logs.lines), default=0)
    return Group(
        *(
            Text.assemble(
                (f"{line.time} " if line.time else "", "dim"),
                (line.level.ljust(8), LEVEL_STYLE.get(line.level, "")),
                (line.node.ljust(width), "cyan"),
                f" {clean(words_of(line.line))}",
            )
            for line in logs.lines
        )
    )


def draw_examination(examination: Examination) -> RenderableType:
    """One row per check; what to do stands under what failed."""
    drawn = text.table("CHECK", "RESULT", "FOUND")
    for check in examination.checks:
        found = Text(check.found)
        if check.next_step:
            found.append(f"\n{check.next_step}", style="dim")
        drawn.add_row(check.name, Text(check.result, style=CHECK_STYLE[check.result]), found)
    return drawn
