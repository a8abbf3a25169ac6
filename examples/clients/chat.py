"""A client of one's own: messages of rooms, the newest of which every node keeps. See docs/clients.md and subnet.yaml here."""

import struct

from p2pnet.broadcast import (
    Artifact,
    ArtifactId,
    Bounce,
    Change,
    ChangeAction,
    ChangeKind,
    HandleInvalid,
    Inspected,
    MalformedError,
    MoveToValidated,
    PoolView,
    RemoveFromValidated,
)

HEAD = struct.Struct(">dd16sB")  # sent, expires (Unix seconds), nonce, length of the room's name
LIFE_S_MAX = 7 * 86_400.0
AHEAD_S = 30.0  # how far a sender's clock may be ahead


class Chat:
    """`rooms`: the only ones whose messages are taken; `keep`: messages per room. A bad setting raises ValueError."""

    name = "chat"
    tick_s = None  # runs when something has changed, and only then

    def __init__(self, rooms: list[str], keep: int = 100) -> None:
        if not rooms or not all(isinstance(room, str) and 0 < len(room.encode()) <= 32 for room in rooms):
            raise ValueError(f"rooms {rooms!r}: a list of names, each of at most 32 bytes")
        if not isinstance(keep, int) or keep < 1:
            raise ValueError(f"keep {keep!r}: at least 1 message")
        self._rooms = [room.encode() for room in rooms]
        self._keep = keep

    def make(self, name: str, data: bytes, *, nonce: bytes, now: float, keep_s: float) -> bytes:
        """What `p2pnet inject --client chat random.txt` publishes: a message for the room that the file is named after."""
        named = name.partition(".")[0].encode()
        room = named if named in self._rooms else self._rooms[0]
        return HEAD.pack(now, now + keep_s, nonce, len(room)) + room + data

    def inspect(self, data: bytes) -> Inspected:
        """Where the user's bytes begin, how long the message lives; its key is the room. Called for every artifact."""
        if len(data) < HEAD.size:
            raise MalformedError("a message without a head")
        sent, expires, _, length = HEAD.unpack_from(data)
        start = HEAD.size + length
        if length == 0 or start > len(data):
            raise MalformedError("a message without a room")
        if not 0 <= sent <= expires <= sent + LIFE_S_MAX:
            raise MalformedError("a message that lives too long, or not at all")
        room = data[HEAD.size : start]
        size = len(data) - start
        return Inspected(size=size, key=room, expires=expires, name=room.decode("ascii", "replace"), start=start)

    def on_state_change(self, changes: list[Change], pool: PoolView, now: float) -> list[ChangeAction]:
        """Judge what peers brought, and let go of what is too old. Runs on a thread: it may take its time."""
        actions: list[ChangeAction] = []
        for change in changes:
            message = pool.unvalidated.get(change.artifact)
            if change.kind is not ChangeKind.INSERTED or message is None:
                continue
            if message.inspected.key not in self._rooms:
                actions.append(HandleInvalid(message.id, "no such room"))
            elif _sent(message) > now + AHEAD_S:
                actions.append(HandleInvalid(message.id, "sent in the future"))
            else:
                actions.append(MoveToValidated(message.id))
        return actions + [RemoveFromValidated(artifact) for artifact in self._too_old(pool)]

    def _too_old(self, pool: PoolView) -> list[ArtifactId]:
        rooms: dict[bytes, list[tuple[float, ArtifactId]]] = {}
        for message in pool.validated.values():
            rooms.setdefault(message.inspected.key, []).append((_sent(message), message.id))
        return [artifact for room in rooms.values() for _, artifact in sorted(room)[: -self._keep]]

    def bouncer(self, artifact: ArtifactId, key: bytes, size: int) -> Bounce:  # noqa: ARG002 - the room says it all
        """Whether to fetch an announced message at all: on the loop, so at once."""
        return Bounce.WANTS if not key or key in self._rooms else Bounce.UNWANTED

    def is_urgent(self, artifact: ArtifactId, inspected: Inspected) -> bool:  # noqa: ARG002 - by its size alone
        """Whether to push a message, whatever spec.broadcast.pushBelow says."""
        return inspected.size <= 4096

    def relay(self, artifact: ArtifactId, key: bytes) -> None:
        """How to pass a peer's message on; None: as spec.broadcast.relay says."""


def _sent(message: Artifact) -> float:
    return float(HEAD.unpack_from(message.data)[0])
