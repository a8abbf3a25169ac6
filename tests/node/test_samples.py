"""A node's time series: taken while somebody asks, bounded, and true to what happened."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest
from tests.node.kit import Bench, expect, until
from tests.node.seamkit import BLOCKED, SeamWorld, network
from tests.patience import PATIENCE_S
from tests.quic.conftest import World
from tests.quic.virtual import VirtualWorld, play

from p2pnet.model.control import (
    ROUTE_NETWORK,
    ROUTE_SAMPLES,
    SAMPLES_KEPT_MAX,
    NetworkPush,
    NetworkTaken,
    Sample,
    Samples,
    SamplesRequest,
)
from p2pnet.model.network import AccessShape, LinkShape
from p2pnet.node.samples import ASKED_S, SecondSampler
from p2pnet.node.service import Service
from p2pnet.peering.clock import NS
from p2pnet.peering.dial_policy import Candidate
from p2pnet.peering.peers import PeerLink


class SampledLink:
    """Two nodes of a SeamWorld with a link, the first one sampled every second by hand."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.links: dict[str, PeerLink] = {}
        self.drivers: dict[str, Any] = {}

    async def up(self, seams: SeamWorld) -> SampledLink:
        self.one, self.other = await seams.nodes_up(2)
        self.connection = await seams.connect(self.one, self.other)
        self.links["node-1"] = PeerLink("node-1", self.connection, Candidate("x", ours=True, since_ns=0))
        loop = asyncio.get_running_loop()
        self.sampler = SecondSampler(
            ("me", "boot"), self.one.seam, self.links, self.drivers, clock_ns=lambda: round(loop.time() * NS)
        )
        return self

    def ask(self, after_ns: int = 0) -> list[Sample]:
        return self.sampler.read(SamplesRequest(after_ns)).samples

    async def second(self) -> None:
        await asyncio.sleep(1)
        self.sampler.tick()


def act(scenario: Any) -> None:
    async def main(world: VirtualWorld) -> None:
        seams = SeamWorld.virtual(world)
        sampled = await SampledLink(world).up(seams)
        try:
            await scenario(sampled)
        finally:
            sampled.sampler.stop()
            seams.close()

    play(main, limit_s=3_000)


def test_nothing_is_sampled_before_somebody_asks_and_after_nobody_does() -> None:
    async def scenario(sampled: SampledLink) -> None:
        sampler = sampled.sampler
        await sampled.second()
        assert not sampler.on
        assert sampled.ask() == []
        assert sampler.on
        for _ in range(int(ASKED_S)):
            await sampled.second()
        assert sampler.on
        for _ in range(2):
            await sampled.second()
        assert not sampler.on
        kept = len(sampler._samples)
        await sampled.second()
        assert len(sampled.ask()) == kept <= ASKED_S + 1, "what was taken can still be read"

    act(scenario)


def test_samples_are_read_from_a_time_on_and_are_bounded() -> None:
    async def scenario(sampled: SampledLink) -> None:
        sampled.ask()
        for _ in range(5):
            await sampled.second()
        every = sampled.ask()
        assert [round(one.span_s) for one in every] == [1] * 5
        assert sampled.ask(every[2].mono_ns) == every[3:]
        for _ in range(SAMPLES_KEPT_MAX):
            await sampled.second()
            sampled.ask()
        assert len(sampled.ask()) == SAMPLES_KEPT_MAX
        assert sampled.ask()[-1].mono_ns > every[-1].mono_ns

    act(scenario)


def test_a_sample_says_what_the_link_carried_and_silent_links_are_left_out() -> None:
    async def scenario(sampled: SampledLink) -> None:
        sampled.ask()
        sent, received = sampled.connection.sent_bytes, sampled.connection.received_bytes
        await sampled.connection.request(b"/x", bytes(100_000))
        await sampled.second()
        (link,) = sampled.ask()[-1].links
        assert link.peer == "node-1"
        assert link.sent_bytes == sampled.connection.sent_bytes - sent > 100_000
        assert link.received_bytes == sampled.connection.received_bytes - received > 100_000
        assert link.window_bytes == sampled.connection.counters()["congestion_window_bytes"]
        assert link.rtt_ms == sampled.connection.rtt_s * 1000
        await sampled.second()
        assert sampled.ask()[-1].links == []

    act(scenario)


def test_a_sample_says_how_much_waited_in_quic_although_all_of_it_has_left_since() -> None:
    async def scenario(sampled: SampledLink) -> None:
        sampled.ask()
        sampled.one.shape(node_1=LinkShape(delay_ns=40_000_000))
        await sampled.second()
        await sampled.connection.request(b"/x", bytes(1_000_000))
        assert sampled.connection.unsent_bytes == 0
        await sampled.second()
        assert sampled.ask()[-1].links[0].unsent_bytes > 100_000
        await sampled.connection.request(b"/x", b"")
        await sampled.second()
        assert sampled.ask()[-1].links[0].unsent_bytes == 0

    act(scenario)


