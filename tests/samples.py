"""Documents to draw and to judge, whole and of one piece; a test says in what its own differs."""

from typing import Any

import msgspec

from p2pnet.model.report import ByteCost, ExpectationResult, Hops, Latency, Load, Reach, Report, Throughput


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
