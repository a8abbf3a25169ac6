"""A network in memory and an event loop in virtual time, for tests of whole endpoints without sockets and without waiting.

    async def scenario() -> None:
        network = MemoryNetwork(seed=7, delay_s=0.02, loss=0.01)
        loop = asyncio.get_running_loop()
        times = {"clock": loop.time, "utc_now": loop.utc_now}
        server = await Endpoint.bind(transport=network.transport(("10.0.0.1", 4100)), trust=trust, **times)
        client = await Endpoint.bind(transport=network.transport(("10.0.0.2", 4100)), trust=trust, **times)
        await client.connect(server.address)
        await asyncio.sleep(3_600)          # an hour of pings, in a second or two

    run_virtual(scenario())

The same seed gives the same losses, and the same order and times of deliveries, as long as the endpoints send the same sizes at
the same times. What they send contains random bytes (connection ids, keys, challenges), all of constant length except ECDSA
signatures; with Ed25519 leaves (`Trust.pinned`) every run of a seed is the same to the last datagram.
"""

import asyncio
import errno
import ipaddress
import itertools
import random
import selectors
import socket
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar, TypeVarTuple

from p2pnet.model.errors import LocalError, SpecError
from p2pnet.model.network import jitter_max_ns
from p2pnet.netem import Egress, LinkCounters, LinkShape, NodeNetwork
from p2pnet.quic.addresses import Address
from p2pnet.quic.engine import Datagram
from p2pnet.quic.errors import BadAddress, EndpointError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
OnSend = Callable[[Address, Address, bytes], bool | None]
"""Called with source, destination and payload; False loses the datagram."""

MTU_BYTES = 65_535
"""The largest IP packet."""
QUEUE_DATAGRAMS_MAX = 8_192
"""Datagrams on their way to one transport; more are lost, as in any full queue."""
QUEUE_BYTES_MAX = 64 << 20
VIRTUAL_S_MAX = 86_400.0
"""Default limit of a VirtualLoop: a test that waits in vain, beside an endpoint that pings for ever, must end."""
TURNS_MAX = 100_000
"""Loop turns at one instant, after which something is taken to spin."""

_IP_AND_UDP_BYTES = {socket.AF_INET: 28, socket.AF_INET6: 48}
_FIRST_PORT, _LAST_PORT = 49_152, 65_535  # those the system gives away, RFC 6335 section 6
_STUCK_TASKS_SHOWN = 8


