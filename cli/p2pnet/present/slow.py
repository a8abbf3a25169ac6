"""The slowest nodes and links of a run, each with the reason as far as receipts and samples tell it."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple, Protocol

from p2pnet.measure.propagation import LinkUse, SlowestReceipt, SpreadSums
from p2pnet.measure.wording import MISSING, milliseconds
from p2pnet.model.report import Finding, NodeReceipts
from p2pnet.model.units import format_size
from p2pnet.present.markup import Markup, join, tag
from p2pnet.present.tables import headings, scrolled
from p2pnet.present.words import outliers

ROWS_MAX = 12
MOST = 0.6  # of a latency: who has so much of it is the reason
ALIKE = 0.6  # of the longest wait: if its other links wait so long too, it is the node
LINKS_MIN = 3  # from which on other links tell something


class Telling(Protocol):
    """What tells why something was slow: a report, or what is known of a run that goes on."""

    @property
    def findings(self) -> Sequence[Finding]:
        """What stands out in the time series, the gravest first."""

    @property
    def per_node(self) -> Sequence[NodeReceipts]:
        """What each node got."""

    @property
    def clock_bound_ms(self) -> float:
        """The bound on the error between the nodes' clocks."""


class SlowLink(NamedTuple):
    """One way between two nodes."""

    source: str
    to: str
    use: LinkUse


def slowest(report: Telling, propagation: SpreadSums | None, nothing: str) -> Markup:
    """The tables of the slowest nodes and links; before any receipt, that sentence."""
    if propagation is None or not propagation.slowest:
        return tag("p", nothing, class_="empty")
    return join([slow_nodes(report, propagation), slow_links(report, propagation)])


def slow_nodes(report: Telling, propagation: SpreadSums) -> Markup | None:
    """The nodes whose slowest receipt took longest; None without receipts."""
    slowest = sorted(propagation.slowest.items(), key=lambda item: (-item[1].latency_ms, item[0]))[:ROWS_MAX]
    if not slowest:
        return None
    found, marked = _by_node(report.findings), outliers(report.per_node, report.clock_bound_ms)
    rows = [
        tag(
            "tr",
            tag("th", node, scope="row", class_="name"),
            tag("td", milliseconds(one.latency_ms), class_="right"),
            tag("td", milliseconds(one.sender_ms), class_="right wide"),
            tag("td", milliseconds(one.wait_ms), class_="right wide"),
            tag("td", one.sender or MISSING, class_="name wide"),
            tag("td", one.hop, class_="right wide"),
            tag("td", why_node(node, one, found, marked), class_="words"),
        )
        for node, one in slowest
    ]
    head = headings({
        "Node": "", "Slowest receipt": "right", "Sender had it": "right wide", "Then took": "right wide", "From": "wide",
        "Hop": "right wide", "Why": "",
    })  # fmt: skip
    return scrolled("By the slowest receipt that counted.", head, rows, "Slowest nodes")


def why_node(
    node: str, one: SlowestReceipt, findings: Mapping[str, Sequence[Finding]], marked: Mapping[str, str]
) -> str:
    """Why a node was slow, in a sentence or two."""
    said = [f.what for f in findings.get(node, ())[:1]]
    if "missing" in marked.get(node, ""):
        said.append(marked[node].removesuffix(", slow"))
    sender = one.sender or "its sender"
    if one.wait_ms is None and one.sender_ms is not None:
        said.append(f"{sender} passed it on before it had validated it, which it did late itself")
    elif one.wait_ms is None:
        said.append(f"when {sender} had it is not on record")
    elif one.latency_ms <= 0:
        said.append("no time passed")
    elif one.wait_ms >= MOST * one.latency_ms:
        said.append(f"the way from {sender} took {one.wait_ms / one.latency_ms:.0%} of it")
        said += [f"{sender}: {f.what}" for f in findings.get(one.sender, ())[:1]]
    elif one.wait_ms <= (1 - MOST) * one.latency_ms:
        said.append(f"{sender} had it late itself")
    else:
        said.append(f"{sender} had it late, and the way from there took as long")
    return "; ".join(said)


def slow_links(report: Telling, propagation: SpreadSums) -> Markup | None:
    """The links with the longest waits between the sender's receipt and the receiver's; None where no wait is known."""
    links = longest_waits(report, propagation)[:ROWS_MAX]
    if not links:
        return None
    rows = [
        tag(
            "tr",
            tag("th", f"{one.source} → {one.to}", scope="row", class_="name"),
            tag("td", milliseconds(one.use.wait_max_ms), class_="right"),
            tag("td", milliseconds(one.use.wait_ms / one.use.waits), class_="right wide"),
            tag("td", f"{one.use.receipts:,}", class_="right wide"),
            tag("td", format_size(one.use.bytes), class_="right wide"),
            tag("td", why, class_="words"),
        )
        for one, why in links
    ]
    head = headings({
        "Link": "", "Longest wait": "right", "Mean": "right wide", "Receipts": "right wide", "Bytes": "right wide", "Why": "",
    })  # fmt: skip
    return scrolled("By the longest wait from the sender's own receipt to the receiver's.", head, rows, "Slowest links")


def longest_waits(report: Telling, propagation: SpreadSums) -> list[tuple[SlowLink, str]]:
    """The ways whose waits are known, the longest wait first, each with its reason."""
    names, found, medians = propagation.nodes, _by_node(report.findings), _medians(propagation)
    known = [
        SlowLink(names[source], names[to], use)
        for (source, to), use in propagation.links.items()
        if source >= 0 and to >= 0 and use.waits
    ]
    ordered = sorted(known, key=lambda one: (-one.use.wait_max_ms, one.source, one.to))
    return [(one, why_link(one, found, medians)) for one in ordered]


def why_link(
    one: SlowLink, findings: Mapping[str, Sequence[Finding]], medians: Mapping[tuple[str, str], tuple[float, int]]
) -> str:
    """Whose fault a long wait is: of the sender, the receiver, or of the link alone."""
    said = [f"{end}: {f.what}" for end, peer in ((one.source, one.to), (one.to, one.source))
            for f in findings.get(end, ()) if f.peer in ("", peer)][:1]  # fmt: skip
    longest = one.use.wait_max_ms
    if longest <= 0:
        return "; ".join([*said, "no time passed"])
    alike = [
        words
        for key, words in (
            (("from", one.source), f"all ways from {one.source}"),
            (("to", one.to), f"all ways to {one.to}"),
        )
        if (known := medians.get(key)) is not None and known[1] >= LINKS_MIN and known[0] >= ALIKE * longest
    ]
    if alike:
        said.append(f"{' and '.join(alike)} took about as long")
    elif not said:
        said.append("this way alone")
    return "; ".join(said)


def _medians(propagation: SpreadSums) -> dict[tuple[str, str], tuple[float, int]]:
    """The median of the longest waits of all ways from and to each node, and how many ways there are."""
    waits: dict[tuple[str, str], list[float]] = {}
    for (source, to), use in propagation.links.items():
        if source >= 0 and to >= 0 and use.waits:
            waits.setdefault(("from", propagation.nodes[source]), []).append(use.wait_max_ms)
            waits.setdefault(("to", propagation.nodes[to]), []).append(use.wait_max_ms)
    return {key: (median(values), len(values)) for key, values in waits.items()}


def _by_node(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for one in findings:
        found.setdefault(one.node, []).append(one)
    return found
