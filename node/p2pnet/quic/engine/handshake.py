"""The memory of a handshake: TLS, keys and packet number spaces are made on first use and freed when it is confirmed.

aioquic keeps all of that as long as the connection lives, and makes what few handshakes need in advance: keys for every version,
buffers of 16 KiB for three epochs, a table of bound methods. Nine tenths of an idle connection's memory would be its handshake.
"""

# ruff: noqa: SLF001  # what aioquic's connection keeps; it is pinned to its minor version

import functools
from collections.abc import Callable
from typing import Any

from aioquic import tls
from aioquic._buffer import Buffer, BufferReadError
from aioquic.quic import connection as aioquic_connection
from aioquic.quic.connection import MAX_REMOTE_CHALLENGES, QuicConnection, QuicReceiveContext
from aioquic.quic.crypto import CryptoContext, CryptoPair
from aioquic.quic.events import QuicEvent
from aioquic.quic.packet import QuicProtocolVersion
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream

from p2pnet.quic.engine.packets import KeyPair
from p2pnet.quic.engine.recovery import ReceivedNumbers, Recovery
from p2pnet.quic.engine.tls import HANDSHAKE_BYTES_MAX, Admit, JudgingContext

FLIGHT_BYTES_MAX = 16 * 1024
"""What TLS may send at once in one epoch: aioquic's own bound."""

# The frozen sets of epochs that frames may come in: four different ones, and aioquic makes 33 for each connection.
aioquic_connection.EPOCHS = functools.cache(aioquic_connection.EPOCHS)


class Handshake(QuicConnection):
    """A QuicConnection that frees the state of its handshake."""

    tls: Any
    _loss: Recovery
    _crypto_buffers: dict[tls.Epoch, Buffer]

    def __init__(self, *, admit: Admit, ask_client: bool, **connection: Any) -> None:
        """`connection` is for aioquic."""
        super().__init__(**connection)
        self._admit = admit
        self._ask_client = ask_client
        # A deque takes 760 bytes from the beginning.
        self._datagrams_pending: Any = ()  # DATAGRAM frames, which nobody sends here
        self._events: Any = []
        self._QuicConnection__frame_handlers: Any = FrameHandlers(self, self._QuicConnection__frame_handlers)

    def next_event(self) -> QuicEvent | None:
        """As aioquic."""
        return self._events.pop(0) if self._events else None

    def _initialize(self, peer_cid: bytes) -> None:
        """As aioquic, without session tickets."""
        self.tls = JudgingContext(self._configuration, self._admit, ask_client=self._ask_client)
        self.tls.handshake_extensions = [
            (tls.ExtensionType.QUIC_TRANSPORT_PARAMETERS, self._serialize_transport_parameters())
        ]
        self.tls.alpn_cb = self._alpn_handler
        self.tls.update_traffic_key_cb = self._update_traffic_key
        self._cryptos_initial = InitialKeys(peer_cid, is_client=self._is_client)
        self._cryptos = {
            tls.Epoch.INITIAL: self._cryptos_initial[self._version or QuicProtocolVersion.VERSION_1],
            tls.Epoch.ZERO_RTT: NO_KEYS,
            tls.Epoch.HANDSHAKE: self._key_pair(CryptoPair, "handshake"),
            tls.Epoch.ONE_RTT: self._key_pair(KeyPair, "1rtt"),
        }
        self._crypto_buffers = Flight()
        epochs = (tls.Epoch.INITIAL, tls.Epoch.HANDSHAKE, tls.Epoch.ONE_RTT)
        self._crypto_streams = {epoch: QuicStream() for epoch in epochs}
        self._spaces = {epoch: _space(epoch) for epoch in epochs}
        # The recovery was made before the spaces.
        self._loss.spaces = list(self._spaces.values())

    def _key_pair(self, kind: type[CryptoPair], name: str) -> CryptoPair:
        """A key pair without keys yet; a trace is informed when they are set."""
        if self._quic_logger is None:
            return kind()
        ours, theirs = ("client", "server") if self._is_client else ("server", "client")
        received, sent = f"{theirs}_{name}_secret", f"{ours}_{name}_secret"
        return kind(
            recv_setup_cb=functools.partial(self._log_key_updated, received),
            recv_teardown_cb=functools.partial(self._log_key_retired, received),
            send_setup_cb=functools.partial(self._log_key_updated, sent),
            send_teardown_cb=functools.partial(self._log_key_retired, sent),
        )

    def _push_crypto_data(self) -> None:
        super()._push_crypto_data()
        # What TLS wrote has been copied into the crypto streams.
        self._crypto_buffers.clear()

    def _discard_epoch(self, epoch: tls.Epoch) -> None:
        super()._discard_epoch(epoch)
        if epoch is tls.Epoch.INITIAL:
            self._cryptos_initial = _NO_INITIAL_KEYS  # a late packet of another version must not make new ones

    def _confirm_handshake(self) -> None:
        super()._confirm_handshake()
        self._discard_epoch(tls.Epoch.INITIAL)
        one = tls.Epoch.ONE_RTT
        self.tls = Afterwards(self.tls)
        self._cryptos = dict.fromkeys(tls.Epoch, NO_KEYS) | {one: self._cryptos[one]}
        self._crypto_streams = {one: self._crypto_streams[one]}
        self._spaces = {tls.Epoch.INITIAL: _OVER, tls.Epoch.HANDSHAKE: _OVER, one: self._spaces[one]}
        self._loss.keep_only(self._spaces[one])
        path: Any
        for path in self._network_paths:
            path.local_challenges, path.remote_challenges = Challenges(), Challenges()

    def _handle_padding_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        """As aioquic, which walks the padding byte by byte: a client's first datagram is mostly padding."""
        del frame_type
        position = buf.tell()
        rest = buf.data_slice(position, buf.capacity)
        buf.seek(position + len(rest) - len(rest.lstrip(b"\x00")))
        if self._quic_logger is not None and context.quic_logger_frames is not None:
            context.quic_logger_frames.append(self._quic_logger.encode_padding_frame())


