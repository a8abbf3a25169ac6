"""Real processes, real QUIC, on loopback."""

import asyncio
import os
import signal
import time
from datetime import timedelta

from tests.node.kit import Bench, until
from tests.patience import PATIENCE_S
from tests.running import is_running

from p2pnet.model.config import BroadcastSettings
from p2pnet.model.events import EventKind
from p2pnet.node.service import Service
from p2pnet.quic import CloseCode
from p2pnet.trust import Authority, Identity


async def test_three_nodes_connect_and_deliver_what_was_injected(bench: Bench) -> None:
    names = ["node-0", "node-1", "node-2"]
    await bench.up(names)
    payloads = [b"small", os.urandom(300_000), b""]
    artifacts = await bench.inject("node-0", *payloads)
    for artifact, payload in zip(artifacts, payloads, strict=True):
        for name in names:
            assert await bench.until_held(name, artifact) == payload
    validated = await bench.until_event("node-2", EventKind.VALIDATED, lambda e: e.artifact == artifacts[0].hex())
    assert (validated.peer, validated.hop) == ("node-0", 1)
    published = await bench.until_event("node-0", EventKind.PUBLISHED, lambda e: e.artifact == artifacts[0].hex())
    assert published.bytes == len(payloads[0])
    assert published.mono_ns < validated.mono_ns