class MemoryNetwork:
    """Carries datagrams between its transports. Belongs to one event loop, real or virtual, and uses that loop's time."""

    def __init__(
        self,
        *,
        seed: int = 0,
        delay_s: float = 0.0,
        jitter_s: float = 0.0,
        loss: float = 0.0,
        mtu_bytes: int = MTU_BYTES,
    ) -> None:
        delay_ns, jitter_ns = round(delay_s * 1e9), round(jitter_s * 1e9)
        if jitter_ns > jitter_max_ns(delay_ns, "uniform", keep_order=True):
            raise SpecError(f"jitter_s: {jitter_s:g} is more than 0.8 times the delay, {delay_s:g} s")
        self._shape = LinkShape(delay_ns=delay_ns, jitter_ns=jitter_ns, jitter_kind="uniform", loss=loss)
        self.mtu_bytes = mtu_bytes
        """The largest IP packet, headers included; a larger one is lost silently. May change at any time."""
        self.on_send: OnSend | None = None
        """Called with every datagram that is sent, before anything can happen to it."""
        self._rng = random.Random(seed)
        self._transports: dict[Address, MemoryTransport] = {}
        self._cuts: set[frozenset[Address]] = set()
        self._leaving: list[MemoryTransport] = []  # closed, but datagrams are on their way to them
        self._clock_ns = 0
        self._revision = 0  # of the shape
        self._ports = itertools.cycle(range(_FIRST_PORT, _LAST_PORT + 1))
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0
        self._counters = dict.fromkeys(
            ("sent", "delivered", "hooked", "cut", "lost", "too_large", "overflowed", "unreachable"), 0
        )

    @property
    def shape(self) -> LinkShape:
        """What every path does to datagrams, in each direction; may be replaced at any time. See `p2pnet.netem`.

        What waits for a path's bandwidth stays, and is served at the new one; what is under way arrives when it would have.
        """
        return self._shape

    @shape.setter
    def shape(self, shape: LinkShape) -> None:
        self._shape = shape
        self._revision += 1
        waiting = [one for one in self._receivers() if one.queued]
        if waiting:
            now_ns = self._now_ns()
            for one in waiting:
                self._apply(one, now_ns)
            self._arm(waiting)

    def transport(self, address: Address = ("10.0.0.1", 0)) -> "MemoryTransport":
        """A transport at this address, for `Endpoint.bind`; port 0 takes a free port.

        Raises EndpointError when the address is taken, BadAddress when it is no single IP address.
        """
        host, port = _canonical(address)
        if ipaddress.ip_address(host).is_unspecified:
            raise BadAddress(f"{host}: a transport in memory has one address of its own")
        if not port:
            taken = {used for other, used in self._transports if other == host}
            port = next(one for one in itertools.islice(self._ports, _LAST_PORT - _FIRST_PORT + 1) if one not in taken)
        if (host, port) in self._transports:
            raise EndpointError(f"cannot bind {host}:{port}: it is taken in this network", errno.EADDRINUSE)
        line: Egress[tuple[MemoryTransport, bytes]] = Egress(
            self._rng.random, packets_max=QUEUE_DATAGRAMS_MAX, bytes_max=QUEUE_BYTES_MAX
        )
        transport = MemoryTransport(self, (host, port), line)
        self._transports[transport.address] = transport
        return transport

    def disconnect(self, one: Address, other: Address) -> None:
        """Carry nothing between these two addresses any more, in either direction; what is on its way is lost."""
        self._cuts.add(frozenset((_canonical(one), _canonical(other))))

    def reconnect(self, one: Address, other: Address) -> None:
        """Undo `disconnect`."""
        self._cuts.discard(frozenset((_canonical(one), _canonical(other))))

    def counters(self) -> dict[str, int]:
        """Datagrams by what became of them, and those still under way."""
        totals = dict(self._counters)
        for receiver in self._receivers():
            for one in receiver.line.counters().values():
                _add(totals, one)
        under_way = sum(one.queued for one in self._receivers())
        return {f"{name}_total": count for name, count in totals.items()} | {"under_way": under_way}

    # For transports

    def carry(self, source: "MemoryTransport", data: bytes, address: Any) -> None:
        """Carry one datagram from this transport to this address."""
        self._counters["sent"] += 1
        destination = _canonical(address)
        if self.on_send is not None and self.on_send(source.address, destination, data) is False:
            self._counters["hooked"] += 1
            return
        receiver = self._transports.get(destination)
        if receiver is None or receiver.family != source.family:
            self._counters["unreachable"] += 1
        elif self._is_cut(source, receiver):
            self._counters["cut"] += 1
        elif len(data) + _IP_AND_UDP_BYTES[source.family] > self.mtu_bytes:
            self._counters["too_large"] += 1
        else:
            self._depart(source, receiver, data)

    def forget(self, transport: "MemoryTransport") -> None:
        """A transport was closed: free its address. What is on its way to it goes on, and is received by nobody."""
        del self._transports[transport.address]
        self._leaving.append(transport)
        self._let_leave()

    # Private

    def _is_cut(self, one: "MemoryTransport", other: "MemoryTransport") -> bool:
        return bool(self._cuts) and frozenset((one.address, other.address)) in self._cuts

    def _depart(self, source: "MemoryTransport", receiver: "MemoryTransport", data: bytes) -> None:
        now_ns = self._now_ns()
        if receiver.revision != self._revision or source.name not in receiver.sources:
            receiver.sources[source.name] = 0
            self._apply(receiver, now_ns)
        size = len(data) + _IP_AND_UDP_BYTES[source.family]
        receiver.line.send(source.name, (source, data), size, now_ns)
        self._arm([receiver])

    def _apply(self, receiver: "MemoryTransport", now_ns: int) -> None:
        """Put the shape of now in force on all paths to this transport."""
        receiver.revision = self._revision
        receiver.line.apply(NodeNetwork(shapes=[self._shape], paths=receiver.sources), now_ns)

    def _receivers(self) -> "list[MemoryTransport]":
        return [*self._transports.values(), *self._leaving]

    def _now_ns(self) -> int:
        """The loop's time, which by the rounding of floats may be a little before what a timer has rung for."""
        self._clock_ns = max(self._clock_ns, round(asyncio.get_running_loop().time() * 1e9))
        return self._clock_ns

    def _arm(self, receivers: "Iterable[MemoryTransport]") -> None:
        """See to it that `_deliver` is called when something for one of these is due."""
        at_ns = min((at for one in receivers if (at := one.line.next_at()) is not None), default=None)
        if at_ns is None:
            return
        if self._timer is not None:
            if self._timer_ns <= at_ns:
                return
            self._timer.cancel()
        self._timer_ns = at_ns
        self._timer = asyncio.get_running_loop().call_at(at_ns / 1e9, self._deliver)

    def _deliver(self) -> None:
        """Deliver what is due: one batch per receiver, the receivers in a random order."""
        self._timer = None
        self._clock_ns = max(self._clock_ns, self._timer_ns)
        now_ns = self._now_ns()
        due: dict[MemoryTransport, dict[MemoryTransport, deque[bytes]]] = {}
        for receiver in self._receivers():
            for source, data in receiver.line.due(now_ns):
                if self._is_cut(source, receiver):
                    self._counters["cut"] += 1
                else:
                    due.setdefault(receiver, {}).setdefault(source, deque()).append(data)
        receivers = list(due)
        self._rng.shuffle(receivers)
        for receiver in receivers:
            batch = self._mixed(due[receiver])
            self._counters["delivered" if receiver.receive(batch) else "unreachable"] += len(batch)
        self._let_leave()
        self._arm(self._receivers())

    def _let_leave(self) -> None:
        """Forget closed transports to which nothing is on its way any more."""
        for one in [gone for gone in self._leaving if not gone.queued]:
            self._leaving.remove(one)
            for counters in one.line.counters().values():
                _add(self._counters, counters)

    def _mixed(self, flows: "dict[MemoryTransport, deque[bytes]]") -> list[Datagram]:
        """Merge several flows into one batch at random, each flow in its own order."""
        batch: list[Datagram] = []
        waiting = list(flows.items())
        while waiting:
            index = self._rng.randrange(len(waiting)) if len(waiting) > 1 else 0
            source, datagrams = waiting[index]
            batch.append((datagrams.popleft(), source.system_address))
            if not datagrams:
                del waiting[index]
        return batch


