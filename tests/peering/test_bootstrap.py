"""Discovery by seeds with real processes and real QUIC: who is told of one node ends connected with all."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import msgspec
import pytest
from tests.node.kit import Bench, SupervisorProcess, say_nothing, until
from tests.ports import free_port

from p2pnet.model import limits
from p2pnet.model.config import read_node_config
from p2pnet.model.errors import LimitError, SpecError
from p2pnet.model.events import Event, EventKind
from p2pnet.model.peer_messages import ROUTE_HELLO, ROUTE_RECORDS, Hello, RecordsReply, RecordsRequest
from p2pnet.model.registry import Member, Membership, Registry, Removed
from p2pnet.node.service import Service
from p2pnet.peering import record_exchange
from p2pnet.peering.peers import PROTOCOL, write_hello
from p2pnet.quic import CloseCode, Connection, Message

NAMES = [f"node-{number}" for number in range(5)]


def names_of(seeds: Sequence[str], bench: Bench) -> list[str]:
    return [f"127.0.0.1:{bench.subnet.ports[name]}" for name in seeds]


def write_list(bench: Bench, version: int, removed: Iterable[str] = (), members: Iterable[str] = ()) -> Membership:
    """A member list whose addresses lead nowhere: who connects did not use it."""
    listed = [Member(name, bench.subnet.uri(name), ["127.0.0.1:1"]) for name in members]
    membership = Membership(Registry(version, listed, [Removed(bench.subnet.uri(name), version) for name in removed]))
    bench.subnet.write_members(membership)
    return membership


async def start(
    bench: Bench, supervisor: SupervisorProcess, names: Sequence[str], seeds: Sequence[str], **settings: Any
) -> None:
    """Bind and start these nodes; each is told of the seeds alone."""
    await bench.bind(supervisor, [name for name in names if name not in bench.subnet.ports])
    for name in names:
        config = bench.subnet.write_node(name, discovery="seeds", seeds=names_of(seeds, bench), **settings)
        supervisor.ask(op="start", name=name, config=str(config))
    for name in names:
        await supervisor.event("ready", name)


async def up(bench: Bench, names: Sequence[str], seeds: Sequence[str], **settings: Any) -> SupervisorProcess:
    write_list(bench, 1, members=names)
    supervisor = await bench.supervisor()
    await bench.bind(supervisor, names)
    await start(bench, supervisor, names, seeds, **settings)
    await until_meshed(bench, names)
    return supervisor


async def until_meshed(bench: Bench, names: Sequence[str]) -> None:
    for name in names:

        async def meshed(name: str = name) -> bool:
            return {peer.name for peer in (await bench.peers(name)).peers} == set(names) - {name}

        await until(meshed, f"{name} is linked with all others")


async def test_nodes_told_of_one_seed_end_connected_with_all_and_deliver(bench: Bench) -> None:
    await up(bench, NAMES, ["node-3"])
    [artifact] = await bench.inject("node-0", b"to all")
    for name in NAMES:
        assert await bench.until_held(name, artifact) == b"to all"
    state = await bench.peers("node-4")
    assert state.ready
    assert state.wanted == NAMES[:-1]


async def test_a_late_joiner_is_found_by_all_and_gets_what_is_in_the_pools(bench: Bench) -> None:
    supervisor = await up(bench, NAMES[:3], ["node-0"])
    [artifact] = await bench.inject("node-1", b"before")
    await start(bench, supervisor, ["node-3"], ["node-0"])
    await until_meshed(bench, NAMES[:4])
    assert await bench.until_held("node-3", artifact) == b"before"


async def test_parts_that_never_met_meet_through_a_seed_that_comes_late(bench: Bench) -> None:
    write_list(bench, 1)
    supervisor = await bench.supervisor()
    await bench.bind(supervisor, NAMES[:4])
    await start(bench, supervisor, ["node-2", "node-3"], ["node-2", "node-0"])
    await until_meshed(bench, ["node-2", "node-3"])
    await start(bench, supervisor, ["node-0", "node-1"], ["node-0"])
    await until_meshed(bench, NAMES[:4])


async def test_seeds_that_are_killed_come_back_and_serve_newcomers_again(bench: Bench) -> None:
    seeds = ["node-0", "node-1"]
    supervisor = await up(bench, NAMES[:4], seeds)
    for name in seeds:
        os.kill(supervisor.pid(name), signal.SIGKILL)
    for name in seeds:
        await supervisor.event("exited", name)
        bench.forget(name)
    for name in seeds:
        await supervisor.event("ready", name)
    await until_meshed(bench, NAMES[:4])
    await start(bench, supervisor, ["node-4"], seeds)
    await until_meshed(bench, NAMES)


async def test_a_removed_node_is_cut_and_its_record_refused_until_a_newer_list_ends_it(bench: Bench) -> None:
    names = NAMES[:3]
    await up(bench, names, ["node-0"])
    for name in names[:2]:
        await bench.push(name, write_list(bench, 2, removed=["node-2"]))
    down = await bench.until_event("node-1", EventKind.PEER_DOWN, lambda event: event.peer == "node-2")
    assert f"{CloseCode.REMOVED:#x}" in down.detail
    assert (await bench.peers("node-1")).wanted == ["node-0"]
    await bench.until_event("node-0", EventKind.REFUSED, lambda event: "removed" in event.detail)
    for name in names[:2]:
        await bench.push(name, write_list(bench, 3))
    await until_meshed(bench, names)


async def test_a_node_that_falls_silent_is_dropped_when_its_record_ends_and_taken_back_when_it_speaks(
    bench: Bench,
) -> None:
    names = NAMES[:3]
    supervisor = await up(bench, names, ["node-0"], record_s=8.0, idle_s=60.0)
    supervisor.ask(op="pause", name="node-2")
    down = await bench.until_event("node-1", EventKind.PEER_DOWN, lambda event: event.peer == "node-2")
    assert "its record has ended" in down.detail
    assert (await bench.peers("node-1")).wanted == ["node-0"]
    supervisor.ask(op="resume", name="node-2")
    await until_meshed(bench, names)


async def test_records_are_signed_anew_before_they_end(bench: Bench) -> None:
    names = NAMES[:3]
    await up(bench, names, ["node-0"], record_s=8.0)
    started = time.monotonic()
    while time.monotonic() - started < 10:
        assert len((await bench.peers("node-1")).wanted) == 2
    downs = [event for event in (await bench.events("node-1")).events if event.kind is EventKind.PEER_DOWN]
    assert [event.detail for event in downs if "record" in event.detail] == []


async def test_a_renewed_leaf_signs_the_record_and_nobody_is_lost(bench: Bench) -> None:
    names = NAMES[:3]
    await up(bench, names, ["node-0"], record_s=8.0)
    before = (await bench.peers("node-2")).leaf
    bench.subnet.identity(bench.subnet.uri("node-2")).write(bench.subnet.folder / "node-2" / "identity")

    async def renewed() -> bool:
        return (await bench.peers("node-2")).leaf != before

    await until(renewed, "node-2 uses its new leaf")
    await until_meshed(bench, names)
    started = time.monotonic()
    while time.monotonic() - started < 9:
        assert "node-2" in (await bench.peers("node-1")).wanted


async def test_a_lone_seed_is_ready_and_a_node_whose_seed_is_silent_is_not(bench: Bench) -> None:
    write_list(bench, 1)
    port = free_port("0.0.0.0")
    alone = await serve(bench, "node-0", [f"localhost:{port}"], port=port)
    assert await until(is_ready(alone), "the name of its own seed is looked up")
    silent = await serve(bench, "node-1", ["127.0.0.1:1"])
    assert silent.unready() == "no peer yet"
    for service in (alone, silent):
        await service.stop()


async def test_every_address_of_a_name_is_a_seed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    write_list(bench, 1)
    ports = [free_port("0.0.0.0")]
    first = await serve(bench, "node-0", [f"127.0.0.1:{ports[0]}"], port=ports[0], host="127.0.0.1")
    second = await serve(bench, "node-1", [f"127.0.0.2:{ports[0]}"], port=ports[0], host="127.0.0.2")
    loop = asyncio.get_running_loop()
    asked = []

    async def getaddrinfo(host: str, port: int, **_: Any) -> Any:
        asked.append(host)
        if len(asked) < 2:
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", (address, port)) for address in ("127.0.0.1", "127.0.0.2")]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    third = await serve(bench, "node-2", [f"demo-nodes.lab.svc:{ports[0]}"])

    async def linked() -> bool:
        return all(len(one.state().peers) == 2 for one in (first, second, third))

    await until(linked, "the three are linked")
    assert set(asked) == {"demo-nodes.lab.svc"}
    for service in (first, second, third):
        await service.stop()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"seeds": []}, "seeds: 0 of them"),
        ({"seeds": ["nonsense"]}, r"seeds\[0\]: 'nonsense' is not host:port"),
        ({"seeds": ["a:1"] * 17}, "seeds: 17 of them"),
        ({"advertise": ["x"]}, "advertise: 'x' is not host:port"),
        ({"advertise": ["a:1"] * 5}, "advertise: 5 addresses"),
        ({"host": "0.0.0.0"}, "advertise: nobody can dial 0.0.0.0"),
        ({"record_s": 601.0}, "record_s: 601 s is not from 4 to 600"),
    ],
)
async def test_what_cannot_be_used_for_discovery_is_refused_by_its_name(
    bench: Bench, settings: dict[str, Any], words: str
) -> None:
    write_list(bench, 1)
    config = bench.subnet.write_node("node-0", **{"discovery": "seeds", "seeds": ["127.0.0.1:1"], **settings})
    with pytest.raises(SpecError, match=words):
        await Service.start(read_node_config(config), config.parent)


async def test_a_chain_too_long_for_a_record_keeps_the_node_from_starting(bench: Bench) -> None:
    write_list(bench, 1)
    long = bench.subnet.authority.issue(
        bench.subnet.uri("node-0"), now=bench.subnet.now, ttl=bench.subnet.authority.not_after - bench.subnet.now,
        dns_names=["x" * 60 + "." + "y" * 60 + f".n{number}" for number in range(4)],
    )  # fmt: skip
    config = bench.subnet.write_node("node-0", discovery="seeds", seeds=["127.0.0.1:1"])
    identity = bench.subnet.folder / "node-0" / "identity"
    (identity / "tls.crt").write_bytes(long.chain_pem)
    (identity / "tls.key").write_bytes(long.key_pem)
    with pytest.raises(LimitError, match="discovery by seeds allows 1024"):
        await Service.start(read_node_config(config), config.parent)


# --- peers that misbehave ---


async def test_a_peer_that_sends_no_record_is_cut_and_bytes_that_are_no_question_end_the_link(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_exchange, "UNKNOWN_S", 0.5)
    write_list(bench, 1)
    port = free_port("0.0.0.0")
    node = await serve(bench, "node-0", [f"127.0.0.1:{port}"], port=port)
    mute = await greet(bench, "node-1")
    await until(closed(mute), "a peer without a record is cut")
    assert mute.close_reason is not None
    assert (mute.close_reason.code, mute.close_reason.text) == (CloseCode.REMOVED, "no record of it is in force")
    rude = await greet(bench, "node-1")
    with pytest.raises(Exception, match="records"):
        await rude.request(ROUTE_RECORDS, b"\xc1 no msgpack")
    assert rude.close_reason is not None
    assert rude.close_reason.code == CloseCode.PROTOCOL_VIOLATION
    assert (await bench.until_event("node-0", EventKind.REFUSED, is_of_records)).peer == "node-1"
    await node.stop()


async def test_somebody_elses_record_is_not_taken_as_ones_own(bench: Bench) -> None:
    write_list(bench, 1)
    ports = [free_port("0.0.0.0") for _ in range(2)]
    node = await serve(bench, "node-0", [f"127.0.0.1:{ports[0]}"], port=ports[0])
    other = await serve(bench, "node-1", [f"127.0.0.1:{ports[0]}"], port=ports[1])
    await until(linked_with(node, "node-1"), "node-1 has joined")
    thief = await greet(bench, "node-2")
    reply = await thief.request(ROUTE_RECORDS, msgspec.msgpack.encode(RecordsRequest(b"", {})))
    records = msgspec.msgpack.decode(reply.payload, type=RecordsReply).records
    assert len(records) == 2
    for record in records:
        assert len(record) <= limits.RECORD_BYTES_MAX
        await thief.request(ROUTE_RECORDS, msgspec.msgpack.encode(RecordsRequest(record)))
    refused = await bench.until_event("node-0", EventKind.REFUSED, is_of_records)
    assert (refused.peer, "in place of one of node-2" in refused.detail) == ("node-2", True)
    assert node.state().wanted == ["node-1"]
    for service in (node, other):
        await service.stop()


async def serve(bench: Bench, name: str, seeds: list[str], **settings: Any) -> Service:
    return await bench.serve(name, discovery="seeds", seeds=seeds, **settings)


async def greet(bench: Bench, name: str) -> Connection:
    """A link with node-0 under a name that has a leaf and says nothing more."""

    def answer(connection: Connection, message: Message) -> None:
        if message.header == ROUTE_RECORDS:
            message.reply(msgspec.msgpack.encode(RecordsReply()))
        else:
            say_nothing(connection, message)

    endpoint = await bench.endpoint(bench.subnet.identity(bench.subnet.uri(name)), on_message=answer)
    connection = await endpoint.connect(("127.0.0.1", bench.subnet.ports["node-0"]))
    hello = Hello(name, os.urandom(8).hex(), PROTOCOL, dial=os.urandom(4).hex())
    await connection.request(ROUTE_HELLO, write_hello(hello))
    return connection


def is_ready(node: Service) -> Callable[[], Awaitable[bool]]:
    async def ready() -> bool:
        return node.unready() == ""

    return ready


def closed(connection: Connection) -> Callable[[], Awaitable[bool]]:
    async def ended() -> bool:
        return connection.closed

    return ended


def linked_with(node: Service, name: str) -> Callable[[], Awaitable[bool]]:
    async def linked() -> bool:
        return name in [peer.name for peer in node.state().peers]

    return linked


def is_of_records(event: Event) -> bool:
    return event.detail.startswith("record: ")
