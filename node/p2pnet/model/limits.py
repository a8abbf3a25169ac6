"""Bounds that more than one floor needs, with unit and reason. A bound of one floor stands where it is used."""

KIB = 1 << 10
MIB = 1 << 20

# Artifacts
PART_BYTES = 64 * KIB  # the unit of fetching; also the leaf of the artifact id's hash list
PUSH_BELOW_BYTES = 1024  # default: a smaller payload travels inside its slot update
ARTIFACT_BYTES_MAX = 128 * MIB  # default of spec.broadcast.artifactBytesMax, and its ceiling
ENVELOPE_BYTES_MAX = 1 * KIB  # what a client may wrap around a user's payload
SLOTS_PER_PEER = 10_000  # default; rows a receiver keeps per peer and client, slots a sender uses
UNVALIDATED_BYTES_PER_PEER = 256 * MIB  # charged to the deliverer; twice the largest artifact
FETCH_STREAMS_PER_PEER = 16  # requests for parts of one peer under way at a time

# Updates
UPDATE_BATCH_BYTES = 16 * KIB  # entries for one peer that leave in one request
UPDATE_BODY_BYTES_MAX = ARTIFACT_BYTES_MAX + 64 * KIB  # a lone urgent push may carry a whole artifact

# Connections
CONNECTION_WINDOW_BYTES = 16 * MIB  # QUIC flow control: what a peer may send ahead of being read
STREAMS_MAX = 128  # concurrent streams a peer may open, per kind
CONNECTIONS_MAX = 2_000  # per endpoint
HANDSHAKES_MAX = 256  # unauthenticated connections per endpoint at a time
IDLE_S = 15.0  # QUIC idle timeout, so also how long a silent peer stays a link
HANDSHAKE_S = 10.0  # from the first packet to an authenticated connection

# Nodes and runs
NODES_MAX = 500  # live nodes of one subnet
EVENT_RING = 100_000  # events a node keeps per incarnation
EVENTS_PER_READ = 5_000  # in one answer to the lab: about half a MiB
GET_RANGE_BYTES = 1 * MIB  # of an artifact in one answer to the lab
UPLOAD_PART_BYTES = 1 * MIB  # one request of an upload: what a broken connection costs
RUN_ARTIFACTS_MAX = 100_000  # artifacts of one run
DRAIN_S = 10.0  # a node that was asked to stop is gone by then
NAME_CHARS_MAX = 253  # of a name or text in a document: as long as a DNS name may be

# Discovery by seeds
RECORD_BYTES_MAX = 1 * KIB  # one record with its chain: a leaf of P-256 is 500 to 900 bytes, by the length of its names
RECORD_S = 600.0  # longest life of a record, so a silent peer is forgotten after it
RECORDS_MAX = 2 * NODES_MAX  # records a node keeps: those of replaced nodes last beside those of present ones
RECORDS_PER_REPLY = 60  # of 1 KiB each: a reply of 64 KiB
RECORD_ADDRESSES_MAX = 4  # in one record: both families, inside and outside
RECORD_ADDRESS_CHARS_MAX = 300  # a DNS name of 253 characters with its port
SEEDS_MAX = 16  # entries of a node's config
SEED_ADDRESSES_MAX = 1_000  # that all seeds together may resolve to
