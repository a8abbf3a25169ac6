"""Which seed addresses to dial and when: a table, no I/O. `bootstrap` executes it.

A seed is dialled at once when it is found, whoever's name is lower: who it is shows when it answers. From then on the node
that answered is dialled by `DialPolicy` like any other. A seed whose node is not linked is tried again, soon while this node
is alone and seldom otherwise: parts of a subnet that have never met meet through it.
"""

from collections.abc import Callable, Container, Iterable
from itertools import zip_longest

import msgspec

from p2pnet.model import limits
from p2pnet.model.backoff import next_wait
from p2pnet.model.errors import SpecError
from p2pnet.model.text import parse_address
from p2pnet.peering.clock import NS

Address = tuple[str, int]

SEED_DIALS_MAX = 4
"""Dials of seeds in progress at a time."""
SEED_AGAIN_S = 0.5
"""Back-off after the first failed dial of a seed; it doubles with each one."""
SEED_AGAIN_ALONE_MAX_S = 3.0
"""Longest back-off while the node has no link."""
SEED_AGAIN_MAX_S = 30.0
"""Longest back-off while it has one."""
SEED_CHECK_S = 10.0
"""How often a seed that leads to a known node is checked again."""


def parse_seeds(seeds: Iterable[str]) -> list[Address]:
    """`host:port` each. Raises SpecError naming the entry."""
    parsed: list[Address] = []
    for index, text in enumerate(seeds):
        address = parse_address(text)
        if address is None:
            raise SpecError(f"seeds[{index}]: {text!r} is not host:port")
        parsed.append(address)
    if not 1 <= len(parsed) <= limits.SEEDS_MAX:
        raise SpecError(f"seeds: {len(parsed)} of them; discovery by seeds takes 1 to {limits.SEEDS_MAX}")
    return parsed


def in_turn(addresses: Iterable[Address]) -> list[Address]:
    """Sorted; IPv6 and IPv4 alternate as long as there are both, IPv6 first (RFC 8305, section 4)."""
    return _by_families(sorted(addresses))


def _by_families(addresses: list[Address]) -> list[Address]:
    six = [address for address in addresses if ":" in address[0]]
    four = [address for address in addresses if ":" not in address[0]]
    pairs = zip_longest(six, four)
    return [address for pair in pairs for address in pair if address is not None]


class _Seed(msgspec.Struct):
    due_ns: int
    again_s: float = 0.0
    in_progress: bool = False
    leads_to: str = ""
    """The node that answered last."""


class SeedTable:
    """The addresses all seeds resolve to, of both IP families, at most SEED_ADDRESSES_MAX. `rng` gives numbers in [0, 1)."""

    def __init__(self, own: Container[Address], rng: Callable[[], float]) -> None:
        """`own`: where this node itself serves; such seeds are passed over."""
        self._own = own
        self._rng = rng
        self._found: dict[Address, frozenset[Address]] = {}
        self._seeds: dict[Address, _Seed] = {}

    def found(self, seed: Address, addresses: Iterable[Address], now_ns: int) -> None:
        """The addresses a seed resolves to now, in place of those it did before."""
        self._found[seed] = frozenset(address for address in addresses if address not in self._own)
        # Alternating before the cut, or addresses of one family could crowd out all of the other.
        everything = in_turn(frozenset().union(*self._found.values()))[: limits.SEED_ADDRESSES_MAX]
        for address in self._seeds.keys() - set(everything):
            del self._seeds[address]
        for address in everything:
            if address not in self._seeds:
                self._seeds[address] = _Seed(now_ns)

    def resolved(self, seeds: Iterable[Address]) -> bool:
        """Whether every one of these has been looked up successfully once."""
        return self._found.keys() >= set(seeds)

    def __len__(self) -> int:
        """How many addresses of other nodes there are."""
        return len(self._seeds)

    def __contains__(self, address: object) -> bool:
        """Whether a seed resolves to this address."""
        return address in self._seeds

    def start_due(self, known: Container[Address], linked: Container[str], now_ns: int) -> list[Address]:
        """The addresses to dial now; each counts as being dialled until `failed` or `answered`.

        `known`: addresses of links and of nodes that the dial policy dials. `linked`: names of links.
        """
        free = SEED_DIALS_MAX - sum(seed.in_progress for seed in self._seeds.values())
        due = [address for address, seed in self._seeds.items() if not seed.in_progress and seed.due_ns <= now_ns]
        started: list[Address] = []
        due.sort(key=lambda _: self._rng())  # in random order: not all nodes at the same seed first
        for address in _by_families(due):  # yet alternating: a family that leads nowhere must not take all dials
            seed = self._seeds[address]
            if address in known or seed.leads_to in linked:
                seed.due_ns, seed.again_s = now_ns + int(SEED_CHECK_S * NS), 0.0
            elif len(started) < free:
                seed.in_progress = True
                started.append(address)
        return started

    def answered(self, address: Address, name: str, now_ns: int) -> None:
        """The node `name` answered at the address."""
        seed = self._seeds.get(address)
        if seed is not None:
            seed.in_progress, seed.leads_to, seed.again_s = False, name, 0.0
            seed.due_ns = now_ns + int(SEED_CHECK_S * NS)

    def failed(self, address: Address, now_ns: int, *, alone: bool) -> None:
        """The dial failed. `alone`: the node has no link."""
        seed = self._seeds.get(address)
        if seed is not None:
            most = SEED_AGAIN_ALONE_MAX_S if alone else SEED_AGAIN_MAX_S
            seed.in_progress, seed.leads_to = False, ""
            seed.again_s = next_wait(seed.again_s, SEED_AGAIN_S, most)
            seed.due_ns = now_ns + int(seed.again_s * (0.5 + self._rng() / 2) * NS)

    def all_due(self, now_ns: int) -> None:
        """The last link is gone: dial all seeds now."""
        for seed in self._seeds.values():
            seed.again_s, seed.due_ns = 0.0, min(seed.due_ns, now_ns)

    def next_wakeup(self) -> int | None:
        """When `start_due` may have something, in ns; None while as many dials as allowed are in progress."""
        waiting = [seed.due_ns for seed in self._seeds.values() if not seed.in_progress]
        return min(waiting) if waiting and len(self._seeds) - len(waiting) < SEED_DIALS_MAX else None
