"""An observed object is up to date when nothing of the desired one was edited and nothing has to go."""

import json

from tests.operator.kit import subnet_context

from p2pnet.operator.kube.desired import contains, up_to_date, with_hash
from p2pnet.operator.subnet.plan import rollout


def test_an_object_is_up_to_date_when_nothing_of_it_was_edited_and_nothing_has_to_go() -> None:
    budget = rollout.budget(subnet_context(nodes=5))
    assert budget is not None
    desired = with_hash(budget)
    there = json.loads(json.dumps(desired))
    there["status"] = {"currentHealthy": 5}
    there["metadata"]["labels"]["team"] = "ada"
    assert up_to_date(desired, there)
    assert not up_to_date(desired, None)
    assert not up_to_date(desired, {**there, "spec": {**there["spec"], "minAvailable": 0}})
    assert not up_to_date(with_hash({**budget, "spec": {"minAvailable": 1}}), there)
    assert contains({"a": [1, {"b": 2, "c": 3}]}, {"a": [1, {"b": 2}]})
    assert not contains({"a": [1, 2]}, {"a": [1]})
