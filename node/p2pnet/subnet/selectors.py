"""Selectors of nodes, as rules and faults write them: `*`, names of nodes, or `key=value` parts. Pure.

Names joined by commas mean any of these nodes, parts joined by commas the nodes that have all of them.

Keys are those of the groups' labels, and `group` and `node`, which every node has.
"""

from collections.abc import Mapping
from functools import cached_property

from p2pnet.subnet.members import members
from p2pnet.subnet.spec import DEFAULT_GROUP, Subnet

EVERY = "*"
NODE_RANK = 100  # more than all labels together, of which a group has at most 32
GROUP_RANK = 2  # a group has its labels, so its name says more than one of them


class Roster:
    """The members of a document, and which of them a selector means. Made once, asked often."""

    def __init__(self, subnet: Subnet) -> None:
        self._subnet = subnet
        self.labels: dict[str, Mapping[str, str]] = {DEFAULT_GROUP: {}} | {
            group.name: group.labels for group in subnet.spec.groups
        }
        """Labels by group; groups without nodes are here too."""
        self._found: dict[str, frozenset[str]] = {}

    @cached_property
    def groups(self) -> dict[str, str]:
        """Group by name, in member order."""
        return dict(members(self._subnet))  # many, and few documents ask for them

    def select(self, selector: str) -> frozenset[str]:
        """The nodes that a selector means; none where it means none."""
        if selector not in self._found:
            self._found[selector] = frozenset(self._select(selector))
        return self._found[selector]

    def mistake(self, selector: str) -> str:
        """What is wrong with a selector that a document holds, or nothing. A group may have no nodes at the moment."""
        if selector == EVERY:
            return ""
        if "=" not in selector:
            unknown = [name for name in _names(selector) if name not in self.groups]
            return f"no node is named {unknown[0]!r}" if unknown else ""
        for part in selector.split(","):
            key, _, value = (text.strip() for text in part.partition("="))
            known = (
                value in self.labels if key == "group"
                else value in self.groups if key == "node"
                else any(labels.get(key) == value for labels in self.labels.values())
            )  # fmt: skip
            if not known:
                return f"{part.strip()!r} selects no node"
        return "" if self._groups(selector) else f"{selector!r} selects no node: no group has all of it"

    def in_order(self, names: frozenset[str]) -> list[str]:
        """These nodes in member order."""
        return [name for name in self.groups if name in names]

    def _select(self, selector: str) -> list[str]:
        if selector == EVERY:
            return list(self.groups)
        if "=" not in selector:
            return [name for name in _names(selector) if name in self.groups]
        nodes, _ = _parts(selector)
        groups = self._groups(selector)
        return [name for name, group in self.groups.items() if group in groups and all(name == one for one in nodes)]

    def _groups(self, selector: str) -> set[str]:
        """The groups whose nodes a selector with parts may mean."""
        nodes, wanted = _parts(selector)
        named = {self.groups.get(node) for node in nodes}
        return {
            group
            for group, labels in self.labels.items()
            if _matches({**labels, "group": group}, wanted) and named <= {group}
        }


def rank_of(selector: str) -> int:
    """How much a selector says: `*` nothing, a label 1, a group 2, a node 100, and parts together their sum."""
    if selector == EVERY:
        return 0
    if "=" not in selector:
        return NODE_RANK
    nodes, others = _parts(selector)
    return NODE_RANK * len(set(nodes)) + sum(GROUP_RANK if key == "group" else 1 for key, _ in set(others))


def _names(selector: str) -> list[str]:
    """The nodes that a selector without parts names."""
    return [name.strip() for name in selector.split(",")]


def _parts(selector: str) -> tuple[list[str], list[tuple[str, str]]]:
    """The nodes that a selector names, and its other parts."""
    pairs = [(key.strip(), value.strip()) for key, _, value in (part.partition("=") for part in selector.split(","))]
    return [value for key, value in pairs if key == "node"], [pair for pair in pairs if pair[0] != "node"]


def _matches(labels: Mapping[str, str], wanted: list[tuple[str, str]]) -> bool:
    return all(labels.get(key) == value for key, value in wanted)
