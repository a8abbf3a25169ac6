"""A document -> text, in the form asked for. The only place that chooses; every choice is exhaustive."""

import io
import json
from enum import StrEnum
from typing import Any, assert_never

import msgspec

from p2pnet.cli.documents import (
    Document,
    Examination,
    Faults,
    Fetched,
    Installation,
    JsonSchema,
    KeptRuns,
    LivePage,
    LogLines,
    Objects,
    Pings,
    Removal,
    RunLinks,
    RunTicket,
    SubnetList,
    Trace,
    WithdrawnArtifact,
)
from p2pnet.cli.trends import Trends
from p2pnet.model.bundle import BundleManifest
from p2pnet.model.comparison import Comparison
from p2pnet.model.replay import Replay
from p2pnet.model.report import Report, Status
from p2pnet.model.scenario_run import ScenarioRun
from p2pnet.model.shrunk import ShrunkScenario
from p2pnet.model.trials import TrialsReport


class Output(StrEnum):
    """`-o`."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    NDJSON = "ndjson"


def render(
    document: Document,
    output: Output,
    *,
    width: int = 80,
    colour: bool = False,
    now: float = 0.0,
    ascii_only: bool = False,
    height: int | None = None,
    trends: Trends | None = None,
) -> str:
    """The text for stdout, ending in a line break unless empty. `now` (Unix seconds) is for ages; `width` for tables.

    A table has at most `height` lines, with the cursor's own. `trends`: how a status that is watched came to be.
    """
    if isinstance(document, JsonSchema) and output is Output.TABLE:
        output = Output.JSON
    if isinstance(document, Objects) and output is Output.TABLE:
        output = Output.YAML
    match output:
        case Output.TABLE:
            drawing = _drawing(document, width, now, ascii_only=ascii_only, height=height, trends=trends)
            text = _table(document, drawing, width, colour=colour, ascii_only=ascii_only)
            return text if height is None else _cut(text, height - 1)
        case Output.JSON:
            text = msgspec.json.format(msgspec.json.encode(plain(document)), indent=2).decode() + "\n"
            return _escaped(text) if ascii_only else text
        case Output.YAML:
            import yaml

            # through JSON once, so that an infinity is the null it is in JSON
            value = msgspec.json.decode(msgspec.json.encode(plain(document)))
            if isinstance(document, Objects):
                return yaml.safe_dump_all(document.items, sort_keys=False, allow_unicode=not ascii_only, width=100)
            return yaml.safe_dump(value, sort_keys=False, allow_unicode=not ascii_only, width=100)
        case Output.NDJSON:
            text = "".join(msgspec.json.encode(line).decode() + "\n" for line in _lines(document))
            return _escaped(text) if ascii_only else text
    assert_never(output)


def _escaped(text: str) -> str:
    """JSON of the same meaning in ASCII: only strings hold anything beyond it."""
    return "".join(letter if letter.isascii() else json.dumps(letter)[1:-1] for letter in text)


def plain(document: Document) -> Any:
    """The value that JSON and YAML print."""
    match document:
        case JsonSchema():
            return document.body
        case Objects():
            return {"apiVersion": "v1", "kind": "List", "items": document.items}
        case _:
            return document


def _lines(document: Document) -> list[Any]:
    """A list document gives a line per item; every other is one line."""
    match document:
        case SubnetList():
            return list(document.subnets)
        case LogLines():
            return list(document.lines)
        case Faults() if document.faults or not document.cleared:
            return list(document.faults)
        case Pings():
            return list(document.pings)
        case KeptRuns() if document.runs or not (document.removed or document.cancelled or document.labelled):
            return list(document.runs)
        case Objects():
            return list(document.items)
        case _:
            return [plain(document)]


def _cut(text: str, height: int) -> str:
    """The first lines, and how many more there are."""
    lines = text.splitlines(keepends=True)
    if len(lines) <= height:
        return text
    return "".join(lines[: height - 1]) + f"... {len(lines) - height + 1} more lines\n"


def _table(document: Document, drawing: Any, width: int, *, colour: bool, ascii_only: bool) -> str:
    from rich.console import Console

    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        no_color=not colour,
        highlight=False,
        emoji=False,
        markup=False,
        safe_box=ascii_only,
        legacy_windows=False,
    )
    with console.capture() as capture:
        console.print(drawing, soft_wrap=isinstance(document, LogLines | RunTicket | LivePage | Fetched))
    lines = [line.rstrip() for line in capture.get().splitlines()]
    text = "\n".join(lines).rstrip()
    if ascii_only:
        text = text.translate(_ASCII).encode("ascii", "replace").decode()
    return text + "\n" if text else ""


def _drawing(
    document: Document, width: int, now: float, *, ascii_only: bool, height: int | None, trends: Trends | None
) -> Any:
    match document:
        case Report() | TrialsReport() | Comparison() | ScenarioRun():
            return _draw_measured(document, width, ascii_only=ascii_only)
        case BundleManifest() | Replay() | ShrunkScenario():
            return _draw_carried(document, width)
        case Status():
            from p2pnet.cli.render import status
            from p2pnet.cli.render.trend import Shown

            room = None if height is None else height - 1
            return status.draw(document, width, now, room, None if trends is None else Shown(trends, ascii_only))
        case Trace():
            from p2pnet.cli.render import trace

            return trace.draw(document, width, ascii_only=ascii_only)
        case RunLinks():
            from p2pnet.cli.render import links

            return links.draw(document, width)
        case SubnetList() | Pings() | KeptRuns() | Faults():
            return _draw_list(document, width, now)
        case JsonSchema() | Objects():
            return ""
        case _:
            return _draw_small(document)


def _draw_measured(document: Report | TrialsReport | Comparison | ScenarioRun, width: int, *, ascii_only: bool) -> Any:
    match document:
        case Report():
            from p2pnet.cli.render import report

            return report.draw(document, width, ascii_only=ascii_only)
        case TrialsReport():
            from p2pnet.cli.render import trials

            return trials.draw(document, width)
        case Comparison():
            from p2pnet.cli.render import comparison

            return comparison.draw(document, width)
        case ScenarioRun():
            from p2pnet.cli.render import scenario

            return scenario.draw(document, width)
    assert_never(document)


def _draw_carried(document: BundleManifest | Replay | ShrunkScenario, width: int) -> Any:
    match document:
        case ShrunkScenario():
            from p2pnet.cli.render import shrunk

            return shrunk.draw(document, width)
        case BundleManifest():
            from p2pnet.cli.render import bundle

            return bundle.draw(document, width)
        case Replay():
            from p2pnet.cli.render import replay

            return replay.draw(document, width)
    assert_never(document)


def _draw_list(document: SubnetList | Pings | KeptRuns | Faults, width: int, now: float) -> Any:
    match document:
        case SubnetList():
            from p2pnet.cli.render import status

            return status.draw_list(document, width, now)
        case Pings():
            from p2pnet.cli.render import ping

            return ping.draw(document, width, now)
        case KeptRuns():
            from p2pnet.cli.render import runs

            return runs.draw(document, width, now)
        case Faults():
            from p2pnet.cli.render import network

            return network.draw_faults(document, width, now)
    assert_never(document)


def _draw_small(
    document: RunTicket | LivePage | Fetched | WithdrawnArtifact | Removal | LogLines | Examination | Installation,
) -> Any:
    from p2pnet.cli.render import brief

    match document:
        case RunTicket():
            return brief.draw_ticket(document)
        case LivePage():
            return brief.draw_live_page(document)
        case Fetched():
            return brief.draw_fetched(document)
        case WithdrawnArtifact():
            return brief.draw_withdrawal(document)
        case Removal():
            return brief.draw_removal(document)
        case LogLines():
            return brief.draw_logs(document)
        case Examination():
            return brief.draw_examination(document)
        case Installation():
            return brief.draw_installation(document)
    assert_never(document)


_ASCII = str.maketrans({"─": "-", "│": "|", "├": "|", "└": "`", "━": "-", "µ": "u", "±": "~", "→": ">", "◀": "<"})
