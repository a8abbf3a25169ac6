"""Whatever somebody writes is read, or refused with a sentence: never anything else."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.scenario.documents import document

from p2pnet.model.errors import SpecError
from p2pnet.scenario.document import checked_plan, inline_subnet, read_scenario
from p2pnet.scenario.expectations import read_expectation, runs_named
from p2pnet.scenario.plan import ScenarioPlan
from p2pnet.scenario.spec import STEP_KINDS

WORDS = [
    "a",
    "node-0",
    "10%",
    "1s",
    "5/s",
    "1KiB",
    "region=eu",
    "*",
    "",
    "a.p95 <= 1s",
    "a.p95 <= 2 * b.p50",
    "nobody",
    "0s",
]
KEYS = [
    "name", "at", "for", "nodes", "within", "size", "count", "rate", "from", "to", "expect", "group", "image", "holds",
    "connected",
    "loss", "latency", "partition", "minority", "kill", "churn", "files", "client", "seed", *STEP_KINDS,
]  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 10**12), st.floats(), st.sampled_from(WORDS), st.text(max_size=8)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)),
    max_leaves=12,
)
STEPS = st.lists(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3), max_size=5)


def read(value: object) -> None:
    with contextlib.suppress(SpecError):
        written = read_scenario(value if isinstance(value, dict) else str(value))
        if written.inline is not None:
            plan = checked_plan(written.scenario, inline_subnet(written))
            assert [step.what for step in plan.all()]


@given(STEPS)
def test_any_steps_are_read_or_refused(steps):
    read(document(steps))


@given(VALUES)
def test_any_value_is_read_or_refused(value):
    read({"apiVersion": "p2pnet.io/v1alpha1", "kind": "Scenario", "metadata": value, "spec": value})


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(octets):
    with contextlib.suppress(SpecError):
        read_scenario(octets)


@given(st.text(alphabet="abpr0159.*<>=% swithnmch-", max_size=40))
def test_any_expectation_is_read_or_refused_and_what_is_read_is_what_was_written(text):
    with contextlib.suppress(SpecError):
        one = read_expectation(text)
        assert one.expr == text.strip()
        assert all(name in text for name in runs_named(one))


def plan_of(text: str) -> ScenarioPlan:
    written = read_scenario(text)
    return checked_plan(written.scenario, inline_subnet(written))


@pytest.mark.parametrize("depth", [50, 5_000])
def test_a_document_that_nests_without_end_is_refused(depth):
    inner: dict = {"wait": "1s"}
    text = '{"parallel": [' * depth + json.dumps(inner) + "]}" * depth
    whole = json.dumps(document([])).replace('"steps": []', f'"steps": [{text}]')
    with pytest.raises(SpecError):
        plan_of(whole)
