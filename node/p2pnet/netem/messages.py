"""Messages instead of packets: when a whole message arrives that real nodes would send as packets of QUIC.

The same shapes act on them. A connection's direction has a window that starts and grows as the QUIC engine's does, a pacer, and
losses that cost time: see "Messages instead of packets" in docs/network-model.md. There is no heap and no event here: whoever
uses it calls `pump` at `next_at`, which is None unless a message waits for its window, or for a loss to be noticed.
"""

import math
from collections import deque
from collections.abc import Callable
from typing import Any

from p2pnet.model.network import CLEAR, PACKET_OVERHEAD_BYTES, AccessShape, LinkShape
from p2pnet.netem.counters import Rng
from p2pnet.netem.jitter import Jitter, OrderedJitter, jitter
from p2pnet.netem.pipe import Pipe

DATAGRAM_BYTES = 8_900
"""UDP payload of a full packet: the engine's largest, which loopback carries; less where a shape has an MTU."""
PACKET_HEAD_BYTES = 35
"""What a datagram has beside data: QUIC's short header and tag (27 bytes) and the head of a stream frame."""
ACK_BYTES = 61
"""An IP packet that acknowledges two others."""
INITIAL_WINDOW_BYTES = 14_720
"""RFC 9002 section 7.2, or two datagrams if that is more, as the engine has it."""
WINDOW_DATAGRAMS_MIN = 2
CHUNK_BYTES = 16 * 1024
"""Bytes that enter a bandwidth at once, where there is one: pieces of messages of several connections take turns."""
CHUNKS_PER_WINDOW = 8
"""Where there is none, acknowledgements still come piecemeal."""
FLOW_CONTROL_BYTES = 16 << 20
"""What a peer lets be under way, whatever the window: `CONNECTION_WINDOW_BYTES` of the engine."""
REQUEST_ALLOTMENT_BYTES = 64 * 1024
"""Bytes of a request that leave unasked; the rest waits a round trip until its size has been set aside (`quic.ledger`)."""
ANSWER_ALLOTMENT_BYTES = 8 * 1024
"""The same of an answer."""
PACED_RTT_NS = 3_000_000
"""Shorter round trips are not paced."""
ACK_DELAY_NS = 25_000_000
"""Counts in a probe timeout (RFC 9000 section 18.2)."""

_GRANULARITY_NS = 1_000_000  # of the engine's timers
_REORDERED = 3  # packets behind a lost one that tell of it at once (RFC 9002 section 6.1.1)
_BURST_PACKETS = 64
_BUCKET_NS = 2_000_000
_PACE = 1.25  # windows per round trip
_RTT_GROWS = 1.25  # from here on slow start looks for its end
_RTT_SAMPLES = 5
_FIRST_DEVIATION = 0.09  # of a round trip: what the samples of a handshake and its probes leave of its half
_NEVER = 1 << 62


class AccessLink:
    """A node's access link: its pipes in both directions, where it has them, and what it has sent."""

    __slots__ = ("down", "up", "wire_bytes")

    def __init__(self) -> None:
        self.up: Pipe | None = None
        self.down: Pipe | None = None
        self.wire_bytes = 0
        """Bytes of all IP packets sent: payload, `PACKET_HEAD_BYTES` and headers of each, repetitions, acknowledgements."""

    def shape_up(self, shape: AccessShape | None, now_ns: int) -> None:
        """Give the uplink this shape; None: no limit."""
        self.up = _reshaped(self.up, shape, now_ns)

    def shape_down(self, shape: AccessShape | None, now_ns: int) -> None:
        """Give the downlink this shape; None: no limit."""
        self.down = _reshaped(self.down, shape, now_ns)


