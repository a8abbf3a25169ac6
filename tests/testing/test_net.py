"""A subnet for the length of a test, of real or simulated nodes; what does not hold says what was measured."""

import os
from pathlib import Path
from typing import Any

import pytest

import p2pnet.testing
from p2pnet.model.errors import SpecError

ROOT = Path(__file__).parents[2]


def processes_of(state: Path) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"P2PNET_STATE={state}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append(entry.name)
        except OSError:
            continue  # gone meanwhile
    return found


def test_a_subnet_lives_as_long_as_its_block(tmp_path: Path) -> None:
    with p2pnet.testing.subnet(nodes=2) as net:
        assert net.status().nodes.connected == 2
        report = net.inject(b"hello", publisher="node-0").expect("reach == 100%", "hops <= 1").report
        assert (report.artifacts, report.payload_bytes, report.publishers) == (1, 5, ["node-0"])
        with pytest.raises(AssertionError, match=r"p95 <= 0\.001ms: measured [0-9.]+"):
            net.inject(size=100, count=2).expect("p95 <= 0.001ms")
        assert net.scale(3).nodes.connected == 3
        with pytest.raises(p2pnet.testing.CommandFailedError, match="node-9") as failed:
            net.fault("add", "kill", "--node", "node-9")
        assert failed.value.code == 2
        root = net.state.root
        assert len(processes_of(root)) >= 3
    assert processes_of(root) == []
    assert not root.exists()


def test_it_is_gone_when_the_test_fails_too() -> None:
    roots: list[Path] = []

    def failing() -> None:
        with p2pnet.testing.subnet(nodes=1) as net:
            roots.append(net.state.root)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    [root] = roots
    assert processes_of(root) == []
    assert not root.exists()


def test_a_document_is_simulated_in_the_same_words(tmp_path: Path) -> None:
    with p2pnet.testing.subnet(nodes=5, document=f"{ROOT}/examples/network.yaml", on="sim") as net:
        run = net.inject(size=1024, count=3, rate=5, seed=7).expect("p99 <= 10s")
        assert (run.report.target, run.report.seed, run.report.nodes) == ("sim", 7, run.report.nodes)
        again = net.inject(size="1KiB", count=3, rate="5/s", seed=7)
        assert again.report.digest == run.report.digest
        with pytest.raises(SpecError, match="p98"):
            run.expect("p98 <= 10s")
        with pytest.raises(p2pnet.testing.CommandFailedError):
            net.status()
        with pytest.raises(p2pnet.testing.CommandFailedError, match="no node of it runs"):
            net.scale(6)
        assert net.command("ls")["subnets"] == []
        file = tmp_path / "block"
        file.write_bytes(os.urandom(100))
        assert net.inject(str(file)).report.payload_bytes == 100


@pytest.mark.parametrize("on", ["local", "sim"])
def test_a_document_that_cannot_be_is_told_in_the_words_of_the_command_before_the_block_begins(on: Any) -> None:
    wrong = {"spec": {"nodes": 3, "topology": {"kind": "star"}}}
    with pytest.raises(ValueError, match="on='mars': one of local, sim"), p2pnet.testing.subnet(on="mars"):
        raise AssertionError
    block = p2pnet.testing.subnet(document=wrong, on=on)
    with pytest.raises(p2pnet.testing.CommandFailedError, match=r"spec\.topology\.kind") as failed:
        block.__enter__()
    assert failed.value.code == 2
