"""A Subnet's status has six conditions, counts and columns."""

import dataclasses
from datetime import timedelta

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.operator.kit import NOW, subnet_context

from p2pnet.model.report import CertificateCounts, FaultStatus, LinkCounts, NodeCounts, RunSummary, Status
from p2pnet.operator.kube.api import CONFIG_MAP, POD, Object, time_text
from p2pnet.operator.subnet import status
from p2pnet.operator.subnet.context import Observed, SubnetProblem
from p2pnet.operator.subnet.plan import configmaps, plan, wanted_pods
from p2pnet.operator.subnet.status import CONDITIONS

VERSION = 4
"""Of the member list that the subnets here have."""


def lab_status(
    up: int, expected: int, *, nodes: int = 3, connected: int = 0, runs: list[RunSummary] | None = None,
    faults: list[FaultStatus] | None = None
) -> Status:  # fmt: skip
    return Status(
        name="demo", target="cluster", nodes=NodeCounts(nodes, nodes, nodes, connected), links=LinkCounts(expected, up),
        certificates=CertificateCounts(3, None), runs=runs or [], faults=faults or [],
        registry_version=VERSION,
    )  # fmt: skip


def observed(ready: int, lab: Status | None = None, old: Object | None = None) -> Observed:
    """Three pods, the first `ready` of them so for an hour, and the member list that the lab has."""
    context = subnet_context(nodes=3)
    listed = configmaps.membership(context, Observed({"status": {"registryVersion": VERSION - 1}}, {}))
    pods = wanted_pods(context)
    since = time_text(NOW - timedelta(hours=1))
    for index, pod in enumerate(pods.values()):
        condition = {"type": "Ready", "status": str(index < ready), "lastTransitionTime": since}
        pod["status"] = {"phase": "Running", "conditions": [condition]}
        pod["metadata"]["creationTimestamp"] = since if index < ready else time_text(NOW)
    maps = {context.members_map: configmaps.members_map(context, listed)}
    return Observed({"metadata": {"name": "demo"}, "status": old or {}}, {POD: pods, CONFIG_MAP: maps}, lab)


def found(new: Object, kind: str) -> tuple[str, str]:
    one = next(one for one in new["conditions"] if one["type"] == kind)
    return one["status"], one["reason"]


def status_now(
    seen: Observed, problem: SubnetProblem | None = None, annotations: dict[str, str] | None = None, **spec: object
) -> Object:
    context = subnet_context(nodes=3, annotations=annotations, **spec)
    seen.children.setdefault(POD, {})
    return status.status_of(context, seen, plan(context, seen, NOW), problem, NOW)


def test_ready_needs_pods_certificates_and_links() -> None:
    # Without a Secret of the authority but with pods, certificates are never ready.
    assert found(status_now(observed(2, lab_status(3, 3))), "Ready") == ("False", "NotReady")
    assert found(status_now(observed(3, lab_status(2, 3))), "Ready") == ("False", "LinksMissing")
    assert found(status_now(observed(3)), "Ready") == ("Unknown", "LabUnreachable")
    assert found(status_now(observed(3, lab_status(3, 3))), "Ready") == ("False", "AuthorityLost")


def test_the_column_status_names_what_is_wrong_then_paused_then_what_is_awaited_then_ready() -> None:
    whole = observed(3, lab_status(3, 3))
    paused = {"annotations": {"p2pnet.io/paused": "true"}}
    assert status_now(whole, SubnetProblem("Quota", "pods=2"))["state"] == "Quota"
    assert status_now(observed(2, lab_status(3, 3)), SubnetProblem("Quota", "pods=2"), **paused)["state"] == "Quota"
    assert column("True") == "RolloutStalled"
    assert column("False", paused="True") == "Paused"
    assert column("False", progressing="True") == "Scaling"
    assert column("False") == "LinksMissing"
    assert column("False", ready="True") == "Ready"
    refused = SubnetProblem("InvalidSpec", "spec.nodes: no")
    fresh = status.refused_status({"metadata": {"name": "demo"}}, refused, NOW)
    assert [fresh[key] for key in ("state", "ready", "connected", "links")] == ["InvalidSpec", "?", "?", "?"]
    known = status.refused_status(
        {"metadata": {"name": "demo"}, "status": {"ready": "3/3", "links": "3/3"}}, refused, NOW
    )
    assert [known[key] for key in ("state", "ready", "connected", "links")] == ["InvalidSpec", "3/3", "?", "3/3"]


