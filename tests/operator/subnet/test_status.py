"""What people read: six conditions, always, whose times move only when they flip."""

import dataclasses
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.operator.kit import NOW, site

from p2pnet.model.report import CertificateCounts, LinkCounts, NodeCounts, RunSummary, Status
from p2pnet.operator.kube import times
from p2pnet.operator.kube.api import CONFIG_MAP, POD, Object
from p2pnet.operator.subnet import events, status
from p2pnet.operator.subnet.context import Observed
from p2pnet.operator.subnet.plan import configmaps, plan, wanted_pods
from p2pnet.operator.subnet.status import CONDITIONS, Trouble

VERSION = 4
"""Of the member list that the subnets here have."""


def lab_status(up: int, expected: int, *, connected: int = 0, runs: list[RunSummary] | None = None) -> Status:
    return Status(
        name="demo", target="cluster", nodes=NodeCounts(3, 3, 3, connected), links=LinkCounts(expected, up),
        certificates=CertificateCounts(3, None), runs=runs or [], registry_version=VERSION,
    )  # fmt: skip


def observed(ready: int, lab: Status | None = None, old: Object | None = None) -> Observed:
    """Three pods, the first `ready` of them so for an hour, and the member list that the lab has."""
    where = site(nodes=3)
    listed = configmaps.membership(where, Observed({"status": {"registryVersion": VERSION - 1}}, {}))
    pods = wanted_pods(where)
    since = times.text(NOW - timedelta(hours=1))
    for index, pod in enumerate(pods.values()):
        condition = {"type": "Ready", "status": str(index < ready), "lastTransitionTime": since}
        pod["status"] = {"phase": "Running", "conditions": [condition]}
        pod["metadata"]["creationTimestamp"] = since if index < ready else times.text(NOW)
    maps = {where.members_map: configmaps.members_map(where, listed)}
    return Observed({"metadata": {"name": "demo"}, "status": old or {}}, {POD: pods, CONFIG_MAP: maps}, lab)


def found(news: Object, kind: str) -> tuple[str, str]:
    one = next(one for one in news["conditions"] if one["type"] == kind)
    return one["status"], one["reason"]


def status_now(seen: Observed, trouble: Trouble | None = None, **spec: object) -> Object:
    where = site(nodes=3, **spec)
    seen.children.setdefault(POD, {})
    return status.status_of(where, seen, plan(where, seen, NOW), trouble, NOW)


def test_ready_needs_pods_certificates_and_links() -> None:
    # Without a Secret of the authority but with pods, certificates are never ready.
    assert found(status_now(observed(2, lab_status(3, 3))), "Ready") == ("False", "NotReady")
    assert found(status_now(observed(3, lab_status(2, 3))), "Ready") == ("False", "LinksMissing")
    assert found(status_now(observed(3)), "Ready") == ("Unknown", "LabUnreachable")
    assert found(status_now(observed(3, lab_status(3, 3))), "Ready") == ("False", "AuthorityLost")


def test_columns_show_counts_and_the_last_report() -> None:
    runs = [RunSummary("r1", "finished", "pass", 1, 1.0, 12.345), RunSummary("r2", "running")]
    news = status_now(observed(2, lab_status(3, 3, connected=2, runs=runs)))
    assert (news["ready"], news["connected"]) == ("2/3", "2/3")
    assert news["lastReport"] == {
        "run": "r1",
        "state": "finished",
        "verdict": "pass",
        "reach": "100%",
        "p95": "12.35 ms",
    }
    assert (news["replicas"], news["readyReplicas"]) == (3, 2)
    later = status_now(observed(2, None, old=news))
    assert later["lastReport"] == news["lastReport"], "a lab that is away takes no report with it"
    assert later["connected"] == "?"


