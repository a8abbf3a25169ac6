"""JUnit XML: one case per expectation, and nothing invalid ever looks green."""

from collections.abc import Callable
from xml.etree import ElementTree as ET

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2pnet.model.report import ExpectationResult, Report
from p2pnet.present import to_junit


def suite_of(report: Report) -> ET.Element:
    root = ET.fromstring(to_junit(report).encode())
    suite = root.find("testsuite")
    assert suite is not None
    for name in ("tests", "failures", "errors", "skipped"):
        assert root.get(name) == suite.get(name)
    assert suite.get("tests") == str(len(suite.findall("testcase")))
    assert suite.get("failures") == str(len(suite.findall("testcase/failure")))
    assert suite.get("errors") == str(len(suite.findall("testcase/error")))
    return suite


def test_every_expectation_that_held_is_a_case_that_passed(report: Report) -> None:
    suite = suite_of(report)

    assert [case.get("name") for case in suite.findall("testcase")] == ["p95 <= 800ms", "reach >= 99%"]
    assert not suite.findall("testcase/*")
    assert (suite.get("name"), suite.get("timestamp")) == ("p2pnet.demo", "2026-11-21T20:13:20Z")


def test_an_expectation_that_did_not_hold_is_a_failure_with_its_value(failed: Report) -> None:
    suite = suite_of(failed)
    failure = suite.find("testcase[@name='p95 <= 100ms']/failure")

    assert suite.get("failures") == "1"
    assert failure is not None
    assert failure.get("message") == "p95 <= 100ms: measured 312 ms"


def test_in_an_invalid_run_every_case_is_an_error_with_all_the_reasons(invalid: Report) -> None:
    suite = suite_of(invalid)

    assert (suite.get("failures"), suite.get("errors")) == ("0", "2")
    for error in suite.findall("testcase/error"):
        assert error.get("message") == "the run is invalid: us-1: 12 events were lost"
        assert error.text == "us-1: 12 events were lost\nthe disk was full"


def test_a_run_that_judged_nothing_still_has_a_case_and_it_is_an_error(unmeasured: Report) -> None:
    suite = suite_of(unmeasured)

    assert [case.get("name") for case in suite.findall("testcase")] == ["the run is valid"]
    assert suite.get("errors") == "1"


def test_the_same_expectation_twice_is_two_cases_of_two_names(change: Callable[..., Report]) -> None:
    twice = [ExpectationResult("hops <= 3", 2, True)] * 2

    assert [case.get("name") for case in suite_of(change(expectations=twice)).findall("testcase")] == [
        "hops <= 3",
        "hops <= 3 (2)",
    ]


def test_the_figures_are_properties_and_what_was_not_measured_is_left_out(unmeasured: Report, report: Report) -> None:
    def properties(of: Report) -> dict[str | None, str | None]:
        return {one.get("name"): one.get("value") for one in suite_of(of).findall("properties/property")}

    assert properties(report)["latency_ms.p95"] == "312.0"
    assert "latency_ms.p95" not in properties(unmeasured)


def test_a_shaped_network_is_a_case_and_an_error_when_it_was_not_as_asked(shaped: Report, untrue: Report) -> None:
    held = suite_of(shaped)
    assert held.find("testcase[@name='network']") is not None
    assert not held.findall("testcase/*")
    assert "fault loss-1: loss 20% from node-0 to *" in (held.findtext("system-out") or "")
    assert "node-7: its uplink was full for 4 of 9 s" in (held.findtext("system-out") or "")

    error = suite_of(untrue).find("testcase[@name='network']/error")
    assert error is not None
    assert error.get("message") == "not as asked: 1 of 4 rules, 400 links probed"
    assert (error.text or "").startswith("rules[0] + fault cut-eu, region=eu to region=us: asked 90 ms, seen 45.1 ms")


def test_a_network_that_was_as_asked_is_no_error_in_a_run_that_is_invalid_for_another_reason(shaped: Report) -> None:
    suite = suite_of(msgspec.structs.replace(shaped, verdict="invalid", invalid=["the disk was full"]))

    assert suite.get("errors") == "2"
    assert suite.find("testcase[@name='network']/error") is None


def test_a_network_that_nobody_shaped_is_no_case(report: Report) -> None:
    assert suite_of(report).find("testcase[@name='network']") is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=60))
def test_any_text_makes_xml_that_can_be_read(invalid: Report, text: str) -> None:
    nasty = msgspec.structs.replace(
        invalid, subnet=text, invalid=[text, "\x00\ud800]]>"], notes=[text], digest=text,
        expectations=[ExpectationResult(text, 1.0, True)],
    )  # fmt: skip

    suite_of(nasty)
