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


RATES = ["0/s", "2/s", "0.5 /m", "30/h", "2", "s"]
TIMES = [" for 30s", " over 1m", " for 2 ms", " for", "", " to 4/s over 5s", " to 4/s", " to 4/s for 1s"]


@given(st.lists(st.tuples(st.sampled_from(RATES), st.sampled_from(TIMES)), min_size=1, max_size=3),
       st.sampled_from([", then ", " then ", ",", " , ", " "]))  # fmt: skip
def test_every_rate_that_a_lab_reads_is_taken_and_what_it_cannot_is_mostly_refused(stages, between) -> None:
    text = between.join(rate + time for rate, time in stages)
    taken = re.fullmatch(OfferedRateText.pattern, text) is not None
    try:
        parse(text)
        why = ""
    except SpecError as error:
        why = str(error)
    # What is left to the lab: sums and zeros.
    assert taken == (why == "") or (
        taken and re.search("takes no time|without publishing|is no rate|a day|a million", why)
    )
