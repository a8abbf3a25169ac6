"""What the network between the members of a document does: `spec.network`, and on top of it the faults that act now. Pure.

Of a link, the most specific rule decides as a whole (`network_rules`), else preset and default (`placement`). Faults add to that.
Nodes that no rule, no fault and no place tells apart are looked at once, so that 500 nodes cost what the document says of them,
not 250,000 shapes.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import NamedTuple

from p2pnet.model.errors import SpecError
from p2pnet.model.network import CLEAR, AccessShape, LinkShape, NodeNetwork
from p2pnet.netem import combined
from p2pnet.subnet.fault_nodes import nodes_of, parts_of
from p2pnet.subnet.network_notes import NOTES_MAX, narrow_notes, overlap_notes, placement_notes
from p2pnet.subnet.network_rules import NO_RULE, RuleTable
from p2pnet.subnet.network_shapes import BLOCKED, carried, narrowest_down, narrowest_up, shape_of
from p2pnet.subnet.network_spec import FaultKind, FaultSpec, LineSpec
from p2pnet.subnet.placement import NO_PRESET, PresetLinks, placement_of
from p2pnet.subnet.selectors import EVERY, Roster
from p2pnet.subnet.spec import Subnet

_ABOUT_LINKS: frozenset[FaultKind] = frozenset(("shape", "access", "block", "partition"))
_JOINED = " + "


class _Acting(NamedTuple):
    """A fault about links, and whom it is about now."""

    fault: FaultSpec
    source: frozenset[str]
    to: frozenset[str]
    parts: dict[str, int]
    """The number of each node's part, of a partition."""
    shape: LinkShape

    @property
    def label(self) -> str:
        return f"fault {self.fault.name}"


class _Row(NamedTuple):
    """All that tells nodes apart. Rules and faults have a bit each."""

    sends: int
    receives: int
    faults_from: int
    faults_to: int
    parts: tuple[int, ...]
    place: str


