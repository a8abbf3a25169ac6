"""What an observer is told of a Broadcast that is not at rest."""

import msgspec

from p2pnet.model.ids import ArtifactId


class Pending(msgspec.Struct, frozen=True):
    """One thing that is not done. `kind`: task | row | update | request | digest | timer | bytes | client | wake."""

    kind: str
    artifact: ArtifactId | None = None
    peer: str = ""
    detail: str = ""
