"""The Internet Computer's broadcast layer, sans-IO: slots, tables, fetching, pools, clients. Time and chance are arguments.

Drivers pass it inputs and execute its effects: `node` over QUIC, `sim` in virtual time. Whoever writes a client of their own
finds everything that it takes and returns listed here.
"""

from p2pnet.broadcast.beacon import BeaconClient
from p2pnet.broadcast.blob import Blob, BlobClient, make_blob, read_blob
from p2pnet.broadcast.client import Bounce, Client, Relay, Stripped, StrippingClient
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
    "Stripped",
    "StrippingClient",
    "make_blob",
    "read_blob",
]
