"""Where another authority issues the nodes' leaves, it makes peers and the subnet's own makes the lab: by real handshakes."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from tests.node.kit import SCOPE, Bench, read_reply

from p2pnet.model.control import ROUTE_PEERS, ControlReply, PeersReply, PeersRequest
from p2pnet.model.errors import P2pnetError
from p2pnet.model.ids import lab_uri
from p2pnet.node.service import Service
from p2pnet.peering import clock
from p2pnet.quic import Connection
from p2pnet.trust import Authority, Identity

LAB = lab_uri(*SCOPE)


class Issued:
    """A node whose leaf is of `issuer`, in a subnet with an authority of its own."""

    def __init__(self, bench: Bench, issuer: Authority) -> None:
        self.bench = bench
        self.own = bench.subnet.authority
        self.issuer = issuer

    def identity(self, uri: str, authority: Authority) -> Identity:
        """A leaf of one of the two, for somebody who trusts both."""
        leaf = authority.issue(uri, now=self.bench.subnet.now, ttl=timedelta(hours=1))
        return Identity.of(leaf, self.own.certificate_pem + self.issuer.certificate_pem)

    def node_identity(self, issuer: Authority) -> Identity:
        leaf = self.identity(self.bench.subnet.uri("node-0"), issuer)
        return Identity(leaf.chain_pem, leaf.key_pem, issuer.certificate_pem, self.own.certificate_pem)

    async def dial(self, uri: str, authority: Authority) -> Connection:
        return await self.bench.dial("node-0", self.identity(uri, authority))


@pytest.fixture
def issued(bench: Bench) -> Issued:
    return Issued(bench, Authority.create("issuer", now=datetime.now(UTC)))


@pytest.fixture
async def node(issued: Issued) -> AsyncIterator[Service]:
    bench = issued.bench
    bench.subnet.ports |= {"node-0": 0, "node-1": 1}
    bench.subnet.write_members(bench.subnet.membership(1, ["node-0", "node-1"]))
    issued.node_identity(issued.issuer).write(bench.subnet.folder / "node-0" / "identity")
    service = await bench.serve("node-0")
    yield service
    await service.stop()


async def test_the_lab_is_believed_by_the_subnets_own_authority_alone(issued: Issued, node: Service) -> None:
    lab = await issued.dial(LAB, issued.own)
    state = await ask_peers(lab)
    assert isinstance(state, PeersReply)
    assert set(state.trusted) == {one.fingerprint[: len(state.trusted[0])] for one in (issued.issuer, issued.own)}
    with pytest.raises(P2pnetError, match="no authority of the bundle vouches"):
        await issued.dial(LAB, issued.issuer)


async def test_a_peer_is_believed_by_the_issuer_alone(issued: Issued, node: Service) -> None:
    peer = await issued.dial(issued.bench.subnet.uri("node-1"), issued.issuer)
    assert not peer.closed
    with pytest.raises(P2pnetError, match="no authority of the bundle vouches"):
        await issued.dial(issued.bench.subnet.uri("node-1"), issued.own)


async def test_without_an_issuer_of_its_own_one_authority_vouches_for_both(bench: Bench) -> None:
    bench.subnet.ports |= {"node-0": 0, "node-1": 1}
    bench.subnet.write_members(bench.subnet.membership(1, ["node-0", "node-1"]))
    node = await bench.serve("node-0")
    await bench.dial("node-0", bench.subnet.lab_identity())
    await bench.dial("node-0", bench.subnet.identity(bench.subnet.uri("node-1")))
    await node.stop()


async def test_whoever_poses_as_the_lab_is_cut_when_the_lab_gets_an_authority_of_its_own(
    issued: Issued, node: Service
) -> None:
    peer = await issued.dial(issued.bench.subnet.uri("node-1"), issued.issuer)
    lab = await issued.dial(LAB, issued.own)
    other = Authority.create("other", now=datetime.now(UTC))
    changed = issued.node_identity(issued.issuer)
    folder = issued.bench.subnet.folder / "node-0" / "identity"
    Identity(changed.chain_pem, changed.key_pem, changed.bundle_pem, other.certificate_pem).write(folder)
    node._identity.look(clock.utc_now(), node._identity_changed)
    with pytest.raises(P2pnetError):
        await ask_peers(lab)
    assert not peer.closed


async def ask_peers(connection: Connection) -> ControlReply:
    reply = await connection.request(ROUTE_PEERS, msgspec.msgpack.encode(PeersRequest()), timeout_s=5)
    return read_reply(reply.payload)
