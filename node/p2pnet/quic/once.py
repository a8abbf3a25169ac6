"""At-least-once sending: a message is sent again under the same id until its receiver's handler has taken it.

    deliveries = AtLeastOnce(endpoint)                  # at both ends, before anything connects
    await deliveries.send(address, b"/order", b"", b"...")

On the wire it is a request on a route of its own. Its payload, all big-endian:
[0:16] the sender's instance (random), [16:24] the message's number, [24:28] header length, [28:32] destination length;
then header, destination and payload. The reply is `taken`, `failed` or `busy`.

The receiver remembers ids in a bounded window; within it a handler gets each message once, however often it was sent.
"""

import itertools
import os
import struct
from collections.abc import Callable
from typing import Literal

from p2pnet.model.errors import LimitError
from p2pnet.model.limits import MIB
from p2pnet.quic.addresses import Address
from p2pnet.quic.connection import Connection
from p2pnet.quic.endpoint import Endpoint
from p2pnet.quic.errors import ConnectionLost, FrameError, QuicError, StreamCode, StreamLost
from p2pnet.quic.framing import Parts
from p2pnet.quic.message import Message
from p2pnet.quic.retry import Retry, worth_retrying

ROUTE_ONCE = b"/once"
WINDOW_IDS = 4_096
"""Ids remembered of one sender: at 400 messages a second a retry may be 10 s late."""
WINDOW_SENDERS = 1_024
WINDOW_BYTES = 64 * MIB
"""Estimated memory of all ids and senders together."""
ATTEMPT_S = 10.0
"""Default time of one attempt, for the dial and for the answer each."""

TAKEN, FAILED, BUSY = b"taken", b"failed", b"busy"

_ENVELOPE = struct.Struct(">16sQII")
_INSTANCE_BYTES = 16
_ID_BYTES = _INSTANCE_BYTES + 8
_ID_COST_BYTES = 200  # of an id in a dict: object, hash table and share of its slack, measured on 64-bit CPython
_SENDER_COST_BYTES = 500
_ANSWER_BYTES_MAX = 64  # enough to show an answer that is none of the three


class DeliveryFailed(QuicError):  # noqa: N818  # named for what happened, as all of QUIC's
    """The receiver has the message, but its handler did not take it.

    failed: the handler raised, and the same id is not handled again. busy: it raised LimitError, for it has no room now.
    """

    def __init__(self, kind: Literal["failed", "busy"], text: str) -> None:
        super().__init__(text)
        self.kind: Literal["failed", "busy"] = kind


class Window:
    """Which messages of which senders were handled, and with which outcome. The least recently used are forgotten first."""

    def __init__(self, *, ids: int = WINDOW_IDS, senders: int = WINDOW_SENDERS, bytes_max: int = WINDOW_BYTES) -> None:
        self._ids_max = ids
        self._senders_max = senders
        self._bytes_max = bytes_max
        self._senders: dict[str, dict[bytes, bytes]] = {}  # longest unused first, both
        self.held_bytes = 0
        """Estimated memory of the window."""
        self.ids = 0
        """Ids remembered now."""
        self.forgotten = 0
        """Ids that were forgotten: their messages, if repeated, are handled again."""

    def __len__(self) -> int:
        """The number of senders remembered."""
        return len(self._senders)

    def outcome(self, sender: str, mark: bytes) -> bytes | None:
        """The outcome of this sender's message with this id; None if it was never handled, or is forgotten."""
        known = self._senders.get(sender, {})
        outcome = known.get(mark)
        if outcome is not None:
            # Used again: to the end of the order, where what is forgotten last stands.
            self._senders[sender] = self._senders.pop(sender)
            known[mark] = known.pop(mark)
        return outcome

    def remember(self, sender: str, mark: bytes, outcome: bytes) -> None:
        """This sender's message with this id was handled, with this outcome."""
        known = self._senders.pop(sender, None)
        if known is None:
            known = {}
            self.held_bytes += _cost(sender)
        self._senders[sender] = known
        if known.pop(mark, None) is None:
            self.ids += 1
            self.held_bytes += _ID_COST_BYTES
        known[mark] = outcome
        if len(known) > self._ids_max:
            self._forget(sender)
        while len(self._senders) > self._senders_max:
            oldest = next(iter(self._senders))
            while oldest in self._senders:
                self._forget(oldest)
        while self.held_bytes > self._bytes_max and self.ids > 1:
            self._forget(next(iter(self._senders)))

    def _forget(self, sender: str) -> None:
        """Forget the sender's oldest id, and the sender if that was its last."""
        known = self._senders[sender]
        del known[next(iter(known))]
        self.forgotten += 1
        self.ids -= 1
        self.held_bytes -= _ID_COST_BYTES
        if not known:
            del self._senders[sender]
            self.held_bytes -= _cost(sender)


