"""The time series of a run: written as it goes, from its beginning on, on its own time axis, within bounds."""

import asyncio

import msgspec
import pytest
from tests.lab.network.probed_nodes import ProbedNodes, S, now_ns

from p2pnet.lab.network import sampler as module
from p2pnet.lab.network.sampler import RunSampler
from p2pnet.model.control import LinkSample, Sample
from p2pnet.model.time_series import NodeSample
from p2pnet.quic.memory import run_virtual
from p2pnet.store.archive import SAMPLES_FILE


def second(at_ns: int, **more: object) -> Sample:
    return Sample(at_ns, 1.0, more.pop("lag_s", 0.0), 0.1, **more)


def sampler_of(nodes: ProbedNodes, folder, offsets=None) -> RunSampler:
    return RunSampler(nodes, nodes.names, folder, boots=nodes._boots, offsets_ns=lambda: offsets or {}, now_ns=now_ns)


def lines(folder) -> list[NodeSample]:
    return [msgspec.json.decode(line, type=NodeSample) for line in (folder / SAMPLES_FILE).read_bytes().splitlines()]


def test_each_second_is_written_once_and_nothing_of_before_the_run(tmp_path):
    async def scenario() -> None:
        nodes = ProbedNodes({"nodes": 1})
        nodes.nodes["node-0"].samples = [second(S // 2)]
        await asyncio.sleep(1)
        one = sampler_of(nodes, tmp_path)
        polling = asyncio.create_task(one.poll_forever())
        for count in range(1, 8):
            await asyncio.sleep(1)
            nodes.nodes["node-0"].samples.append(second(now_ns(), handlers=count))
        await asyncio.sleep(3)
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)
        one.close()
        assert [line.sample.handlers for line in lines(tmp_path)] == [1, 2, 3, 4, 5, 6, 7]
        assert {line.node for line in lines(tmp_path)} == {"node-0"}
        assert one.notes == []

    run_virtual(scenario())


def test_what_nodes_sent_each_other_in_the_run_is_summed_each_second_once(tmp_path):
    async def scenario() -> None:
        nodes = ProbedNodes({"nodes": 2})
        links = [LinkSample("node-1", 1_000, 5, 0, 0, 0, 1.0, 9_000), LinkSample("node-2", 200, 5, 0, 0, 0, 1.0, 9_000)]
        nodes.nodes["node-0"].samples = [second(S // 2, links=links)]
        await asyncio.sleep(1)
        one = sampler_of(nodes, tmp_path)
        await asyncio.sleep(1)
        for node in nodes.nodes.values():
            node.samples.append(second(now_ns(), links=links))
        await one.poll()
        await one.poll()
        one.close()
        assert one.sent_bytes == 2 * 1_200

    run_virtual(scenario())


def test_times_are_on_the_axis_of_the_run(tmp_path):
    async def scenario() -> None:
        nodes = ProbedNodes({"nodes": 2})
        nodes.nodes["node-1"].boot = "other"
        one = sampler_of(nodes, tmp_path, {"other": 5 * S})
        at = now_ns() + S
        nodes.nodes["node-0"].samples = [second(at)]
        nodes.nodes["node-1"].samples = [second(at - 5 * S)]
        await one.poll()
        one.close()
        assert {line.t_ns for line in lines(tmp_path)} == {at}

    run_virtual(scenario())


def test_a_node_that_is_silent_for_a_while_tells_later_what_it_missed(tmp_path):
    async def scenario() -> None:
        nodes = ProbedNodes({"nodes": 1})
        one = sampler_of(nodes, tmp_path)
        nodes.silent = {"node-0"}
        nodes.nodes["node-0"].samples = [second(now_ns() + 1)]
        await one.poll()
        nodes.silent = set()
        nodes.nodes["node-0"].samples.append(second(now_ns()))
        await one.poll()
        one.close()
        assert len(lines(tmp_path)) == 2

    run_virtual(scenario())


def test_a_file_that_has_become_too_long_ends_and_the_report_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BYTES_MAX", 300)

    async def scenario() -> None:
        nodes = ProbedNodes({"nodes": 1})
        one = sampler_of(nodes, tmp_path)
        for count in range(1, 8):
            nodes.nodes["node-0"].samples.append(second(now_ns() + count, lag_s=0.1 * count))
            await one.poll()
        assert 0 < (tmp_path / SAMPLES_FILE).stat().st_size <= 300
        assert len(one.notes) == 1
        assert "samples.ndjson ends before the run" in one.notes[0]
        assert one.series.longest_lag_s() == {"node-0": pytest.approx(0.7)}  # what stands out is told all the same

    run_virtual(scenario())


def test_a_disk_that_refuses_leaves_the_run_valid_and_is_noted(tmp_path):
    async def scenario() -> None:
        nodes = ProbedNodes({"nodes": 1})
        (tmp_path / SAMPLES_FILE).symlink_to("/dev/full")
        one = sampler_of(nodes, tmp_path)
        nodes.nodes["node-0"].samples = [second(now_ns() + 1)]
        await one.poll()
        nodes.nodes["node-0"].samples.append(second(now_ns() + 2))
        await one.poll()
        assert one.notes == ["the time series could not be kept with the run: No space left on device"]

    run_virtual(scenario())


def test_how_late_nodes_were_shortly_before_the_run_is_known_though_it_is_not_in_its_file(tmp_path):
    async def scenario() -> None:
        nodes = ProbedNodes({"nodes": 1})
        await asyncio.sleep(100)
        samples = nodes.nodes["node-0"].samples
        samples += [second(now_ns() - 90 * S, lag_s=0.9), second(now_ns() - 20 * S, lag_s=0.5)]
        one = sampler_of(nodes, tmp_path)
        await asyncio.gather(one.poll(), one.poll())
        samples.append(second(now_ns() + S, lag_s=0.2))
        await asyncio.gather(one.poll(), one.poll())
        one.close()
        assert [line.sample.lag_s for line in lines(tmp_path)] == [0.2]
        assert one.longest_lag_s() == {"node-0": 0.5}
        assert one.series.longest_lag_s() == {"node-0": 0.2}

    run_virtual(scenario())
