"""The Internet Computer's broadcast layer, sans-IO: slots, tables, fetching, pools, clients. Time and chance are arguments.

For drivers: `node` runs it over QUIC, `sim` in virtual time. Both give it inputs and obey its effects.
"""

from p2pnet.broadcast.blob import Blob, BlobClient, make_blob, read_blob
from p2pnet.broadcast.client import Bounce, Client
from p2pnet.broadcast.core import Broadcast
from p2pnet.broadcast.pool import Artifact, Change, ChangeAction, Inspected, Pool

__all__ = [
    "Artifact",
    "Blob",
    "BlobClient",
    "Bounce",
    "Broadcast",
    "Change",
    "ChangeAction",
    "Client",
    "Inspected",
    "Pool",
    "make_blob",
    "read_blob",
]
