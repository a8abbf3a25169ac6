"""The asyncio shell around one `Broadcast`: what happens on connections becomes inputs, effects become requests and replies.

It decides nothing. Inputs of one loop turn are handled together and effects executed at once, so that updates to one peer
batch. There is one timer, for the core's next wake-up, and no task or future per request.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial

from p2pnet.broadcast import Broadcast, Client
from p2pnet.broadcast.effects import (
    AnswerDigest,
    AnswerFetch,
    AnswerStripes,
    AnswerUpdates,
    Cancel,
    Effect,
    Emit,
    Fetch,
    Published,
    PublishRefused,
    RunClient,
    SendDigest,
    SendStripes,
    SendSynced,
    SendUpdates,
)
from p2pnet.broadcast.inputs import (
    DigestAnswered,
    DigestReceived,
    FetchAnswered,
    FetchReceived,
    Input,
    PeerDown,
    PeerUp,
    Publish,
    StripesAnswered,
    StripesReceived,
    SyncedAnswered,
    SyncedReceived,
    UpdatesAnswered,
    UpdatesReceived,
    Wake,
)
from p2pnet.broadcast.wire import FETCH_ANSWER_BYTES_MAX
from p2pnet.model import limits
from p2pnet.model.control import ControlRefusal
from p2pnet.model.errors import P2pnetError
from p2pnet.model.peer_messages import route_digest, route_fetch, route_stripes, route_synced, route_update
from p2pnet.node.client_executor import make_executor
from p2pnet.node.events import EventRing
from p2pnet.peering.clock import NS, delay_s, mono_ns, wall_ns
from p2pnet.quic import Connection, Exchange, Message

WAKES_PER_TURN = 4
"""Most wake-ups of the core per loop turn: a client's answer and the batches after it need two; more wait for the next turn."""
ANSWER_BYTES_MAX = 64 * limits.KIB
"""Longest reply with statuses: a batch of updates of 16 KiB has a few hundred entries."""

log = logging.getLogger("p2pnet.node")


