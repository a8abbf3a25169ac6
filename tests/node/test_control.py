"""The lab's routes, with a real node in this process."""

import os

import msgspec
import pytest
from tests.node.kit import SCOPE, Bench, ask_state, expect, read_reply, refusal, say_hello

from p2pnet.broadcast.stripes import STRIPES_BODY_MAX
from p2pnet.broadcast.wire import DIGEST_IDS_MAX, PARTS_PER_FETCH, encode_digest, encode_fetch
from p2pnet.model import limits
from p2pnet.model.config import BroadcastSettings
from p2pnet.model.control import (
    ROUTE_CLOCK,
    ROUTE_GET,
    ROUTE_INJECT,
    ROUTE_MEMBERS,
    ROUTE_PEERS,
    ROUTE_WITHDRAW,
    Clock,
    ClockRequest,
    GetRequest,
    Got,
    Injected,
    InjectItem,
    InjectRequest,
    MembersPush,
    PeersReply,
    WithdrawRequest,
)
from p2pnet.model.errors import P2pnetError
from p2pnet.model.events import EventKind
from p2pnet.model.ids import ArtifactId, lab_uri, member_uri
from p2pnet.model.peer_messages import route_digest, route_fetch, route_stripes, route_update
from p2pnet.node.control import endpoint_settings
from p2pnet.node.service import Service
from p2pnet.peering.clock import mono_ns, wall_ns

ID = ArtifactId(bytes(32))


async def test_an_artifact_is_read_range_by_range(bench: Bench, node: Service) -> None:
    data = os.urandom(2_500_000)
    [artifact] = await bench.inject("node-0", data, file="photo.jpg")
    assert await bench.get("node-0", artifact) == data
    got = expect(Got, await bench.ask("node-0", ROUTE_GET, GetRequest(artifact, 10, 20)))
    assert (got.name, got.size, got.data) == ("photo.jpg", len(data), data[10:30])
    beyond = expect(Got, await bench.ask("node-0", ROUTE_GET, GetRequest(artifact, len(data) + 5, 20)))
    assert beyond.data == b""


@pytest.mark.parametrize(
    ("route", "request_", "code"),
    [
        (ROUTE_GET, GetRequest(bytes(32)), "unknown-artifact"),
        (ROUTE_GET, GetRequest(bytes(32), client="none"), "unknown-client"),
        (ROUTE_GET, GetRequest(bytes(32), offset=-1), "bad-request"),
        (ROUTE_GET, GetRequest(bytes(32), length=2 << 20), "bad-request"),
        (ROUTE_WITHDRAW, WithdrawRequest(bytes(32), client="none"), "unknown-client"),
        (ROUTE_WITHDRAW, WithdrawRequest(b"short"), "bad-request"),
        (ROUTE_INJECT, InjectRequest([], client="none"), "unknown-client"),
    ],
)
async def test_what_cannot_be_done_is_refused_with_a_code(
    bench: Bench, node: Service, route: bytes, request_: msgspec.Struct, code: str
) -> None:
    assert refusal(await bench.ask("node-0", route, request_)) == code


async def test_each_item_of_an_injection_has_its_own_result(bench: Bench) -> None:
    bench.subnet.ports["node-0"] = 1
    bench.subnet.write_members(bench.subnet.membership(1, ["node-0"]))
    del bench.subnet.ports["node-0"]
    node = await bench.serve("node-0", broadcast=BroadcastSettings(artifact_bytes_max=10_000))
    try:
        items = [
            InjectItem("ok", b"x", os.urandom(16)),
            InjectItem("large", bytes(10_001), os.urandom(16)),
            InjectItem("odd", b"x", b"short nonce"),
        ]
        injected = expect(Injected, await bench.ask("node-0", ROUTE_INJECT, InjectRequest(items)))
        assert isinstance(injected.results[0], bytes)
        assert [refusal(result) for result in injected.results[1:]] == ["too-large", "bad-request"]
    finally:
        await node.stop()


async def test_an_injection_asked_for_twice_is_published_once(bench: Bench, node: Service) -> None:
    request = InjectRequest([InjectItem("file", b"once", os.urandom(16))])
    first = expect(Injected, await bench.ask("node-0", ROUTE_INJECT, request))
    again = expect(Injected, await bench.ask("node-0", ROUTE_INJECT, request))
    assert first.results == again.results
    assert node.state().pool == {"blob": 1}


async def test_an_older_registry_is_refused_and_the_same_one_taken_as_known(bench: Bench, node: Service) -> None:
    subnet = bench.subnet
    assert await bench.push("node-0", subnet.membership(5, ["node-0"])) == 5
    assert await bench.push("node-0", subnet.membership(5, ["node-0"])) == 5
    older = MembersPush(subnet.membership(4, ["node-0", "node-1"]))
    assert refusal(await bench.ask("node-0", ROUTE_MEMBERS, older)) == "older-version"
    events = [event for event in (await bench.events("node-0")).events if event.kind is EventKind.MEMBERS]
    assert [event.bytes for event in events] == [1, 5]


async def test_every_route_of_a_client_takes_its_longest_request(node: Service) -> None:
    caps = endpoint_settings(3.0, ["blob"]).route_caps
    assert caps.keys() >= node.drivers["blob"].routes.keys()
    assert caps[route_update("blob")] >= limits.UPDATE_BODY_BYTES_MAX
    assert caps[route_stripes("blob")] >= STRIPES_BODY_MAX
    assert caps[route_digest("blob")] >= len(encode_digest(bytes(16), [ID] * DIGEST_IDS_MAX, lacks_links=True))
    assert caps[route_fetch("blob")] >= len(encode_fetch(ID, list(range(PARTS_PER_FETCH))))


async def test_both_clocks_are_read_together(bench: Bench, node: Service) -> None:
    mono, wall = mono_ns(), wall_ns()
    clock = expect(Clock, await bench.ask("node-0", ROUTE_CLOCK, ClockRequest()))
    assert mono <= clock.mono_ns <= mono_ns()
    assert abs((clock.wall_ns - wall) - (clock.mono_ns - mono)) < 1_000_000
    assert clock.boot_id == node.state().boot_id


async def test_the_labs_routes_are_for_the_lab_alone(bench: Bench, node: Service) -> None:
    member = await bench.dial("node-0", bench.subnet.identity(bench.subnet.uri("node-1")))
    await say_hello(member, "node-1")
    assert refusal(await ask_state(member)) == "bad-request"
    almost = member_uri(SCOPE[0], SCOPE[1], SCOPE[2], "lab")
    fake = await bench.dial("node-0", bench.subnet.identity(almost))
    await say_hello(fake, "lab")
    assert refusal(await ask_state(fake)) == "bad-request"
    lab = await bench.dial("node-0", bench.subnet.lab_identity())
    state = await ask_state(lab)
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
