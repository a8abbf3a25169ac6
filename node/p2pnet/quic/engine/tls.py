"""TLS for aioquic as p2pnet needs it: both ends show a certificate, and a wrong one ends the handshake at once.

aioquic's server asks for a client certificate only through a private flag, accepts an empty list and verifies no chain; its
client would check a server against names that p2pnet does not use. So both ends verify the chain here, right after the peer has
proved that it has the key, and *before* the handshake completes: at that point a server has no key to read application data
with, so nothing that an unauthenticated peer sends is ever handled.
"""

from collections.abc import Callable, Mapping
from ssl import CERT_NONE
from typing import Any, TextIO

from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from cryptography.hazmat.primitives.serialization import Encoding

from p2pnet.model.errors import TrustError, TrustRefusal
from p2pnet.quic.engine.mtu import BASE
from p2pnet.quic.settings import Settings
from p2pnet.quic.trust import Trust
from p2pnet.trust import PARSING_FAILS

HANDSHAKE_BYTES_MAX = 64 * 1024
"""Bytes of one TLS message; chains are at most half of that."""
_REASON_CHARS_MAX = 200  # the reason that a refused peer gets must fit into one packet

_ALERTS: Mapping[TrustRefusal, tls.AlertDescription] = {
    "no-certificate": tls.AlertDescription.certificate_required,
    "untrusted": tls.AlertDescription.unknown_ca,
    "expired": tls.AlertDescription.certificate_expired,
    "not-yet-valid": tls.AlertDescription.certificate_expired,
    "wrong-name": tls.AlertDescription.access_denied,
    "wrong-usage": tls.AlertDescription.unsupported_certificate,
    "malformed": tls.AlertDescription.bad_certificate,
}
REFUSAL_ALERTS = frozenset(_ALERTS.values())
"""TLS alerts that mean that the peer's certificate is not admitted."""

Admit = Callable[[list[bytes]], None]
"""Called with the peer's chain (DER, leaf first); raises TrustError to refuse it."""


class Refusal(tls.Alert):
    """A TrustError as a TLS alert: aioquic closes the connection with its code and text."""

    def __init__(self, error: TrustError) -> None:
        super().__init__(str(error)[:_REASON_CHARS_MAX])
        self.description = _ALERTS[error.kind]


class JudgingContext(tls.Context):
    """A TLS context in which `admit` verifies the peer's chain."""

    def __init__(self, configuration: QuicConfiguration, admit: Admit, *, ask_client: bool) -> None:
        super().__init__(
            is_client=configuration.is_client,
            alpn_protocols=configuration.alpn_protocols,
            cipher_suites=configuration.cipher_suites,
            server_name=configuration.server_name,
            verify_mode=configuration.verify_mode,
        )
        self.admit = admit
        self.certificate = configuration.certificate
        self.certificate_chain = configuration.certificate_chain
        self.certificate_private_key = configuration.private_key
        # aioquic has no public way to ask for a client certificate.
        self._request_client_certificate = ask_client
        # aioquic makes one key per group and sends all; two groups everybody speaks save a third of the handshake.
        self._supported_groups = [tls.Group.X25519, tls.Group.SECP256R1]

    def handle_message(self, input_data: bytes, output_buf: dict[tls.Epoch, Buffer]) -> None:
        """As aioquic, but an unauthenticated peer cannot make it collect 16 MiB of one handshake message."""
        if len(self._receive_buffer) + len(input_data) > HANDSHAKE_BYTES_MAX:
            raise tls.AlertDecodeError("handshake message too long")
        super().handle_message(input_data, output_buf)

    def _set_peer_certificate(self, certificate: tls.Certificate) -> None:
        try:
            super()._set_peer_certificate(certificate)
        except PARSING_FAILS as error:
            raise tls.AlertBadCertificate(f"the certificate cannot be read: {error}"[:_REASON_CHARS_MAX]) from error

    def _check_certificate_verify_signature(self, verify: tls.CertificateVerify) -> None:
        try:
            super()._check_certificate_verify_signature(verify)
        except PARSING_FAILS as error:
            raise tls.AlertBadCertificate(f"its key cannot be used: {error}"[:_REASON_CHARS_MAX]) from error

    def _server_handle_certificate(self, input_buf: Buffer) -> None:
        super()._server_handle_certificate(input_buf)
        if self._peer_certificate is None:
            self._verify_chain()

    def _server_handle_certificate_verify(self, input_buf: Buffer) -> None:
        super()._server_handle_certificate_verify(input_buf)
        self._verify_chain()

    def _client_handle_certificate_verify(self, input_buf: Buffer) -> None:
        super()._client_handle_certificate_verify(input_buf)
        self._verify_chain()

    def _verify_chain(self) -> None:
        leaf: Any = self._peer_certificate
        chain = [] if leaf is None else [leaf, *self._peer_certificate_chain]
        try:
            self.admit([one.public_bytes(Encoding.DER) for one in chain])
        except TrustError as error:
            raise Refusal(error) from error


