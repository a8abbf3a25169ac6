"""The emulated network as asked and as the canary saw it: rows of a report, and which rule is not in force. Pure.

A figure is out of tolerance when the counts of `probes.TESTS` would come by chance from a network within the tolerance with a
probability below FALSE_ALARM: half of it shared out among all tests of rules, half among those of links, of one look.
docs/method.md tells it in words.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import NamedTuple

from p2pnet.measure.chances import at_least
from p2pnet.measure.probes import (
    TESTS,
    TOLERANCE,
    TOLERANCE_NS,
    Counts,
    Figure,
    ProbedLink,
    SeenTrain,
    added,
    clustering,
)
from p2pnet.model.report import LinkFigures, NetworkRow, SeenFigures
from p2pnet.model.units import format_bandwidth, format_duration

FALSE_ALARM = 1e-6
"""Probability that a healthy network is called out of tolerance in one look at all of its rules and links."""
DELAYS_MIN = 4  # probes, below which a median says little
DIFFERENCES_MIN = 12  # pairs, below which a spread says little
LOSSES_MIN = 3  # lost probes, seen or expected, below which a share says little
RATES_MIN = 2  # trains
STARVED_S = 0.1  # an event loop that comes so late loses datagrams and stretches trains
STARVED_DELAY_S = 0.005  # explains late probes, if it is also half of what they are late
STARVED = "was starved of CPU"
"""In a problem: the process of a node explains it."""
_STARVED_TESTS = ("late", "wide", "lost", "slow", "far slow")
"""Tests that a starved process can fail."""
_MS = 1e6
_TENTH_SPREADS: Mapping[str, float] = {"normal": 1.2816, "uniform": 0.8 * math.sqrt(3)}
"""A tenth of all delays is that many standard deviations below the mean."""
REORDER_MIN = 0.05  # share of packets held back from which on the mean delay is told, not the median


@dataclass(frozen=True, slots=True)
class LinkSeen:
    """A link that a rule governs, and what its trains told. Without trains it was not probed."""

    link: ProbedLink
    trains: Sequence[SeenTrain] = ()
    cut: bool = False
    """Whether there is no link between the two, so that nothing can be probed: as asked where it is blocked."""


class Selectors(NamedTuple):
    """The two ends of a rule, as the document has them."""

    source: str
    to: str


class _Failure(NamedTuple):
    """A figure out of tolerance: `chance` that a network within it gives such counts."""

    chance: float
    figure: Figure
    test: str


@dataclass(slots=True)
class _Group:
    """The links that one rule governs, or one of them."""

    links: list[LinkSeen]
    figures: frozenset[Figure]
    ends: tuple[str, str] = ("", "")
    """Source and other end of a single link; of an access link one of them is `*`. Empty: it is a whole rule."""
    counts: Counts = field(default_factory=dict)
    failures: list[_Failure] = field(default_factory=list)
    parts: "list[_Group]" = field(default_factory=list)
    """The links of a whole rule, or its access links."""
    seen: SeenFigures | None = None
    """Kept, for it is asked for more than once."""

    def count(self, parts: Iterable[Counts]) -> None:
        """Add up what parts of it count."""
        self.counts = {
            test: trials for test, trials in added(parts).items() if TESTS[test] in self.figures and trials.trials
        }

    @property
    def is_lines(self) -> bool:
        """Whether it is about access links."""
        return "delay" not in self.figures


def rows_of(
    links: Iterable[LinkSeen],
    rules: Mapping[str, Selectors],
    lag_s: Mapping[str, float] | None = None,
    *,
    failed_only: bool = False,
) -> list[NetworkRow]:
    """A row for each rule that governs any of these links, in the order of `rules`, and one for its worst link.

    `lag_s`: by node, the longest that its event loop came late meanwhile. `failed_only`: leave out rules that are in force.
    """
    found = _groups(links)
    order = [rule for rule in rules if rule in found] + [rule for rule in found if rule not in rules]
    for rule in order:
        found[rule].parts = _parts(found[rule])
        for part in found[rule].parts:
            part.count(train.counts for one in part.links for train in one.trains)
        found[rule].count(part.counts for part in found[rule].parts)
    # One half for rules, of which there are few, so that they tell small losses that no single link can.
    for groups in ([found[rule] for rule in order], [one for rule in order for one in found[rule].parts]):
        tests = sum(len(group.counts) for group in groups)
        for group in groups:
            group.failures = _failures(group.counts, FALSE_ALARM / 2 / max(1, tests))
    rows: list[NetworkRow] = []
    for rule in order:
        if not failed_only or found[rule].failures or any(part.failures for part in found[rule].parts):
            rows += _rows_of_rule(rule, rules.get(rule, Selectors("*", "*")), found[rule], lag_s or {})
    return rows


def problems_of(rows: Iterable[NetworkRow]) -> list[str]:
    """A sentence for each rule that is not in force."""
    return list(
        dict.fromkeys(
            f"network rule {row.rule} is not in force: {row.problem}" for row in rows if not row.ok and not row.worst
        )
    )


def unmeasured_rules(rows: Iterable[NetworkRow]) -> list[str]:
    """The rules of which not one link was probed."""
    return [row.rule for row in rows if not row.worst and row.links == 0]


def _groups(links: Iterable[LinkSeen]) -> dict[str, _Group]:
    """By rule. A bandwidth belongs to the rule of the path, or to that of an access link where this is narrower."""
    paths: dict[str, list[LinkSeen]] = {}
    lines: dict[str, list[LinkSeen]] = {}
    for one in links:
        link, narrowest = one.link, one.link.narrowest
        if link.label:
            paths.setdefault(link.label, []).append(one)
        if narrowest is not None and narrowest[1] != "path":
            lines.setdefault(link.up_label if narrowest[1] == "up" else link.down_label, []).append(one)
    found = {rule: _Group(group, _figures_of(group)) for rule, group in paths.items()}
    return found | {rule: _Group(group, frozenset({"bandwidth"})) for rule, group in lines.items()}


def _parts(group: _Group) -> list[_Group]:
    """Each link by itself; those that share an access link together, for it is one."""
    lines: dict[tuple[str, str], list[LinkSeen]] = {}
    for one in group.links:
        side = one.link.narrowest[1] if group.is_lines and one.link.narrowest else "path"
        ends = {"up": (one.link.source, "*"), "down": ("*", one.link.to), "path": (one.link.source, one.link.to)}
        lines.setdefault(ends[side], []).append(one)
    return [_Group(links, group.figures, ends) for ends, links in lines.items()]


def _figures_of(links: Sequence[LinkSeen]) -> frozenset[Figure]:
    own = any((narrowest := one.link.narrowest) is not None and narrowest[1] == "path" for one in links)
    return frozenset({"delay", "jitter", "loss", "bandwidth"} if own else {"delay", "jitter", "loss"})


def _failures(counts: Counts, alarm: float) -> list[_Failure]:
    """Figures out of tolerance, the least probable first."""
    found = [
        _Failure(chance, TESTS[test], test)
        for test, (trials, hits, allowed) in counts.items()
        if hits > allowed and (chance := at_least(hits, trials, allowed / trials)) < alarm
    ]
    return sorted(found)


# --- rows ---


def _rows_of_rule(rule: str, ends: Selectors, whole: _Group, lag_s: Mapping[str, float]) -> list[NetworkRow]:
    links = whole.parts
    probed = [group for group in links if _is_probed(group)]
    failing = [group for group in probed if group.failures]
    problem = ""
    if failing:
        worst = min(failing, key=lambda group: group.failures[0].chance)
        problem = _problem(worst, lag_s) + (f"; {len(failing) - 1} more of its links" if len(failing) > 1 else "")
    elif whole.failures:
        problem = _problem(whole, lag_s)
    first = NetworkRow(
        rule=rule, source=ends.source, to=ends.to, asked=_asked(whole), seen=_seen(whole), ok=not problem,
        links=len(probed), links_total=len(links), problem=problem,
    )  # fmt: skip
    if len(probed) < 2:
        return [first]
    worst = min(failing, key=lambda group: group.failures[0].chance) if failing else max(probed, key=_deviation)
    own = _problem(worst, lag_s) if worst.failures else ""
    return [
        first,
        NetworkRow(
            rule=rule, source=worst.ends[0], to=worst.ends[1], asked=_asked(worst), seen=_seen(worst), ok=not own,
            links=1, links_total=len(links), worst=True, problem=own,
        ),
    ]  # fmt: skip


def _is_probed(group: _Group) -> bool:
    return any(train.counts or train.sent for one in group.links for train in one.trains) or any(
        one.cut and one.link.blocked for one in group.links
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _asked(group: _Group) -> LinkFigures:
    """The means over the links that were probed, or over all where none was."""
    probed = [one.link for one in group.links if one.trains or one.cut] or [one.link for one in group.links]
    return LinkFigures(
        delay_ms=_mean(link.shape.delay_ns / _MS if link.shape.delay_ns and not link.blocked else None for link in probed)
        if "delay" in group.figures else None,
        jitter_ms=_mean(link.shape.jitter_ns / _MS if link.shape.jitter_ns and not link.blocked else None for link in probed)
        if "jitter" in group.figures else None,
        loss=_mean(1.0 if link.blocked else link.shape.loss or None for link in probed)
        if "loss" in group.figures else None,
        bandwidth_bps=_mean(_own_bps(link, group) for link in probed),
    )  # fmt: skip


def _own_bps(link: ProbedLink, group: _Group) -> float | None:
    """The bandwidth asked of a link, if it is this group's."""
    narrowest = link.narrowest
    if narrowest is None or link.blocked or "bandwidth" not in group.figures:
        return None
    return narrowest[0] if (narrowest[1] == "path") != group.is_lines else None


