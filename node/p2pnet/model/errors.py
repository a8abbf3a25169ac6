"""The exceptions of p2pnet, by whose fault it is.

    P2pnetError
    ├── LocalError          the caller's fault: raised at the caller
    │   ├── SpecError           what a person wrote is invalid or unsupported (exit 2)
    │   └── LimitError          a named bound would be exceeded
    ├── RemoteError         a peer's fault: closes or answers that peer, never ends the node
    │   ├── MalformedError      bytes that are no message
    │   └── TrustError          a certificate that is refused (its `kind` says why)
    └── TargetError         a subnet, lab or cluster that is missing, unreachable or not ready (exits 3 and 4)

QUIC's own errors stand in `p2pnet.quic.errors` and derive from these.
"""

from typing import Literal

TrustRefusal = Literal[
    "no-certificate", "untrusted", "expired", "not-yet-valid", "wrong-name", "wrong-usage", "malformed"
]


class P2pnetError(Exception):
    """Root of all errors that p2pnet raises deliberately."""


class LocalError(P2pnetError):
    """The caller's mistake."""


class SpecError(LocalError):
    """A document, option or name a person wrote is invalid, or this target cannot honour it."""


class LimitError(LocalError):
    """A named bound (see `model.limits`) would be exceeded."""


class RemoteError(P2pnetError):
    """A peer's mistake; it costs only that peer."""


class MalformedError(RemoteError):
    """Bytes from a peer that are no message of the expected shape."""


class TrustError(RemoteError):
    """A peer's certificate is refused; `kind` is one of `TrustRefusal`."""

    def __init__(self, kind: TrustRefusal, message: str) -> None:
        super().__init__(message)
        self.kind: TrustRefusal = kind


class TargetError(P2pnetError):
    """A target that is missing, unreachable (`exit_code` 3), not ready in time (4), or cannot do what it was asked to (2, 5)."""

    def __init__(self, message: str, *, exit_code: int = 3, hint: str = "", where: str = "") -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.hint = hint
        """The next step, in words."""
        self.where = where
        """The file, process or context it is about; empty: the command."""
