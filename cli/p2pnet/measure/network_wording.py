"""The emulated network in words that every rendering shares: figures asked and seen, rows that count, a line for all. Pure."""

import math
from collections.abc import Iterable, Sequence

from p2pnet.measure.wording import MISSING
from p2pnet.model.report import FaultStatus, Finding, LinkFigures, NetworkRow

UNSEEN = "nothing measured"
MODELLED = "modelled"
_BY_WEIGHT = ("delay_ms", "bandwidth_bps", "jitter_ms", "loss")
PLACES_MAX = 4  # behind the point: 0.1 us, or a loss of 1 in a million


def figures(asked: LinkFigures, shown: LinkFigures | None = None) -> str:
    """`90 ms, jitter 5 ms, loss 0.2%, 5 Mbit/s`: of `shown`, else of `asked` itself, the figures that were asked for."""
    values = asked if shown is None else shown
    parts = [text for name, text in _texts(values).items() if getattr(asked, name) is not None]
    return ", ".join(parts) or MISSING


def asked_of(row: NetworkRow) -> str:
    """What the rule of a row asks for."""
    return figures(row.asked)


def seen_of(row: NetworkRow) -> str:
    """The same figures as they were seen."""
    if row.modelled:
        return MODELLED
    return figures(row.asked, row.seen) if was_measured(row) else UNSEEN


def was_measured(row: NetworkRow) -> bool:
    """Whether anything of what was asked for was seen: what nobody could measure is not amiss, and not as asked either."""
    return any(getattr(row.asked, name) is not None and getattr(row.seen, name) is not None for name in _BY_WEIGHT)


def result_of(row: NetworkRow) -> str:
    """`as asked`, `not as asked`, `not measured` or `modelled`."""
    if row.modelled:
        return MODELLED
    return "not as asked" if not row.ok else "as asked" if was_measured(row) else "not measured"


def link_of(row: NetworkRow) -> str:
    """`region=eu to region=us`; of a worst link the nodes' names."""
    return f"{row.source} to {row.to}"


def probed(row: NetworkRow) -> str:
    """`40 of 380 links, 1,200 probes`; of a modelled row the links alone."""
    if row.modelled:
        return _links(row.links_total)
    probes = f"{row.seen.samples:,} {'probe' if row.seen.samples == 1 else 'probes'}"
    if row.worst:
        return probes
    of = f"{row.links:,} of {_links(row.links_total)}" if row.links < row.links_total else _links(row.links)
    return f"{of}, {probes}"


def rules_of(rows: Iterable[NetworkRow]) -> list[NetworkRow]:
    """The rows of whole rules, without those of their worst links."""
    return [row for row in rows if not row.worst]


def amiss(rows: Iterable[NetworkRow]) -> list[NetworkRow]:
    """The rows that are not as asked."""
    return [row for row in rows if not row.ok]


def worst_of(rows: Iterable[NetworkRow]) -> tuple[NetworkRow, str] | None:
    """The link whose delay is furthest from what was asked, of all rules' worst links, and the name of that figure.

    Where no delay was asked for, by another figure: losses last, for few samples make them the most uncertain.
    """
    links = [(row, _deviations(row)) for row in rows if row.worst]
    for name in _BY_WEIGHT:
        found = [(deviations[name], row) for row, deviations in links if name in deviations]
        if found:
            return max(found, key=lambda one: one[0])[1], name
    return None


def worst_words(row: NetworkRow, name: str) -> str:
    """`worst link node-1 to node-7 asked 90 ms seen 90.4 ms`, by one figure."""
    asked, seen = (_texts(values)[name] for values in (row.asked, row.seen))
    if name == "loss":  # of few probes a share says little
        seen += f" of {row.seen.samples:,} probes"
    return f"worst link {link_of(row)} asked {asked} seen {seen}"


def summary(rows: Sequence[NetworkRow]) -> list[str]:
    """A line about all rows in parts: how many rules are as asked, links probed, the worst link. Empty without any row."""
    rules = rules_of(rows) or list(rows)
    if not rules:
        return []
    if all(row.modelled for row in rules):
        return [f"{MODELLED}: {_rules(len(rules))}"]
    unseen = sum(row.ok and not was_measured(row) for row in rules)
    if unseen == len(rules):
        return [f"{_rules(unseen)}, not measured yet"]
    links, wrong = sum(row.links for row in rules), len(amiss(rules))
    rest = [
        *([f"{unseen} not measured"] if unseen else []), f"{_links(links)} probed",
    ]  # fmt: skip
    if not amiss(rows):
        worst = worst_of(rows)
        head = f"as asked: {_rules(len(rules) - unseen)}"
        return [head, *rest, *([worst_words(*worst)] if worst is not None else [])]
    if not wrong:
        return [f"not as asked: the worst link of {len(amiss(rows))} of {_rules(len(rules))}", *rest]
    return [f"not as asked: {wrong} of {_rules(len(rules))}", *rest]


