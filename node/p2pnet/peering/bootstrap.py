"""How a node comes to know its peers. `Bootstrap` is the registry's way: it has been told. `SeedBootstrap` asks around.

Seeds are addresses whose owners show when they answer. A DNS name is looked up again and again, and every address it has
is a seed: a headless Service names all pods of a subnet. What follows on a link is `exchange`'s.
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
from p2pnet.peering.dial_policy import nobody
from p2pnet.peering.discovery import PeerDirectory, RecordDirectory, RegistryDirectory
from p2pnet.peering.pacing import Rate
from p2pnet.peering.peers import Peers
from p2pnet.peering.record_exchange import RecordExchange
from p2pnet.peering.records import OwnRecord
from p2pnet.peering.refusals import Refusals
from p2pnet.peering.seeds import Address, SeedTable, parse_seeds
from p2pnet.quic import Connection, IdentitySource, Message

LOOKUP_S = 15.0
LOOKUP_ALONE_S = 1.0
"""Between two look-ups of a seed's name, with links and without."""
DIALS_PER_S = 50.0
"""Of addresses that peers told of: a record that names somebody else's door must not make a subnet break it down."""
RECORD_S_MIN = 4.0
"""Records are looked after once a second, and signed anew at half their life."""

log = logging.getLogger("p2pnet.node")

Take = Callable[[str, Connection, Message], None]


class Bootstrap:
    """For a node whose registry says it all: nothing to do."""

    routes: Mapping[bytes, Take] = {}
    """Messages of peers that are for it."""
    rate: Rate | None = None
    at_once: Callable[[str], bool] = staticmethod(nobody)
    """For the `Dialler`."""

    def __init__(self, discovery: PeerDirectory) -> None:
        self.discovery = discovery

    def start(self, peers: Peers, address: Address) -> None:
        """Join: this node serves at `address`. Raises SpecError or LimitError."""

    def stop(self) -> None:
        """Look for nobody any more."""

    def link_up(self, name: str, connection: Connection) -> None:
        """See `links.Listener`."""

    def link_down(self, name: str) -> None:
        """See `links.Listener`."""

    def tick(self) -> None:
        """Called about every second."""

    def identity_changed(self, what: str) -> None:
        """See `identity.what_changed`."""

    def awaits(self, *, joined: bool) -> bool:
        """Whether there should be peers that `discovery` does not know. `joined`: there has been a link."""
        del joined
        return False


def make_bootstrap(
    config: NodeConfig,
    *,
    identity: IdentitySource,
    refusals: Refusals,
    chance: Callable[[], float],
    changed: Callable[[], None],
) -> Bootstrap:
    """The config's way; `changed()` is called when `discovery` knows others. Raises SpecError."""
    scope = (config.trust_domain, config.namespace, config.subnet)
    if config.discovery == "registry":
        return Bootstrap(RegistryDirectory(config.name, *scope))
    if not RECORD_S_MIN <= config.record_s <= limits.RECORD_S:
        raise SpecError(f"record_s: {config.record_s:g} s is not from {RECORD_S_MIN:g} to {limits.RECORD_S:g}")
    if len(config.advertise) > limits.RECORD_ADDRESSES_MAX:
        raise SpecError(f"advertise: {len(config.advertise)} addresses, at most {limits.RECORD_ADDRESSES_MAX}")
    return SeedBootstrap(config, scope, identity=identity, refusals=refusals, chance=chance, changed=changed)