class NetworkPlan:
    """The network of all members, with the faults that act now. Made by `network_plan`; it never changes."""

    def __init__(self, subnet: Subnet, faults: Iterable[FaultSpec]) -> None:
        self._subnet = subnet
        self._network = network = subnet.spec.network
        self._roster = roster = Roster(subnet)
        self.members: list[str] = list(roster.groups)
        """Names, in member order."""
        self._default = shape_of(network.default)
        self._preset = PresetLinks(network, self._default) if network.preset != NO_PRESET else None
        self._placement = placement_of(roster, network.preset)
        self._rules = RuleTable(roster, network.rules)
        self._odd_faults: list[str] = []
        self._faults = list(self._acting(faults))
        self._on_paths = [one for one in self._faults if one.fault.access is None]
        self._both_ways = sum(1 << index for index, one in enumerate(self._on_paths) if one.fault.both_ways)
        self._partitions = [index for index, one in enumerate(self._on_paths) if one.parts]
        self._rows: list[_Row] = []
        self._row_of = self._tell_apart()
        self._found: dict[tuple[int, int], tuple[LinkShape, str]] = {}

    def path(self, source: str, to: str) -> tuple[LinkShape, str]:
        """What packets from one member to another go through, and why: a label like `rules[0] + fault cut-eu`.

        Where nothing acts it is CLEAR, and the label is empty. Raises KeyError for a name that is no member's.
        """
        return self._between(self._row_of[source], self._row_of[to])

    def access(self, node: str) -> tuple[AccessShape | None, AccessShape | None]:
        """The node's access link, up and down; None: no limit. Raises KeyError for a name that is no member's."""
        lines = [line for _, line in self._lines(node)]
        return narrowest_up(lines), narrowest_down(lines)

    def access_label(self, node: str) -> str:
        """Why the node's access link is as it is, like `access.groups.home + fault narrow`; empty where it has no limit."""
        return _JOINED.join(label for label, _ in self._lines(node))

    def node_network(self, node: str, peers: Iterable[str], version: int) -> NodeNetwork:
        """The network as a node is told it. Peers that are no members have a clear path. Raises KeyError for such a node."""
        own, numbers = self._row_of[node], dict[LinkShape, int]()
        by_row: dict[int, int | None] = {}
        paths: dict[str, int] = {}
        for peer in peers:
            row = self._row_of.get(peer)
            if row is None or peer == node:
                continue
            if row not in by_row:
                shape, _ = self._between(own, row)
                by_row[row] = None if shape.clear else numbers.setdefault(shape, len(numbers))
            number = by_row[row]
            if number is not None:
                paths[peer] = number
        up, down = self.access(node)
        return NodeNetwork(version=version, shapes=list(numbers), paths=paths, up=up, down=down)

    def selectors(self, label: str) -> tuple[str, str]:
        """`from` and `to` of a label, as the document has them; those of several parts that act together joined by ` & `."""
        known = {f"rules[{index}]": (rule.from_, rule.to) for index, rule in enumerate(self._network.rules)}
        known |= {one.label: (one.fault.from_, one.fault.to) for one in self._faults}
        ends = [known.get(part, (EVERY, EVERY)) for part in label.split(_JOINED)]
        return _all_of(source for source, _ in ends), _all_of(to for _, to in ends)

    @cached_property
    def labels(self) -> list[str]:
        """The labels of all paths, each once: of default or preset, then of rules in their order, each also with faults."""
        parts = [self._base_label, *(f"rules[{index}]" for index in range(len(self._rules.shapes)))]
        order = {part: number for number, part in enumerate([*parts, *(one.label for one in self._on_paths)])}
        judged = {self._judged(*pair) for pair in self._pairs()}
        found = {self._path_label(*pair) for pair in judged} - {""}
        return sorted(found, key=lambda label: [order[part] for part in label.split(_JOINED)])

    @cached_property
    def shaped(self) -> bool:
        """Whether anything is shaped at all."""
        return bool(self.labels) or any(self.access(node) != (None, None) for node in self.members)

    @cached_property
    def notes(self) -> list[str]:
        """What is odd about what is asked for, a sentence each."""
        found = [
            *self._odd_faults,
            *overlap_notes(self._rules),
            *placement_notes(self._placement, self._network, self._preset),
            *narrow_notes(self._subnet, self._roster, [one.fault for one in self._faults]),
        ]
        more = len(found) - NOTES_MAX
        return found if more <= 0 else [*found[:NOTES_MAX], f"and {more} more"]

    def _acting(self, faults: Iterable[FaultSpec]) -> Iterator[_Acting]:
        """The faults about links that act on somebody."""
        roster, seed = self._roster, self._subnet.spec.seed
        for fault in faults:
            if not _ABOUT_LINKS & set(fault.kinds):
                continue
            try:
                parts = parts_of(roster, seed, fault)
                source, to = nodes_of(roster, seed, fault), roster.select(fault.to)
            except SpecError as error:
                self._odd_faults.append(f"fault {fault.name} is not in force: {error}")
                continue
            if source and to:
                yield _Acting(fault, source, to, parts, shape_of(fault) if fault.shapes else BLOCKED)
            else:
                self._odd_faults.append(f"fault {fault.name} acts on nothing: no node is what it selects")

    def _tell_apart(self) -> dict[str, int]:
        """The number of every member's row in `_rows`."""
        rows: dict[str, int] = {}
        known: dict[_Row, int] = {}
        ends = [(1 << index, one) for index, one in enumerate(self._on_paths) if not one.parts]
        partitions = [self._on_paths[index].parts for index in self._partitions]
        for name in self.members:
            row = _Row(
                self._rules.sends[name], self._rules.receives[name],
                sum(bit for bit, one in ends if name in one.source), sum(bit for bit, one in ends if name in one.to),
                tuple(parts[name] for parts in partitions), self._placement.places.get(name, ""),
            )  # fmt: skip
            rows[name] = known.setdefault(row, len(known))
        self._rows = list(known)
        return rows

    def _between(self, one: int, other: int) -> tuple[LinkShape, str]:
        """The path from nodes of one row to those of another, and its label."""
        found = self._found.get((one, other))
        if found is None:
            found = self._found[one, other] = self._path(self._rows[one], self._rows[other])
        return found

    def _path(self, one: _Row, other: _Row) -> tuple[LinkShape, str]:
        rule, acting = self._judged(one, other)
        if rule != NO_RULE:
            base = self._rules.shapes[rule]
        else:
            base = self._preset.shape(one.place, other.place) if self._preset else self._default
        if not acting:
            return (CLEAR, "") if base.clear else (base, self._path_label(rule, 0))
        shapes = [base, *(fault.shape for fault in self._these(acting))]
        return carried(combined(shapes)), self._path_label(rule, acting)

    def _judged(self, one: _Row, other: _Row) -> tuple[int, int]:
        """The rule that decides of the links from nodes of one row to those of another; the faults that act on them, as bits."""
        there = one.faults_from & other.faults_to
        back = other.faults_from & one.faults_to & self._both_ways
        acting = there | back
        for index, mine, its in zip(self._partitions, one.parts, other.parts, strict=True):
            acting |= (mine != its) << index
        return self._rules.decides(one.sends & other.receives), acting

    def _these(self, acting: int) -> list[_Acting]:
        return [fault for index, fault in enumerate(self._on_paths) if acting >> index & 1]

    @property
    def _base_label(self) -> str:
        return "default" if self._preset is None else f"preset {self._network.preset}"

    def _path_label(self, rule: int, acting: int) -> str:
        if rule != NO_RULE:
            part, acts = f"rules[{rule}]", not self._rules.shapes[rule].clear
        else:
            part, acts = self._base_label, self._preset is not None or not self._default.clear
        return _JOINED.join([*([part] if acts else []), *(fault.label for fault in self._these(acting))])

    def _pairs(self) -> Iterator[tuple[_Row, _Row]]:
        """Rows between whose nodes there are links, whatever their places."""
        counts = Counter(self._rows[number]._replace(place="") for number in self._row_of.values())
        for one, count in counts.items():
            yield from ((one, other) for other in counts if one != other or count > 1)

    def _lines(self, node: str) -> list[tuple[str, LineSpec]]:
        """What limits a node's access link, and why: its group's line or that of all nodes, then faults."""
        group, access = self._roster.groups[node], self._network.access
        lines: list[tuple[str, LineSpec]] = [("access", access)]
        if group in access.groups:
            lines = [(f"access.groups.{group}", access.groups[group])]
        lines += [(one.label, one.fault.access) for one in self._faults if one.fault.access and node in one.source]
        return [(label, line) for label, line in lines if line.up or line.down]


def network_plan(subnet: Subnet, faults: Iterable[FaultSpec] = ()) -> NetworkPlan:
    """The network of a checked document with these faults in force, those about nodes left aside.

    A fault that cannot act on this document any more (a share that is nobody since a scaling) is left out, and said in `notes`.
    """
    return NetworkPlan(subnet, faults)


def _all_of(selectors: Iterable[str]) -> str:
    parts = [selector for selector in dict.fromkeys(selectors) if selector != EVERY]
    return " & ".join(parts) or EVERY
