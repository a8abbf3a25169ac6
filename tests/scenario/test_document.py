"""Scenarios are read whole: every mistake is told with its place and what to do."""

from typing import Any

import jsonschema
import pytest
from tests.scenario.documents import SUBNET, document, plan

from p2pnet.model.errors import SpecError
from p2pnet.scenario.document import checked_plan, read_scenario, renamed, scenario_json_schema
from p2pnet.subnet.document import default_subnet

INJECT: dict[str, Any] = {"inject": {}}


def wrong(*steps: dict[str, Any], subnet: dict[str, Any] | None = None) -> str:
    with pytest.raises(SpecError) as error:
        plan(*steps, subnet=subnet)
    return str(error.value)


def test_a_text_is_read_among_others_and_they_are_named():
    text = """
apiVersion: v1
kind: Namespace
metadata: {name: team}
---
apiVersion: p2pnet.io/v1alpha1
kind: Scenario
metadata: {name: story, description: What happens.}
spec:
  subnetFrom: ../demo.yaml
  steps:
    - inject: {size: 1KiB}
"""
    written = read_scenario(text)
    assert (written.scenario.name, written.inline, written.others) == ("story", None, ("Namespace team",))
    assert written.scenario.metadata.description == "What happens."
    subnet = renamed(default_subnet("demo", 3), "story")
    assert checked_plan(written.scenario, subnet).subnet.name == "story"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "not YAML: line 1"),
        ("- 1", "a Scenario document is a mapping"),
        ("kind: Subnet\n---\nkind: Pod", "one Scenario document is wanted, none is here, only Subnet, Pod"),
        ("a: 1\na: 2", "key 'a' stands here twice"),
    ],
)
def test_a_text_without_a_scenario_says_what_is_there(text, said):
    with pytest.raises(SpecError, match=said.replace("[", r"\[")):
        read_scenario(text, "story.yaml")


def test_shapes_that_are_wrong_are_all_told_with_their_paths():
    value = document([{"inject": {"cout": 3, "size": 5}}, {"wait": 5}, {"expect": []}], nmae="x")
    value["spec"]["stepz"] = []
    with pytest.raises(SpecError) as error:
        read_scenario(value, "story.yaml")
    told = str(error.value)
    assert told.startswith("story.yaml: 6 mistakes")
    for line in (
        "metadata.nmae: unknown key, did you mean 'name'?",
        "spec.steps[0].inject.cout: unknown key, did you mean 'count'?",
        "spec.steps[0].inject.size: '5' is no size: write a number with its unit",
        "spec.steps[1].wait: should be a mapping with keys like for, connected, holds, gone, not 5",
        "spec.steps[2].expect",
        "spec.stepz: unknown key, did you mean 'steps'?",
    ):
        assert line in told


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"steps": [INJECT]}, "in the file that subnetFrom names, and none is given"),
        ({"subnet": {"nodes": 3}, "subnetFrom": "a.yaml", "steps": [INJECT]}, "not both"),
    ],
)
def test_a_scenario_has_one_subnet(spec, said):
    with pytest.raises(SpecError, match=said):
        read_scenario({**document([INJECT]), "spec": spec})


def test_what_is_wrong_in_the_subnet_is_told_where_it_stands():
    assert wrong(INJECT, subnet={"nodes": 5, "topology": {"kind": "random-regular", "degree": 3}}).startswith(
        "spec.subnet.topology.degree: nodes x degree is an odd number"
    )
    assert "spec.subnet.nodez: unknown key, did you mean 'nodes'?" in wrong(INJECT, subnet={"nodez": 5})


