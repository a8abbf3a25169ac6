"""How a connection ended, in p2pnet's words: from aioquic's event to a CloseReason, or to why there never was one."""

from aioquic.quic.events import ConnectionTerminated
from aioquic.quic.packet import QuicErrorCode

from p2pnet.model.errors import P2pnetError, TrustError
from p2pnet.quic.errors import CloseCode, CloseReason, HandshakeFailed
from p2pnet.quic.tls import REFUSAL_ALERTS

_CRYPTO_ERRORS = 0x100  # RFC 9001 section 4.8: TLS alerts as transport errors


def reason_of(event: ConnectionTerminated, refusal: TrustError | None, *, timed_out: bool) -> CloseReason:
    """For an end we did not order. `refusal` is our own, of the peer's certificate, during the handshake."""
    code, text = event.error_code, event.reason_phrase
    if refusal is not None:
        return CloseReason("refused", CloseCode.REFUSED, str(refusal))
    if event.frame_type is None:
        return CloseReason("application", code, text)
    if code - _CRYPTO_ERRORS in REFUSAL_ALERTS:
        return CloseReason("refused", CloseCode.REFUSED, text)
    if timed_out and text == "Idle timeout":
        return CloseReason("idle", code, text)
    return CloseReason("transport", code, text)


def failure_of(reason: CloseReason, refusal: TrustError | None) -> P2pnetError:
    """Why there is no connection: our TrustError if we refused the peer, else a HandshakeFailed."""
    if refusal is not None:
        return refusal
    if reason.kind == "refused" or reason.code == CloseCode.REFUSED:
        return HandshakeFailed("refused", reason.text)
    if reason.kind == "idle":
        return HandshakeFailed("timeout", "the peer fell silent")
    if reason.code == CloseCode.TOO_MANY or (
        reason.kind == "transport" and reason.code == QuicErrorCode.CONNECTION_REFUSED
    ):
        return HandshakeFailed("too-many", reason.text or "the peer takes no more connections for now")
    # QUIC hides an application's close from an end whose handshake is not complete (RFC 9000 section 10.2.3).
    if reason.kind == "transport" and reason.code != QuicErrorCode.APPLICATION_ERROR:
        return HandshakeFailed("protocol", reason.text or f"QUIC error {reason.code:#x}")
    return HandshakeFailed("closed", reason.text or "the peer gave the handshake up")
