"""What steps mean in a subnet, and which a target lacks."""

import pytest
from tests.scenario.documents import plan

from p2pnet.model.errors import SpecError
from p2pnet.scenario.targets import nodes_meant, sized, unsupported_steps
from p2pnet.subnet.document import default_subnet

A = {"name": "a", "inject": {}}
TARGETS = ["local", "cluster", "kind", "sim"]


def test_a_group_takes_another_size_and_the_rest_stays():
    found = plan(A).subnet
    assert [sized(found, group, 4).node_count for group in ("node", "eu")] == [6, 10]
    assert sized(default_subnet("demo", 3), "node", 5).spec.nodes == 5
    with pytest.raises(SpecError, match="no group 'us'"):
        sized(found, "us", 4)


def test_a_share_of_nodes_is_the_same_for_the_same_name():
    found = plan(A).subnet
    assert nodes_meant(found, "50%", "one") == nodes_meant(found, "50%", "one")
    assert nodes_meant(found, "region=eu", "one") == ["eu-0", "eu-1"]


@pytest.mark.parametrize("target", TARGETS)
def test_a_plain_scenario_runs_everywhere(target):
    steps = [
        A,
        {"fault": {"loss": "5%"}},
        {"heal": "*"},
        {"scale": {"nodes": 7}},
        {"restart": "node-1"},
        {"upgrade": {}},
    ]
    assert unsupported_steps(plan(*steps, {"rotate": {}}, {"wait": {"connected": "100%"}}), target) == {}


@pytest.mark.parametrize(("target", "lacks"), [("local", True), ("sim", True), ("cluster", False), ("kind", False)])
def test_images_are_a_cluster_s(target, lacks):
    found = unsupported_steps(plan(A, {"upgrade": {"image": "node:2"}}), target)
    assert bool(found) is lacks
    if lacks:
        assert found["spec.steps[1]"].startswith(
            "spec.steps[1].upgrade.image: has no meaning here: there are no images"
        )


@pytest.mark.parametrize("target", TARGETS)
def test_only_the_simulator_looks_into_nodes(target):
    found = unsupported_steps(plan(A, {"wait": {"promise": "kept"}}), target)
    assert list(found) == ([] if target == "sim" else ["spec.steps[1]"])
    for line in found.values():
        assert line.startswith("spec.steps[1].wait.promise: only the simulator looks into nodes")


@pytest.mark.parametrize("target", TARGETS)
def test_what_a_target_cannot_do_to_packets_it_cannot_do_in_a_step(target):
    steps = [A, {"parallel": [{"inject": {}}, {"fault": {"duplication": "5%"}}]}]
    found = unsupported_steps(plan(*steps), target)
    assert list(found) == (["spec.steps[1].parallel[1]"] if target == "sim" else [])
    for line in found.values():
        assert line.startswith("spec.steps[1].parallel[1].fault.duplication: has no effect here")


@pytest.mark.parametrize("target", ["cluster", "kind"])
def test_leaves_of_cert_manager_are_rotated_by_it(target):
    subnet = {"nodes": 3, "identity": {"issuer": "certManager", "issuerRef": {"name": "ca"}}}
    found = unsupported_steps(plan(A, {"rotate": {}}, subnet=subnet), target)
    assert "cert-manager's here" in found["spec.steps[1]"]
