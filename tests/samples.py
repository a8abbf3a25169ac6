"""Documents to draw and to judge, whole and of one piece; a test says in what its own differs."""

from typing import Any

import msgspec

from p2pnet.model.report import (
    ByteCost,
    ExpectationResult,
    FaultStatus,
    Finding,
    Hops,
    Latency,
    LinkFigures,
    Load,
    NetworkRow,
    Reach,
    Report,
    SeenFigures,
    Throughput,
)


def sample_report(**changes: Any) -> Report:
    """A run that passed."""
    report = Report(
        run="r-20261121-201320-7f", subnet="demo", target="local", seed=7, nodes=20, artifacts=20, verdict="pass",
        reach=Reach(380, 380, 1.0), latency_ms=Latency(141.2, 260.0, 312.0, 402.0, 455.0), hops=Hops(2, 3),
        duplicates_per_delivery=0.104, bytes=ByteCost(24_903_680, 27_300_000, 1.0962), clock_bound_ms=0.0,
        expectations=[ExpectationResult("p95 <= 800ms", 312.0, True), ExpectationResult("reach >= 99%", 100.0, True)],
        artifact_ids=[f"{index:02x}" * 32 for index in range(1, 21)], publishers=["node-1", "node-2"],
        payload_bytes=20 * 65536, cdf_ms=[10.0 + index * index * 1.1125 for index in range(21)],
        load=Load(rate_per_s=10.0, within_s=60.0, seed=7, count=20, published_per_s=9.98), slowest="05" * 32,
        throughput=Throughput(10_560_000.0, 8.48),
    )  # fmt: skip
    return msgspec.structs.replace(report, **changes)


def true_rows() -> list[NetworkRow]:
    """Three rules as asked, each with its worst link."""

    def pair(
        rule: str, source: str, to: str, asked: LinkFigures, seen: SeenFigures, worst: SeenFigures
    ) -> list[NetworkRow]:
        whole = NetworkRow(rule, source, to, asked, seen, ok=True, links=120, links_total=120)
        link = NetworkRow(rule, "node-1", "node-7", asked, worst, ok=True, links=1, links_total=1, worst=True)
        return [whole, link]

    return [
        *pair("default", "*", "*", LinkFigures(10.0), SeenFigures(10.02, samples=2400), SeenFigures(10.1, samples=20)),
        *pair(
            "rules[0]", "region=eu", "region=us", LinkFigures(90.0, 5.0, 0.002), SeenFigures(90.03, 5.02, 0.00204, None, 24000),
            SeenFigures(91.4, 5.2, 0.0021, None, 200),
        ),
        *pair(
            "access", "group=home", "*", LinkFigures(bandwidth_bps=10e6), SeenFigures(bandwidth_bps=9.93e6, samples=300),
            SeenFigures(bandwidth_bps=9.9e6, samples=30),
        ),
    ]  # fmt: skip


def broken_row() -> NetworkRow:
    """A rule that is not in force as asked."""
    return NetworkRow(
        "rules[0] + fault cut-eu", "region=eu", "region=us", LinkFigures(90.0, None, 0.002),
        SeenFigures(45.1, None, 0.0019, None, 24000), ok=False, links=40, links_total=120,
        problem="asked 90 ms, seen 45.1 ms (24,000 probes on 40 links)",
    )  # fmt: skip


def sample_faults() -> list[FaultStatus]:
    """One fault that lasted a time, one done once, one that is held."""
    return [
        FaultStatus(
            "cut-eu", "block from region=eu to region=us", "spec", "ended", ["eu-0", "eu-1", "eu-2", "eu-3"],
            since="2026-11-21T20:12:50Z", until="2026-11-21T20:13:20Z",
        ),
        FaultStatus("kill-1", "kill node-3", "lease", "ended", ["node-3"], since="2026-11-21T20:13:01Z"),
        FaultStatus(
            "loss-1", "loss 20% from node-0 to *", "lease", "active", ["node-0"], since="2026-11-21T20:13:10Z",
            until="2026-11-21T20:14:10Z",
        ),
    ]  # fmt: skip


def sample_findings() -> list[Finding]:
    """What stood out."""
    return [
        Finding("node-7", "its uplink was full for 4 of 9 s (1.1 MiB waited)", "uplink-full", seconds=4.0),
        Finding("node-2", "it lost 18% of what node-0 sent it", "lossy-peer", "node-0", 9.0),
    ]
