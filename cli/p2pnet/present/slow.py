"""The slowest nodes and links of a run, each with the reason as far as receipts and samples tell it."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple, Protocol

from p2pnet.measure.findings import FULL_BYTES, LAG_S
from p2pnet.measure.hop_ends import HopEnds
from p2pnet.measure.propagation import LinkUse, SlowestReceipt, SpreadSums
from p2pnet.measure.tree import HopNode
from p2pnet.measure.wording import MISSING, PHASE_WORDS, milliseconds
from p2pnet.model.report import Finding, NodeReceipts
from p2pnet.model.units import format_size
from p2pnet.present.markup import Markup, join, tag
from p2pnet.present.tables import headings, scrolled
from p2pnet.present.words import outliers

ROWS_MAX = 12
MOST = 0.6  # of a latency: who has so much of it is the reason
ALIKE = 0.6  # of the longest wait: if its other links wait so long too, it is the node
LINKS_MIN = 3  # from which on other links tell something
PART = 0.02  # of a hop: a phase that took less is not told
BUSY = 0.9  # of a core: a process that used so much was short of it


class SlowHop(NamedTuple):
    """The hop of a node's slowest receipt, with what its ends did meanwhile where that was sampled."""

    hop: HopNode
    ends: HopEnds | None = None


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


def slowest_receipts(propagation: SpreadSums) -> list[tuple[str, SlowestReceipt]]:
    """The nodes that are shown, the slowest first."""
    return sorted(propagation.slowest.items(), key=lambda item: (-item[1].latency_ms, item[0]))[:ROWS_MAX]


def slowest(
    report: Telling, propagation: SpreadSums | None, nothing: str, hops: Mapping[str, SlowHop] | None = None
) -> Markup:
    """The tables of the slowest nodes and links; before any receipt, that sentence. `hops`: of slowest receipts, by node."""
    if propagation is None or not propagation.slowest:
        return tag("p", nothing, class_="empty")
    return join([slow_nodes(report, propagation, hops or {}), slow_links(report, propagation)])


def slow_nodes(report: Telling, propagation: SpreadSums, hops: Mapping[str, SlowHop]) -> Markup | None:
    """The nodes whose slowest receipt took longest; None without receipts."""
    slowest = slowest_receipts(propagation)
    if not slowest:
        return None
    split = any(one.hop.phases is not None for one in hops.values())
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
            tag("td", _split(hops.get(node)), class_="words wide") if split else None,
            tag("td", why_node(node, one, found, marked, hops.get(node)), class_="words"),
        )
        for node, one in slowest
    ]
    head = headings({
        "Node": "", "Slowest receipt": "right", "Sender had it": "right wide", "Then took": "right wide", "From": "wide",
        "Hop": "right wide", **({"Phases": "wide"} if split else {}), "Why": "",
    })  # fmt: skip
    return scrolled("By the slowest receipt that counted.", head, rows, "Slowest nodes")


def _split(one: SlowHop | None) -> str:
    """The phases of a hop that took any time worth telling."""
    if one is None or one.hop.phases is None:
        return MISSING
    whole = one.hop.took_ms
    told = [f"{phase} {milliseconds(took)}" for phase, took in one.hop.phases.by_name().items() if took > PART * whole]
    return ", ".join(told) or MISSING


def why_node(
    node: str,
    one: SlowestReceipt,
    findings: Mapping[str, Sequence[Finding]],
    marked: Mapping[str, str],
    hop: SlowHop | None = None,
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
    return "; ".join([*said, *_of_hop(node, one, hop, findings)])


def _of_hop(
    node: str, one: SlowestReceipt, slow: SlowHop | None, findings: Mapping[str, Sequence[Finding]]
) -> list[str]:
    """What most of the hop was spent on, and what its ends did; not what `findings` say already."""
    if slow is None:
        return []
    said, whole = [], slow.hop.took_ms
    if slow.hop.phases is not None and whole > 0:
        phase, took = max(slow.hop.phases.by_name().items(), key=lambda item: item[1])
        if took >= MOST * whole:
            said.append(f"{took / whole:.0%} of the hop was {PHASE_WORDS[phase]}")
    if slow.ends is None:
        return said
    for name, load in ((one.sender, slow.ends.sender), (node, slow.ends.receiver)):
        if load is None or findings.get(name):
            continue
        if load.lag_ms >= LAG_S * 1e3:
            said.append(f"the event loop of {name} came {milliseconds(load.lag_ms)} late")
        elif load.cpu >= BUSY:
            said.append(f"{name} used {load.cpu:.0%} of a core")
        if load.queued_bytes >= FULL_BYTES:
            said.append(f"{format_size(load.queued_bytes)} waited at {name}")
    return said


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
