"""Reports of every verdict, and a run with a hop tree."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.samples import broken_row, sample_faults, sample_findings, sample_report, true_rows

from p2pnet.measure import HopTree, hop_tree
from p2pnet.model.events import Collected, EventKind
from p2pnet.model.jobs import Payload, RunFile, RunRequest
from p2pnet.model.report import ByteCost, ExpectationResult, Hops, Latency, Load, NodeReceipts, Reach, Report

ARTIFACT = "3f" * 32
NODES = ["eu-0", "eu-1", "us-0", "us-1"]


@pytest.fixture
def report() -> Report:
    return sample_report(
        nodes=4, artifacts=1, reach=Reach(3, 3, 1.0), artifact_ids=[ARTIFACT], publishers=["eu-0"], payload_bytes=65536,
        duration_s=1.25, started_at=1_795_292_000.0, slowest=ARTIFACT,
        load=Load(publisher="eu-0", within_s=60.0, seed=7, count=1),
        per_node=[NodeReceipts(name, 1, 1, 100.0 + index, 150.0 + index, "eu-0") for index, name in enumerate(NODES)],
    )  # fmt: skip


@pytest.fixture
def change(report: Report) -> Callable[..., Report]:
    def changed(**fields: Any) -> Report:
        return msgspec.structs.replace(report, **fields)

    return changed


@pytest.fixture
def failed(change: Callable[..., Report]) -> Report:
    results = [ExpectationResult("reach >= 99%", 100.0, True), ExpectationResult("p95 <= 100ms", 312.0, False)]
    return change(verdict="fail", expectations=results)


@pytest.fixture
def burst(change: Callable[..., Report]) -> Report:
    load = Load(publisher="all", within_s=60.0, seed=7, client="chat", count=20)
    return change(load=load, artifacts=20, payload_bytes=20 * 65536)


@pytest.fixture
def paced(change: Callable[..., Report]) -> Report:
    load = Load(rate_per_s=10.0, within_s=60.0, seed=7, count=20, published_per_s=9.98)
    return change(load=load, artifacts=20, payload_bytes=20 * 65536, ignored=["spec.ttl: has no <meaning> here"])


@pytest.fixture
def invalid(change: Callable[..., Report]) -> Report:
    return change(verdict="invalid", invalid=["us-1: 12 events were lost", "the disk was full"])


@pytest.fixture
def shaped(change: Callable[..., Report]) -> Report:
    """On a network that was as asked, under faults."""
    return change(network=true_rows(), faults=sample_faults(), findings=sample_findings(), unknown=1)


@pytest.fixture
def untrue(change: Callable[..., Report]) -> Report:
    """On a network that was not as asked."""
    return change(
        verdict="invalid", invalid=["rules[0] + fault cut-eu was not in force"], network=[*true_rows(), broken_row()]
    )


@pytest.fixture
def unmeasured(change: Callable[..., Report]) -> Report:
    nothing = Latency(None, None, None, None, None)
    return change(
        verdict="invalid", invalid=["nothing was measured"], expectations=[], reach=Reach(0, 0, None), latency_ms=nothing,
        hops=Hops(None, None), duplicates_per_delivery=None, bytes=ByteCost(0, None, None), artifacts=0, artifact_ids=[],
        per_node=[], cdf_ms=[], publishers=[], payload_bytes=0, started_at=0.0, slowest="",
    )  # fmt: skip


@pytest.fixture
def run_file() -> RunFile:
    return RunFile(
        run="r-20261121-201320-7f", subnet="demo", target="local", seed=7,
        request=RunRequest([Payload("photo.jpg", size=65536)], count=3, rate=2.0), created_at=1_795_292_000.0,
        nodes=NODES, version="0.1.0", spec={"spec": {"nodes": 4}}, artifacts=[ARTIFACT], names=["photo.jpg"],
    )  # fmt: skip


@pytest.fixture
def tree() -> HopTree:
    def event(node: str, kind: EventKind, ms: int, peer: str = "", hop: int = 0) -> Collected:
        return Collected(node, "i", 0, ms * 10**6, kind, "blob", ARTIFACT, peer, hop, 65536)

    events = [
        event("eu-0", EventKind.PUBLISHED, 100),
        event("eu-1", EventKind.VALIDATED, 120, "eu-0", 1),
        event("us-0", EventKind.VALIDATED, 210, "eu-1", 2),
        event("us-0", EventKind.DUPLICATE, 215, "eu-0", 1),
    ]
    return hop_tree(ARTIFACT, events, NODES)
