"""How a node comes to know its peers: `Bootstrap` for discovery by registry, `SeedBootstrap` for discovery by seeds.

A seed is an address; who is there shows when it answers. A DNS name is looked up again and again, and every address it has
is a seed: a headless Service names all pods of a subnet. What follows on a link is done by `record_exchange`.
"""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from p2pnet.model import limits
from p2pnet.model.config import NodeConfig
from p2pnet.model.errors import P2pnetError, SpecError, TrustError
from p2pnet.model.peer_messages import ROUTE_RECORDS
from p2pnet.model.text import address_text, parse_address
from p2pnet.peering import clock
from p2pnet.peering.dial_policy import no_peer
from p2pnet.peering.discovery import PeerDirectory, RecordDirectory, RegistryDirectory
from p2pnet.peering.pacing import Rate
from p2pnet.peering.peers import Peers
from p2pnet.peering.record_exchange import RecordExchange
from p2pnet.peering.records import OwnRecord
from p2pnet.peering.refusals import Refusals
from p2pnet.peering.seeds import Address, SeedTable, parse_seeds
from p2pnet.quic import Connection, IdentitySource, Message

LOOKUP_S = 15.0
"""Between two look-ups of a seed's name while this node has links."""
LOOKUP_ALONE_S = 1.0
"""Between two look-ups of a seed's name while it has none."""
DIALS_PER_S = 50.0
"""Dials of addresses from records: one that names somebody else's address must not turn a subnet into a flood of dials."""
RECORD_S_MIN = 4.0
"""Shortest life of a record: records are checked once a second, and signed anew at half their life."""

log = logging.getLogger("p2pnet.node")

PeerRoute = Callable[[str, Connection, Message], None]


class Bootstrap:
    """Discovery by registry: the directory is told of everybody, so there is nothing to do."""

    routes: Mapping[bytes, PeerRoute] = {}
    """Handlers of peers' messages, by route."""
    rate: Rate | None = None
    """Bound on dials, see `DialPolicy`; None: unbounded."""
    at_once: Callable[[str], bool] = staticmethod(no_peer)
    """Peers to dial without waiting, see `DialPolicy`."""

    def __init__(self, directory: PeerDirectory) -> None:
        self.directory = directory

    def start(self, peers: Peers, address: Address) -> None:
        """Begin: this node serves at `address`. Raises SpecError or LimitError."""

    def stop(self) -> None:
        """Look up and ask nobody any more."""

    def link_up(self, name: str, connection: Connection) -> None:
        """See `PeerListener`."""

    def link_down(self, name: str) -> None:
        """See `PeerListener`."""

    def tick(self) -> None:
        """Called about every second."""

    def identity_changed(self, what: str) -> None:
        """The identity was replaced; `what` holds `leaf`, `bundle` or both."""

    def awaits(self, *, joined: bool) -> bool:
        """Whether peers may exist that `directory` does not know. `joined`: there has been a link."""
        del joined
        return False


def make_bootstrap(
    config: NodeConfig,
    *,
    identity: IdentitySource,
    refusals: Refusals,
    rng: Callable[[], float],
    changed: Callable[[], None],
) -> Bootstrap:
    """The discovery that the config asks for. `changed()` is called when its directory has changed. Raises SpecError."""
    scope = (config.trust_domain, config.namespace, config.subnet)
    if config.discovery == "registry":
        return Bootstrap(RegistryDirectory(config.name, *scope))
    if not RECORD_S_MIN <= config.record_s <= limits.RECORD_S:
        raise SpecError(f"record_s: {config.record_s:g} s is not from {RECORD_S_MIN:g} to {limits.RECORD_S:g}")
    if len(config.advertise) > limits.RECORD_ADDRESSES_MAX:
        raise SpecError(f"advertise: {len(config.advertise)} addresses, at most {limits.RECORD_ADDRESSES_MAX}")
    return SeedBootstrap(config, scope, identity=identity, refusals=refusals, rng=rng, changed=changed)


