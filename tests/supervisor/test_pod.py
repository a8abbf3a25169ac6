"""What PID 1 of a node pod makes of its environment and mounts, and what it does with real nodes."""

import os
import signal
import socket
import sys
import zipfile
from pathlib import Path

import pytest
from tests.node.kit import Bench, until_gone
from tests.supervisor.podkit import PodProcess, pod_of

from p2pnet.model.config import ClientConfig, NodeConfig
from p2pnet.model.errors import SpecError
from p2pnet.model.log_lines import json_line
from p2pnet.node.clients import try_clients
from p2pnet.supervisor import pod, pod_health
from p2pnet.supervisor.lines import read_request

BASE = b'{"subnet": "demo", "namespace": "lab", "seed": 7}'


def test_a_node_answers_the_probes_through_its_pods_page() -> None:
    [config] = pod.node_configs(pod.PodMembers(["next-4"], "next", "0.0.0.0"), BASE)
    assert (config.name, config.group, config.subnet, config.namespace, config.seed) == (
        "next-4", "next", "demo", "lab", 7
    )  # fmt: skip
    assert (config.host, config.port) == ("0.0.0.0", 4100)
    assert (config.health_host, config.health_port) == ("127.0.0.1", 8081)
    assert (config.identity_dir, config.identity_name) == ("/etc/p2pnet/identity", "next-4")


def test_a_node_in_a_pod_meets_no_peer_before_the_lab_has_said_what_the_network_does() -> None:
    for config in pod.node_configs(pod.PodMembers(["node-4", "node-5"], "node", "0.0.0.0"), BASE):
        assert config.await_network
        assert config.network_file == ""


def test_packed_nodes_have_a_port_each_and_one_page_between_them() -> None:
    configs = pod.node_configs(pod.PodMembers(["node-4", "node-5"], "node", "0.0.0.0"), BASE)
    assert [config.port for config in configs] == [4100, 4101]
    assert [(config.health_host, config.health_port) for config in configs] == [
        ("127.0.0.1", 8081),
        ("127.0.0.1", 8082),
    ]


SEEDS = b'{"subnet": "demo", "discovery": "seeds", "seeds": ["demo-nodes.lab.svc:4100"]}'


def test_under_discovery_by_seeds_nodes_advertise_the_pods_ip_address() -> None:
    configs = pod.node_configs(
        pod.PodMembers.read({"P2PNET_MEMBERS": "node-4,node-5", "P2PNET_ADDRESS": "10.1.2.3"}), SEEDS
    )
    assert [config.advertise for config in configs] == [["10.1.2.3:4100"], ["10.1.2.3:4101"]]
    [config] = pod.node_configs(pod.PodMembers(["node-4"], "node", "::", address="fd00::7"), SEEDS)
    assert config.advertise == ["[fd00::7]:4100"]
    [config] = pod.node_configs(pod.PodMembers(["node-4"], "node", "127.0.0.1"), SEEDS)
    assert config.advertise == ["127.0.0.1:4100"]
    [config] = pod.node_configs(pod.PodMembers(["node-4"], "node", "0.0.0.0", address="10.1.2.3"), BASE)
    assert config.advertise == []


