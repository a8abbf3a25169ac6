"""The same document, load and seed give the same run: in another process, under another hash seed, however time is cut."""

import os
import subprocess
import sys

import msgspec
from tests.sim.documents import load, subnet

from p2pnet.sim import virtual_subnet as module
from p2pnet.sim.simulate import SimOutcome, simulate

DOCUMENT = subnet(
    groups=[
        {"name": "eu", "nodes": 6, "labels": {"region": "0"}},
        {"name": "us", "nodes": 6, "labels": {"region": "1"}},
    ],
    topology={"kind": "random-regular", "degree": 4},
    network={"preset": "ic-lhg73", "access": {"up": "20Mbit"}, "default": {"jitter": "1ms"}},
    faults=[
        {"name": "cut", "partition": {"minority": "30%"}, "after": "1s", "for": "3s"},
        {"name": "churn", "churn": {"rate": "30/m", "down": "2s"}, "after": "2s", "for": "10s"},
    ],
)
LOAD = load(5_000, sender="random", count=10, rate_per_s=2.0)


def fingerprint(outcome: SimOutcome) -> str:
    return msgspec.json.encode((outcome.report, outcome.run, outcome.events)).decode()


def test_another_process_with_another_hash_seed_gives_the_same_report_events_and_digest() -> None:
    code = (
        "import sys; from tests.sim.test_simulate_determinism import *;"
        "sys.stdout.write(fingerprint(simulate(DOCUMENT, LOAD, seed=7)))"
    )
    here = fingerprint(simulate(DOCUMENT, LOAD, seed=7))
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == here


def test_how_often_somebody_looks_changes_nothing(monkeypatch) -> None:
    seldom = fingerprint(simulate(DOCUMENT, LOAD, seed=7))
    monkeypatch.setattr(module, "CALLS_PER_LOOK", 7)
    seen: list[float] = []
    often = fingerprint(simulate(DOCUMENT, LOAD, seed=7, on_progress=lambda progress: seen.append(progress.virtual_s)))
    assert often == seldom
    assert len(seen) > 200


def test_each_seed_is_another_run() -> None:
    digests = {simulate(DOCUMENT, LOAD, seed=seed).report.digest for seed in range(3)}
    assert len(digests) == 3