class SeedBootstrap(Bootstrap):
    """Discovery by seeds: look-ups, dials of seeds, and the records that follow on links. Made on the loop."""

    def __init__(
        self,
        config: NodeConfig,
        scope: tuple[str, str, str],
        *,
        identity: IdentitySource,
        refusals: Refusals,
        rng: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        """Raises SpecError for seeds that are no `host:port`."""
        self._record_directory = RecordDirectory(config.name, *scope)
        super().__init__(self._record_directory)
        self._config = config
        self._names = parse_seeds(config.seeds)
        self._refusals = refusals
        self._rng = rng
        self._changed = changed
        self._own: set[Address] = set()
        self._seeds = SeedTable(self._own, rng)
        self._exchange = RecordExchange(
            config.name, self._record_directory.records, identity=identity, refusals=refusals, rng=rng,
            changed=self._records_changed, cut=self._cut,
        )  # fmt: skip
        self._peers: Peers | None = None
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._lookups: set[Address] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._lookup_ns = 0
        self._family = socket.AF_INET
        """Address family of seeds that this node can dial; AF_UNSPEC: both."""
        self.routes = {ROUTE_RECORDS: self._exchange.message}
        self.rate = Rate(DIALS_PER_S, int(DIALS_PER_S))
        self.at_once = self._is_seed

    def start(self, peers: Peers, address: Address) -> None:
        """See `Bootstrap`."""
        advertised = [self._parsed(text) for text in self._config.advertise] or [address]
        if any(_is_wildcard(host) for host, _ in advertised):
            raise SpecError(
                f"advertise: nobody can dial {advertised[0][0]}; name the host:port at which others reach this node"
            )
        self._own.update((*advertised, address))  # seeds that are this node itself are not dialled
        self._peers = peers
        # An IPv4 socket sends to IPv4 addresses only, one bound to `::` to both families.
        if ":" in address[0]:
            self._family = socket.AF_UNSPEC if _is_wildcard(address[0]) else socket.AF_INET6
        self._exchange.start(
            OwnRecord([address_text(*one) for one in advertised], self._config.record_s, clock.utc_now())
        )
        self._advance()

    def stop(self) -> None:
        """See `Bootstrap`."""
        self._peers = None
        self._exchange.stop()
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()

    def link_up(self, name: str, connection: Connection) -> None:
        """See `Bootstrap`."""
        self._exchange.link_up(name, connection)

    def link_down(self, name: str) -> None:
        """See `Bootstrap`."""
        self._exchange.link_down(name)
        if self._peers is not None and not self._peers.links:
            # Alone again: dial all seeds, and look their names up anew, for they may lead elsewhere now.
            self._seeds.all_due(clock.mono_ns())
            self._lookup_ns = 0
            self._advance()

    def tick(self) -> None:
        """See `Bootstrap`."""
        self._exchange.tick()

    def identity_changed(self, what: str) -> None:
        """See `Bootstrap`."""
        if "bundle" in what:
            self._exchange.bundle_changed()
        if "leaf" in what:
            self._exchange.leaf_changed()

    def awaits(self, *, joined: bool) -> bool:
        """See `Bootstrap`: a seed other than this node itself, or a node whose record has ended without being removed."""
        if joined or self._record_directory.is_removed:
            return bool(self._record_directory.records.lost)
        return len(self._seeds) > 0 or not self._seeds.resolved(self._names)

    # --- seeds ---

    def _advance(self) -> None:
        """Look up and dial what is due, set the one timer for what is next."""
        if self._peers is None:
            return
        now = clock.mono_ns()
        if now >= self._lookup_ns:
            self._lookup_ns = now + int((LOOKUP_S if self._peers.links else LOOKUP_ALONE_S) * clock.NS)
            for seed in self._names:
                self._look_up(seed, now)
        due = self._seeds.next_wakeup()
        # A removed node dials nobody; look-ups go on, for a newer list may take it back.
        if due is not None and due <= now and not self._record_directory.is_removed:
            for address in self._seeds.start_due(self._known(self._peers), self._peers.links, now):
                self._spawn(self._dial(self._peers, address))
            due = self._seeds.next_wakeup()
        if self._timer is not None:
            self._timer.cancel()
        wakeup = self._lookup_ns if due is None or self._record_directory.is_removed else min(due, self._lookup_ns)
        self._timer = self._loop.call_later(clock.delay_s(wakeup), self._advance)

    def _known(self, peers: Peers) -> set[Address]:
        known = {
            address for name in self._record_directory.wanted for address in self._record_directory.addresses(name)
        }
        return known | {(link.connection.address[0], link.connection.address[1]) for link in peers.links.values()}

    def _look_up(self, seed: Address, now_ns: int) -> None:
        if _is_numeric(seed[0]):
            self._seeds.found(seed, [seed], now_ns)
        elif seed not in self._lookups:  # one question at a time: a name server may not answer
            self._lookups.add(seed)
            self._spawn(self._ask_name_server(seed))

    async def _ask_name_server(self, seed: Address) -> None:
        host, port = seed
        try:
            answers = await self._loop.getaddrinfo(host, port, family=self._family, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError) as error:
            log.debug("the seed %s is not found: %s", address_text(host, port), error)
        else:
            found = [(_plain(str(answer[4][0])), port) for answer in answers]
            self._seeds.found(seed, list(dict.fromkeys(found)), clock.mono_ns())
        finally:
            self._lookups.discard(seed)
        self._advance()

    async def _dial(self, peers: Peers, address: Address) -> None:
        try:
            name = await peers.dialer.dial_seed(address)
        except (P2pnetError, OSError) as error:
            if isinstance(error, TrustError):
                self._refusals.note(error.kind, f"the seed {address_text(*address)}: {error}")
            self._seeds.failed(address, clock.mono_ns(), alone=not peers.links)
        else:
            self._seeds.answered(address, name, clock.mono_ns())
        self._advance()

    def _is_seed(self, name: str) -> bool:
        return any(address in self._seeds for address in self._record_directory.addresses(name))

    # --- records ---

    def _records_changed(self) -> None:
        self._record_directory.refresh()
        self._changed()

    def _cut(self, name: str, reason: str) -> None:
        if self._peers is not None:
            self._peers.cut(name, reason)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _parsed(self, text: str) -> Address:
        address = parse_address(text)
        if address is None:
            raise SpecError(f"advertise: {text!r} is not host:port")
        return address


def _plain(host: str) -> str:
    """An IPv4-mapped IPv6 address as IPv4, as addresses of links are written."""
    return host.removeprefix("::ffff:") if "." in host else host


def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_wildcard(host: str) -> bool:
    return _is_numeric(host) and ipaddress.ip_address(host).is_unspecified