def test_a_pods_ip_address_is_what_its_name_resolves_to(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"demo-node-0": ["127.0.1.1", "10.1.2.9"], "lonely": ["127.0.1.1"]}

    def getaddrinfo(host: str, port: None, **_: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        if host not in known:
            raise socket.gaierror(-2, "Name or service not known")
        return [(2, 2, 17, "", (address, 0)) for address in known[host]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(socket, "gethostname", lambda: "demo-node-0")
    assert pod.own_address(pod.PodMembers(["node-0"], "node", "0.0.0.0")) == "10.1.2.9"
    for name in ("lonely", "nameless"):
        monkeypatch.setattr(socket, "gethostname", lambda name=name: name)
        with pytest.raises(SpecError, match="P2PNET_ADDRESS"):
            pod.own_address(pod.PodMembers(["node-0"], "node", "0.0.0.0"))
    with pytest.raises(SpecError, match="P2PNET_ADDRESS"):
        pod.own_address(pod.PodMembers(["node-0"], "node", "0.0.0.0", address="not.a.number"))


def test_the_requests_for_the_most_members_of_a_pod_fit_a_pipe_that_nobody_reads() -> None:
    names = [f"abcdefghijkl-{number}" for number in range(400, 400 + pod.MEMBERS_MAX)]
    configs = [NodeConfig(name=name, subnet="demo") for name in names]
    lines = pod.requests(configs, pod.RUN, pod.LOG)
    assert len(lines) < 1 << 16
    asked = [read_request(line) for line in lines.splitlines()]
    assert [request.op for request in asked if not isinstance(request, str)] == ["bind", "start"] * pod.MEMBERS_MAX


@pytest.mark.parametrize("members", ["", " , ", "a-0,a-0", "../a", ",".join(f"a-{n}" for n in range(101))])
def test_members_that_cannot_be_used_are_refused_by_the_variables_name(members: str) -> None:
    with pytest.raises(SpecError, match="P2PNET_MEMBERS"):
        pod.PodMembers.read({"P2PNET_MEMBERS": members})


@pytest.mark.parametrize("base", [b"", b"[]", b'{"subnet": 3}', b'{"subnet": "demo", "colour": "red"}'])
def test_a_base_that_is_no_node_config_is_refused_by_its_place(base: bytes) -> None:
    with pytest.raises(SpecError, match=r"config/node\.json"):
        pod.node_configs(pod.PodMembers(["node-0"], "node", "0.0.0.0"), base)


CHAT = (
    "from p2pnet.broadcast import BlobClient\nclass Chat(BlobClient):\n    def __init__(self, room): self.room = room\n"
)


def test_mounted_modules_and_wheels_can_be_imported_by_a_pods_children(tmp_path: Path) -> None:
    (tmp_path / "flat.py").write_text(CHAT)
    with zipfile.ZipFile(tmp_path / "chat-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("chat/__init__.py", CHAT)
        wheel.writestr("chat-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: chat\nVersion: 1.0\n")
        wheel.writestr("chat-1.0.dist-info/entry_points.txt", "[p2pnet.clients]\nchat = chat:Chat\n")
    environment = {"PYTHONPATH": "/before"}
    path = list(sys.path)
    try:
        pod.take_code(tmp_path, environment)
        assert sys.path == [str(tmp_path / "chat-1.0-py3-none-any.whl"), str(tmp_path), *path]
    finally:
        sys.path[:] = path
    assert environment["PYTHONPATH"].endswith(f"{tmp_path}:/before")
    settings = {"room": {"name": "a"}}
    assert try_clients([ClientConfig("flat", "flat:Chat", settings)], environment=environment) == ""
    assert try_clients([ClientConfig("chat", "chat:Chat", settings)], environment=environment) == ""
    assert try_clients([ClientConfig("chat", settings=settings)], environment=environment) == ""
    assert "no entry point 'char'" in try_clients([ClientConfig("char")], environment=environment)


def test_where_nothing_is_mounted_nothing_changes(tmp_path: Path) -> None:
    environment: dict[str, str] = {}
    path = list(sys.path)
    pod.take_code(tmp_path / "code", environment)
    assert (sys.path, environment) == (path, {})


async def test_a_pod_whose_client_cannot_be_loaded_says_so_and_ends(bench: Bench, tmp_path: Path) -> None:
    chat = {"name": "chat", "class": "chat:Chat", "settings": {"room": 1}}
    process = PodProcess(bench, tmp_path, ["node-0"])
    process.write(clients=[{"name": "blob"}, chat])
    await process.start()
    _, said = await process.process.communicate()
    assert process.process.returncode == 2
    line = json_line(said.decode())
    assert line is not None
    assert line.last == "spec.clients[1].class: chat cannot be imported: ModuleNotFoundError: No module named 'chat'"


async def test_a_pod_runs_a_client_that_is_mounted(bench: Bench, tmp_path: Path) -> None:
    process = PodProcess(bench, tmp_path, ["node-0", "node-1"])
    process.write(clients=[{"name": "chat", "class": "chat:Chat", "settings": {"room": 1}}])
    (tmp_path / "mounts" / "code").mkdir()
    (tmp_path / "mounts" / "code" / "chat.py").write_text(CHAT)
    async with process.running():
        [artifact] = await bench.inject("node-0", b"hello", client="chat")
        assert await bench.until_held("node-1", artifact, client="chat") == b"hello"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="pods are Linux")
async def test_a_pods_nodes_find_each_other_come_back_when_they_die_and_stop_when_asked(
    bench: Bench, tmp_path: Path
) -> None:
    async with pod_of(bench, tmp_path, "node-0", "node-1") as pod:
        first = (await bench.peers("node-1")).pid
        os.kill(first, signal.SIGKILL)
        await pod.until_says("/healthz", 503)
        await pod.until_says("/readyz", 200)
        again = (await bench.peers("node-1")).pid
        assert again != first
        _, metrics = await pod_health.ask(pod.page, "/metrics")
        assert 'p2pnet_node_ready{node="node-1"} 1.0' in metrics
        assert await pod.end() == 0, pod.err
        assert b'"event":"exited","name":"node-1"' in pod.out
        assert f"node-0 serves on 127.0.0.1:{bench.subnet.ports['node-0']}".encode() in pod.err
        lines = [json_line(line) for line in (pod.out + pod.err).decode().splitlines()]
        assert None not in lines, "supervisor, agent and nodes write in one form"
        await until_gone([again])


def test_the_nodes_of_a_pod_behave_as_its_group_does() -> None:
    read = pod.PodMembers.read({"P2PNET_MEMBERS": "liar-0,liar-1", "P2PNET_GROUP": "liar", "P2PNET_BEHAVIOUR": "lying"})
    assert [config.behaviour for config in pod.node_configs(read, BASE)] == ["lying", "lying"]
    with pytest.raises(SpecError, match="P2PNET_BEHAVIOUR: 'mean' is none of honest, silent"):
        pod.PodMembers.read({"P2PNET_MEMBERS": "node-0", "P2PNET_BEHAVIOUR": "mean"})
