"""The report as JUnit XML: one test case per expectation, for CI that shows tests."""

from collections import Counter
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

from p2pnet.measure import network_wording
from p2pnet.measure.pace import stage_words
from p2pnet.measure.wording import adversary_parts, measured, offered, stage_lines
from p2pnet.model.report import ExpectationResult, Report
from p2pnet.present.words import LATENCIES, clean, ignored_lines, journey_sentence

VALID = "the run is valid"
"""The test case of a run that judged no expectation: a suite without cases would be taken for a pass."""

NETWORK = "network"
"""The test case of a run on a network that was shaped."""


def to_junit(report: Report) -> str:
    """JUnit XML: a failed expectation is a `failure`; in an invalid run every one is an `error`.

    Where the network was shaped there is a case for that besides: an `error` when it was not as asked.
    """
    results = report.expectations or [ExpectationResult(VALID, None, ok=report.verdict == "pass")]
    invalid = report.verdict == "invalid"
    failures = 0 if invalid else sum(not result.ok for result in results)
    errors = (len(results) if invalid else 0) + bool(network_wording.amiss(report.network))
    totals = {
        "tests": str(len(results) + bool(report.network)),
        "failures": str(failures),
        "errors": str(errors),
        "skipped": "0",
        "time": f"{report.duration_s:.3f}",
    }
    root = ET.Element("testsuites", {"name": "p2pnet", **totals})
    suite = ET.SubElement(root, "testsuite", {"name": _text(f"p2pnet.{report.subnet}"), **totals})
    if started := _started(report.started_at):
        suite.set("timestamp", started)
    properties = ET.SubElement(suite, "properties")
    for name, value in _properties(report).items():
        ET.SubElement(properties, "property", {"name": name, "value": _text(value)})
    seen: Counter[str] = Counter()
    for result in results:
        seen[result.expr] += 1
        again = f" ({seen[result.expr]})" if seen[result.expr] > 1 else ""
        _case(suite, report, result, result.expr + again)
    if report.network:
        _network(suite, report)
    faults = [f"fault {network_wording.fault_words(fault)}" for fault in report.faults]
    findings = [network_wording.finding_words(finding) for finding in report.findings]
    ET.SubElement(suite, "system-out").text = _text(
        "\n".join(
            [journey_sentence(report), *stage_lines(report), *ignored_lines(report), *faults, *findings, *report.notes]
        )
    )
    ET.indent(root)
    return "<?xml version='1.0' encoding='UTF-8'?>\n" + ET.tostring(root, encoding="unicode") + "\n"


def _case(suite: ET.Element, report: Report, result: ExpectationResult, name: str) -> None:
    case = ET.SubElement(suite, "testcase", {"classname": _text(f"p2pnet.{report.subnet}"), "name": _text(name)})
    if report.verdict == "invalid":
        reasons = report.invalid or ["no reason was recorded"]
        said = {"message": _text(f"the run is invalid: {reasons[0]}"), "type": "invalid"}
        ET.SubElement(case, "error", said).text = _text("\n".join(reasons))
    elif not result.ok:
        said = {"message": _text(f"{result.expr}: measured {measured(result)}"), "type": "expectation"}
        ET.SubElement(case, "failure", said).text = _text(journey_sentence(report))


def _network(suite: ET.Element, report: Report) -> None:
    case = ET.SubElement(suite, "testcase", {"classname": _text(f"p2pnet.{report.subnet}"), "name": NETWORK})
    wrong = network_wording.amiss(report.network)
    if wrong:
        said = {"message": _text(", ".join(network_wording.summary(report.network))), "type": "network"}
        ET.SubElement(case, "error", said).text = _text("\n".join(map(network_wording.problem_of, wrong)))


def _properties(report: Report) -> dict[str, str]:
    load, throughput = report.load, report.throughput
    facts: dict[str, object] = {
        "schema": report.schema,
        "run": report.run,
        "subnet": report.subnet,
        "target": report.target,
        "seed": report.seed,
        "client": report.client,
        "label": report.label or None,
        "ignored": "; ".join(report.ignored) or None,
        "load": offered(load) if load else None,
        "load.rate_per_s": load.rate_per_s if load else None,
        "load.stages": ", then ".join(map(stage_words, load.stages)) or None if load else None,
        "load.published_per_s": load.published_per_s if load else None,
        "load.from": load.publisher if load else None,
        "load.within_s": load.within_s if load else None,
        "nodes": report.nodes,
        "adversaries": "; ".join(adversary_parts(report.adversaries, report.nodes)) or None,
        "artifacts": report.artifacts,
        "verdict": report.verdict,
        "reach": report.reach.ratio,
        **{f"latency_ms.{name}": getattr(report.latency_ms, name) for name in LATENCIES},
        "hops.max": report.hops.max,
        "duplicates_per_delivery": report.duplicates_per_delivery,
        "bytes.ratio": report.bytes.ratio,
        "throughput.payload_bytes_per_s": throughput.payload_bytes_per_s,
        "throughput.artifacts_per_s": throughput.artifacts_per_s,
        "clock_bound_ms": report.clock_bound_ms,
        "unknown": report.unknown,
        "network": ", ".join(network_wording.summary(report.network)) or None,
        "faults": "; ".join(map(network_wording.fault_words, report.faults)) or None,
        "stopped_early": report.stopped_early.expr if report.stopped_early else None,
        "digest": report.digest,
    }
    return {name: str(value) for name, value in facts.items() if value is not None}


def _started(unix_s: float) -> str:
    try:
        return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if unix_s else ""
    except (OverflowError, OSError, ValueError):
        return ""


def _text(value: str) -> str:
    """Text without the characters that XML 1.0 forbids."""
    return clean(value)