CASES: list[tuple[list[dict[str, Any]], str]] = [
    ([{"name": "a"}], "spec.steps[0]: a step does one of inject, withdraw, expect"),
    ([{"inject": {}, "wait": "1s"}], "spec.steps[0]: a step does one thing, not inject and wait: make steps of them"),
    (
        [{"name": "a", **INJECT}, {"name": "a", **INJECT}],
        "spec.steps[1].name: 'a' is the name of spec.steps[0] already",
    ),
    ([{"at": "1s", **INJECT}], "spec.steps[0].at: belongs to steps in parallel: write a wait step"),
    ([{"steps": [INJECT]}], "spec.steps[0].steps: belongs into parallel"),
    ([{"parallel": [{"parallel": [INJECT]}]}], "spec.steps[0].parallel[0].parallel: stands in another parallel"),
    ([{"parallel": [{"steps": [{"parallel": [INJECT]}]}]}], "parallel[0].steps[0].parallel: stands in another"),
    ([{"wait": "1s"}], "spec.steps: nothing is measured: add an inject step"),
    ([{"inject": {"from": "node-9"}}], "spec.steps[0].inject.from: there is no node 'node-9' at this step"),
    (
        [{"inject": {"client": "chat"}}],
        "spec.steps[0].inject.client: there is no client 'chat': the subnet has blob, other",
    ),
    ([{"inject": {"size": "1GiB"}}], "spec.steps[0].inject.size: 1GiB: from 1B to 128Mi"),
    ([{"inject": {"size": "0B"}}], "spec.steps[0].inject.size: 0B"),
    ([{"inject": {"size": "1KiB", "files": ["a"]}}], "spec.steps[0].inject.size: contradicts files"),
    (
        [{"inject": {"from": "all", "count": 100_000}}],
        "spec.steps[0].inject.count: 800000 artifacts are more than a run",
    ),
    ([{"inject": {"within": "2d"}}], "spec.steps[0].inject.within: 2d: more than nothing, and at most a day"),
    (
        [{"inject": {"expect": "p95 <= 800"}}],
        "spec.steps[0].inject.expect[0]: expectation 'p95 <= 800': at character 8",
    ),
    (
        [{"inject": {}}, {"expect": "a.p95 <= 1s"}],
        "no run before this step has the name 'a': give the inject step a name",
    ),
    ([{"name": "b", **INJECT}, {"expect": "a.p95 <= 1s"}], "has the name 'a': one of b"),
    (
        [{"expect": "a.p95 <= 1s"}, {"parallel": [INJECT, {"name": "a", **INJECT}]}],
        "spec.steps[0].expect[0]: no run before this step has the name 'a', it is spec.steps[1].parallel[1]: put this",
    ),
    (
        [{"parallel": [{"name": "a", **INJECT}, {"expect": "a.p95 <= 1s"}]}],
        "a (spec.steps[0].parallel[0]) is no inject step that is over before this one",
    ),
    ([INJECT, {"expect": "p95 <= 1s"}], "spec.steps[1].expect[0]: expectation 'p95 <= 1s': at character 1, the name"),
    ([INJECT, {"heal": "split"}], "spec.steps[1].heal[0]: no fault before this step has the name 'split'"),
    (
        [INJECT, {"name": "f", "fault": {"loss": "5%"}}, {"heal": "f"}, {"heal": "f"}],
        "spec.steps[3].heal[0]: fault f was healed before",
    ),
    ([INJECT, {"fault": {}}], "spec.steps[1].fault"),
    ([INJECT, {"fault": {"name": "x", "loss": "5%"}}], "spec.steps[1].fault.name: a fault has the name of its step"),
    ([INJECT, {"fault": {"loss": "5%", "from": "node-9"}}], "spec.steps[1].fault.from: no node is named 'node-9'"),
    (
        [INJECT, {"fault": {"partition": {"minority": "1%"}}}],
        "spec.steps[1].fault.partition.minority: 1% of 8 nodes is nobody",
    ),
    (
        [INJECT, {"fault": {"loss": "5%", "lantency": "5ms"}}],
        "spec.steps[1].fault.lantency: unknown key, did you mean 'latency'",
    ),
    ([INJECT, {"scale": {"nodes": 5, "group": "us"}}], "spec.steps[1].scale: there is no group 'us': one of node, eu"),
    ([INJECT, {"scale": {"nodes": 600}}], "602 nodes: a subnet has 1 to 500 nodes"),
    ([INJECT, {"scale": {"nodes": 100}}], "would have another spec.topology, which no running subnet takes"),
    (
        [INJECT, {"parallel": [{"scale": {"nodes": 3}}, {"scale": {"nodes": 4}}]}],
        "spec.steps[1].parallel[1]: two steps change the size of the subnet at the same time",
    ),
    (
        [INJECT, {"scale": {"nodes": 3}}, {"inject": {"from": "node-4"}}],
        "spec.steps[2].inject.from: there is no node 'node-4'",
    ),
    ([INJECT, {"restart": "node-9"}], "spec.steps[1].restart.nodes: no node is named 'node-9'"),
    ([INJECT, {"restart": "1%"}], "spec.steps[1].restart.nodes: 1% of 8 nodes is nobody"),
    ([INJECT, {"upgrade": {"nodes": "region=us"}}], "spec.steps[1].upgrade.nodes: 'region=us' selects no node"),
    (
        [INJECT, {"upgrade": {"image": "a:1", "maxUnavailable": 2}}],
        "spec.steps[1].upgrade.maxUnavailable: contradicts image",
    ),
    ([INJECT, {"rotate": {"within": "0s"}}], "spec.steps[1].rotate.within: more than nothing"),
    (
        [INJECT, {"wait": {}}],
        "spec.steps[1].wait: a wait is for a time, connected, idle, holds, gone or promise: one of them, and none",
    ),
    ([INJECT, {"wait": {"for": "1s", "connected": "100%"}}], "not for and connected"),
    ([INJECT, {"wait": {"for": "1s", "within": "1s"}}], "spec.steps[1].wait.within: belongs to a condition"),
    ([INJECT, {"wait": {"holds": "a"}}], "spec.steps[1].wait.holds[0]: no run before this step has the name 'a'"),
    ([INJECT, {"wait": {"gone": ["b"]}}], "spec.steps[1].wait.gone[0]: no run before this step has the name 'b'"),
    ([INJECT, {"wait": {"idle": "50%", "gone": "b"}}], "spec.steps[1].wait: a wait is for a time, connected, idle"),
    ([INJECT, {"withdraw": "b"}], "spec.steps[1].withdraw[0]: no run before this step has the name 'b'"),
    (
        [{"name": "b", **INJECT}, {"withdraw": "b"}, {"withdraw": ["b"]}],
        "spec.steps[2].withdraw[0]: b was withdrawn before",
    ),
    (
        [{"name": "b", **INJECT}, {"parallel": [{"withdraw": "b"}]}, {"wait": {"holds": "b"}}],
        "spec.steps[2].wait.holds: b was withdrawn before: no node holds it, wait until it is gone",
    ),
    ([INJECT, {"wait": "2d"}], "spec.steps[1].wait.for: more than nothing, and at most a day"),
]


