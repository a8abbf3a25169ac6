"""An Injection document is read whole, or refused with the path and what is wanted there."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.measure.pace import parse
from p2pnet.model.errors import SpecError
from p2pnet.subnet.injection import OfferedRateText, load_injection


def document(**spec: Any) -> dict[str, Any]:
    metadata = {"name": "smoke"}
    return {
        "apiVersion": "p2pnet.io/v1alpha1",
        "kind": "Injection",
        "metadata": metadata,
        "spec": {"subnet": "demo", **spec},
    }


def test_a_document_is_read_with_its_units_and_defaults() -> None:
    text = """
apiVersion: p2pnet.io/v1alpha1
kind: Injection
metadata: {name: smoke}
spec: {subnet: demo, size: 64KiB, count: 20, rate: 2/s, from: random, within: 30s, expect: ["reach >= 99%", "p95 <= 800ms"]}
status: {state: Running}
"""
    spec = load_injection(text).spec
    assert (spec.size.bytes, spec.rate.number, spec.within.seconds, spec.count) == (65536, 2.0, 30.0, 20)
    assert spec.expect == ["reach >= 99%", "p95 <= 800ms"]
    least = load_injection(document()).spec
    assert (least.size, least.count, least.rate, least.from_, least.within, least.expect, least.ttl) == (
        None, None, None, "random", "60s", [], None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "path", "wanted"),
    [
        ({"subnet": "Demo"}, "spec.subnet", "no name of a subnet"),
        ({"size": 65536}, "spec.size", "a number with its unit"),
        ({"size": "0B"}, "spec.size", "from 1B to 128Mi"),
        ({"size": "1Gi"}, "spec.size", "from 1B to 128Mi"),
        ({"size": "1KiB", "filesFrom": {"configMap": "x"}}, "spec.size", "not both"),
        ({"filesFrom": {}}, "spec.filesFrom.configMap", "missing"),
        ({"files": ["photo.jpg"]}, "spec.files", "filesFrom"),
        ({"count": 0}, "spec.count", "greater than or equal to 1"),
        ({"rate": "2"}, "spec.rate", "a number per time"),
        ({"rate": "0/s"}, "spec.rate", "above zero"),
        ({"rate": "2/s, then 3/s"}, "spec.rate", "or stages"),
        ({"rate": "2/s to 3/s"}, "spec.rate", "or stages"),
        ({"rate": "2/s over 3s"}, "spec.rate", "or stages"),
        ({"rate": "2000000/s"}, "spec.rate", "a million"),
        ({"within": "0s"}, "spec.within", "above zero"),
        ({"within": "25h"}, "spec.within", "at most 1d"),
        ({"ttl": "1s"}, "spec.ttl", "from 10s"),
        ({"expect": ["p95 <= 800"]}, "spec.expect[0]", "'p95 <= 800' is no expectation: write a metric (p50"),
        ({"expect": ["lost == 0"]}, "spec.expect[0]", "p50 p90"),
        ({"expect": "reach >= 99%"}, "spec.expect", "list"),
        ({"expect": [7]}, "spec.expect[0]", "write a text"),
        ({"expect": ["p95 <= 1ms" + " " * 200]}, "spec.expect[0]", "at most 200"),
        ({"payload": {"size": "64KiB"}}, "spec.payload", "unknown key"),
        ({"frm": "all"}, "spec.frm", "did you mean 'from'?"),
    ],
)
def test_what_is_wrong_is_named_with_its_path(spec: dict[str, Any], path: str, wanted: str) -> None:
    with pytest.raises(SpecError) as raised:
        load_injection(document(**spec))
    assert path in str(raised.value)
    assert wanted in str(raised.value)


RATES = ["0/s", "0.0/s", "2/s", "0.5 /m", "30/h", "2000000/s", "60000000/m", "2", "s"]
TIMES = [" for 30s", " over 1m", " for 2 ms", " for 0s", " for 0.00ms", " for 99999d", " for", "", " to 4/s over 5s", " to 4/s",
         " to 0/s over 12h", " to 4/s for 1s", "\n"]  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(RATES), st.sampled_from(TIMES)), min_size=1, max_size=3),
       st.sampled_from([", then ", " then ", ",", " , ", " ", ",\xa0"]))  # fmt: skip
def test_a_rate_is_taken_exactly_when_a_lab_reads_it_and_stages_are_refused_in_the_labs_words(stages, between) -> None:
    text = between.join(rate + time for rate, time in stages)
    try:
        parse(text)
        why = ""
    except SpecError as error:
        why = str(error)
    if not why and not text.endswith("\n") and "\xa0" not in text:
        assert load_injection(document(rate=text)).spec.rate == text
        return
    with pytest.raises(SpecError) as refused:
        load_injection(document(rate=text))
    said = str(refused.value)
    assert said.startswith("spec.rate: ")
    if re.fullmatch(OfferedRateText.pattern, text, re.ASCII) and OfferedRateText(text).is_staged:
        assert said == f"spec.rate: {why}"


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        ("2/s for 0s", "stage 1 of the rate '2/s for 0s': '2/s for 0s' takes no time"),
        ("0/s for 10s", "'0/s for 10s' is no rate: write a number per time above zero"),
        ("2/s for 30s, then 0/s", "'0/s' would go on without publishing"),
        ("2000000/s for 10s", "is more than a million per second"),
        ("2/s for 99999d", "at most a day"),
        (", ".join(["1/s for 1s"] * 33), "33 stages are too many"),
    ],
)
def test_stages_that_no_lab_would_run_are_refused_before_one_is_asked(rate: str, words: str) -> None:
    with pytest.raises(SpecError) as refused:
        load_injection(document(rate=rate))
    assert str(refused.value).startswith("spec.rate: ")
    assert words in str(refused.value)


NO_SPACES = ["\v", "\xa0", "\u2003", "\u2028", "\x85", "\x1c"]
"""What Python strips and Go's regular expressions, by which an API server reads documents, do not know as a space."""


@pytest.mark.parametrize("space", NO_SPACES)
def test_what_is_no_space_to_an_api_server_is_none_here(space: str) -> None:
    texts: dict[str, list[str]] = {
        "expect": [f"p95{space}<= 8ms", f"p95 <= 8ms{space}", f"reach >= 99{space}%"],
        "within": [f"10{space}s", f"10s{space}"], "size": [f"1{space}KiB"], "ttl": [f"1{space}h"],
        "rate": [f"2{space}/s", f"2/s for{space}3s", f"2/s{space}"],
    }  # fmt: skip
    for field, wrong in texts.items():
        for text in wrong:
            with pytest.raises(SpecError, match=rf"^spec\.{field}"):
                load_injection(document(**{field: [text] if field == "expect" else text}))


@pytest.mark.parametrize("rate", [" 2/s", "2/s ", "2/s\n", "\t2/s", " 2/s for 30s, then 3/s"])
def test_a_rate_has_no_spaces_around_it_as_no_quantity_of_a_document_has(rate: str) -> None:
    with pytest.raises(SpecError, match=r"^spec\.rate: .* is no rate"):
        load_injection(document(rate=rate))