def column(degraded: str, *, paused: str = "False", progressing: str = "False", ready: str = "False") -> str:
    truths = {
        "Degraded": (degraded, "RolloutStalled"), "Paused": (paused, "Annotated"), "Progressing": (progressing, "Scaling"),
        "Ready": (ready, "LinksMissing"),
    }  # fmt: skip
    return status.state_of([{"type": kind, "status": truth, "reason": why} for kind, (truth, why) in truths.items()])


def test_of_eleven_nodes_without_one_ten_are_ready_and_ten_links_of_each_other_are_up() -> None:
    context = subnet_context(nodes=11)
    listed = configmaps.membership(context, Observed({"status": {"registryVersion": VERSION - 1}}, {}))
    pods = wanted_pods(context)
    for pod in pods.values():
        pod["status"] = {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": time_text(NOW)}]}
    pods.pop("demo-node-4")
    maps = {context.members_map: configmaps.members_map(context, listed)}
    seen = Observed({"metadata": {"name": "demo"}}, {POD: pods, CONFIG_MAP: maps}, lab_status(45, 55, nodes=11))
    new = status.status_of(context, seen, plan(context, seen, NOW), None, NOW)
    assert (new["ready"], new["connected"], new["links"]) == ("10/11", "0/11", "45/55")
    assert (
        status.status_of(context, dataclasses.replace(seen, lab=None), plan(context, seen, NOW), None, NOW)["links"]
        == "?"
    )


def test_columns_show_counts_and_the_last_report() -> None:
    runs = [RunSummary("r1", "finished", "pass", 1, 1.0, 12.345), RunSummary("r2", "running")]
    new = status_now(observed(2, lab_status(3, 3, connected=2, runs=runs)))
    assert (new["ready"], new["connected"]) == ("2/3", "2/3")
    assert new["lastReport"] == {
        "run": "r1",
        "state": "finished",
        "verdict": "pass",
        "reach": "100%",
        "p95": "12.35 ms",
    }
    assert (new["replicas"], new["readyReplicas"]) == (3, 2)
    later = status_now(observed(2, None, old=new))
    assert later["lastReport"] == new["lastReport"], "a lab that is away takes no report with it"
    assert later["connected"] == "?"


def test_faults_are_shown_with_their_states_and_without_their_times() -> None:
    lease = FaultStatus(
        "loss-1", "loss 5% from * to *", "lease", "active", until="2030-01-01T12:01:00Z", detail="of a run"
    )
    faults = [
        FaultStatus("cut", "block from node-0 to *", "spec", "active", ["node-0"], "2030-01-01T11:59:00Z"),
        FaultStatus("some", "kill 20% of the nodes", "spec", "failed", detail="20% of 2 nodes is nobody"),
        FaultStatus("later", "pause node-1", "spec", "waiting"), FaultStatus("done", "restart node-1", "spec", "ended"),
    ]  # fmt: skip
    new = status_now(observed(3, lab_status(3, 3, faults=[*faults, lease])))
    assert new["faults"] == [
        {"name": "cut", "what": "block from node-0 to *", "state": "active", "origin": "spec"},
        {"name": "some", "what": "kill 20% of the nodes", "state": "failed", "origin": "spec",
         "detail": "20% of 2 nodes is nobody"},
        {"name": "later", "what": "pause node-1", "state": "waiting", "origin": "spec"},
        {"name": "done", "what": "restart node-1", "state": "ended", "origin": "spec"},
        {"name": "loss-1", "what": "loss 5% from * to *", "state": "active", "origin": "lease"},
    ]  # fmt: skip
    assert new["faultsInForce"] == "cut, some (failed), loss-1"
    renewed = [*faults, msgspec.structs.replace(lease, until="2030-01-01T12:02:00Z")]
    assert status_now(observed(3, lab_status(3, 3, faults=renewed), old=new)) == new, "a renewed lease is no news"


def test_faults_stay_in_the_status_while_the_lab_is_away_and_go_with_the_last_one() -> None:
    cut = FaultStatus("cut", "block from node-0 to *", "spec", "active")
    before = status_now(observed(3, lab_status(3, 3, faults=[cut])))
    away = status_now(observed(3, None, old=before))
    assert (away["faults"], away["faultsInForce"]) == (before["faults"], "cut")
    after = status_now(observed(3, lab_status(3, 3), old=before))
    assert not {"faults", "faultsInForce"} & set(after)


def test_what_is_told_of_faults_is_bounded() -> None:
    faults = [FaultStatus(f"f{index}", "x" * 400, "lease", "active") for index in range(80)]
    new = status_now(observed(3, lab_status(3, 3, faults=faults)))
    assert len(new["faults"]) == 64
    assert len(new["faults"][0]["what"]) == 253
    assert new["faultsInForce"] == "f0, f1, f2, f3, f4 and 75 more"


@settings(max_examples=40, deadline=None)
@given(
    first=st.integers(0, 3), second=st.integers(0, 3), up=st.none() | st.integers(0, 3), again=st.none() | st.integers(0, 3),
    broken=st.booleans(),
)  # fmt: skip
def test_all_conditions_are_there_and_their_time_moves_only_with_their_status(
    first: int, second: int, up: int | None, again: int | None, broken: bool
) -> None:
    before = status_now(observed(first, None if up is None else lab_status(up, 3)))
    assert [one["type"] for one in before["conditions"]] == list(CONDITIONS)
    for one in before["conditions"]:
        one["lastTransitionTime"] = "2029-12-31T00:00:00Z"
    problem = SubnetProblem("Quota", "pods=2") if broken else None
    after = status_now(observed(second, None if again is None else lab_status(again, 3), old=before), problem)
    old = {one["type"]: one for one in before["conditions"]}
    for one in after["conditions"]:
        flipped = one["status"] != old[one["type"]]["status"]
        assert (one["lastTransitionTime"] == time_text(NOW)) is flipped
        assert one["observedGeneration"] == 1
    assert found(after, "Degraded")[0] == "True"


def test_a_refused_spec_keeps_the_counts_and_says_what_is_wrong() -> None:
    good = status_now(observed(3, lab_status(3, 3)))
    subnet = {"metadata": {"name": "demo", "generation": 7}, "status": good}
    new = status.refused_status(subnet, SubnetProblem("InvalidSpec", "spec.nodes: no"), NOW)
    assert (new["ready"], new["observedGeneration"]) == ("3/3", 7)
    assert found(new, "Degraded") == ("True", "InvalidSpec")
    assert generations(new) == {
        "Ready": 7, "Progressing": 7, "Degraded": 7, "CertificatesReady": 1, "Connected": 1, "Paused": 1,
    }, "nobody has judged certificates and links of a document that was refused"  # fmt: skip
    fresh = status.refused_status({"metadata": {"name": "demo"}}, SubnetProblem("InvalidSpec", "x"), NOW)
    assert found(fresh, "Connected") == ("Unknown", "NotLookedYet")


def generations(new: Object) -> dict[str, int]:
    return {one["type"]: one["observedGeneration"] for one in new["conditions"]}


def test_links_among_former_members_say_nothing_about_those_wanted_now() -> None:
    seen = observed(3, lab_status(3, 3, connected=3))
    larger = subnet_context(nodes=9)
    new = status.status_of(larger, seen, plan(larger, seen, NOW), None, NOW)
    assert found(new, "Connected") == ("False", "MembersChanging")
    assert found(new, "Ready")[0] != "True"
    assert (new["connected"], new["nodes"]["connected"]) == ("?", 0)


def test_conditions_of_the_document_in_force_are_not_reported_for_the_refused_one() -> None:
    good = status_now(observed(3, lab_status(3, 3)))
    context = dataclasses.replace(subnet_context(nodes=3), generation=8)
    seen = observed(3, lab_status(3, 3), old=good)
    new = status.status_of(
        context, seen, plan(context, seen, NOW), None, NOW, refused=SubnetProblem("InvalidSpec", "x")
    )
    assert new["observedGeneration"] == 8, "it has been judged"
    assert found(new, "Connected") == ("True", "LinksUp")
    assert generations(new) == {
        "Ready": 8, "Progressing": 8, "Degraded": 8, "Paused": 8, "CertificatesReady": 1, "Connected": 1,
    }  # fmt: skip


def test_a_subnet_is_deleted_when_its_ttl_is_over_and_no_run_is_open() -> None:
    context = subnet_context(nodes=1, ttl="1h")
    assert not status.has_expired(context, None, NOW + timedelta(minutes=59))
    assert status.has_expired(context, None, NOW + timedelta(minutes=60))
    assert not status.has_expired(subnet_context(nodes=1), None, NOW + timedelta(days=9999))