class MemoryTransport:
    """Takes the place of an endpoint's UDP socket. Made by `MemoryNetwork.transport`."""

    congested = False
    """See `socket.Transport`; the network takes everything at once."""

    def __init__(self, network: MemoryNetwork, address: Address, line: "Egress[tuple[MemoryTransport, bytes]]") -> None:
        self.address = address
        self.family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.system_address: Any = (*address, 0, 0) if self.family == socket.AF_INET6 else address
        self.dropped = 0
        """See `socket.Transport`; always 0, for the network loses datagrams only on their way."""
        self.sent_bytes = 0
        self.received_bytes = 0
        self.line = line
        """The paths that end here. For the network, as what follows."""
        self.name = "{} {}".format(*address)
        self.sources: dict[str, int] = {}
        """Names of the transports that have sent to it -> 0, the index of the only shape."""
        self.revision = -1
        """Which shape is in force on its paths."""
        self._network = network
        self._on_datagrams: Callable[[list[Datagram]], None] | None = None
        self._closed = False

    @property
    def queued(self) -> int:
        """Datagrams on their way to it."""
        return self.line.held[0]

    @property
    def queued_bytes(self) -> int:
        """Their bytes, with headers."""
        return self.line.held[1]

    def start(
        self, on_datagrams: Callable[[list[Datagram]], None], on_too_big: Callable[[Any, int], None] | None = None
    ) -> None:
        """Call `on_datagrams` from now on with what arrives, one batch at a time; `on_too_big` is never called."""
        del on_too_big
        self._on_datagrams = on_datagrams

    def send(self, datagrams: Sequence[Datagram]) -> None:
        """Send all datagrams, in order."""
        if self._closed:
            return
        for data, address in datagrams:
            self.sent_bytes += len(data)
            self._network.carry(self, bytes(data), address)

    def receive(self, batch: list[Datagram]) -> bool:
        """Hand these to the endpoint; False if it has not started, or is closed."""
        if self._closed or self._on_datagrams is None:
            return False
        self.received_bytes += sum(len(data) for data, _ in batch)
        try:
            self._on_datagrams(batch)
        except Exception as error:  # noqa: BLE001  # reported; other transports must get their datagrams
            loop = asyncio.get_running_loop()
            loop.call_exception_handler({"message": f"exception in {self._on_datagrams!r}", "exception": error})
        return True

    def forget(self) -> None:
        """See `socket.Transport`; nothing ever waits here."""

    def close(self) -> None:
        """Send and receive nothing any more; another transport may take the address. Idempotent."""
        if not self._closed:
            self._closed = True
            self._network.forget(self)


