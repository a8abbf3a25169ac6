"""Which network is in force at a node: its boot copy, what the lab pushes, and what stays when the lab falls silent."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from tests.node.kit import Bench, expect, until
from tests.node.seamkit import BLOCKED, delay, network

from p2pnet.model.config import read_node_config
from p2pnet.model.control import ROUTE_NETWORK, ControlRefusal, NetworkPush, NetworkTaken
from p2pnet.model.errors import SpecError
from p2pnet.model.network import NETWORK_BYTES_MAX, LinkShape, NodeNetwork
from p2pnet.node.network import AWAIT_NETWORK_S, LEASE_S_MAX, REJOIN_S, NetworkKeeper, read_network
from p2pnet.node.peer_addresses import PeerAddresses
from p2pnet.node.seam import NetworkSeam
from p2pnet.node.service import Service
from p2pnet.peering.discovery import RegistryDirectory
from p2pnet.quic import run_virtual

FAULT, HEALED = network({"node-1": BLOCKED}, version=7), network({"node-1": delay(5)}, version=6)


def keeper(
    boot: NodeNetwork | None = None, *, awaits: bool = False, on_network: Callable[[NodeNetwork], None] = lambda _: None
) -> NetworkKeeper:
    """One without an endpoint."""
    directory = RegistryDirectory("node-0", "d", "n", "s")
    seam = NetworkSeam(PeerAddresses("node-0", directory), directory.name_of, random.Random(1).random)
    return NetworkKeeper(seam, boot or NodeNetwork(), awaits=awaits, on_network=on_network)


def virtually(scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await scenario()

    run_virtual(main())


def test_what_the_lab_pushes_last_is_in_force_whatever_its_version() -> None:
    async def scenario() -> None:
        kept = keeper(HEALED)
        assert kept.seam.network == HEALED
        for pushed in (FAULT, HEALED, FAULT):
            assert kept.take(NetworkPush(pushed)) == NetworkTaken(pushed.version)
            assert kept.seam.network == pushed
        await asyncio.sleep(3_600)
        assert kept.seam.network == FAULT, "without a lease it stays"

    virtually(scenario)


def test_whoever_must_know_hears_of_every_network_that_comes_into_force() -> None:
    async def scenario() -> None:
        heard: list[NodeNetwork] = []
        kept = keeper(HEALED, on_network=heard.append)
        kept.take(NetworkPush(FAULT, lease_s=5.0, healed=HEALED))
        kept.take(NetworkPush(FAULT, lease_s=5.0, healed=HEALED))
        await asyncio.sleep(60)
        assert heard == [HEALED, FAULT, HEALED]

    virtually(scenario)


def test_a_lease_that_is_not_renewed_heals_the_node() -> None:
    async def scenario() -> None:
        kept = keeper()
        kept.take(NetworkPush(FAULT, 60, HEALED))
        await asyncio.sleep(59)
        assert kept.seam.network == FAULT
        kept.take(NetworkPush(FAULT, 60, HEALED))
        await asyncio.sleep(59)
        assert kept.seam.network == FAULT, "it was renewed"
        await asyncio.sleep(1.1)
        assert kept.seam.network == HEALED
        await asyncio.sleep(600)
        assert kept.seam.network == HEALED

    virtually(scenario)


def test_a_lease_that_names_nothing_healed_leaves_nothing_shaped() -> None:
    async def scenario() -> None:
        kept = keeper(HEALED)
        kept.take(NetworkPush(FAULT, 5))
        await asyncio.sleep(5.1)
        assert kept.seam.network == NodeNetwork()

    virtually(scenario)


def test_a_push_without_a_lease_ends_an_earlier_lease() -> None:
    async def scenario() -> None:
        kept = keeper()
        kept.take(NetworkPush(FAULT, 5, NodeNetwork()))
        kept.take(NetworkPush(HEALED))
        await asyncio.sleep(60)
        assert kept.seam.network == HEALED

    virtually(scenario)


@pytest.mark.parametrize("lease_s", [0.0, -1.0, math.inf, math.nan, LEASE_S_MAX + 1])
def test_an_absurd_lease_is_refused_and_changes_nothing(lease_s: float) -> None:
    async def scenario() -> None:
        kept = keeper(HEALED)
        answer = kept.take(NetworkPush(FAULT, lease_s))
        assert isinstance(answer, ControlRefusal)
        assert "lease_s" in answer.message
        assert kept.seam.network == HEALED

    virtually(scenario)


async def test_a_process_that_was_paused_over_the_end_of_a_lease_waits_for_the_lab() -> None:
    kept = keeper()
    kept.take(NetworkPush(FAULT, 0.1, HEALED))
    time.sleep(1.3)  # as a process that is paused
    loop = asyncio.get_running_loop()
    lapsed, awake = kept._lease, loop.time()
    while kept._lease is lapsed:
        await asyncio.sleep(0)
    assert kept.seam.network == FAULT, "the lab had no chance to renew it"
    assert kept._lease is not None
    assert awake + REJOIN_S <= kept._lease.when() <= loop.time() + REJOIN_S
    kept.stop()


def test_a_stopped_node_waits_for_no_lease() -> None:
    async def scenario() -> None:
        kept = keeper()
        kept.take(NetworkPush(FAULT, 5, HEALED))
        kept.stop()
        await asyncio.sleep(60)
        assert kept.seam.network == FAULT

    virtually(scenario)


def test_a_boot_copy_that_is_missing_shapes_nothing(tmp_path: Path) -> None:
    assert read_network(None) == read_network(tmp_path / "none.json") == NodeNetwork()


def test_a_boot_copy_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "network.json"
    path.write_bytes(msgspec.json.encode(FAULT))
    assert read_network(path) == FAULT


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "not a network"),
        (b'{"shapes": [{"loss": 2}], "paths": {"node-1": 0}}', "between 0 and 1"),
        (b'{"paths": {"node-1": 0}}', "node-1 has shape 0, and there are 0"),
        (b'{"shapes": [{}], "paths": {"node-1": -1}}', "shape -1"),
        (b'{"shapes": [{"delay": 2}]}', "delay"),
        (b"\xff\xfe", "not a network"),
        (b" " * (NETWORK_BYTES_MAX + 1), "larger"),
    ],
)
def test_a_boot_copy_that_is_no_network_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "network.json"
    path.write_bytes(content)
    with pytest.raises(SpecError, match=said) as failed:
        read_network(path)
    assert str(path) in str(failed.value)


def test_a_boot_copy_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot read"):
        read_network(tmp_path)


# --- a whole node ---


async def pushed(bench: Bench, name: str, what: NodeNetwork, lease_s: float | None = None) -> int:
    return expect(NetworkTaken, await bench.ask(name, ROUTE_NETWORK, NetworkPush(what, lease_s))).version


async def two_nodes(bench: Bench, **settings: object) -> tuple[Service, Service]:
    """Both in this process, told of each other; not awaited until they are connected."""
    subnet = bench.subnet
    subnet.ports = {"node-0": 1, "node-1": 1}
    subnet.write_members(subnet.membership(1, ["node-0"]))
    subnet.ports = {}
    first = await bench.serve("node-0", **settings)
    second = await bench.serve("node-1")
    both = subnet.membership(2, ["node-0", "node-1"])
    for service in (first, second):
        service.take_membership(both)
    return first, second


async def linked(one: Service, other: Service) -> bool:
    return bool(one.peers.links) and bool(other.peers.links)


async def test_the_lab_shapes_a_node_and_reads_the_version_in_force(bench: Bench) -> None:
    one, other = await two_nodes(bench)
    await until(lambda: linked(one, other), "linked")
    assert (await bench.peers("node-0")).network_version == 0
    assert await pushed(bench, "node-0", network({"node-1": delay(60)}, version=12)) == 12
    assert (await bench.peers("node-0")).network_version == 12
    link = one.peers.links["node-1"].connection
    for _ in range(4):
        await link.request(b"/reach/echo", b"?")

    async def slow() -> bool:
        await link.request(b"/reach/echo", b"?")
        return link.rtt_s > 0.045

    await until(slow, "the delay shows in the round trip")
    for service in (one, other):
        await service.stop()


@pytest.mark.parametrize(
    "body",
    [
        msgspec.msgpack.encode({"network": {"shapes": [{"loss": 7.0}], "paths": {"node-1": 0}}}),
        msgspec.msgpack.encode({"network": {"paths": {"node-1": 3}}}),
        msgspec.msgpack.encode({"network": 7}),
        b"\xc1",
    ],
)
async def test_a_push_that_is_no_network_is_refused(bench: Bench, node: Service, body: bytes) -> None:
    reply = await (await bench.lab("node-0")).request(ROUTE_NETWORK, body)
    refusal = msgspec.msgpack.decode(reply.payload, type=ControlRefusal)
    assert refusal.code == "bad-request"
    assert node.seam.network == NodeNetwork()


async def test_a_block_cuts_a_link_and_a_heal_brings_it_back_soon(bench: Bench) -> None:
    one, other = await two_nodes(bench, idle_s=1.0)
    await until(lambda: linked(one, other), "linked")
    await pushed(bench, "node-0", network({"node-1": BLOCKED}, version=1))

    async def cut() -> bool:
        return not one.peers.links and not other.peers.links

    await until(cut, "the link ends by silence")
    await asyncio.sleep(1)
    await pushed(bench, "node-0", NodeNetwork(2))
    healed = asyncio.get_running_loop().time()
    await until(lambda: linked(one, other), "linked again")
    assert asyncio.get_running_loop().time() - healed < 60  # a dial takes a while on a busy machine, none is due later
    for service in (one, other):
        await service.stop()


async def test_the_boot_copy_is_in_force_from_the_first_datagram(bench: Bench) -> None:
    (bench.subnet.folder / "network.json").write_bytes(msgspec.json.encode(network({"node-1": BLOCKED}, version=3)))
    one, other = await two_nodes(bench, network_file="../network.json")

    async def dialled() -> bool:
        return one.seam.path_counters()["node-1"].blocked > 0

    await until(dialled, "it has dialled")
    await asyncio.sleep(0.5)
    assert one.peers.links == other.peers.links == {}
    assert one.seam.path_counters()["node-1"].passed == 0
    assert (await bench.peers("node-0")).network_version == 3
    assert other._endpoint is not None
    assert other._endpoint.counters()["received_bytes_total"] == 0
    for service in (one, other):
        await service.stop()


async def test_a_broken_boot_copy_keeps_the_node_from_starting(bench: Bench) -> None:
    subnet = bench.subnet
    (subnet.folder / "network.json").write_bytes(b"[]")
    subnet.write_members(subnet.membership(1, []))
    config = subnet.write_node("node-0", network_file="../network.json")
    with pytest.raises(SpecError, match=r"network\.json"):
        await Service.start(read_node_config(config), config.parent)


async def test_a_node_that_awaits_the_network_meets_nobody_before_it_is_pushed(bench: Bench) -> None:
    one, other = await two_nodes(bench, await_network=True)
    assert one.unready() == "awaits the network from the lab"
    await asyncio.sleep(1.5)
    assert one.peers.links == other.peers.links == {}
    assert one._refusals.total == other._refusals.total == 0, "nobody is refused"
    assert not (await bench.peers("node-0")).ready
    await pushed(bench, "node-0", network({"node-1": LinkShape(delay_ns=1_000_000)}, version=1))
    await until(lambda: linked(one, other), "linked")
    assert one.unready() == ""
    for service in (one, other):
        await service.stop()


def test_a_node_waits_for_the_network_for_a_bounded_time() -> None:
    async def scenario() -> None:
        from p2pnet.quic import Endpoint, MemoryNetwork, Trust

        loop = asyncio.get_running_loop()
        transport = MemoryNetwork().transport()
        async with await Endpoint.bind(transport=transport, trust=Trust.anyone(), clock=loop.time) as endpoint:
            kept, joined = keeper(awaits=True), []
            kept.start(endpoint, lambda: joined.append(loop.time()))
            assert kept.is_waiting
            await asyncio.sleep(AWAIT_NETWORK_S + 1)
            assert not kept.is_waiting
            assert joined == [pytest.approx(AWAIT_NETWORK_S, abs=0.01)]
            kept.take(NetworkPush(FAULT))
            assert len(joined) == 1, "once"

    virtually(scenario)