def _links(count: int) -> str:
    return f"{count:,} {'link' if count == 1 else 'links'}"


def _rules(count: int) -> str:
    return f"{count} {'rule' if count == 1 else 'rules'}"


def problem_of(row: NetworkRow) -> str:
    """A row that is not as asked, in a sentence: `rules[0], region=eu to region=us: asked 90 ms, seen 45 ms (240 probes)`."""
    why = row.problem or f"asked {asked_of(row)}, seen {seen_of(row)}"
    return f"{row.rule}, {'worst link ' if row.worst else ''}{link_of(row)}: {why}"


def fault_words(fault: FaultStatus) -> str:
    """`loss-1: loss 20% from node-0 to *, 20:13:20 to 20:13:50 UTC`."""
    state = {"waiting": ", its time had not come", "failed": ", not in force"}.get(fault.state, "")
    detail = f" ({fault.detail})" if fault.detail else ""
    return f"{fault.name}: {fault.what}{span_of(fault)}{state}{detail}"


def span_of(fault: FaultStatus) -> str:
    """`, 20:13:20 to 20:13:50 UTC`, or since when, or when it was done; empty where nothing is known."""
    since, until = _clock(fault.since), _clock(fault.until)
    if not since:
        return ""
    if until and until != since:
        return f", {since} to {until} UTC"
    return f", {'at' if until or fault.state == 'ended' else 'since'} {since} UTC"


def finding_words(finding: Finding) -> str:
    """`node-7: its uplink was full for 4 of 9 s`."""
    return f"{finding.node}: {finding.what}"


def _clock(moment: str | None) -> str:
    """The time of day in an RFC 3339 text, to the second; the text itself where it is none."""
    if not moment:
        return ""
    time = moment.partition("T")[2]
    return time[:8] if len(time) >= 8 else moment


def _texts(values: LinkFigures) -> dict[str, str]:
    """Each figure by its name, as text; a dash for what is not known."""
    return {
        "delay_ms": _milliseconds(values.delay_ms),
        "jitter_ms": f"jitter {_milliseconds(values.jitter_ms)}",
        "loss": f"loss {_share(values.loss)}",
        "bandwidth_bps": bandwidth(values.bandwidth_bps),
    }


def _deviations(row: NetworkRow) -> dict[str, float]:
    """How far each figure asked for is off, as a share of what was asked; what was not seen is infinitely far."""
    found = {}
    for name in _BY_WEIGHT:
        asked, seen = getattr(row.asked, name), getattr(row.seen, name)
        if asked is None:
            continue
        if seen is None:
            if not row.ok:
                found[name] = math.inf
            continue
        found[name] = abs(seen - asked) / asked if asked else (math.inf if seen else 0.0)
    return found


def _milliseconds(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{_digits(value, 3)} ms" if value < 10_000 else f"{_digits(value / 1000, 3)} s"


def _share(value: float | None) -> str:
    if value is None:
        return MISSING
    return f"{_digits(value * 100 if value == 1 else min(value * 100, 99.9), 3)}%"  # all is never a matter of rounding


def bandwidth(bits_per_s: float | None) -> str:
    """`5 Mbit/s`; a dash for None."""
    if bits_per_s is None:
        return MISSING
    for unit, scale in (("Gbit/s", 1e9), ("Mbit/s", 1e6), ("kbit/s", 1e3)):
        if bits_per_s >= scale:
            return f"{_digits(bits_per_s / scale, 3)} {unit}"
    return f"{_digits(bits_per_s, 3)} bit/s"


def _digits(value: float, digits: int) -> str:
    """So many significant digits, at most PLACES_MAX behind the point, without an exponent or trailing zeros."""
    if not value:
        return "0"
    places = min(PLACES_MAX, max(0, digits - 1 - math.floor(math.log10(abs(value)))))
    text = f"{value:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