@pytest.mark.parametrize(("steps", "said"), CASES, ids=[said[:60] for _, said in CASES])
def test_every_contradiction_names_its_place_and_what_to_do(steps, said):
    assert said in wrong(*steps)


def test_mistakes_are_told_together():
    told = wrong({"inject": {"from": "node-9"}}, {"heal": "x"}, {"expect": "y.p95 <= 1s"})
    assert told.startswith("3 mistakes")


def test_what_is_right_is_taken_in_every_form():
    found = plan(
        {
            "name": "a",
            "inject": {"size": "1KiB", "count": 3, "rate": "10/s", "from": "node-1", "expect": "p95 <= 800ms"},
        },
        {"name": "split", "fault": {"partition": {"minority": "30%"}, "for": "30s"}},
        {"fault": {"from": "region=eu", "latency": "90ms", "bothWays": True}},
        {"heal": ["split"]},
        {"heal": "*"},
        {"scale": {"nodes": 8, "within": "30s"}},
        {"restart": "20%"},
        {"upgrade": {}},
        {"upgrade": "group=eu"},
        {"rotate": {}},
        {"wait": "1s"},
        {"wait": {"connected": "95%", "within": "5s"}},
        {"parallel": [{"inject": {"client": "other"}}, {"at": "1s", "steps": [{"wait": "1s"}, {"restart": "node-7"}]}]},
        {"wait": {"holds": "a"}},
        {"expect": ["a.p95 <= 1s", "a.reach == 100%"]},
    )
    assert [step.number for step in found.all()][-7:] == ["13", "13.1", "13.2", "13.2.1", "13.2.2", "14", "15"]
    assert [step.name for step in found.steps][:4] == ["a", "split", "fault-2", "heal-1"]


def test_the_schema_takes_what_is_read_and_refuses_what_is_not():
    schema = scenario_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    good = document(
        [
            {"name": "a", "inject": {"size": "1KiB", "expect": "p95 <= 1s"}},
            {"wait": "1s"},
            {"wait": {"connected": "100%"}},
            {"restart": "node-1"},
            {"parallel": [{"at": "1s", "steps": [{"heal": "*"}]}, {"expect": ["a.p95 <= 1s"]}]},
            {"fault": {"loss": "5%"}},
        ],
        SUBNET,
    )
    assert list(check.iter_errors(good)) == []
    for steps in ([{"inject": {"cout": 1}}], [{"inject": {"size": "5"}}], [{"wiat": "1s"}], []):
        assert list(check.iter_errors(document(steps))) != []


def test_a_rate_has_stages_which_say_how_many_where_no_count_does() -> None:
    found = plan({"inject": {"rate": "2/s for 5s, then 10/s for 1s"}}, {"inject": {"rate": "2/s", "count": 3}})
    asks = [step.run for step in found.all() if step.run is not None]
    assert [(ask.count, ask.rate_per_s) for ask in asks] == [(20, "2/s for 5s, then 10/s for 1s"), (3, 2.0)]
    assert "spec.steps[0].inject.rate: stage 1" in wrong({"inject": {"rate": "2/s, then 10/s"}})
    assert "inject.rate: '10/s to 0/s over 1s' ends at 0/s with 5 of 9" in wrong(
        {"inject": {"rate": "10/s to 0/s over 1s", "count": 9}}
    )