@settings(max_examples=40, deadline=None)
@given(
    first=st.integers(0, 3), second=st.integers(0, 3), up=st.none() | st.integers(0, 3), again=st.none() | st.integers(0, 3),
    broken=st.booleans(),
)  # fmt: skip
def test_all_conditions_are_there_and_their_time_moves_only_with_a_flip(
    first: int, second: int, up: int | None, again: int | None, broken: bool
) -> None:
    before = status_now(observed(first, None if up is None else lab_status(up, 3)))
    assert [one["type"] for one in before["conditions"]] == list(CONDITIONS)
    for one in before["conditions"]:
        one["lastTransitionTime"] = "2029-12-31T00:00:00Z"
    trouble = Trouble("Quota", "pods=2") if broken else None
    after = status_now(observed(second, None if again is None else lab_status(again, 3), old=before), trouble)
    old = {one["type"]: one for one in before["conditions"]}
    for one in after["conditions"]:
        flipped = one["status"] != old[one["type"]]["status"]
        assert (one["lastTransitionTime"] == times.text(NOW)) is flipped
        assert one["observedGeneration"] == 1
    assert found(after, "Degraded")[0] == "True"


def test_a_refused_spec_keeps_the_counts_and_says_what_is_wrong() -> None:
    good = status_now(observed(3, lab_status(3, 3)))
    subnet = {"metadata": {"name": "demo", "generation": 7}, "status": good}
    news = status.refused_status(subnet, Trouble("InvalidSpec", "spec.nodes: no"), NOW)
    assert (news["ready"], news["observedGeneration"]) == ("3/3", 7)
    assert found(news, "Degraded") == ("True", "InvalidSpec")
    assert generations(news) == {
        "Ready": 7, "Progressing": 7, "Degraded": 7, "CertificatesReady": 1, "Connected": 1, "Paused": 1,
    }, "nobody has judged certificates and links of a document that was refused"  # fmt: skip
    fresh = status.refused_status({"metadata": {"name": "demo"}}, Trouble("InvalidSpec", "x"), NOW)
    assert found(fresh, "Connected") == ("Unknown", "NotLookedYet")


def generations(news: Object) -> dict[str, int]:
    return {one["type"]: one["observedGeneration"] for one in news["conditions"]}


def test_links_among_former_members_say_nothing_about_those_wanted_now() -> None:
    seen = observed(3, lab_status(3, 3, connected=3))
    larger = site(nodes=9)
    news = status.status_of(larger, seen, plan(larger, seen, NOW), None, NOW)
    assert found(news, "Connected") == ("Unknown", "LabOutdated")
    assert found(news, "Ready")[0] != "True"
    assert (news["connected"], news["nodes"]["connected"]) == ("?", 0)


def test_what_is_kept_up_of_a_former_document_is_not_said_of_the_refused_one() -> None:
    good = status_now(observed(3, lab_status(3, 3)))
    where = dataclasses.replace(site(nodes=3), generation=8)
    seen = observed(3, lab_status(3, 3), old=good)
    news = status.status_of(where, seen, plan(where, seen, NOW), None, NOW, refused=Trouble("InvalidSpec", "x"))
    assert news["observedGeneration"] == 8, "it has been looked at"
    assert found(news, "Connected") == ("True", "LinksUp")
    assert generations(news) == {
        "Ready": 8, "Progressing": 8, "Degraded": 8, "Paused": 8, "CertificatesReady": 1, "Connected": 1,
    }  # fmt: skip


def test_only_what_people_wait_for_becomes_an_event() -> None:
    def one(kind: str, truth: str, reason: str) -> Object:
        return {"type": kind, "status": truth, "reason": reason, "message": "", "lastTransitionTime": times.text(NOW)}

    told = events.of_flips(
        [one("Ready", "False", "Creating"), one("Connected", "True", "LinksUp"), one("Ready", "True", "Connected"),
         one("Degraded", "True", "CrashLoop"), one("Degraded", "False", "Healthy"), one("Paused", "True", "Annotated")]
    )  # fmt: skip
    assert [(event.reason, event.warning) for event in told] == [
        ("Connected", False),
        ("CrashLoop", True),
        ("Annotated", False),
    ]


def test_a_subnet_is_deleted_when_its_ttl_is_over_and_no_run_is_open() -> None:
    where = site(nodes=1, ttl="1h")
    assert not status.expired(where, None, NOW + timedelta(minutes=59))
    assert status.expired(where, None, NOW + timedelta(minutes=60))
    assert not status.expired(site(nodes=1), None, NOW + timedelta(days=9999))


def test_moments_that_are_none_are_none() -> None:
    assert times.parse("2030-01-01T12:00:00Z") == NOW
    assert times.parse("soon") is None
    assert times.parse(None) is None
    assert times.earliest(None, NOW, None) == NOW
