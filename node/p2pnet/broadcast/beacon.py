"""`beacon`, the worked example of a consensus-like client.

Nodes sign shares of a height, whoever has enough of them makes the aggregate, and everybody purges what lies below it.
A share is {height, signer, signature}, an aggregate {height, value, signers}; both are msgpack arrays. The signature stands in
for a threshold signature: a keyed hash that every node can check. The key in adverts is the kind and the height, so that
bouncer and relay judge an artifact that is not here yet.
"""

from collections import defaultdict
from hashlib import blake2b

import msgspec

from p2pnet.broadcast.client import Bounce, Relay
from p2pnet.broadcast.pool import (
    AddToValidated,
    Artifact,
    Change,
    ChangeAction,
    HandleInvalid,
    Inspected,
    MoveToValidated,
    PoolView,
    PurgeBelow,
)
from p2pnet.model.errors import LocalError, MalformedError
from p2pnet.model.ids import ArtifactId

SHARE, AGGREGATE = b"s", b"a"
HEIGHT_BYTES = 8
AHEAD_MAX = 10
"""Heights above this node's own whose shares are taken at once; higher ones may be wanted later."""
SIGNERS_MAX = 500
_SIGNATURE_BYTES = 16
_ARTIFACT_BYTES_MAX = 64 * 1024


class BeaconShare(msgspec.Struct, array_like=True, frozen=True, tag="s"):
    """One node's signature of a height."""

    height: int
    signer: str
    signature: bytes


class Aggregate(msgspec.Struct, array_like=True, frozen=True, tag="a"):
    """The aggregate of enough nodes' shares of a height; `value` follows from their signatures."""

    height: int
    value: bytes
    signers: list[str]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(BeaconShare | Aggregate).decode