class MessagePath:
    """One direction between two nodes, behind their access links; connections that follow each other share it."""

    __slots__ = ("_burst", "_event", "_jitter", "datagram", "pipe", "shape")

    def __init__(self, shape: LinkShape = CLEAR) -> None:
        self.shape = CLEAR
        self.pipe: Pipe | None = None
        self.datagram = DATAGRAM_BYTES
        """UDP payload of the largest packet."""
        self._jitter: Jitter | None = None
        self._event = 0.0  # probability per packet that a loss, or a burst of them, begins with it
        self._burst = 1.0
        if shape is not CLEAR:
            self.reshape(shape, 0)

    def reshape(self, shape: LinkShape, now_ns: int) -> None:
        """Put another shape in force; what is under way keeps its times."""
        before, self.shape = self.shape, shape
        self.pipe = _reshaped(self.pipe, shape if shape.bandwidth_bps else None, now_ns)
        if _timing(before) != _timing(shape):
            self._jitter = jitter(shape)
        self.datagram = min(DATAGRAM_BYTES, shape.mtu - PACKET_OVERHEAD_BYTES) if shape.mtu else DATAGRAM_BYTES
        self._burst = max(1.0, shape.loss_burst)
        self._event = shape.loss / self._burst

    @property
    def plain(self) -> bool:
        """Whether a message takes the delay and nothing else."""
        return self.pipe is None and self._jitter is None and not self._event and not self.shape.blocked

    def delay_ns(self, packets: int, at_ns: int, rng: Rng) -> int:
        """How long the last of so many packets takes, sent about this time."""
        varies = self._jitter
        if varies is None:
            return self.shape.delay_ns
        if isinstance(varies, OrderedJitter) or packets == 1:
            return self.shape.delay_ns + varies.extra_ns(at_ns, rng)
        # The largest of so many independent draws has one draw's distribution at that root of its probability.
        return self.shape.delay_ns + varies.extra_ns(at_ns, lambda: rng() ** (1 / packets))

    def lost(self, packets: int, rng: Rng) -> tuple[int, int]:
        """How many of so many packets are lost, and how many packets come behind the last lost one; (0, 0): none is."""
        event = self._event
        if not event:
            return 0, 0
        lost, behind, at = 0, 0, -1
        # From loss to loss by the geometric distribution: one draw where nothing is lost, which is the common case.
        step = math.log1p(-event) if event < 1 else -math.inf
        while True:
            at += 1 + (int(math.log(1 - rng()) / step) if step != -math.inf else 0)
            if at >= packets:
                return lost, behind
            burst = 1 if self._burst <= 1 else 1 + int(math.log(1 - rng()) / math.log1p(-1 / self._burst))
            taken = min(burst, packets - at)
            lost += taken
            at += taken - 1
            behind = packets - 1 - at


class Passage:
    """A message on its way: what is left to send of it, and what has not arrived."""

    __slots__ = ("allotted", "dropped", "granted_ns", "last_ns", "left", "open", "queued", "what")

    def __init__(self, what: Any, left: int, allotted: int) -> None:
        self.what = what
        self.left = left
        """Bytes of datagrams still to be sent."""
        self.allotted = allotted
        """How many of them may leave before the receiver has granted the rest."""
        self.granted_ns: int | None = None
        """When the grant comes; None: nothing has been sent yet."""
        self.open = 0
        """Losses that are not repaired, and chunks that are not through the receiver's downlink."""
        self.last_ns = 0
        """When the last of what has been sent arrives."""
        self.queued = True
        self.dropped = False

    def sendable(self, now_ns: int) -> int:
        """Bytes that may leave now, as far as the receiver is concerned."""
        if self.granted_ns is not None and self.granted_ns <= now_ns:
            self.allotted = self.left
        return min(self.left, self.allotted)


class Landing:
    """A chunk that reaches the receiver's downlink at `last_ns`: give it to `MessageFlow.land` then."""

    __slots__ = ("first_ns", "flow", "last_ns", "packets", "passage", "sent_ns", "size")

    def __init__(
        self,
        flow: "MessageFlow",
        passage: Passage,
        *,
        size: int,
        packets: int,
        first_ns: int,
        last_ns: int,
        sent_ns: int,
    ) -> None:
        self.flow = flow
        self.passage = passage
        self.size = size
        self.packets = packets
        self.first_ns = first_ns
        self.last_ns = last_ns
        self.sent_ns = sent_ns

    @property
    def what(self) -> Any:
        """The message it belongs to."""
        return self.passage.what