class Deadlock(LocalError):  # noqa: N818  # named for what happened
    """A loop in virtual time has nothing left to do but wait, or repeats itself without end."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop whose clock stands still while anything is ready, and jumps to the next timer when nothing is.

    Work in threads (`run_in_executor`) is awaited in real time and takes no virtual time. Sockets are refused: nothing real
    keeps pace with this clock. `run_until_complete` raises Deadlock when nothing is ready and no timer is set, after
    `limit_s` virtual seconds, and when 100,000 loop turns did not move the clock.
    """

    def __init__(self, *, limit_s: float = VIRTUAL_S_MAX, started_at: datetime | None = None) -> None:
        self._now = 0.0
        self._turns = 0
        self._threads = 0
        self._limit_s = limit_s
        self._started_at = started_at or datetime.now(UTC)
        selector = _Jumper(self)
        super().__init__(selector)
        selector.sealed = True

    def time(self) -> float:
        """Virtual seconds since the loop was made: a `clock` for `Endpoint.bind`."""
        return self._now

    def utc_now(self) -> datetime:
        """The time of day that goes with `time`: a `utc_now` for `Endpoint.bind`."""
        return self._started_at + timedelta(seconds=self._now)

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """As in any loop; the clock stands still until the function returns."""
        future = super().run_in_executor(executor, func, *args)
        self._threads += 1
        future.add_done_callback(self._thread_done)
        return future

    async def shutdown_default_executor(self, *timeout: Any) -> None:
        """As in any loop."""
        self._threads += 1  # it waits for threads through one more thread
        try:
            await super().shutdown_default_executor(*timeout)
        finally:
            self._threads -= 1

    def advance(self, seconds: float | None) -> bool:
        """Move the clock to the next timer, `seconds` ahead; None: no timer is set. For the loop's own selector.

        False while threads are at work: then what they do comes first. Raises Deadlock.
        """
        if self._threads:
            return False
        if seconds is None:
            raise Deadlock(
                f"nothing can happen any more at {self._now:g} s: nothing is ready, no timer set{self._stuck()}"
            )
        if self._now + seconds > self._limit_s:
            raise Deadlock(f"still not done after {self._limit_s:g} virtual seconds{self._stuck()}")
        self._now += seconds
        self._turns = 0
        return True

    def turn(self) -> None:
        """Count a loop turn that does not move the clock. For the loop's own selector. Raises Deadlock."""
        self._turns += 1
        if self._turns > TURNS_MAX:
            self._turns = 0
            raise Deadlock(f"{TURNS_MAX} turns of the loop at {self._now:g} s: something spins{self._stuck()}")

    def _thread_done(self, _future: object) -> None:
        self._threads -= 1

    def _stuck(self) -> str:
        """Where the tasks wait, for the text of a Deadlock."""
        lines = []
        for task in itertools.islice(asyncio.all_tasks(self), _STUCK_TASKS_SHOWN):
            for frame in task.get_stack(limit=1):
                code = frame.f_code
                lines.append(f"\n  {task.get_name()} waits in {code.co_qualname} ({code.co_filename}:{frame.f_lineno})")
        return "".join(sorted(lines))


class _Jumper(selectors.DefaultSelector):
    """The selector of a VirtualLoop: instead of waiting it moves the clock."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop
        self.sealed = False
        """Nothing may be registered any more: the loop has registered its own pipe, through which threads wake it."""

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        if self.sealed:
            raise LocalError(
                "a loop in virtual time waits for no socket: give the endpoint a MemoryNetwork's transport"
            )
        return super().register(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            self._loop.turn()
            return ready
        return [] if self._loop.advance(timeout) else super().select(None)


def run_virtual(main: Coroutine[Any, Any, T], *, limit_s: float = VIRTUAL_S_MAX) -> T:
    """Run a coroutine to its end in a VirtualLoop of its own; what it returns. Raises Deadlock."""
    with asyncio.Runner(loop_factory=partial(VirtualLoop, limit_s=limit_s)) as runner:
        return runner.run(main)


def _add(totals: dict[str, int], path: LinkCounters) -> None:
    """Add what a path did to datagrams to the counters of a network."""
    totals["lost"] += path.lost + path.blocked
    totals["too_large"] += path.too_large
    totals["overflowed"] += path.overflowed


def _canonical(address: Any) -> Address:
    """Host and port of a raw address, in one spelling. Raises BadAddress."""
    host, port = address[:2]
    try:
        return (str(ipaddress.ip_address(host)), port)
    except ValueError as error:
        raise BadAddress(f"{host}: no IP address") from error