class SeedBootstrap(Bootstrap):
    """See the module. Made on the loop."""

    def __init__(
        self,
        config: NodeConfig,
        scope: tuple[str, str, str],
        *,
        identity: IdentitySource,
        refusals: Refusals,
        chance: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        """Raises SpecError for seeds that are none."""
        self._table = RecordDirectory(config.name, *scope)
        super().__init__(self._table)
        self._config = config
        self._names = parse_seeds(config.seeds)
        self._refusals = refusals
        self._chance = chance
        self._changed = changed
        self._own: set[Address] = set()
        self._seeds = SeedTable(self._own, chance)
        self._exchange = RecordExchange(
            config.name, self._table, identity=identity, refusals=refusals, chance=chance,
            changed=self._book_changed, cut=self._cut,
        )  # fmt: skip
        self._peers: Peers | None = None
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking: set[Address] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._lookup_ns = 0
        self._family = socket.AF_INET
        """Of seeds' addresses that this node can dial; AF_UNSPEC: of both."""
        self.routes = {ROUTE_RECORDS: self._exchange.message}
        self.rate = Rate(DIALS_PER_S, int(DIALS_PER_S))
        self.at_once = self._is_seed

    def start(self, peers: Peers, address: Address) -> None:
        """See `Bootstrap`."""
        told = [self._parsed(text) for text in self._config.advertise] or [address]
        if any(_is_wildcard(host) for host, _ in told):
            raise SpecError(
                f"advertise: nobody can dial {told[0][0]}; name the host:port at which others reach this node"
            )
        self._own.update((*told, address))
        self._peers = peers
        if ":" in address[0]:
            self._family = socket.AF_UNSPEC if _is_wildcard(address[0]) else socket.AF_INET6
        self._exchange.start(OwnRecord([address_text(*one) for one in told], self._config.record_s, clock.utc_now()))
        self._turn()

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
            self._seeds.lonely(clock.mono_ns())
            self._lookup_ns = 0
            self._turn()

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
        """See `Bootstrap`: a seed that is not this node itself, or somebody whose record has ended."""
        if joined or self._table.gone:
            return bool(self._table.book.lost)
        return len(self._seeds) > 0 or not self._seeds.resolved(self._names)

    # --- seeds ---

    def _turn(self) -> None:
        """Look up and dial what is due, set the one timer for the next."""
        if self._peers is None:
            return
        now = clock.mono_ns()
        if now >= self._lookup_ns:
            self._lookup_ns = now + int((LOOKUP_S if self._peers.links else LOOKUP_ALONE_S) * clock.NS)
            for seed in self._names:
                self._look_up(seed, now)
        due = self._seeds.next_wakeup()
        if due is not None and due <= now and not self._table.gone:
            for address in self._seeds.start_due(self._known(self._peers), self._peers.links, now):
                self._spawn(self._dial(self._peers, address))
            due = self._seeds.next_wakeup()
        if self._timer is not None:
            self._timer.cancel()
        wakeup = self._lookup_ns if due is None or self._table.gone else min(due, self._lookup_ns)
        self._timer = self._loop.call_later(clock.delay_s(wakeup), self._turn)

    def _known(self, peers: Peers) -> set[Address]:
        known = {address for name in self._table.wanted for address in self._table.addresses(name)}
        return known | {(link.connection.address[0], link.connection.address[1]) for link in peers.links.values()}

    def _look_up(self, seed: Address, now_ns: int) -> None:
        if _is_numeric(seed[0]):
            self._seeds.found(seed, [seed], now_ns)
        elif seed not in self._looking:  # a name server that does not answer is not asked twice at a time
            self._looking.add(seed)
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
            self._looking.discard(seed)
        self._turn()

    async def _dial(self, peers: Peers, address: Address) -> None:
        try:
            name = await peers.dials.seed(address)
        except (P2pnetError, OSError) as error:
            if isinstance(error, TrustError):
                self._refusals.note(error.kind, f"the seed {address_text(*address)}: {error}")
            self._seeds.failed(address, clock.mono_ns(), alone=not peers.links)
        else:
            self._seeds.answered(address, name, clock.mono_ns())
        self._turn()

    def _is_seed(self, name: str) -> bool:
        return any(address in self._seeds for address in self._table.addresses(name))

    # --- the book ---

    def _book_changed(self) -> None:
        self._table.refresh()
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
    """IPv4 as IPv4, however the resolver tells it: so are links' addresses told."""
    return host.removeprefix("::ffff:") if "." in host else host


def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_wildcard(host: str) -> bool:
    return _is_numeric(host) and ipaddress.ip_address(host).is_unspecified
