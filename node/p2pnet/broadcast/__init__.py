"""The Internet Computer's broadcast layer, sans-IO: slots, tables, fetching, pools, clients. Time and chance are arguments.

For drivers: `node` runs it over QUIC, `sim` in virtual time. Both give it inputs and obey its effects. For people who bring
a client of their own: everything that it takes and returns is listed here.
"""

from p2pnet.broadcast.beacon import BeaconClient
from p2pnet.broadcast.blob import Blob, BlobClient, make_blob, read_blob
from p2pnet.broadcast.client import Bounce, Client, Relay
from p2pnet.broadcast.core import Broadcast, Pending
from p2pnet.broadcast.pool import (
    AddToValidated,
    Artifact,
    Change,
    ChangeAction,
    ChangeKind,
    HandleInvalid,
    Inspected,
    MoveToValidated,
    Pool,
    PoolView,
    PurgeBelow,
    RemoveFromUnvalidated,
    RemoveFromValidated,
)
from p2pnet.model.config import BroadcastSettings
from p2pnet.model.errors import LocalError, MalformedError
from p2pnet.model.ids import ArtifactId

__all__ = [
    "AddToValidated",
    "Artifact",
    "ArtifactId",
    "BeaconClient",
    "Blob",
    "BlobClient",
    "Bounce",
    "Broadcast",
    "BroadcastSettings",
    "Change",
    "ChangeAction",
    "ChangeKind",
    "Client",
    "HandleInvalid",
    "Inspected",
    "LocalError",
    "MalformedError",
    "MoveToValidated",
    "Pending",
    "Pool",
    "PoolView",
    "PurgeBelow",
    "Relay",
    "RemoveFromUnvalidated",
    "RemoveFromValidated",
    "make_blob",
    "read_blob",
]