Arrived = Callable[[Any, int], None]
"""Called with a message and the time of its last byte, as soon as that is known."""
Lands = Callable[[Landing], None]
"""Called with every chunk that has to pass a downlink."""


class MessageFlow:
    """One direction of one connection: its window, its pacer, and the messages that wait for them.

    `path`, `back`: this direction and the one of acknowledgements. `arrived` is called within `send`, `pump` and `land`, with
    times from now on; `lands` where the receiver has a downlink of limited bandwidth.
    """

    __slots__ = (
        "_acks", "_arrived", "_back", "_credit", "_credit_ns", "_deviation_ns", "_full", "_in_flight", "_lands", "_longer",
        "_losses", "_path", "_pumped_ns", "_receiver", "_recovery_ns", "_rng", "_rtt_min_ns", "_rtt_ns", "_sender",
        "_stalled_ns", "_stash", "_threshold", "_waiting", "owner", "planned_ns", "window",
    )  # fmt: skip

    def __init__(
        self,
        sender: AccessLink,
        receiver: AccessLink,
        *,
        path: MessagePath,
        back: MessagePath,
        rng: Rng,
        arrived: Arrived,
        lands: Lands,
    ) -> None:
        self.window = max(INITIAL_WINDOW_BYTES, WINDOW_DATAGRAMS_MIN * path.datagram)
        """The congestion window, in bytes of datagrams."""
        self.planned_ns: int | None = None
        """For the caller: when it will call `pump`."""
        self.owner: Any = None
        """For the caller: whose flow it is."""
        self._sender, self._receiver, self._path, self._back = sender, receiver, path, back
        self._rng, self._arrived, self._lands = rng, arrived, lands
        self._threshold: int | None = None  # where slow start ends
        self._stash = 0  # bytes acknowledged in congestion avoidance that have not made the window grow
        self._recovery_ns = -1  # when the window was last halved
        self._in_flight = 0
        self._full = False  # whether the window held the sender back when it last sent
        self._acks: list[tuple[int, int, int]] = []  # when an acknowledgement comes, of how many bytes, sent when
        self._losses: list[tuple[int, int, int, Passage]] = []  # when it is noticed, bytes, sent when, of what
        self._waiting: deque[Passage] | None = None
        self._rtt_ns = self._rtt_min_ns = path.shape.delay_ns + back.shape.delay_ns
        self._deviation_ns = int(self._rtt_ns * _FIRST_DEVIATION)
        self._longer = 0  # samples in a row of longer round trips
        self._credit, self._credit_ns = 0.0, -_NEVER  # bytes that may leave unpaced, and when they were counted
        self._pumped_ns = -1  # when messages were last sent
        self._stalled_ns: int | None = None  # since when nothing gets through that was sent

    def send(self, what: Any, size: int, now_ns: int, *, allotment: int = REQUEST_ALLOTMENT_BYTES) -> Passage | None:
        """Send a message of so many bytes; None if all of it is under way, else what can be given to `drop`.

        `allotment`: bytes that leave unasked.
        """
        path = self._path
        room = path.datagram - PACKET_HEAD_BYTES
        # Before the message waits: what was acknowledged meanwhile found nothing that the window held back.
        if self._acks:
            self._settle(now_ns)
        if size <= room and not self._waiting and not self._losses and path.plain and not self._back.shape.blocked:
            sent = size + PACKET_HEAD_BYTES
            if self._sender.up is None and self._receiver.down is None and self._in_flight + sent <= self.window:
                self._send_one(what, sent, now_ns)
                return None
        packets = max(1, -(-size // room))
        passage = Passage(
            what, size + packets * PACKET_HEAD_BYTES, allotment + -(-allotment // room) * PACKET_HEAD_BYTES
        )
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(passage)
        self.pump(now_ns)
        return passage if passage.left or passage.open else None

    def drop(self, passage: Passage) -> None:
        """Send no more of a message: its stream was reset. It never arrives."""
        passage.dropped = True

    def pump(self, now_ns: int) -> None:
        """Send what the window lets leave now. Call it at `next_at`, and after a change of either path's block."""
        self._settle(now_ns)
        self._pumped_ns = now_ns
        waiting = self._waiting
        if not waiting:
            self._full = False
            return
        if self._path.shape.blocked:
            self._stall(now_ns)
            return
        self._full = self._send_waiting(waiting, now_ns) or self.window - self._in_flight < self._path.datagram
        if not waiting:
            self._waiting = None  # an empty deque keeps room for 64 messages

    def _send_waiting(self, waiting: "deque[Passage]", now_ns: int) -> bool:
        """Send what may leave; whether the window held any of it back: it grows only then (RFC 9002 section 7.8)."""
        datagram, held = self._path.datagram, 0
        while len(waiting) > held:
            passage = waiting[0]
            if not passage.left or passage.dropped:
                passage.queued = False
                waiting.popleft()
                continue
            # Equal streams take turns, as the frames of real ones do.
            most = passage.sendable(now_ns)
            if not most:
                waiting.rotate(-1)
                held += 1
                continue
            room = min(self.window, FLOW_CONTROL_BYTES) - self._in_flight
            if room < min(datagram, most):
                return True
            waiting.rotate(-1)
            held = 0
            self._send_chunk(passage, min(most, self._chunk(room, datagram)), now_ns)
            if not passage.left:
                passage.queued = False
                waiting.pop()
        return False

    def next_at(self) -> int | None:
        """When `pump` has something to do next, unless a message is sent before; None: nothing waits."""
        at = min((loss[0] for loss in self._losses), default=_NEVER)
        if self._waiting and not self._path.shape.blocked:
            if self._acks:
                at = min(at, self._acks[0][0])
            for passage in self._waiting:
                # A grant that has come is no reason: what it allows waits for the window now.
                if passage.granted_ns is not None and passage.granted_ns > self._pumped_ns and not passage.dropped:
                    at = min(at, passage.granted_ns)
        return None if at == _NEVER else at

    def land(self, landing: Landing, now_ns: int) -> None:
        """A chunk has reached the receiver's downlink."""
        passage, down = landing.passage, self._receiver.down
        out_ns, dropped = now_ns, 0
        if down is not None:
            packet = min(landing.size, self._path.datagram + PACKET_OVERHEAD_BYTES)
            _, out_ns, dropped = down.cross(landing.size, packet, landing.first_ns, landing.first_ns, landing.last_ns)
        if dropped:
            repair = min(dropped, landing.size - landing.packets * PACKET_OVERHEAD_BYTES)
            passage.open += 1
            self._losses.append((out_ns + self._back.shape.delay_ns, repair, landing.sent_ns, passage))
            # The acknowledgement was planned for all of it.
            self._in_flight += repair
        passage.last_ns = max(passage.last_ns, out_ns)
        passage.open -= 1
        self._end(passage)

    def reroute(self, path: MessagePath, back: MessagePath) -> None:
        """Use these paths from now on."""
        self._path, self._back = path, back

    def block(self, now_ns: int) -> None:
        """Either path is blocked from now on: acknowledgements that have not been sent never come."""
        if self._back.shape.blocked and self._acks:
            under_way = now_ns + self._back.shape.delay_ns
            self._acks = [ack if ack[0] <= under_way else (_NEVER, *ack[1:]) for ack in self._acks]
            if self._acks[-1][0] == _NEVER:
                self._stall(now_ns)

    def heal(self, now_ns: int) -> None:
        """A block of either path is over: the next probe of the sender gets through, and its answer tells what was lost."""
        if self._path.shape.blocked or self._back.shape.blocked:
            return
        since = self._stalled_ns
        self._stalled_ns = None
        if since is None:
            return
        probe_ns, wait = since + self._probe_timeout_ns(), self._probe_timeout_ns()
        while probe_ns < now_ns:
            wait *= 2
            probe_ns += wait
        answered = probe_ns + self._rtt_ns
        self._acks = [(min(at, answered) if at != _NEVER else answered, size, sent) for at, size, sent in self._acks]
        if self._waiting:
            for passage in self._waiting:
                if passage.granted_ns == _NEVER:
                    passage.granted_ns = answered
            # An acknowledgement of nothing, at which what waits is sent.
            self._acks.append((answered, 0, answered))
            self._acks.sort()

    # Inside

    def _send_one(self, what: Any, sent: int, now_ns: int) -> None:
        """A message of one packet over a path with nothing but a delay."""
        self._sender.wire_bytes += sent + PACKET_OVERHEAD_BYTES
        self._in_flight += sent
        arrives = now_ns + self._path.shape.delay_ns
        self._acks.append((arrives + self._back.shape.delay_ns, sent, now_ns))
        self._full = self.window - self._in_flight < self._path.datagram
        self._arrived(what, arrives)

    def _chunk(self, room: int, datagram: int) -> int:
        """Bytes to send at once, a number of whole datagrams."""
        most = max(WINDOW_DATAGRAMS_MIN * datagram, self.window // CHUNKS_PER_WINDOW)
        if self._sender.up is not None or self._path.pipe is not None or self._receiver.down is not None:
            most = min(most, CHUNK_BYTES)
        return max(1, min(room, most) // datagram) * datagram

    def _send_chunk(self, passage: Passage, size: int, now_ns: int) -> None:
        path, sender = self._path, self._sender
        packets = -(-size // path.datagram)
        wire = size + packets * PACKET_OVERHEAD_BYTES
        packet = min(wire, path.datagram + PACKET_OVERHEAD_BYTES)
        passage.left -= size
        passage.allotted = max(0, passage.allotted - size)
        sender.wire_bytes += wire
        self._receiver.wire_bytes += packets // 2 * ACK_BYTES
        self._in_flight += size
        first_ns, last_ns = self._pace(size, now_ns)
        dropped = 0
        if sender.up is not None:
            first_ns, last_ns, dropped = sender.up.cross(wire, packet, now_ns, first_ns, last_ns)
        if path.pipe is not None and dropped < wire:
            first_ns, last_ns, more = path.pipe.cross(wire - dropped, packet, first_ns, first_ns, last_ns)
            dropped += more
        sent_ns = last_ns
        last_ns += path.delay_ns(packets, last_ns, self._rng)
        first_ns = min(last_ns, first_ns + path.shape.delay_ns)
        if passage.granted_ns is None:
            passage.granted_ns = _NEVER if self._back.shape.blocked else first_ns + self._back.shape.delay_ns
        lost, behind = path.lost(packets, self._rng)
        lost = min(packets, lost + -(-dropped // packet))
        if lost:
            self._lose(
                passage, min(size, lost * path.datagram), behind=behind, now_ns=now_ns, sent_ns=sent_ns, last_ns=last_ns
            )
        self._acknowledge(size - min(size, lost * path.datagram), now_ns, last_ns)
        if self._receiver.down is not None and lost < packets:
            passage.open += 1
            kept = wire - min(wire, lost * packet)
            self._lands(
                Landing(self, passage, size=kept, packets=packets, first_ns=first_ns, last_ns=last_ns, sent_ns=now_ns)
            )
        elif lost < packets:
            passage.last_ns = max(passage.last_ns, last_ns)
        self._end(passage)

    def _end(self, passage: Passage) -> None:
        """Tell of a message that has been sent to its last byte and lacks none."""
        if not passage.left and not passage.open and not passage.dropped:
            self._arrived(passage.what, passage.last_ns)

    def _acknowledge(self, size: int, now_ns: int, last_ns: int) -> None:
        if self._back.shape.blocked:
            self._stall(now_ns)
            at = _NEVER
        else:
            at = last_ns + self._back.shape.delay_ns
            if self._receiver.down is not None:
                at += self._receiver.down.wait_ns(last_ns)
        if self._acks:
            at = max(at, self._acks[-1][0])
        self._acks.append((at, size, now_ns))

    def _lose(self, passage: Passage, size: int, *, behind: int, now_ns: int, sent_ns: int, last_ns: int) -> None:
        """Plan when the sender notices the loss of so many bytes, and repeats them."""
        acknowledged = last_ns + self._back.shape.delay_ns
        if behind >= _REORDERED or passage.left or (self._waiting and len(self._waiting) > 1):
            noticed = acknowledged
        elif behind:
            noticed = max(acknowledged, sent_ns + self._rtt_ns * 9 // 8)
        else:
            # A probe, whose answer tells of it.
            noticed = sent_ns + self._probe_timeout_ns() + self._rtt_ns
        passage.open += 1
        self._losses.append((noticed, size, now_ns, passage))

    def _probe_timeout_ns(self) -> int:
        """RFC 9002 section 6.2.1."""
        return self._rtt_ns + max(4 * self._deviation_ns, _GRANULARITY_NS) + ACK_DELAY_NS

    def _stall(self, now_ns: int) -> None:
        if self._stalled_ns is None:
            self._stalled_ns = now_ns

    def _settle(self, now_ns: int) -> None:
        """Take in the acknowledgements and losses that are known by now."""
        acks = self._acks
        while acks and acks[0][0] <= now_ns:
            at, size, sent_ns = acks.pop(0)
            self._in_flight -= size
            if size:
                self._measure(at - sent_ns)
            if self._full and sent_ns > self._recovery_ns:
                self._grow(size)
            if not self._waiting:
                self._full = self.window - self._in_flight < self._path.datagram
        if self._losses:
            self._notice(now_ns)

    def _notice(self, now_ns: int) -> None:
        noticed = [loss for loss in self._losses if loss[0] <= now_ns]
        if not noticed:
            return
        self._losses = [loss for loss in self._losses if loss[0] > now_ns]
        if self._waiting is None:
            self._waiting = deque()
        for at, size, sent_ns, passage in noticed:
            self._in_flight -= size
            if sent_ns > self._recovery_ns:
                self._recovery_ns = at
                self.window = max(self.window // 2, WINDOW_DATAGRAMS_MIN * self._path.datagram)
                self._threshold = self.window
            passage.open -= 1
            passage.left += size
            if not passage.queued:
                passage.queued = True
                self._waiting.appendleft(passage)

    def _grow(self, size: int) -> None:
        if self._threshold is None or self.window < self._threshold:
            self.window += size
            return
        self._stash += size
        count = self._stash // self.window
        if count:
            self._stash -= count * self.window
            self.window += count * self._path.datagram

    def _measure(self, rtt_ns: int) -> None:
        """Take in a sample of the round-trip time, and end slow start where it grows (aioquic's HyStart)."""
        self._rtt_min_ns = min(self._rtt_min_ns, rtt_ns)
        self._deviation_ns = (3 * self._deviation_ns + abs(self._rtt_min_ns - rtt_ns)) // 4
        self._rtt_ns = (7 * self._rtt_ns + rtt_ns) // 8
        if self._threshold is None:
            self._longer = self._longer + 1 if rtt_ns >= self._rtt_min_ns * _RTT_GROWS + _GRANULARITY_NS else 0
            if self._longer > _RTT_SAMPLES:
                self._threshold = self.window

    def _pace(self, size: int, now_ns: int) -> tuple[int, int]:
        """When the first and the last byte of a chunk leave the sender (RFC 9002 section 7.7)."""
        rtt_ns = self._rtt_ns
        if rtt_ns < PACED_RTT_NS:
            return now_ns, now_ns
        datagram = self._path.datagram
        rate = self.window * _PACE / rtt_ns
        most = max(2 * datagram, min(self.window // 2, _BURST_PACKETS * datagram), int(_BUCKET_NS * rate))
        credit = min(most, self._credit + (now_ns - self._credit_ns) * rate)
        first_ns = now_ns if credit > 0 else now_ns + int(-credit / rate)
        credit -= size
        self._credit, self._credit_ns = credit, now_ns
        return first_ns, now_ns if credit >= 0 else now_ns + int(-credit / rate)


def _reshaped(pipe: Pipe | None, shape: AccessShape | LinkShape | None, now_ns: int) -> Pipe | None:
    if shape is None:
        return None
    if pipe is None:
        return Pipe(shape)
    pipe.reshape(shape, now_ns)
    return pipe


def _timing(shape: LinkShape) -> tuple[object, ...]:
    """What a change of begins another line of delays."""
    return shape.delay_ns, shape.jitter_ns, shape.jitter_kind, shape.keep_order