class Configurations:
    """aioquic's configurations for dialling and for accepting, rebuilt when the identity has changed."""

    def __init__(self, trust: Trust, settings: Settings) -> None:
        self._trust = trust
        self._settings = settings
        self._made: dict[tuple[int, bool], QuicConfiguration] = {}
        self._key_log: TextIO | None = None

    def get(self, *, is_client: bool) -> QuicConfiguration:
        """The configuration for a connection that begins now."""
        key = (self._trust.version, is_client)
        if key not in self._made:
            # Both kinds are dropped together: they hold the old certificate and key.
            if self._made and next(iter(self._made))[0] != key[0]:
                self._made.clear()
            self._made[key] = self._make(is_client=is_client)
        return self._made[key]

    def close(self) -> None:
        """Close the key log: no connection begins any more."""
        if self._key_log is not None:
            self._key_log.close()

    def _make(self, *, is_client: bool) -> QuicConfiguration:
        settings = self._settings
        identity = self._trust.identity
        configuration = QuicConfiguration(
            is_client=is_client,
            alpn_protocols=None if self._trust.alpn is None else list(self._trust.alpn),
            server_name=self._trust.server_name if is_client else None,
            verify_mode=CERT_NONE,  # JudgingContext judges
            congestion_control_algorithm=settings.congestion,
            idle_timeout=NEVER_S if settings.idle_s is None else settings.idle_s,
            max_data=settings.connection_window_bytes,
            max_stream_data=settings.connection_window_bytes,  # each kind has its own (Transport)
            max_datagram_size=BASE,  # every path starts here, and is probed upward
            connection_id_length=CID_BYTES,
            initial_rtt=INITIAL_RTT_S,
            # AES-128 first: as strong as P-256 leaves, and cheaper per packet.
            cipher_suites=[
                tls.CipherSuite.AES_128_GCM_SHA256,
                tls.CipherSuite.AES_256_GCM_SHA384,
                tls.CipherSuite.CHACHA20_POLY1305_SHA256,
            ],
        )
        if not is_client or self._trust.asks_client:
            configuration.certificate = identity.certificates[0]
            configuration.certificate_chain = list(identity.certificates[1:])
            configuration.private_key = identity.private_key
        if settings.key_log is not None:
            # One file for all connections of the endpoint, also after the identity has changed.
            configuration.secrets_log_file = self._key_log = self._key_log or settings.key_log.open("a")
        if settings.qlog_dir is not None:
            from aioquic.quic.logger import QuicFileLogger  # only when asked for

            settings.qlog_dir.mkdir(parents=True, exist_ok=True)
            configuration.quic_logger = QuicFileLogger(str(settings.qlog_dir))
        return configuration


INITIAL_RTT_S = 0.333
"""RFC 9002 section 6.2.2: on a machine full of handshakes aioquic's 0.1 would send most of their flights twice."""
CID_BYTES = 8
"""The length of all our connection ids."""
NEVER_S = 10 * 365 * 86_400.0
"""The idle time of connections that have none."""