def test_a_sample_says_what_the_network_dropped_and_what_waits() -> None:
    async def scenario(sampled: SampledLink) -> None:
        sampled.ask()
        sampled.one.shape(up=AccessShape(80_000.0, 50_000), node_1=LinkShape(loss=0.3))
        work = asyncio.ensure_future(sampled.connection.send(b"/x", b"", bytes(30_000)))
        await sampled.second()
        sample = sampled.ask()[-1]
        (link,) = sample.links
        counters = sampled.one.seam.path_counters()["node-1"]
        assert link.dropped == counters.lost > 0
        so_far = counters.lost
        assert sample.up_queued_bytes > 0
        assert sample.up_bytes == sampled.one.seam.up_counters.bytes_passed <= 11_000
        await sampled.second()
        assert sampled.ask()[-1].links[0].dropped == counters.lost - so_far
        sampled.one.shape(node_1=BLOCKED)
        await asyncio.sleep(5)
        await sampled.second()
        (link,) = sampled.ask()[-1].links
        assert link.lost >= 0
        assert link.dropped > 0
        work.cancel()

    act(scenario)


def test_a_new_connection_of_the_same_peer_counts_from_its_own_beginning() -> None:
    async def scenario(sampled: SampledLink) -> None:
        await sampled.connection.request(b"/x", bytes(100_000))
        sampled.ask()
        await sampled.second()
        fresh = await sampled.one.endpoint.connect(sampled.other.endpoint.address, new=True)
        sampled.links["node-1"] = PeerLink("node-1", fresh, Candidate("x", ours=True, since_ns=0))
        await sampled.second()
        (link,) = sampled.ask()[-1].links
        assert 0 < link.sent_bytes == fresh.sent_bytes

    act(scenario)


def test_a_sample_adds_up_the_clients() -> None:
    async def scenario(sampled: SampledLink) -> None:
        def driver(waiting: int, slots: int, tasks: int) -> Any:
            gauges = {"slots_in_use": slots, "tasks": tasks}
            return SimpleNamespace(waiting=waiting, broadcast=SimpleNamespace(gauges=lambda: gauges))

        sampled.drivers.update(one=driver(1, 2, 3), other=driver(10, 20, 30))
        sampled.ask()
        await sampled.second()
        sample = sampled.ask()[-1]
        assert (sample.handlers, sample.slots, sample.fetches) == (11, 22, 33)

    act(scenario)


async def test_a_loop_that_was_held_up_shows_in_the_sample_of_that_second_alone(seam_world: World) -> None:
    seams = SeamWorld.real(seam_world)
    sampled = await SampledLink(seam_world).up(seams)
    sampled.ask()
    await asyncio.sleep(0.12)
    time.sleep(0.4)  # a handler that takes too long, or no CPU
    await asyncio.sleep(0.12)
    sampled.sampler.tick()
    [held_up] = sampled.ask()
    assert held_up.lag_s >= 0.3
    async with asyncio.timeout(PATIENCE_S):  # a busy machine may hold it up once more
        while sampled.ask()[-1].lag_s >= held_up.lag_s:
            await asyncio.sleep(0.12)
            sampled.sampler.tick()
    sampled.sampler.stop()
    seams.close()


async def test_the_lab_reads_samples_of_a_node_that_it_shapes(bench: Bench) -> None:
    await bench.up(["node-0", "node-1"])
    asked = SamplesRequest()
    assert expect(Samples, await bench.ask("node-0", ROUTE_SAMPLES, asked)).samples == []
    push = NetworkPush(network({"node-1": LinkShape(delay_ns=20_000_000)}, version=1))
    expect(NetworkTaken, await bench.ask("node-0", ROUTE_NETWORK, push))
    await bench.inject("node-0", bytes(100_000))

    async def told() -> Sample | None:
        reply = expect(Samples, await bench.ask("node-0", ROUTE_SAMPLES, asked))
        assert reply.boot_id == (await bench.peers("node-0")).boot_id
        linked = [one for one in reply.samples if one.links]  # the artifact may take several seconds of a busy machine
        if sum(one.links[0].sent_bytes for one in linked) <= 100_000:
            return None
        return max(linked, key=lambda one: one.links[0].sent_bytes)

    sample = await until(told, "seconds with the artifact in them")
    assert sample.links[0].peer == "node-1"
    assert sample.links[0].rtt_ms >= 10  # smoothed: it was next to nothing before
    assert sample.cpu_s > 0


async def test_the_metrics_page_tells_of_the_network(node: Service) -> None:
    from p2pnet.node.health import exposition

    page = exposition(node).decode()
    assert 'p2pnet_node_network_dropped_total{at="paths",reason="lost"} 0.0' in page
    assert "p2pnet_node_network_version 0.0" in page
    node.seam.apply(network({"node-1": BLOCKED}, up=AccessShape(1e6), version=4))
    node.seam._offer("node-1", [(b"\x40" + bytes(100), ("127.0.0.1", 9))])
    node.prober.arrived(b"\x05 nothing", ("127.0.0.1", 9))
    await asyncio.sleep(0.05)
    page = exposition(node).decode()
    assert "p2pnet_node_network_version 4.0" in page
    assert 'p2pnet_node_network_dropped_total{at="paths",reason="blocked"} 1.0' in page
    assert 'p2pnet_node_network_bytes_total{at="uplink"} 129.0' in page
    assert 'p2pnet_node_network_queued_bytes{at="uplink"} 0.0' in page
    assert 'p2pnet_node_probes_total{fate="malformed"} 1.0' in page
    names = [line.split("{")[0] for line in page.splitlines() if line.startswith("p2pnet_node_network")]
    assert len(names) < 30, "bounded, whatever the number of peers"


@pytest.mark.parametrize("after_ns", [-1, 0, 1 << 62])
async def test_any_time_may_be_asked_for(bench: Bench, node: Service, after_ns: int) -> None:
    reply = expect(Samples, await bench.ask("node-0", ROUTE_SAMPLES, SamplesRequest(after_ns)))
    assert reply.incarnation == node.incarnation