class AtLeastOnce:
    """At-least-once sending over one endpoint. Make it at both ends, before anything connects.

    The receiver calls the `on_message` that it finds on the endpoint, with messages that want no reply. If that returns, the
    message is taken. If it raises LimitError, there is no room and the sender tries again. If it raises anything else, it has
    failed: the sender is told at once and does not try again, for half of the work may be done, and the same id is not
    handled again. An endpoint without `on_message` only sends.

    Ids count per sender, by the identity its certificate proves (URI, else fingerprint): nobody can use up another's.
    Where trust proves nothing they count per instance, whose 16 random bytes only sender and receiver know. A message
    is handled twice if it is sent again after so many others that its id has fallen out of the window, or after the
    receiver was started anew.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        window_ids: int = WINDOW_IDS,
        window_senders: int = WINDOW_SENDERS,
        window_bytes: int = WINDOW_BYTES,
        instance: bytes | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._instance = instance or os.urandom(_INSTANCE_BYTES)
        self._numbers = itertools.count(1)
        self._window = Window(ids=window_ids, senders=window_senders, bytes_max=window_bytes)
        self._counts = dict.fromkeys(("sent", "attempts", "taken", "duplicates", "failed", "busy"), 0)
        rest = endpoint.on_message
        if rest is not None:
            self._rest: Callable[[Connection, Message], None] = rest
            endpoint.handlers[ROUTE_ONCE] = self._on_message

    async def send(
        self,
        address: Address,
        header: bytes,
        dst: bytes,
        payload: Parts,
        *,
        expect: str | None = None,
        timeout_s: float = ATTEMPT_S,
        retry: Retry | None = None,
    ) -> None:
        """Send one message and await the answer that the receiver's handler has taken it.

        After silence or a lost connection, or while the peer is restarting, draining or busy, it is sent again on the schedule
        `retry` (else the endpoint's, else the default); each attempt has `timeout_s` for the dial and for the answer. Raises
        the last error when the schedule's budget ends, and at once DeliveryFailed("failed"), MessageTooLarge, FrameError (the
        peer does not know this route), TrustError, HandshakeFailed("refused"), BadAddress, EndpointClosed. Whatever it raises,
        the message may have been taken, except where the error says that it cannot have left.
        """
        envelope = _ENVELOPE.pack(self._instance, next(self._numbers), len(header), len(dst))
        body = [payload] if isinstance(payload, bytes) else payload
        parts = [envelope + header + dst, *body]

        async def attempt() -> None:
            self._counts["attempts"] += 1
            connection = await self._endpoint.connect(address, expect=expect, timeout_s=timeout_s)
            reply = await connection.request(ROUTE_ONCE, parts, timeout_s=timeout_s, reply_bytes_max=_ANSWER_BYTES_MAX)
            _check_answer(reply.payload)

        self._counts["sent"] += 1
        schedule = retry or self._endpoint.settings.retry or Retry()
        await schedule.run(attempt, worth=_worth, until=self._endpoint.closing)

    def counters(self) -> dict[str, int]:
        """Messages sent and attempts made, messages received by their outcome, and the size of the window, by name."""
        counts = {f"{name}_total": count for name, count in self._counts.items()}
        window = self._window
        held = {
            "senders": len(window),
            "ids": window.ids,
            "held_bytes": window.held_bytes,
            "forgotten_total": window.forgotten,
        }
        return counts | held

    # Private

    def _on_message(self, connection: Connection, message: Message) -> None:
        if not message.wants_reply:  # sent by something else than AtLeastOnce
            self._rest(connection, message)
            return
        parsed = _parse(message)
        if parsed is None:
            message.refuse(StreamCode.MALFORMED)
            return
        mark, inner = parsed
        settings = self._endpoint.settings
        # The caps of the inner message: they were not known when the envelope was read.
        if (
            len(inner.payload) > settings.cap(inner.header)
            or max(len(inner.header), len(inner.dst)) > settings.header_bytes_max
        ):
            message.refuse(StreamCode.TOO_LARGE)
            return
        # The proven identity first: an instance is only as secret as its bytes.
        sender = connection.uri or connection.peer.fingerprint or mark[:_INSTANCE_BYTES].hex()
        outcome = self._window.outcome(sender, mark)
        if outcome is not None:
            self._counts["duplicates"] += 1
        else:
            outcome = self._handle(connection, inner)
            self._counts[outcome.decode()] += 1
            # A busy message was not handled: its repetition must be.
            if outcome != BUSY:
                self._window.remember(sender, mark, outcome)
        message.reply(outcome)

    def _handle(self, connection: Connection, message: Message) -> bytes:
        try:
            self._rest(connection, message)
        except LimitError:
            return BUSY
        except Exception as error:  # noqa: BLE001  # reported like any failure of a callback; the sender is told
            self._endpoint.loop.call_exception_handler({"message": f"{message!r} was not taken", "exception": error})
            return FAILED
        return TAKEN


def _parse(message: Message) -> tuple[bytes, Message] | None:
    """The id and the inner message of an envelope; None if it is malformed."""
    payload = message.payload
    if len(payload) < _ENVELOPE.size:
        return None
    *_, header_length, dst_length = _ENVELOPE.unpack_from(payload)
    dst_at = _ENVELOPE.size + header_length
    payload_at = dst_at + dst_length
    if payload_at > len(payload):
        return None
    inner = Message(
        message.connection, payload[_ENVELOPE.size : dst_at], payload[dst_at:payload_at], payload[payload_at:]
    )
    return payload[:_ID_BYTES], inner


def _check_answer(answer: bytes) -> None:
    if answer == BUSY:
        raise DeliveryFailed("busy", "the receiver has no room for the message now")
    if answer == FAILED:
        raise DeliveryFailed("failed", "the receiver's handler failed on the message")
    if answer != TAKEN:
        raise FrameError("reserved", f"the peer does not know {ROUTE_ONCE.decode()}: it answers {answer!r}")


def _worth(error: Exception) -> bool:
    """Whether to send again: in more cases than a plain send, for the id makes that safe and every attempt may dial anew."""
    if isinstance(error, DeliveryFailed):
        return error.kind == "busy"
    if isinstance(error, StreamLost) and error.code == StreamCode.UNWANTED:
        return True  # a draining peer refuses new streams with this code
    return isinstance(error, ConnectionLost) or worth_retrying(error)


def _cost(sender: str) -> int:
    return _SENDER_COST_BYTES + len(sender)