async def test_a_large_artifact_is_dealt_out_and_taken_stripe_by_stripe(bench: Bench) -> None:
    names = [f"node-{number}" for number in range(5)]
    bench.subnet.write_members(bench.subnet.membership(1, []))
    nodes = [await bench.serve(name, broadcast=BroadcastSettings(relay="scatter")) for name in names]
    try:
        for name in names:
            await bench.push(name, bench.subnet.membership(2, names))
        for name in names:
            await bench.until_connected(name)
        artifact = (await bench.inject("node-0", payload := os.urandom(2_000_000)))[0]
        for name in names:
            assert await bench.until_held(name, artifact) == payload
        dealer, *others = (node.drivers["blob"].broadcast.counters for node in nodes)
        # Every stripe that leaves a dealer is taken, however large stripes are in a mesh of this size.
        assert dealer["stripes_sent"] > 20
        assert all(taken["stripes_received"] > dealer["stripes_sent"] // 2 for taken in others)
    finally:
        for node in nodes:
            await node.stop()


async def test_items_of_one_injection_travel_in_few_requests(bench: Bench) -> None:
    await bench.up(["node-0", "node-1"])
    before = (await bench.peers("node-0")).udp_sent
    artifacts = await bench.inject("node-0", *(bytes([n]) * 10 for n in range(200)))
    for artifact in artifacts:
        await bench.until_held("node-1", artifact)
    state = await bench.peers("node-1")
    assert state.pool == {"blob": 200}
    # 200 updates of about 100 bytes; one datagram each with its acknowledgement would be far more
    assert (await bench.peers("node-0")).udp_sent - before < 60_000


async def test_lab_traffic_is_left_out_of_the_byte_counters(bench: Bench) -> None:
    await bench.up(["node-0"])
    await bench.inject("node-0", bytes(500_000))
    state = await bench.peers("node-0")
    assert (state.udp_sent, state.udp_received) == (0, 0)
    assert state.ready


async def test_a_killed_node_comes_back_on_its_port_and_catches_up(bench: Bench) -> None:
    names = ["node-0", "node-1", "node-2"]
    supervisor = await bench.up(names)
    before = await bench.peers("node-1")
    [first] = await bench.inject("node-0", b"before")
    await bench.until_held("node-1", first)
    os.kill(supervisor.pid("node-1"), signal.SIGKILL)
    gone = await supervisor.event("exited", "node-1")
    assert (gone["code"], gone["restarts"]) == (-signal.SIGKILL, 1)
    bench.forget("node-1")
    [second] = await bench.inject("node-0", b"while it was away")
    await supervisor.event("ready", "node-1")
    assert await bench.until_held("node-1", first) == b"before"
    assert await bench.until_held("node-1", second) == b"while it was away"
    after = await bench.peers("node-1")
    assert after.incarnation != before.incarnation
    assert after.address == before.address
    assert {peer.name for peer in (await bench.until_connected("node-0")).peers} == {"node-1", "node-2"}


async def test_a_late_joiner_gets_what_is_in_the_pools(bench: Bench) -> None:
    supervisor = await bench.up(["node-0", "node-1"])
    artifacts = await bench.inject("node-0", *(os.urandom(size) for size in (10, 2_000, 200_000)))
    await bench.bind(supervisor, ["node-2"])
    grown = bench.subnet.membership(2, ["node-0", "node-1", "node-2"])
    bench.subnet.write_members(grown)
    assert await bench.push("node-0", grown) == 2
    supervisor.ask(op="start", name="node-2", config=str(bench.subnet.write_node("node-2")))
    await supervisor.event("ready", "node-2")
    for artifact in artifacts:
        assert await bench.until_held("node-2", artifact) == await bench.get("node-0", artifact)
    # node-1 has the old registry: a valid leaf that it does not know is admitted all the same
    assert {peer.name for peer in (await bench.until_connected("node-2")).peers} == {"node-0", "node-1"}


async def test_a_paused_node_does_not_slow_the_others_and_catches_up_when_resumed(bench: Bench) -> None:
    supervisor = await bench.up(["node-0", "node-1", "node-2"], idle_s=2 * PATIENCE_S)  # nobody takes it for dead
    supervisor.ask(op="pause", name="node-2")
    artifacts = await bench.inject("node-0", *(os.urandom(20_000) for _ in range(20)))
    for artifact in artifacts:
        await bench.until_held("node-1", artifact)
    supervisor.ask(op="resume", name="node-2")
    for artifact in artifacts:
        await bench.until_held("node-2", artifact)


async def test_a_withdrawn_artifact_leaves_the_pool_and_does_not_come_back(bench: Bench) -> None:
    supervisor = await bench.up(["node-0", "node-1"])
    [artifact] = await bench.inject("node-0", b"regretted")
    await bench.until_held("node-1", artifact)
    assert await bench.withdraw("node-0", artifact)
    assert not await bench.withdraw("node-0", artifact)
    removed = await bench.until_event("node-0", EventKind.REMOVED)
    assert (removed.artifact, removed.detail) == (artifact.hex(), "withdrawn")
    assert await bench.withdraw("node-1", artifact)
    supervisor.ask(op="kill", name="node-1")
    await supervisor.event("exited", "node-1")
    bench.forget("node-1")
    await supervisor.event("ready", "node-1")
    await bench.until_connected("node-1")
    assert (await bench.peers("node-1")).pool == {"blob": 0}


async def test_a_node_removed_by_a_registry_push_is_cut_at_once_and_refused(bench: Bench) -> None:
    await bench.up(["node-0", "node-1"])
    await bench.push("node-0", bench.subnet.membership(2, ["node-0"], removed=["node-1"]))
    down = await bench.until_event("node-0", EventKind.PEER_DOWN)
    assert down.peer == "node-1"
    assert "0x13" in down.detail, "cut by the registry, and not by silence"
    refused = await bench.until_event("node-0", EventKind.REFUSED)
    assert "removed" in refused.detail
    assert (await bench.peers("node-0")).peers == []
    # until a newer version lists it again
    await bench.push("node-0", bench.subnet.membership(3, ["node-0", "node-1"]))
    await bench.until_connected("node-0")


async def test_a_sparse_topology_connects_its_edges_only(bench: Bench) -> None:
    names = ["node-0", "node-1", "node-2"]
    await bench.up(names, edges=[("node-0", "node-1"), ("node-1", "node-2")])
    assert [peer.name for peer in (await bench.peers("node-1")).peers] == ["node-0", "node-2"]
    assert [peer.name for peer in (await bench.peers("node-2")).peers] == ["node-1"]
    # the edge appears, and disappears, with a newer registry
    closed = [("node-0", "node-1"), ("node-1", "node-2"), ("node-0", "node-2")]
    for name in names:
        await bench.push(name, bench.subnet.membership(2, names, edges=closed))
    assert len((await bench.until_connected("node-2")).peers) == 2
    for name in names:
        await bench.push(name, bench.subnet.membership(3, names, edges=closed[1:]))

    async def apart() -> bool:
        return [peer.name for peer in (await bench.peers("node-0")).peers] == ["node-2"]

    await until(apart, "the edge between node-0 and node-1 is gone")


async def test_a_stopped_node_leaves_in_good_order(bench: Bench) -> None:
    supervisor = await bench.up(["node-0", "node-1"])
    pid = supervisor.pid("node-1")
    supervisor.ask(op="stop", name="node-1")
    exited = await supervisor.event("exited", "node-1")
    await supervisor.event("stopped", "node-1")
    assert (exited["code"], exited["restart_in_s"], is_running(pid)) == (0, None, False)
    down = await bench.until_event("node-0", EventKind.PEER_DOWN)
    assert "application 0x10" in down.detail


async def test_a_long_poll_answers_when_something_happens_and_when_its_time_is_over(bench: Bench) -> None:
    await bench.up(["node-0"])
    cursor = (await bench.events("node-0")).cursor
    started = time.monotonic()
    empty = await bench.events("node-0", cursor, wait_ms=200)
    assert (empty.events, empty.cursor) == ([], cursor)
    assert time.monotonic() - started >= 0.2
    waiting = asyncio.ensure_future(bench.events("node-0", cursor, wait_ms=60_000))
    [artifact] = await bench.inject("node-0", b"news")
    events = await waiting
    assert (events.events[0].kind, events.events[0].artifact) == (EventKind.PUBLISHED, artifact.hex())
    assert time.monotonic() - started < 60


async def test_a_new_leaf_is_shown_to_everyone_without_a_gap(bench: Bench) -> None:
    await bench.up(["node-0", "node-1"])
    before = {name: (await bench.peers(name)) for name in ("node-0", "node-1")}
    bench.subnet.identity(bench.subnet.uri("node-1")).write(bench.subnet.folder / "node-1" / "identity")
    event = await bench.until_event("node-1", EventKind.IDENTITY)
    assert event.detail == "leaf"
    for name in ("node-0", "node-1"):

        async def renewed(name: str = name) -> bool:
            return [peer.connection for peer in (await bench.peers(name)).peers] > [
                peer.connection for peer in before[name].peers
            ]

        await until(renewed, f"{name} has a newer connection")
        events = (await bench.events(name, before[name].event_cursor)).events
        ends = [(event.kind, event.mono_ns) for event in events if event.kind.startswith("peer-")]
        # the old link ends in the very moment the new one is in use
        assert [kind for kind, _ in ends] == [EventKind.PEER_DOWN, EventKind.PEER_UP]
        assert ends[0][1] == ends[1][1]
        assert not [event for event in events if event.kind is EventKind.REFUSED]
    [artifact] = await bench.inject("node-0", b"over the new connection")
    assert await bench.until_held("node-1", artifact) == b"over the new connection"


async def test_a_peer_whose_authority_left_the_bundle_is_cut(bench: Bench, node: Service) -> None:
    subnet, folder = bench.subnet, bench.subnet.folder / "node-0" / "identity"
    new = Authority.create("next", now=subnet.now, ttl=timedelta(days=1))
    both = subnet.authority.certificate_pem + new.certificate_pem
    leaf = new.issue(subnet.uri("node-0"), now=subnet.now, ttl=timedelta(hours=1))
    connection = await bench.dial("node-0", subnet.identity(subnet.uri("node-1")))
    # first both are trusted, then the former no longer
    Identity(leaf.chain_pem, leaf.key_pem, both).write(folder)

    async def trusts(count: int) -> bool:
        return len(node.state().trusted) == count

    await until(lambda: trusts(2), "both authorities are trusted")
    assert not connection.closed
    Identity(leaf.chain_pem, leaf.key_pem, new.certificate_pem).write(folder)
    await until(lambda: trusts(1), "the former authority is out")

    async def cut() -> bool:
        return connection.closed

    await until(cut, "the connection is closed")
    assert connection.close_reason is not None
    assert connection.close_reason.code == CloseCode.REFUSED
