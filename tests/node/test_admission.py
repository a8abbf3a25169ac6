"""Who is let in: real handshakes against a real node, and what the node says of them."""

import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from aioquic.asyncio.client import connect
from aioquic.quic.configuration import QuicConfiguration
from tests.node.kit import SCOPE, Bench, ask_state, say_hello, until

from p2pnet.model.control import PeersReply
from p2pnet.model.errors import P2pnetError
from p2pnet.model.events import Event, EventKind
from p2pnet.model.ids import lab_uri, member_uri
from p2pnet.node.service import Service
from p2pnet.quic import Connection, Reachability
from p2pnet.trust import Authority, Identity


async def refused(node: Service) -> Event:
    async def found() -> Event | None:
        return next((event for event in node.ring.read(0).events if event.kind is EventKind.REFUSED), None)

    return await until(found, "somebody is refused")


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        ("foreign", "untrusted"),
        ("same names, another authority", "untrusted"),
        ("another subnet's", "wrong-name"),
        ("another namespace's", "wrong-name"),
        ("expired", "expired"),
        ("not yet valid", "not-yet-valid"),
        ("the node's own name", "wrong-name"),
    ],
)
async def test_a_certificate_that_does_not_admit_is_refused_and_reported(
    bench: Bench, node: Service, case: str, kind: str
) -> None:
    subnet = bench.subnet
    other = Authority.create("demo", now=subnet.now, ttl=timedelta(days=1))
    uri = subnet.uri("node-1")
    identities = {
        "foreign": lambda: subnet.identity("spiffe://elsewhere/x", authority=other),
        "same names, another authority": lambda: subnet.identity(uri, authority=other),
        "another subnet's": lambda: subnet.identity(member_uri(SCOPE[0], SCOPE[1], "other", "node-1")),
        "another namespace's": lambda: subnet.identity(member_uri(SCOPE[0], "other", SCOPE[2], "node-1")),
        "expired": lambda: subnet.identity(uri, now=subnet.now - timedelta(hours=3)),
        "not yet valid": lambda: subnet.identity(uri, now=subnet.now + timedelta(hours=3)),
        "the node's own name": lambda: subnet.identity(subnet.uri("node-0")),
    }
    with pytest.raises(P2pnetError):
        await bench.dial("node-0", identities[case]())
    event = await refused(node)
    assert event.detail.startswith(f"{kind}: ")
    assert node.state().peers == []


async def test_a_dial_without_a_certificate_is_refused(bench: Bench, node: Service) -> None:
    configuration = QuicConfiguration(alpn_protocols=["p2pnet"], verify_mode=ssl.CERT_NONE, server_name="p2pnet")
    port = bench.subnet.ports["node-0"]
    with pytest.raises(ConnectionError):
        async with connect("127.0.0.1", port, configuration=configuration) as client:
            await client.ping()
    assert (await refused(node)).detail.startswith("no-certificate: ")


async def test_the_right_certificate_under_another_name_is_refused_at_the_hello(bench: Bench, node: Service) -> None:
    connection = await bench.dial("node-0", bench.subnet.identity(bench.subnet.uri("node-1")))
    with pytest.raises(P2pnetError):
        await say_hello(connection, "node-2")
    assert connection.closed
    assert node.state().peers == []


async def test_a_dial_that_reaches_somebody_else_is_refused_by_the_dialler(bench: Bench, node: Service) -> None:
    endpoint = await bench.endpoint(bench.subnet.identity(bench.subnet.uri("node-1")))
    with pytest.raises(P2pnetError):
        await endpoint.connect(("127.0.0.1", bench.subnet.ports["node-0"]), expect=bench.subnet.uri("node-7"))
    assert node.state().peers == []


async def test_a_member_says_hello_and_is_a_peer(bench: Bench, node: Service) -> None:
    connection = await bench.dial("node-0", bench.subnet.identity(bench.subnet.uri("node-1")))
    answer = await say_hello(connection, "node-1")
    assert (answer.name, answer.incarnation, answer.refused) == ("node-0", node.incarnation, "")
    assert [peer.name for peer in node.state().peers] == ["node-1"]
    assert node.state().udp_received > 1000


async def test_another_incarnation_replaces_the_former(bench: Bench, node: Service) -> None:
    identity = bench.subnet.identity(bench.subnet.uri("node-1"))
    first, second = await bench.dial("node-0", identity), await bench.dial("node-0", identity)
    await say_hello(first, "node-1", "aaaa")
    await say_hello(second, "node-1", "bbbb")

    async def replaced() -> bool:
        return first.closed

    await until(replaced, "the former connection is closed")
    assert not second.closed
    assert [peer.name for peer in node.state().peers] == ["node-1"]


@pytest.mark.parametrize("who", ["lab", "peer"])
async def test_whoever_is_admitted_is_told_the_address_it_is_seen_at(bench: Bench, node: Service, who: str) -> None:
    subnet = bench.subnet
    node.take_membership(subnet.membership(2, ["node-0", "node-1"]))
    identity = subnet.lab_identity() if who == "lab" else subnet.identity(subnet.uri("node-1"))
    endpoint = await bench.endpoint(identity)
    connection = await endpoint.connect(node.address, expect=subnet.uri("node-0"))
    assert await Reachability(endpoint).seen_address(connection) == endpoint.address


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
async def issued_node(issued: Issued) -> AsyncIterator[Service]:
    bench = issued.bench
    bench.subnet.ports |= {"node-0": 0, "node-1": 1}
    bench.subnet.write_members(bench.subnet.membership(1, ["node-0", "node-1"]))
    issued.node_identity(issued.issuer).write(bench.subnet.folder / "node-0" / "identity")
    service = await bench.serve("node-0")
    yield service
    await service.stop()


async def test_the_lab_is_believed_by_the_subnets_own_authority_alone(issued: Issued, issued_node: Service) -> None:
    lab = await issued.dial(LAB, issued.own)
    state = await ask_state(lab)
    assert isinstance(state, PeersReply)
    assert set(state.trusted) == {one.fingerprint[: len(state.trusted[0])] for one in (issued.issuer, issued.own)}
    with pytest.raises(P2pnetError, match="no authority of the bundle vouches"):
        await issued.dial(LAB, issued.issuer)


async def test_a_peer_is_believed_by_the_issuer_alone(issued: Issued, issued_node: Service) -> None:
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
    issued: Issued, issued_node: Service
) -> None:
    peer = await issued.dial(issued.bench.subnet.uri("node-1"), issued.issuer)
    lab = await issued.dial(LAB, issued.own)
    other = Authority.create("other", now=datetime.now(UTC))
    changed = issued.node_identity(issued.issuer)
    folder = issued.bench.subnet.folder / "node-0" / "identity"
    Identity(changed.chain_pem, changed.key_pem, changed.bundle_pem, other.certificate_pem).write(folder)

    async def cut() -> bool:
        return lab.closed

    await until(cut, "the lab's connection is closed")
    assert not peer.closed