class BroadcastDriver:
    """Drives one client's broadcast. All methods are called on the loop; the client is run there too if it is `inline`."""

    def __init__(
        self,
        broadcast: Broadcast,
        client: Client,
        ring: EventRing,
        connection_of: Callable[[int], Connection | None],
        *,
        inline: bool = True,
    ) -> None:
        self.name = client.name
        self.broadcast = broadcast
        self.client = client
        self._ring = ring
        self._connection_of = connection_of
        self._executor = make_executor(broadcast, client, ring, self.feed, inline=inline)
        self._loop = asyncio.get_running_loop()
        self._inputs: deque[Input] = deque()
        self._turn_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns: int | None = None
        self._tokens = 0
        self._unanswered: dict[int, Message] = {}
        """Requests of peers that the core has not answered, by token."""
        self._open: dict[int, Exchange | None] = {}
        """Our requests without an answer, by token; None while one is being started."""
        self._timeouts: dict[int, asyncio.TimerHandle] = {}
        self._publishing: list[bytes | ControlRefusal] = []
        self._update, self._fetch, self._synced, self._digest, self._stripes = (
            route(client.name) for route in (route_update, route_fetch, route_synced, route_digest, route_stripes)
        )
        self.routes: dict[bytes, Callable[[str, Connection, Message], None]] = {
            self._update: self._on_updates,
            self._fetch: self._on_fetch,
            self._synced: self._on_synced,
            self._digest: self._on_digest,
            self._stripes: self._on_stripes,
        }

    @property
    def waiting(self) -> int:
        """Messages of peers that wait for, or are in, the core: not handled yet, or not answered."""
        return len(self._inputs) + len(self._unanswered)

    # --- inputs ---

    def feed(self, item: Input) -> None:
        """Queue an input: it is handled in this loop turn, together with all others of it."""
        self._inputs.append(item)
        self._soon()

    def publish(self, data: bytes, size: int) -> bytes | ControlRefusal:
        """Publish one encoded artifact of `size` user's bytes: its id, or why not. Updates leave at the end of the turn."""
        self._publishing = []
        self._handle(Publish(data, size), mono_ns(), wall_ns() / NS)
        self._soon()
        return (
            self._publishing[0] if self._publishing else ControlRefusal("bad-request", "the broadcast gave no answer")
        )

    def peer_up(self, peer: str, connection: Connection) -> None:
        """A link is in use."""
        self.feed(PeerUp(peer, connection.id))

    def peer_down(self, peer: str, connection: Connection) -> None:
        """A link has ended."""
        self.feed(PeerDown(peer, connection.id))

    def stop(self) -> None:
        """Handle no more inputs."""
        if self._timer is not None:
            self._timer.cancel()
        for timeout in self._timeouts.values():
            timeout.cancel()
        self._executor.stop()
        self._turn_due = True  # nothing that is fed from here on schedules a turn
        self._inputs.clear()

    def _soon(self) -> None:
        if not self._turn_due:
            self._turn_due = True
            self._loop.call_soon(self._turn)

    # --- peers' requests ---

    def _on_updates(self, peer: str, connection: Connection, message: Message) -> None:
        self.feed(UpdatesReceived(peer, connection.id, self._remember(message), message.payload))

    def _on_fetch(self, peer: str, connection: Connection, message: Message) -> None:
        self.feed(FetchReceived(peer, connection.id, self._remember(message), message.payload))

    def _on_synced(self, peer: str, connection: Connection, message: Message) -> None:
        message.reply(b"")  # an acknowledgement: the core has nothing to add
        self.feed(SyncedReceived(peer, connection.id))

    def _on_digest(self, peer: str, connection: Connection, message: Message) -> None:
        self.feed(DigestReceived(peer, connection.id, self._remember(message), message.payload))

    def _on_stripes(self, peer: str, connection: Connection, message: Message) -> None:
        self.feed(StripesReceived(peer, connection.id, self._remember(message), message.payload))

    def _remember(self, message: Message) -> int:
        self._tokens += 1
        token = self._tokens
        self._unanswered[token] = message
        return token

    def _answer(self, token: int, body: bytes | list[bytes]) -> None:
        message = self._unanswered.pop(token, None)
        if message is not None and not message.cancelled:
            message.reply(body)

    # --- one loop turn ---

    def _turn(self) -> None:
        now, wall = mono_ns(), wall_ns() / NS
        # One reading of the clocks per turn: to the core everything in it happens at the same time.
        for _ in range(WAKES_PER_TURN):
            while self._inputs:
                self._handle(self._inputs.popleft(), now, wall)
            due = self.broadcast.next_wakeup()
            if due is None or due > now:
                break
            self._inputs.append(Wake())  # the inputs left something for the end of the turn: updates, in batches
        self._turn_due = False
        if self._inputs:
            self._soon()
        self._set_timer()

    def _handle(self, item: Input, now: int, wall: float) -> None:
        try:
            for effect in self.broadcast.handle(item, now, wall):
                self._execute(effect)
        except Exception:
            # A fault of p2pnet: it may cost what this input would have done, never the inputs after it.
            log.exception("client %s: %s failed", self.name, type(item).__name__)

    def _set_timer(self) -> None:
        due = self.broadcast.next_wakeup()
        if due == self._timer_ns:  # most turns change nothing: a timer costs more than this comparison
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_ns = due
        self._timer = None if due is None else self._loop.call_later(delay_s(due), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = self._timer_ns = None
        self.feed(Wake())

    def _execute(self, effect: Effect) -> None:
        match effect:
            case SendUpdates(token, _, connection, body, urgent):
                self._ask(
                    token,
                    connection,
                    self._update,
                    body,
                    UpdatesAnswered,
                    urgent=urgent,
                    reply_bytes_max=ANSWER_BYTES_MAX,
                )
            case Fetch(token, _, connection, body, timeout_s):
                self._timeouts[token] = self._loop.call_later(timeout_s, self._timed_out, token)
                self._ask(token, connection, self._fetch, body, FetchAnswered, reply_bytes_max=FETCH_ANSWER_BYTES_MAX)
            case SendSynced(token, _, connection):
                self._ask(token, connection, self._synced, b"", _synced_answered, reply_bytes_max=ANSWER_BYTES_MAX)
            case SendDigest(token, _, connection, body):
                self._ask(token, connection, self._digest, body, DigestAnswered, reply_bytes_max=ANSWER_BYTES_MAX)
            case SendStripes(token, _, connection, body, urgent):
                self._ask(
                    token,
                    connection,
                    self._stripes,
                    body,
                    StripesAnswered,
                    urgent=urgent,
                    in_line=True,
                    reply_bytes_max=ANSWER_BYTES_MAX,
                )
            case Cancel(token):
                self._cancel(token)
            case AnswerUpdates(token, body) | AnswerDigest(token, body) | AnswerStripes(token, body):
                self._answer(token, body)
            case AnswerFetch(token, parts):
                self._answer(token, parts)
            case RunClient(changes):
                self._executor.start(changes)
            case Published() | PublishRefused():
                self._publishing.append(_word_on(effect))
            case Emit():
                self._emit(effect)

    # --- our requests ---

    def _ask(
        self,
        token: int,
        connection_id: int,
        route: bytes,
        body: bytes | list[bytes],
        answered: Callable[[int, bytes | None], Input],
        *,
        urgent: bool = False,
        in_line: bool = False,
        reply_bytes_max: int,
    ) -> None:
        connection = self._connection_of(connection_id)
        if connection is None:
            self._ended(token, answered, None)
            return
        # Before the request is started: its answer may come within `start_request`, and `_done` looks here.
        self._open[token] = None
        done = partial(self._done, token, answered)
        try:
            exchange = connection.start_request(
                route, body, done, urgent=urgent, in_line=in_line, reply_bytes_max=reply_bytes_max
            )
        except P2pnetError:  # the connection was closed in this loop turn
            self._ended(token, answered, None)
            return
        if token in self._open:
            self._open[token] = exchange

    def _done(self, token: int, answered: Callable[[int, bytes | None], Input], result: Message | Exception) -> None:
        self._ended(token, answered, None if isinstance(result, Exception) else result.payload)

    def _timed_out(self, token: int) -> None:
        # Cancelling reports nothing by itself, so the core is told here that no answer comes.
        self._cancel(token)
        self.feed(FetchAnswered(token, None))

    def _ended(self, token: int, answered: Callable[[int, bytes | None], Input], body: bytes | None) -> None:
        self._open.pop(token, None)
        if (timeout := self._timeouts.pop(token, None)) is not None:
            timeout.cancel()
        self.feed(answered(token, body))

    def _cancel(self, token: int) -> None:
        if (timeout := self._timeouts.pop(token, None)) is not None:
            timeout.cancel()
        exchange = self._open.pop(token, None)
        if exchange is not None:
            exchange.cancel()

    # --- events ---

    def _emit(self, effect: Emit) -> None:
        self._ring.add(
            mono_ns(),
            effect.kind,
            client=self.name,
            artifact=effect.artifact.hex() if effect.artifact is not None else "",
            peer=effect.peer,
            hop=effect.hop,
            size=effect.bytes,
            detail=effect.detail,
        )


def _word_on(effect: Published | PublishRefused) -> bytes | ControlRefusal:
    """What the one who publishes is told."""
    return effect.artifact if isinstance(effect, Published) else ControlRefusal(effect.code, effect.message)


def _synced_answered(token: int, body: bytes | None) -> Input:
    return SyncedAnswered(token, body is not None)
