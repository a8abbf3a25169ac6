"""Who is let in: real handshakes against a real node, and what the node says of them."""

import ssl
from datetime import timedelta

import msgspec
import pytest
from aioquic.asyncio.client import connect
from aioquic.quic.configuration import QuicConfiguration
from tests.node.kit import SCOPE, Bench, read_reply, refusal, until

from p2pnet.model.control import ROUTE_PEERS, ControlReply, PeersReply, PeersRequest
from p2pnet.model.errors import P2pnetError
from p2pnet.model.events import Event, EventKind
from p2pnet.model.ids import lab_uri, member_uri
from p2pnet.model.peer_messages import ROUTE_HELLO, Hello
from p2pnet.node.service import Service
from p2pnet.quic import Connection, Reachability
from p2pnet.trust import Authority


async def refused(node: Service) -> Event:
    async def found() -> Event | None:
        return next((event for event in node.ring.read(0).events if event.kind is EventKind.REFUSED), None)

    return await until(found, "somebody is refused")


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        ("stranger", "untrusted"),
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
        "stranger": lambda: subnet.identity("spiffe://elsewhere/x", authority=other),
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


async def test_the_labs_routes_are_for_the_lab_alone(bench: Bench, node: Service) -> None:
    member = await bench.dial("node-0", bench.subnet.identity(bench.subnet.uri("node-1")))
    await say_hello(member, "node-1")
    assert refusal(await ask_peers(member)) == "bad-request"
    almost = member_uri(SCOPE[0], SCOPE[1], SCOPE[2], "lab")
    fake = await bench.dial("node-0", bench.subnet.identity(almost))
    await say_hello(fake, "lab")
    assert refusal(await ask_peers(fake)) == "bad-request"
    lab = await bench.dial("node-0", bench.subnet.lab_identity())
    state = await ask_peers(lab)
    assert isinstance(state, PeersReply)
    assert {peer.name for peer in state.peers} == {"node-1", "lab"}
    with pytest.raises(P2pnetError):
        await bench.dial("node-0", bench.subnet.identity(lab_uri(SCOPE[0], SCOPE[1], "other")))


async def test_what_the_lab_says_wrongly_is_answered_with_a_reason(bench: Bench, node: Service) -> None:
    lab = await bench.dial("node-0", bench.subnet.lab_identity())
    for route, payload in ((b"/control/none", b""), (ROUTE_PEERS, b"\xc1"), (b"/control/events", b"\x93")):
        reply = await lab.request(route, payload)
        assert refusal(read_reply(reply.payload)) == "bad-request"
    assert not lab.closed


async def say_hello(connection: Connection, name: str, incarnation: str = "cafe") -> Hello:
    reply = await connection.request(ROUTE_HELLO, msgspec.msgpack.encode(Hello(name, incarnation)), timeout_s=5)
    return msgspec.msgpack.decode(reply.payload, type=Hello)


async def ask_peers(connection: Connection) -> ControlReply:
    reply = await connection.request(ROUTE_PEERS, msgspec.msgpack.encode(PeersRequest()), timeout_s=5)
    return read_reply(reply.payload)


@pytest.mark.parametrize("who", ["lab", "peer"])
async def test_whoever_is_admitted_is_told_the_address_it_is_seen_at(bench: Bench, node: Service, who: str) -> None:
    subnet = bench.subnet
    node.take_membership(subnet.membership(2, ["node-0", "node-1"]))
    identity = subnet.lab_identity() if who == "lab" else subnet.identity(subnet.uri("node-1"))
    endpoint = await bench.endpoint(identity)
    connection = await endpoint.connect(node.address, expect=subnet.uri("node-0"))
    assert await Reachability(endpoint).seen_address(connection) == endpoint.address
