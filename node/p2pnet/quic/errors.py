"""What ends connections, streams and messages: the codes on the wire and the exceptions raised for them.

P2pnetError
├── LocalError
│   ├── EndpointClosed      the endpoint was closed by its owner
│   ├── BadAddress          nothing can be reached there: port 0, no IP address, wrong family
│   └── EndpointError       the socket cannot be had (its `errno` says why)
└── RemoteError
    ├── MalformedError
    │   └── FrameError          bytes that are no message; `kind` says which rule they break
    └── QuicError
        ├── ConnectionLost      the connection ended first; `reason` says how
        │   └── Reset               ... because the peer has forgotten it: it was restarted
        ├── StreamLost          the peer threw this stream away; `code` says why
        ├── HandshakeFailed     no connection came about; `kind` says why
        ├── MessageTooLarge     over a named cap, ours or the peer's
        ├── RequestTimeout      no answer in time
        └── DeliveryFailed      the receiver has the message, but did not take it (`once`)
"""

# ruff: noqa: N818  # named for what happened: callers read `except ConnectionLost`

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from p2pnet.model.errors import LocalError, MalformedError, RemoteError


class CloseCode(IntEnum):
    """Why an end closes a connection: the application error code of CONNECTION_CLOSE (RFC 9000 section 19.19)."""

    DONE = 0
    SHUTTING_DOWN = 0x10
    REFUSED = 0x11
    REPLACED = 0x12
    REMOVED = 0x13
    PROTOCOL_VIOLATION = 0x14
    WRONG_CONTENT = 0x15
    EXPIRED = 0x16
    RENEWED = 0x17
    TOO_MANY = 0x18


class StreamCode(IntEnum):
    """Why an end resets or stops a stream: the application error code of RESET_STREAM and STOP_SENDING."""

    CANCELLED = 0x20
    TOO_LARGE = 0x21
    MALFORMED = 0x22
    UNWANTED = 0x23
    FAILED = 0x24


CODE_MAX = (1 << 62) - 1  # RFC 9000 section 20.2: a variable-length integer
_NAMES = {int(code): code.name.lower() for code in StreamCode}

CloseKind = Literal["local", "application", "transport", "idle", "refused", "reset"]


@dataclass(frozen=True, slots=True)
class CloseReason:
    """How a connection ended. `code` is a CloseCode for local, application and refused, QUIC's own for transport.

    local: this end closed it. application: the peer did. idle: nothing came for the idle time. refused: a certificate was
    not admitted. transport: QUIC itself gave up (a broken packet, a path lost). reset: the peer does not know this
    connection, so it was restarted (RFC 9000 section 10.3).
    """

    kind: CloseKind
    code: int
    text: str

    def __str__(self) -> str:
        return f"{self.kind} {self.code:#x}" + (f": {self.text}" if self.text else "")


class QuicError(RemoteError):
    """A peer or the path to it failed."""


class ConnectionLost(QuicError):
    """The connection ended before the operation did."""

    def __init__(self, reason: CloseReason) -> None:
        super().__init__(f"connection lost ({reason})")
        self.reason = reason


class Reset(ConnectionLost):
    """The peer was restarted and has forgotten the connection: a new one may well succeed at once."""


class StreamLost(QuicError):
    """The peer stopped or reset this stream, `code` says why; other streams go on."""

    def __init__(self, code: int) -> None:
        name = _NAMES.get(code, "unknown")
        super().__init__(f"the peer threw the stream away (code {code:#x}, {name})")
        self.code = code


HandshakeFailure = Literal["timeout", "refused", "too-many", "closed", "protocol"]


class HandshakeFailed(QuicError):
    """No connection was established.

    timeout: no answer. refused: the peer does not admit us. too-many: it is full for now. closed: an end gave up first.
    protocol: the peer broke the rules of QUIC or TLS.
    """

    def __init__(self, kind: HandshakeFailure, text: str) -> None:
        super().__init__(f"handshake failed ({kind}): {text}")
        self.kind: HandshakeFailure = kind
        self.text = text


class MessageTooLarge(QuicError):
    """A message over a cap. At its sender: the peer refused it, or it is longer than a message can be."""


class RequestTimeout(QuicError):
    """The answer did not come within the caller's time."""


FrameFault = Literal["version", "reserved", "truncated", "trailing", "empty"]


class FrameError(MalformedError):
    """Bytes on a stream that are no message; `kind` names the rule they break."""

    def __init__(self, kind: FrameFault, message: str) -> None:
        super().__init__(message)
        self.kind: FrameFault = kind


class EndpointClosed(LocalError):
    """The endpoint is closed, or draining: it opens and accepts nothing more."""


class BadAddress(LocalError):
    """No peer can be at this address."""


class EndpointError(LocalError):
    """The socket could not be bound; `errno` is the system's."""

    def __init__(self, message: str, errno: int | None) -> None:
        super().__init__(message)
        self.errno = errno


def lost(reason: CloseReason) -> ConnectionLost:
    """The exception for operations that the end of their connection interrupted."""
    return Reset(reason) if reason.kind == "reset" else ConnectionLost(reason)


def check_code(code: int) -> None:
    """Raise LocalError for a number that is no application error code."""
    if not 0 <= code <= CODE_MAX:
        raise LocalError(f"error code {code}: QUIC says 0 to 2^62-1")


def stream_error(code: int) -> QuicError:
    """The exception for a stream the peer stopped or reset with this code."""
    if code == StreamCode.TOO_LARGE:
        return MessageTooLarge("the peer refused the message: it exceeds the cap of its route")
    return StreamLost(code)
