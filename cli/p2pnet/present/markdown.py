"""The report in Markdown, short: for `$GITHUB_STEP_SUMMARY`, a comment on a pull request, a chat."""

import re

from p2pnet.measure import network_wording
from p2pnet.measure.wording import MISSING, load_parts, measured, milliseconds, percent, stage_lines, throughput_parts
from p2pnet.model.report import Report
from p2pnet.model.text import plural
from p2pnet.model.units import format_size
from p2pnet.present.words import (
    LATENCIES,
    NOT_IN_FORCE,
    VERDICTS,
    clean,
    clock,
    count,
    instant,
    journey_sentence,
    judged_first,
    latency_name,
    marks,
    number,
    outliers,
    times,
    verdict_sentence,
    worst_first,
)

SIGNS = {"pass": "✅", "fail": "❌", "invalid": "⚠️"}
# Together these keep the text under GitHub's 65,536 characters for a comment.
EXPECTATIONS_MAX = 50
LINES_MAX = 20
LINE_CHARS_MAX = 400
NODES_MAX = 10
IDS_MAX = 10
RULES_MAX = 10
CELL_CHARS_MAX = 120
FEW_MAX = 8  # faults, and findings

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$])")
_LIVE = re.compile(r"@|://|www\.", re.IGNORECASE)


def to_markdown(report: Report) -> str:
    """GitHub-flavoured Markdown of at most some 60 KiB (GitHub's bound on a comment); what is left out is counted."""
    parts = [
        f"## {SIGNS[report.verdict]} {VERDICTS[report.verdict]}: run {code(report.run)} of {code(report.subnet)}",
        f"**{prose(verdict_sentence(report))}**",
        prose(journey_sentence(report)),
        *(prose(mark) for mark in marks(report)),
        _bullets("Why the run is invalid", report.invalid),
        _bullets(NOT_IN_FORCE, report.ignored),
        _expectations(report),
        _network(report),
        _bullets("Faults", [network_wording.fault_words(fault) for fault in report.faults], FEW_MAX),
        _figures(report),
        _bullets("By stage of the load", stage_lines(report)),
        _bullets("What stands out", [network_wording.finding_words(one) for one in report.findings], FEW_MAX),
        _nodes(report),
        _bullets("Notes", report.notes),
        _artifacts(report),
        f"<sub>{_small(report)}</sub>",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def prose(text: str) -> str:
    """Text on one line, escaped so that Markdown shows it as it is."""
    line = " ".join(clean(text).split())
    if len(line) > LINE_CHARS_MAX:
        line = line[:LINE_CHARS_MAX] + "…"
    if _LIVE.search(line):  # a link or a mention of a person: only a code span prevents those, no backslash
        return code(line)
    return _SPECIAL.sub(r"\\\1", line.replace("&", "&amp;"))


def code(text: str) -> str:
    """A code span on one line, usable inside a table."""
    line = " ".join(clean(text).split())[:LINE_CHARS_MAX]
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}".replace("|", "\\|") if line else MISSING


def _table(head: list[str], rows: list[list[str]], right: int = 0) -> str:
    """A table whose last `right` columns are aligned to the right."""
    rules = ["---"] * (len(head) - right) + ["--:"] * right
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rules, *rows))


def _bullets(title: str, lines: list[str], most: int = LINES_MAX) -> str:
    if not lines:
        return ""
    more = [f"- and {len(lines) - most} more"] if len(lines) > most else []
    return "\n".join([f"**{title}**", "", *(f"- {prose(line)}" for line in lines[:most]), *more])


def _expectations(report: Report) -> str:
    results = judged_first(report)
    if not results:
        return ""
    rows = [
        ["✅ held" if result.ok else "❌ not held", code(result.expr), prose(measured(result))]
        for result in results[:EXPECTATIONS_MAX]
    ]
    if len(results) > EXPECTATIONS_MAX:
        rows.append(["", f"and {len(results) - EXPECTATIONS_MAX} more", ""])
    return _table(["Result", "Expectation", "Measured"], rows, right=1)


def _network(report: Report) -> str:
    """A line when all is as asked, with a table of what is not otherwise."""
    if not report.network:
        return ""
    line = f"**Network** {prose(', '.join(network_wording.summary(report.network)))}"
    wrong = network_wording.amiss(report.network)
    if not wrong:
        return line
    rows = [
        [
            code(row.rule[:CELL_CHARS_MAX]),
            prose((("worst: " if row.worst else "") + network_wording.link_of(row))[:CELL_CHARS_MAX]),
            prose(network_wording.asked_of(row)), prose(network_wording.seen_of(row)), prose(row.problem[:CELL_CHARS_MAX]),
        ]
        for row in wrong[:RULES_MAX]
    ]  # fmt: skip
    if len(wrong) > RULES_MAX:
        rows.append([f"and {len(wrong) - RULES_MAX} more", "", "", "", ""])
    return f"{line}\n\n" + _table(["Rule", "Links", "Asked", "Seen", "Why"], rows)


def _figures(report: Report) -> str:
    latency, hops = report.latency_ms, report.hops
    named = ", ".join(f"{name} {milliseconds(getattr(latency, name))}" for name in LATENCIES)
    cost = times(report.bytes.ratio)
    if report.bytes.sent is not None:
        cost += f" ({format_size(report.bytes.sent)} sent for {format_size(report.bytes.payload)} of payload)"
    reach = f"{percent(report.reach.ratio)} ({report.reach.delivered:,} of {plural(report.reach.expected, 'receipt')})"
    if report.unknown:
        reach += f", {report.unknown:,} unknown"
    rows = [
        *([["Load", prose(", ".join(load_parts(report.load)))]] if report.load else []),
        ["Reach", reach],
        [latency_name(report), named],
        ["Hops", f"p50 {count(hops.p50)}, max {count(hops.max)}"],
        ["Duplicates", f"{number(report.duplicates_per_delivery)} per receipt"],
        ["Byte cost", cost],
        ["Throughput", ", ".join(throughput_parts(report)) or MISSING],
    ]
    return _table(["Figure", "Value"], rows)


def _nodes(report: Report) -> str:
    marked = outliers(report.per_node, report.clock_bound_ms)
    if not marked:
        return ""
    shown = [node for node in worst_first(report.per_node) if node.node in marked]
    rows = [
        [
            code(node.node), marked[node.node], f"{node.received:,} / {node.expected:,}",
            milliseconds(node.p50_ms), milliseconds(node.max_ms),
        ]
        for node in shown[:NODES_MAX]
    ]  # fmt: skip
    if len(shown) > NODES_MAX:
        rows.append([f"and {plural(len(shown) - NODES_MAX, 'more node')}", "", "", "", ""])
    return _table(["Node", "Stands out", "Received", "p50", "Slowest"], rows, right=3)


def _artifacts(report: Report) -> str:
    ids = report.artifact_ids
    if not ids:
        return ""
    lines = "\n".join(f"- {code(one)}" for one in ids[:IDS_MAX])
    more = f"\n- and {len(ids) - IDS_MAX:,} more" if len(ids) > IDS_MAX else ""
    return f"<details><summary>Artifacts ({len(ids):,})</summary>\n\n{lines}{more}\n\n</details>"


def _small(report: Report) -> str:
    digest = f", digest {code(report.digest)}" if report.digest else ""
    facts = f"target {code(report.target)}, seed {report.seed}, clocks {clock(report)}, {instant(report.started_at)}"
    return facts + digest