class Challenges(list[bytes]):
    """The challenges of a path, in a list: aioquic's deques take 760 bytes each, and there are rarely any challenges."""

    __slots__ = ()

    def append(self, challenge: bytes) -> None:
        """Add one; the oldest is dropped when there are too many."""
        super().append(challenge)
        del self[:-MAX_REMOTE_CHALLENGES]

    def popleft(self) -> bytes:
        """Remove and return the oldest."""
        return self.pop(0)


class FrameHandlers:
    """aioquic's table of handlers by frame type, one for all connections: a method is bound when it is looked up."""

    __slots__ = ("_connection",)
    _table: dict[int, tuple[str, frozenset[tls.Epoch]]] = {}  # noqa: RUF012  # one for all, filled by the first

    def __init__(self, connection: QuicConnection, bound: dict[int, tuple[Callable[..., None], frozenset[tls.Epoch]]]):
        self._connection = connection
        if not self._table:
            self._table.update({kind: (method.__name__, epochs) for kind, (method, epochs) in bound.items()})

    def __getitem__(self, frame_type: int) -> tuple[Callable[..., None], frozenset[tls.Epoch]]:
        """The handler, and the epochs in which the frame may come. Raises KeyError for an unknown type."""
        name, epochs = self._table[frame_type]
        return getattr(self._connection, name), epochs


class Flight(dict[tls.Epoch, Buffer]):
    """What TLS wants to send, by epoch: a buffer is made when TLS writes to it, and freed when it has been read."""

    __slots__ = ()

    def __missing__(self, epoch: tls.Epoch) -> Buffer:
        buffer = self[epoch] = Buffer(capacity=FLIGHT_BYTES_MAX)
        return buffer


class InitialKeys(dict[int, CryptoPair]):
    """Keys of Initial packets by version; they follow from the connection id that the client chose for the server."""

    __slots__ = ("_cid", "_is_client")

    def __init__(self, cid: bytes, *, is_client: bool) -> None:
        super().__init__()
        self._cid = cid
        self._is_client = is_client

    def __missing__(self, version: int) -> CryptoPair:
        pair = self[version] = CryptoPair()
        pair.setup_initial(cid=self._cid, is_client=self._is_client, version=version)
        return pair


class _NoInitialKeys(dict[int, CryptoPair]):
    __slots__ = ()

    def __missing__(self, version: int) -> CryptoPair:
        return NO_KEYS


class _Never(CryptoContext):
    """One direction of NO_KEYS, which all connections share: it must never be given keys."""

    def setup(self, **_: Any) -> None:
        raise AssertionError("keys for an epoch that is over")


class _NoKeys(CryptoPair):
    def __init__(self) -> None:
        super().__init__()
        self.recv = self.send = _Never()


class Afterwards:
    """TLS after the handshake: all that may still come is a server's session ticket, which is parsed and dropped."""

    __slots__ = ("_pending", "alpn_negotiated", "state")
    early_data_accepted = False
    session_resumed = False

    def __init__(self, context: JudgingContext) -> None:
        self.alpn_negotiated = context.alpn_negotiated
        self.state = context.state
        self._pending = context._receive_buffer

    def handle_message(self, data: bytes, output: dict[tls.Epoch, Buffer]) -> None:
        """As aioquic in this state. Raises tls.Alert."""
        del output
        pending = self._pending + data
        if len(pending) > HANDSHAKE_BYTES_MAX:
            raise tls.AlertDecodeError("handshake message too long")
        while len(pending) >= _TLS_HEAD_BYTES:
            size = _TLS_HEAD_BYTES + int.from_bytes(pending[1:_TLS_HEAD_BYTES], "big")
            if len(pending) < size:
                break
            if pending[0] != tls.HandshakeType.NEW_SESSION_TICKET or self.state is tls.State.SERVER_POST_HANDSHAKE:
                raise tls.AlertUnexpectedMessage
            try:
                tls.pull_new_session_ticket(Buffer(data=pending[:size]))
            except BufferReadError as error:
                raise tls.AlertDecodeError("Could not parse TLS message") from error
            pending = pending[size:]
        self._pending = pending


def _space(epoch: tls.Epoch) -> Any:
    space: Any = QuicPacketSpace(is_application_data=epoch is tls.Epoch.ONE_RTT)
    space.received_packets = ReceivedNumbers()
    return space


NO_KEYS = _NoKeys()
_NO_INITIAL_KEYS = _NoInitialKeys()
_OVER = QuicPacketSpace()
_OVER.discarded = True
_TLS_HEAD_BYTES = 4