def _seen(group: _Group) -> SeenFigures:
    if group.seen is None:
        asked = _asked(group)
        sent = sum(train.sent for one in group.links for train in one.trains)
        bursts = sum(train.rate_bps is not None for one in group.links for train in one.trains)
        delays = [_seen(part).delay_ms for part in group.parts] or [_delay_ms(one) for one in group.links]
        group.seen = SeenFigures(
            delay_ms=_mean(delays) if asked.delay_ms is not None else None,
            jitter_ms=_jitter_ms(group, asked.jitter_ms), loss=_loss(group, asked.loss),
            bandwidth_bps=_bandwidth(group, asked.bandwidth_bps), samples=bursts if group.is_lines else sent,
        )  # fmt: skip
    return group.seen


def _delay_ms(one: LinkSeen) -> float | None:
    """The median of probes that met no queue; where all may have met one, what the fastest tenth tells."""
    link = one.link
    if not link.shape.delay_ns:
        return None
    quiet = [delay for train in _quiet(one) for delay in train.delays_ns]
    if len(quiet) >= DELAYS_MIN:
        return (fmean(quiet) if link.shape.reorder >= REORDER_MIN else median(quiet)) / _MS
    delays = sorted(delay for train in one.trains for delay in train.delays_ns)
    if len(delays) < DELAYS_MIN:
        return None
    tenth = delays[len(delays) // 10] + _TENTH_SPREADS[link.shape.jitter_kind] * link.spread_ns
    return max(0.0, min(tenth, median(delays))) / _MS


def _jitter_ms(group: _Group, asked_ms: float | None) -> float | None:
    """From the median difference of two probes, which some late ones do not change."""
    jittered = [one for one in group.links if one.link.shape.jitter_ns]
    differences = [value for one in jittered for train in _quiet(one) for value in train.differences]
    if asked_ms is None or len(differences) < DIFFERENCES_MIN:
        return None
    return asked_ms * median(differences) / jittered[0].link.middle_difference


def _loss(group: _Group, asked: float | None) -> float | None:
    """The mean share of the links that a loss is asked of, for each is as much of the mean asked for."""
    if asked is None and not any(failure.figure == "loss" for failure in group.failures):
        return None
    if all(one.cut and one.link.blocked for one in group.links):
        return 1.0
    lossy = [one for one in group.links if one.link.shape.loss or one.link.blocked] or group.links
    counts = [_sent((one,), quiet=True) for one in lossy]
    sent, arrived = sum(one for one, _ in counts), sum(one for _, one in counts)
    enough = (asked or 0.0) >= 1 or max((asked or 0.0) * sent, sent - arrived) >= LOSSES_MIN
    return _mean((one - came) / one for one, came in counts if one) if enough else None


def _quiet(one: LinkSeen) -> list[SeenTrain]:
    """The trains that met no queue of other traffic, which makes a jitter and losses of its own."""
    return [train for train in one.trains if not train.busy or one.link.narrowest is None]


def _sent(links: Iterable[LinkSeen], *, quiet: bool = False) -> tuple[int, int]:
    """Probes sent that count for the loss, and those of them that arrived; `quiet`: that met no other traffic, if any did."""
    trains = [train for one in links for train in ((quiet and _quiet(one)) or one.trains)]
    return sum(train.sent for train in trains), sum(train.arrived for train in trains)


def _bandwidth(group: _Group, asked: float | None) -> float | None:
    """The median train, each in shares of what was asked of its link; of trains among other traffic the upper quartile."""
    ratios: list[float] = []
    busy = False
    for one in group.links:
        link_bps = _own_bps(one.link, group)
        if link_bps is not None and one.link.asked_bps is not None:
            ratios += [train.rate_bps / link_bps for train in one.trains if train.rate_bps is not None]
            busy = busy or any(train.busy for train in one.trains if train.rate_bps is not None)
    if asked is None or len(ratios) < RATES_MIN:
        return None
    return asked * (sorted(ratios)[len(ratios) * 3 // 4] if busy else median(ratios))


def _deviation(group: _Group) -> float:
    """How far a link is from what was asked, in shares of what the tolerance and so few samples allow."""
    one, asked, saw = group.links[0], _asked(group), _seen(group)
    count = max(1, sum(len(train.delays_ns) for train in one.trains))
    spread_ms, noise = one.link.spread_ns / _MS, 2 / math.sqrt(count)
    found = [0.0]

    def compare(asked: float | None, saw: float | None, least: float, samples: Callable[[float], float]) -> None:
        if asked is not None and saw is not None:
            found.append(abs(saw - asked) / (max(TOLERANCE * asked, least) + samples(asked)))

    compare(asked.delay_ms, saw.delay_ms, TOLERANCE_NS / _MS, lambda _asked: 1.25 * spread_ms * noise)
    compare(asked.jitter_ms, saw.jitter_ms, TOLERANCE_NS / _MS, lambda asked: 1.2 * asked * noise)
    cluster = clustering(one.link.shape)
    compare(asked.loss, saw.loss, 1e-6, lambda asked: math.sqrt(max(0.0, asked * (1 - asked)) * cluster) * noise)
    compare(asked.bandwidth_bps, saw.bandwidth_bps, 1.0, lambda asked: 0.0 * asked)
    return max(found)


# --- sentences ---


def _problem(group: _Group, lag_s: Mapping[str, float]) -> str:
    """What is wrong with a link, or with all links of a rule together."""
    failure = group.failures[0]
    which = f"{group.ends[0]} to {group.ends[1]} " if group.ends[0] else ""
    return which + _sentence(group, failure) + _starved(group, failure, lag_s)


def _sentence(group: _Group, failure: _Failure) -> str:
    asked, saw = _asked(group), _seen(group)
    where = f" on {len(group.links)} links" if not group.ends[0] and len(group.links) > 1 else ""
    sent, arrived = _sent(group.links)
    match failure.figure:
        case "delay" if asked.delay_ms is None:
            return f"asked no delay, {failure_share(group, 'late')} came later than {format_duration(0.005)}{where}"
        case "delay":
            probes = sum(len(train.delays_ns) for one in group.links for train in one.trains)
            return f"asked {_ms(asked.delay_ms)}, seen {_ms(saw.delay_ms)} ({probes:,} probes{where})"
        case "jitter":
            pairs = sum(len(train.differences) for one in group.links for train in one.trains)
            return f"asked a jitter of {_ms(asked.jitter_ms)}, seen {_ms(saw.jitter_ms)} ({pairs:,} pairs of probes{where})"
        case "bandwidth":
            trains = sum(train.rate_bps is not None for one in group.links for train in one.trains)
            seen = "unknown" if saw.bandwidth_bps is None else format_bandwidth(saw.bandwidth_bps)
            return f"asked {format_bandwidth(asked.bandwidth_bps or 0.0)}, seen {seen} ({trains:,} trains{where})"
    if failure.test == "leaked":
        return f"asked to pass nothing, {arrived:,} of {sent:,} probes arrived{where}"
    lost = sent - arrived
    return (
        f"asked {_share(asked.loss or 0.0)} loss, seen {_share(lost / sent)} ({lost:,} of {sent:,} probes lost{where})"
    )


def failure_share(group: _Group, test: str) -> str:
    """`12 of 40 probes`, of those that a test counts."""
    trials = group.counts[test]
    return f"{trials.hits:.0f} of {trials.trials:.0f} probes"


def _starved(group: _Group, failure: _Failure, lag_s: Mapping[str, float]) -> str:
    """Says so if the process of a node explains it: a rule cannot be told in force on a machine that is too busy."""
    if failure.test not in _STARVED_TESTS:
        return ""
    least = STARVED_S
    if failure.figure == "delay":
        asked, saw = _asked(group).delay_ms or 0.0, _seen(group).delay_ms or 0.0
        least = max(STARVED_DELAY_S, (saw - asked) / 2e3)
    ends = dict.fromkeys(end for one in group.links for end in (one.link.source, one.link.to))
    late = max(ends, key=lambda node: lag_s.get(node, 0.0))
    if lag_s.get(late, 0.0) < least:
        return ""
    return f"; the process of {late} {STARVED}, its event loop came up to {format_duration(lag_s[late])} late"


def _share(value: float) -> str:
    return f"{value * 100:.3g}%"


def _ms(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g} ms"
