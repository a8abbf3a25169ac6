"""Clients that make trouble, for episodes: each is the blob client with one habit more."""

from zlib import compressobj, decompressobj

from p2pnet.broadcast import (
    AddToValidated,
    ArtifactId,
    BlobClient,
    Bounce,
    Change,
    ChangeAction,
    Inspected,
    PoolView,
    make_blob,
)

TOO_LARGE = 1_000_000


class Producer(BlobClient):
    """Makes, of every artifact called `make N`, N deterministic bytes: half of the nodes make the same, the others fetch it."""

    def __init__(self, node: str) -> None:
        self._makes = sum(node.encode()) % 2 == 0
        self._made: set[ArtifactId] = set()

    def on_state_change(self, changes: list[Change], pool: PoolView, now: float) -> list[ChangeAction]:
        actions = super().on_state_change(changes, pool, now)
        for artifact in pool.validated.values():
            word, _, size = artifact.inspected.name.partition(" ")
            if self._makes and word == "make" and artifact.id not in self._made:
                self._made.add(artifact.id)
                created, expires = artifact.inspected.content, artifact.inspected.expires
                assert isinstance(created, float)
                data = artifact.id * (int(size) // 32)
                actions.append(AddToValidated(make_blob("made", data, artifact.id[:16], created, expires)))
        return actions


class Stripper(BlobClient):
    """Sends a blob as what it has more than another one of its pool, which a peer may lack."""

    def strip(self, artifact: ArtifactId, data: bytes, pool: PoolView) -> bytes | None:
        for other in pool.validated.values():
            if other.id != artifact:
                packer = compressobj(zdict=other.data[-32_768:])
                return other.id + packer.compress(data) + packer.flush()
        return None

    def assemble(self, stripped: bytes, pool: PoolView) -> bytes | list[ArtifactId]:
        piece = ArtifactId(stripped[:32])
        other = pool.validated.get(piece) or pool.unvalidated.get(piece)
        if other is None:
            return [piece]
        return decompressobj(zdict=other.data[-32_768:]).decompress(stripped[32:], 2_000_000)


class Moody(BlobClient):
    """Raises in the methods its `mood` names, as long as it names them."""

    def __init__(self) -> None:
        self.mood = ""

    def _may_raise(self, method: str) -> None:
        if method in self.mood:
            raise KeyError(f"a user's mistake in {method}")

    def inspect(self, data: bytes) -> Inspected:
        self._may_raise("inspect")
        return super().inspect(data)

    def bouncer(self, artifact: ArtifactId, key: bytes, size: int) -> Bounce:
        self._may_raise("bouncer")
        return super().bouncer(artifact, key, size)

    def on_state_change(self, changes: list[Change], pool: PoolView, now: float) -> list[ChangeAction]:
        self._may_raise("run")
        return super().on_state_change(changes, pool, now)


class Choosy(BlobClient):
    """Wants large artifacts only later: once it holds one called `now`; and very large ones never."""

    def __init__(self) -> None:
        self.open = False

    def on_state_change(self, changes: list[Change], pool: PoolView, now: float) -> list[ChangeAction]:
        self.open = self.open or any(found.inspected.name == "now" for found in pool.validated.values())
        return super().on_state_change(changes, pool, now)

    def bouncer(self, artifact: ArtifactId, key: bytes, size: int) -> Bounce:
        if size > TOO_LARGE:
            return Bounce.UNWANTED
        return Bounce.WANTS if self.open or size < 200 else Bounce.MAYBE_LATER
