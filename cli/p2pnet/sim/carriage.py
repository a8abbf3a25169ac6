"""How messages get from one port to another in the plain model: access links that serve one after the other, then a delay."""

from typing import Protocol

from p2pnet.sim.port import HEADER_BYTES, EndState, SimConnection, SimRequest
from p2pnet.sim.timeline import Timeline

_NEW, _DOWN = EndState.NEW, EndState.DOWN  # looked at for every message


class Carriage(Protocol):
    """What the network uses of a model of messages."""

    def carry(self, request: SimRequest) -> None:
        """Call `deliver` with this request when it has arrived."""

    def carry_back(self, request: SimRequest) -> None:
        """Call `deliver_back` with this request when its answer has arrived."""

    def reset(self, request: SimRequest) -> None:
        """The sender gives up a request: set its `reset_at`."""

    def handshake_ns(self, connection: SimConnection) -> int:
        """How long a new connection's handshake takes, from now on."""


class PlainCarriage:
    """Each message is serialised on the sender's uplink and the receiver's downlink, and takes its link's latency between."""

    __slots__ = ("_timeline",)

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline

    def carry(self, request: SimRequest) -> None:
        """See `Carriage`."""
        port, at, timeline = request.port, request.at, self._timeline
        leaves = timeline.now if port.up is None else port.leaves_at(len(request.body) + HEADER_BYTES)
        numbers = at.connection.numbers
        latency = numbers.latency_ns(port.rng) if numbers.jitter_ns or numbers.loss else numbers.delay_ns
        timeline.send(leaves + latency, deliver if at.port.down is None else self._arrive, request)

    def carry_back(self, request: SimRequest) -> None:
        """See `Carriage`."""
        at, to, timeline = request.at, request.port, self._timeline
        port = at.port
        leaves = timeline.now if port.up is None else port.leaves_at(len(request.answer or b"") + HEADER_BYTES)
        numbers = at.connection.numbers
        latency = numbers.latency_ns(port.rng) if numbers.jitter_ns or numbers.loss else numbers.delay_ns
        timeline.send(leaves + latency, deliver_back if to.down is None else self._arrive_back, request)

    def reset(self, request: SimRequest) -> None:
        """See `Carriage`."""
        if request.end is not None:
            request.reset_at = self._timeline.now + request.end.connection.numbers.latency_ns(request.port.rng)

    def handshake_ns(self, connection: SimConnection) -> int:
        """See `Carriage`: a round trip, without the losses and jitter of one."""
        return 2 * connection.numbers.delay_ns

    def _arrive(self, request: SimRequest) -> None:
        at = request.at.port.arrived_at(len(request.body) + HEADER_BYTES, request.port)
        if at > self._timeline.now:
            self._timeline.send(at, deliver, request)
        else:
            deliver(request)

    def _arrive_back(self, request: SimRequest) -> None:
        at = request.port.arrived_at(len(request.answer or b"") + HEADER_BYTES, request.at.port)
        if at > self._timeline.now:
            self._timeline.send(at, deliver_back, request)
        else:
            deliver_back(request)


def deliver(request: SimRequest) -> None:
    """A request has arrived: hand it over, unless its connection is gone or it was reset before."""
    end = request.at
    port, state = end.port, end.state
    if not end.connection.alive or port.dead or state is _DOWN:
        return
    if request.reset_at is not None and request.reset_at <= port.now:
        return
    if state is _NEW:
        # As QUIC delivers data that arrives right after the handshake: when the application has the connection.
        end.early = [*(end.early or ()), request]
    else:
        port.owner.requested(request)


def deliver_back(request: SimRequest) -> None:
    """An answer has arrived: hand it over, unless its connection is gone or it will be lost."""
    # The timeline keeps the request until its timeout.
    answer, request.answer, request.body = request.answer, None, b""
    if request.at.connection.alive and not request.fails:
        request.port.finish(request, answer)
