"""What a node pod's launcher makes of its environment and mounts, and what its health page says of several nodes."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from tests.node.kit import Bench, alive, free_port, until, until_gone

from p2pnet.model.config import NodeConfig
from p2pnet.model.errors import SpecError
from p2pnet.node import pod, pod_health
from p2pnet.node.nursery_table import read_request
from p2pnet.trust import Identity

Sample = tuple[str, dict[str, str], int]
BASE = b'{"subnet": "demo", "namespace": "lab", "seed": 7}'


def test_a_lone_node_answers_the_probes_itself() -> None:
    [config] = pod.node_configs(pod.Pod(["next-4"], "next", "0.0.0.0"), BASE)
    assert (config.name, config.group, config.subnet, config.namespace, config.seed) == (
        "next-4", "next", "demo", "lab", 7
    )  # fmt: skip
    assert (config.host, config.port) == ("0.0.0.0", 4100)
    assert (config.health_host, config.health_port) == ("0.0.0.0", 8080)
    assert (config.identity_dir, config.identity_name) == ("/etc/p2pnet/identity", "next-4")


def test_packed_nodes_have_a_port_each_and_one_page_between_them() -> None:
    configs = pod.node_configs(pod.Pod(["node-4", "node-5"], "node", "0.0.0.0"), BASE)
    assert [config.port for config in configs] == [4100, 4101]
    assert [(config.health_host, config.health_port) for config in configs] == [
        ("127.0.0.1", 8081),
        ("127.0.0.1", 8082),
    ]


def test_as_many_members_as_a_pod_may_have_are_asked_for_without_anyone_reading() -> None:
    names = [f"abcdefghijkl-{number}" for number in range(400, 400 + pod.MEMBERS_MAX)]
    configs = [NodeConfig(name=name, subnet="demo") for name in names]
    lines = pod.requests(configs, pod.RUN, pod.LOG)
    assert len(lines) < 1 << 16
    asked = [read_request(line) for line in lines.splitlines()]
    assert [request.op for request in asked if not isinstance(request, str)] == ["bind", "start"] * pod.MEMBERS_MAX


@pytest.mark.parametrize("members", ["", " , ", "a-0,a-0", "../a", ",".join(f"a-{n}" for n in range(101))])
def test_members_that_will_not_do_are_refused_by_the_variables_name(members: str) -> None:
    with pytest.raises(SpecError, match="P2PNET_MEMBERS"):
        pod.Pod.read({"P2PNET_MEMBERS": members})


@pytest.mark.parametrize("base", [b"", b"[]", b'{"subnet": 3}', b'{"subnet": "demo", "colour": "red"}'])
def test_a_base_that_is_no_node_config_is_refused_by_its_place(base: bytes) -> None:
    with pytest.raises(SpecError, match=r"config/node\.json"):
        pod.node_configs(pod.Pod(["node-0"], "node", "0.0.0.0"), base)


LABELS = st.dictionaries(st.from_regex(r"[a-z]{1,4}", fullmatch=True), st.sampled_from(["x", "y"]), max_size=2)
SAMPLES = st.lists(st.tuples(st.sampled_from(["a_total", "b", "c"]), LABELS, st.integers(0, 9)), max_size=8)


@given(pages=st.dictionaries(st.sampled_from(["node-0", "node-1", "node-2"]), SAMPLES))
def test_the_union_of_expositions_keeps_every_sample_once_and_families_together(
    pages: dict[str, list[Sample]],
) -> None:
    texts = {node: exposition(samples) for node, samples in pages.items()}
    lines = pod_health.union(texts).splitlines()
    samples = [line for line in lines if not line.startswith("#")]
    assert len(samples) == sum(map(len, pages.values()))
    assert all('{node="' in line for line in samples)
    heads = [line for line in lines if line.startswith("#")]
    assert len(heads) == len(set(heads))
    families = [line.partition("{")[0] for line in samples]
    assert [family for family, before in zip(families, [None, *families], strict=False) if family != before] == list(
        dict.fromkeys(families)
    )


def exposition(samples: list[Sample]) -> str:
    lines = []
    for family in ("a_total", "b", "c"):
        mine = [(labels, value) for name, labels, value in samples if name == family]
        if mine:
            lines.append(f"# TYPE {family} gauge")
        for labels, value in mine:
            inside = ",".join(f'{key}="{text}"' for key, text in labels.items())
            lines.append(f"{family}{{{inside}}} {value}" if inside else f"{family} {value}")
    return "".join(f"{line}\n" for line in lines)


async def test_a_pod_is_ready_when_all_its_nodes_are() -> None:
    said = {"node-0": 200, "node-1": 503}
    ports = {name: free_port() for name in said}
    runners = [await serve(ports[name], name, said) for name in said]
    page = free_port()
    async with aiohttp.ClientSession() as session:
        runners.append(await serve_app(page, pod_health.application(session, ports)))
        async with session.get(f"http://127.0.0.1:{page}/readyz") as answer:
            assert (answer.status, await answer.text()) == (503, "node-1: node-1\n")
        said["node-1"] = 200
        async with session.get(f"http://127.0.0.1:{page}/readyz") as answer:
            assert (answer.status, await answer.text()) == (200, "ok\n")
        await runners[0].cleanup()
        async with session.get(f"http://127.0.0.1:{page}/healthz") as answer:
            assert answer.status == 503
            assert "node-0: no answer" in await answer.text()
    for runner in runners:
        await runner.cleanup()


async def serve(port: int, name: str, said: dict[str, int]) -> web.AppRunner:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(status=said[name], text=f"{name}\n")

    app = web.Application()
    app.add_routes([web.get("/{path}", handler)])
    return await serve_app(port, app)


async def serve_app(port: int, app: web.Application) -> web.AppRunner:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="pods are Linux")
async def test_a_pods_nodes_find_each_other_come_back_when_they_die_and_stop_when_asked(
    bench: Bench, tmp_path: Path
) -> None:
    names, udp, page = ["node-0", "node-1"], free_port(), free_port()
    bench.subnet.ports = {"node-0": udp, "node-1": udp + 1}
    mounts = tmp_path / "mounts"
    for folder in ("config", "members", "identity"):
        (mounts / folder).mkdir(parents=True)
    (mounts / "config" / "node.json").write_text(json.dumps({"subnet": "demo", "idle_s": 3.0}))
    (mounts / "members" / "members.json").write_bytes(msgspec.json.encode(bench.subnet.membership(1, names)))
    for name in names:
        write_identity(bench.subnet.identity(bench.subnet.uri(name)), mounts / "identity", name)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "p2pnet.node.pod", "--mounts", mounts, "--run", tmp_path / "run",
        "--udp-port", str(udp), "--health-port", str(page),
        env=os.environ | {"P2PNET_MEMBERS": "node-0,node-1", "P2PNET_HOST": "127.0.0.1"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with aiohttp.ClientSession() as session:
            await until(lambda: answers(session, page, "readyz", 200), "the pod is ready")
            first = (await bench.peers("node-1")).pid
            os.kill(first, signal.SIGKILL)
            await until(lambda: answers(session, page, "healthz", 503), "the page misses the dead node")
            await until(lambda: answers(session, page, "readyz", 200), "the pod is ready again")
            again = (await bench.peers("node-1")).pid
            assert again != first
            async with session.get(f"http://127.0.0.1:{page}/metrics") as metrics:
                assert 'p2pnet_node_ready{node="node-1"} 1.0' in await metrics.text()
        process.terminate()
        out, log = await process.communicate()
        assert process.returncode == 0, log
        assert b'"event":"exited","name":"node-1"' in out
        assert f"node-0 serves on 127.0.0.1:{udp}".encode() in log
        await until_gone([again])
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert not alive(process.pid)


def write_identity(identity: Identity, folder: Path, name: str) -> None:
    (folder / f"{name}.crt").write_bytes(identity.chain_pem)
    (folder / f"{name}.key").write_bytes(identity.key_pem)
    (folder / "ca.crt").write_bytes(identity.bundle_pem)


async def answers(session: aiohttp.ClientSession, port: int, path: str, status: int) -> bool:
    try:
        async with session.get(f"http://127.0.0.1:{port}/{path}") as answer:
            return answer.status == status
    except aiohttp.ClientError:
        return False