class BeaconClient:
    """The client of a chain of values, one for each height.

    `node`: this node's name, which signs. `threshold`: how many shares make an aggregate. `heights`: the last height this node
    signs. `interval_s`: the least time between two of its shares. `group_key`: the secret shared by all nodes of the beacon.
    """

    name = "beacon"

    def __init__(
        self,
        node: str,
        *,
        threshold: int = 2,
        heights: int = 1_000_000,
        interval_s: float = 1.0,
        group_key: str = "p2pnet",
    ) -> None:
        if not 1 <= threshold <= SIGNERS_MAX:
            raise ValueError(f"threshold {threshold}: between 1 and {SIGNERS_MAX} shares make an aggregate")
        if interval_s <= 0:
            raise ValueError(f"interval_s {interval_s}: a positive number of seconds")
        self.node = node
        self.threshold = threshold
        self.heights = heights
        self.tick_s: float | None = interval_s
        self.height = 0
        """The height of the latest aggregate here."""
        self._group_key = group_key.encode()
        self._signed = 0
        self._signed_at = float("-inf")

    # What travels

    def make(  # a beacon has no use for any of it
        self,
        name: str,  # noqa: ARG002
        data: bytes,  # noqa: ARG002
        *,
        nonce: bytes,  # noqa: ARG002
        now: float,  # noqa: ARG002
        keep_s: float,  # noqa: ARG002
    ) -> bytes:
        """See `Client`: a beacon takes no files."""
        raise LocalError("the beacon makes its artifacts itself: nothing can be injected into it")

    def inspect(self, data: bytes) -> Inspected:
        """See `Client`."""
        if len(data) > _ARTIFACT_BYTES_MAX:
            raise MalformedError(f"{len(data)} bytes are no beacon artifact")
        try:
            content = _decode(data)
        except msgspec.DecodeError as error:
            raise MalformedError(f"not a beacon artifact: {error}") from error
        if not 0 < content.height < 1 << 63:
            raise MalformedError(f"not a beacon artifact: height {content.height}")
        kind = SHARE if isinstance(content, BeaconShare) else AGGREGATE
        return Inspected(size=len(data), key=_key(kind, content.height), height=content.height, content=content)

    def bouncer(self, artifact: ArtifactId, key: bytes, size: int) -> Bounce:  # noqa: ARG002 - the key says it all
        """See `Client`: artifacts below this node's height are unwanted, shares far above it are not wanted yet."""
        kind, height = _read_key(key)
        if size > _ARTIFACT_BYTES_MAX or height < self.height or (kind == SHARE and height == self.height):
            return Bounce.UNWANTED
        far = height > self.height + AHEAD_MAX and kind == SHARE
        return Bounce.MAYBE_LATER if far else Bounce.WANTS

    def is_urgent(self, artifact: ArtifactId, inspected: Inspected) -> bool:  # noqa: ARG002 - all alike
        """See `Client`: always, for every node waits for these."""
        return True

    def relay(self, artifact: ArtifactId, key: bytes) -> Relay | None:  # noqa: ARG002 - the key says it all
        """See `Client`: shares are not relayed, for their signer sends them to everybody; aggregates are."""
        return "none" if _read_key(key)[0] == SHARE else None

    # What follows from it

    def on_state_change(self, changes: list[Change], pool: PoolView, now: float) -> list[ChangeAction]:  # noqa: ARG002
        """See `Client`: validates new artifacts, aggregates shares, purges lower heights, and signs the next one."""
        actions: list[ChangeAction] = []
        shares: dict[int, dict[str, bytes]] = defaultdict(dict)
        for artifact in pool.validated.values():
            self._count(artifact, shares)
        before = self.height
        for artifact in pool.unvalidated.values():
            reason = self._fault_of(artifact)
            if reason:
                actions.append(HandleInvalid(artifact.id, reason))
                continue
            actions.append(MoveToValidated(artifact.id))
            self._count(artifact, shares)
        for height in sorted(shares):
            if height > self.height and len(shares[height]) >= self.threshold:
                # Sorted and cut: nodes with the same shares make the same aggregate, byte for byte.
                signers = sorted(shares[height])[: self.threshold]
                actions.append(AddToValidated(_encode(Aggregate(height, self._value(height, signers), signers))))
                self.height = height
        if self.height > before:
            actions.append(PurgeBelow(self.height))
        actions += self._sign(now)
        return actions

    def _count(self, artifact: Artifact, shares: dict[int, dict[str, bytes]]) -> None:
        content = artifact.inspected.content
        if isinstance(content, BeaconShare):
            shares[content.height][content.signer] = content.signature
        elif isinstance(content, Aggregate):
            self.height = max(self.height, content.height)

    def _sign(self, now: float) -> list[ChangeAction]:
        height = self.height + 1
        if height > self.heights or height <= self._signed or now < self._signed_at + (self.tick_s or 0.0) - 1e-6:
            return []
        self._signed, self._signed_at = height, now
        return [AddToValidated(_encode(BeaconShare(height, self.node, self._signature(height, self.node))))]

    def _fault_of(self, artifact: Artifact) -> str:
        content = artifact.inspected.content
        if isinstance(content, BeaconShare):
            return "" if content.signature == self._signature(content.height, content.signer) else "wrong signature"
        if not isinstance(content, Aggregate):
            return "neither share nor aggregate"
        # A set: one signer counted twice must not make an aggregate.
        if len(set(content.signers)) < self.threshold or len(content.signers) > SIGNERS_MAX:
            return f"{len(set(content.signers))} signers are no {self.threshold}"
        return "" if content.value == self._value(content.height, content.signers) else "wrong value"

    def _signature(self, height: int, signer: str) -> bytes:
        return self._hash(b"share", height, signer.encode())

    def _value(self, height: int, signers: list[str]) -> bytes:
        return self._hash(b"value", height, b"".join(self._signature(height, signer) for signer in signers))

    def _hash(self, what: bytes, height: int, data: bytes) -> bytes:
        key = blake2b(self._group_key, digest_size=32).digest()
        return blake2b(
            what + height.to_bytes(HEIGHT_BYTES, "big") + data, digest_size=_SIGNATURE_BYTES, key=key
        ).digest()


def _key(kind: bytes, height: int) -> bytes:
    return kind + height.to_bytes(HEIGHT_BYTES, "big")


def _read_key(key: bytes) -> tuple[bytes, int]:
    """Kind and height in a key; of a malformed one height 0, which nobody wants."""
    if len(key) != 1 + HEIGHT_BYTES or key[:1] not in {SHARE, AGGREGATE}:
        return SHARE, 0
    return key[:1], int.from_bytes(key[1:], "big")
