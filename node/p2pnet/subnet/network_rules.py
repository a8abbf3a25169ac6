"""Which rule of `spec.network` decides of a link: the most specific one that matches it, as a whole. Pure."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from p2pnet.subnet.network_shapes import shape_of
from p2pnet.subnet.network_spec import RuleSpec
from p2pnet.subnet.selectors import Roster, rank_of

NO_RULE = -1


class Overlap(NamedTuple):
    """Two rules that are as specific as each other, ask for different things, and match the same links."""

    rule: int
    """The later one, which decides."""
    gives_way: int
    links: int
    example: tuple[str, str]
    """The ends of one of the links."""


class RuleTable:
    """The rules, and who is at their ends. Sets of rules are numbers with a bit for each."""

    def __init__(self, roster: Roster, rules: Sequence[RuleSpec]) -> None:
        self.shapes = [shape_of(rule) for rule in rules]
        """What each asks for."""
        self.sends = dict.fromkeys(roster.groups, 0)
        """By node, the rules that match links from it."""
        self.receives = dict.fromkeys(roster.groups, 0)
        """By node, the rules that match links to it."""
        for index, rule in enumerate(rules):
            for name in roster.select(rule.from_):
                self.sends[name] |= 1 << index
            for name in roster.select(rule.to):
                self.receives[name] |= 1 << index
        self._ranks = [rule_rank(rule) for rule in rules]
        self._first = sorted(range(len(rules)), key=lambda index: (self._ranks[index], index), reverse=True)
        self._decided: dict[int, int] = {0: NO_RULE}

    def decides(self, matching: int) -> int:
        """The number of the rule that decides where all of these match; NO_RULE without any."""
        if matching not in self._decided:
            self._decided[matching] = next(index for index in self._first if matching >> index & 1)
        return self._decided[matching]

    def overlaps(self) -> list[Overlap]:
        """Pairs of rules between which only their order decides, and differs, in document order."""
        links: dict[tuple[int, int], int] = {}
        examples: dict[tuple[int, int], tuple[str, str]] = {}
        for matching, count, example in self._matched():
            rule = self.decides(matching)
            for other in range(rule):
                alike = matching >> other & 1 and self._ranks[other] == self._ranks[rule]
                if alike and self.shapes[other] != self.shapes[rule]:
                    links[rule, other] = links.get((rule, other), 0) + count
                    examples.setdefault((rule, other), example)
        return [Overlap(*pair, count, examples[pair]) for pair, count in sorted(links.items())]

    def idle(self) -> list[int]:
        """Rules that decide of no link."""
        deciding = {self.decides(matching) for matching, _, _ in self._matched()}
        return [index for index in range(len(self.shapes)) if index not in deciding]

    def _matched(self) -> Iterator[tuple[int, int, tuple[str, str]]]:
        """The sets of rules that match links, with the number of links and one of them. A set may come several times."""
        alike: dict[tuple[int, int], list[str]] = {}
        for name, sends in self.sends.items():
            alike.setdefault((sends, self.receives[name]), []).append(name)
        for one, sources in alike.items():
            for other, ends in alike.items():
                matching = one[0] & other[1]
                count = len(sources) * len(ends) - (len(sources) if one == other else 0)
                if matching and count:
                    yield matching, count, (sources[0], ends[-1])


def rule_rank(rule: RuleSpec) -> tuple[int, int]:
    """How specific a rule is: the larger of its selectors' ranks, then the smaller."""
    source, to = rank_of(rule.from_), rank_of(rule.to)
    return max(source, to), min(source, to)
