"""A Subnet converges whatever happens on the way, and then nothing is written any more."""

import contextlib
from datetime import timedelta

import msgspec
import pytest
from tests.operator.kit import NAMESPACE, NOW, Killed, World, check_whole, counted, members_of, pods_of

from p2pnet.model.registry import Membership
from p2pnet.model.report import FaultStatus, LinkCounts, RunSummary
from p2pnet.operator.kube.api import (
    BUDGET,
    CLAIM,
    CONFIG_MAP,
    EVENT,
    MANAGED_BY,
    MANAGER,
    POD,
    POLICY,
    RECOMMENDED_LABELS,
    SECRET,
    SERVICE,
    BusyError,
    ConflictError,
    ForbiddenError,
    Object,
    ResourceKind,
    annotations_of,
    decoded,
    meta,
    name_of,
    parse_time,
    time_text,
)
from p2pnet.operator.metrics import Metrics
from p2pnet.operator.subnet.context import ISSUED_FOR, SUBNET, SUBNET_LABEL
from p2pnet.operator.subnet.reconcile import Reconciler
from p2pnet.subnet.document import digest_of


async def test_a_subnet_becomes_ready_in_three_reconciliations_and_few_writes() -> None:
    world = World(nodes=50)
    assert await world.converge() <= 4
    check_whole(world)
    assert world.condition("Ready") == ("True", "Connected")
    assert world.status["ready"] == "50/50"
    assert sum(name.endswith("/status") for _, _, name in world.api.writes) <= 10
    assert len(world.api.writes) <= 120
    assert counted(world.api)["Pod"] == 51


async def test_at_rest_there_are_few_reads_and_no_write() -> None:
    world = World(nodes=3, ttl="2d")
    await world.converge()
    writes, reads = len(world.api.writes), world.api.reads
    for _ in range(20):
        again = await world.reconcile()
        assert again is not None
        assert 50 <= again <= 70
        world.now += timedelta(minutes=1)
        world.start()
    assert len(world.api.writes) == writes
    assert (world.api.reads - reads) / 20 <= 7


@pytest.mark.parametrize("every", [1, 2, 3, 5, 8, 13])
async def test_an_operator_killed_after_every_kth_write_still_gets_there(every: int) -> None:
    world = World(nodes=6, groups=[{"name": "next", "nodes": 2}])
    kills = await killed_again_and_again(world, every)
    check_whole(world)
    assert kills >= 20 / every
    made = [name for verb, kind, name in world.api.writes if verb == "create" and kind in (POD, SECRET)]
    assert len(made) == len(set(made)), "nothing was made twice"
    assert not world.api.deletions


async def killed_again_and_again(world: World, every: int) -> int:
    kills = 0
    for _ in range(400):
        before = len(world.api.writes)
        world.api.kill_after = before + every
        try:
            await world.reconcile()
        except Killed:
            kills += 1
            world.start()
        except ConflictError:
            pass
        moved = world.kubelet()
        world.now += timedelta(seconds=6)
        if len(world.api.writes) == before and not moved:
            world.api.kill_after = None
            return kills
    raise AssertionError("never at rest")


@pytest.mark.parametrize("every", [1, 3, 7])
async def test_kills_while_scaling_rolling_and_replacing_the_authority_leave_nothing_behind(every: int) -> None:
    world = World(nodes=8)
    await world.converge()
    first = decoded(world.api.one(SECRET, "demo-ca"))["ca.crt"]
    world.api.edit(SUBNET, "demo", nodes=3)
    await killed_again_and_again(world, every)
    world.api.edit(SUBNET, "demo", nodes=8, image="other:2")
    await killed_again_and_again(world, every)
    world.api.annotate("demo", force_replace="please")
    await killed_again_and_again(world, every)
    check_whole(world)
    assert decoded(world.api.one(SECRET, "demo-ca"))["ca.crt"] != first
    assert set(decoded(world.api.one(SECRET, "demo-ca"))) == {"ca.crt", "ca.key"}
    images = {pod["spec"]["containers"][0]["image"] for pod in world.api.all(POD)}
    assert images == {"other:2"}


async def test_a_pod_that_was_deleted_comes_back_and_the_others_stay() -> None:
    world = World(nodes=4)
    await world.converge()
    before = pods_of(world)
    for kind, name in [
        (POD, "demo-node-2"), (POD, "demo-lab"), (SECRET, "demo-node-1"), (CONFIG_MAP, "demo-config"), (SERVICE, "demo-lab"),
        (SERVICE, "demo-nodes"), (POLICY, "demo"), (BUDGET, "demo-nodes"), (SECRET, "demo-lab-token"), (SECRET, "demo-lab"),
    ]:  # fmt: skip
        world.api.remove(kind, name)
    await world.converge()
    check_whole(world)
    after = pods_of(world)
    assert {name for name in before if before[name] != after[name]} == {"demo-node-2", "demo-lab"}


async def test_scaling_down_takes_the_highest_first_and_the_registry_knows_before() -> None:
    world = World(nodes=6)
    await world.converge()
    world.api.edit(SUBNET, "demo", nodes=3)
    await world.converge()
    check_whole(world)
    gone = [name for kind, name, _ in world.api.deletions if kind == POD]
    assert gone == ["demo-node-5", "demo-node-4", "demo-node-3"]
    verbs = [(verb, name) for verb, _, name in world.api.writes]
    assert verbs.index(("delete", "demo-node-5")) > max(
        i for i, one in enumerate(verbs) if one == ("apply", "demo-members")
    )
    registry = members_of(world).registry
    assert registry.version == 2
    assert {one.uri.rpartition("/")[2] for one in registry.removed} == {"node-3", "node-4", "node-5"}
    assert [one.registry.version for one in world.lab.pushed] == [2] or not world.lab.pushed
    world.api.edit(SUBNET, "demo", nodes=6)
    await world.converge()
    assert members_of(world).registry.removed == []
    assert members_of(world).registry.version == 3


async def test_the_lab_is_given_a_newer_registry_than_its_own() -> None:
    world = World(nodes=3)
    await world.converge()
    world.lab.pushed.append(members_of(world))
    world.api.edit(SUBNET, "demo", nodes=4)
    await world.converge()
    assert world.lab.pushed[-1].registry.version == 2


@pytest.mark.parametrize("silent", [False, True])
async def test_the_registrys_version_never_goes_back_when_its_configmap_is_deleted(*, silent: bool) -> None:
    world = World(nodes=3)
    for nodes in (5, 4):
        await world.converge()
        world.api.edit(SUBNET, "demo", nodes=nodes)
    await world.converge()
    before = members_of(world)
    world.lab.silent = silent
    world.api.remove(CONFIG_MAP, "demo-members")
    await world.converge()
    after = members_of(world)
    assert [one.uri for one in before.registry.removed] == [world.context().uri("node-4")]
    if silent:
        assert after.registry.version == before.registry.version + 1
    else:
        assert after == before, "the lab knows it whole"


async def test_a_registry_that_is_behind_the_labs_is_written_anew_above_it() -> None:
    world = World(nodes=3)
    await world.converge()
    held = members_of(world)
    ahead = msgspec.structs.replace(held.registry, version=held.registry.version + 7)
    world.lab.pushed.append(Membership(ahead, held.edges))
    await world.converge()
    assert members_of(world).registry.version == ahead.version + 1


async def test_a_live_edit_replaces_no_pod() -> None:
    world = World(nodes=3)
    await world.converge()
    before = pods_of(world)
    world.api.edit(SUBNET, "demo", ready={"connected": "90%"}, ttl="3d", identity={"ttl": "2d"}, nodes=5)
    await world.converge()
    assert before.items() <= pods_of(world).items()
    assert world.status["expiresAt"] == time_text(NOW + timedelta(days=3))


async def test_every_object_of_a_subnet_has_the_labels_that_kubernetes_recommends() -> None:
    world = World(nodes=2, groups=[{"name": "next", "nodes": 1, "image": "registry.example:5000/node:2@sha256:0"}])
    await world.converge()
    found = {(kind.kind, name): meta(thing)["labels"] for (kind, _, name), thing in world.api.objects.items()
             if kind not in (SUBNET, EVENT)}  # fmt: skip
    assert {kind for kind, _ in found} == {
        "ConfigMap",
        "NetworkPolicy",
        "Pod",
        "PodDisruptionBudget",
        "Secret",
        "Service",
    }
    for labels in found.values():
        assert [labels[key] for key in RECOMMENDED_LABELS[:2]] == ["p2pnet", "demo"]
        assert set(RECOMMENDED_LABELS) <= labels.keys()
    parts = {labels["app.kubernetes.io/component"] for labels in found.values()}
    assert parts == {"authority", "lab", "node", "subnet"}
    versions = {name: labels["app.kubernetes.io/version"] for (kind, name), labels in found.items() if kind == "Pod"}
    assert versions == {"demo-node-0": "test", "demo-node-1": "test", "demo-next-0": "2", "demo-lab": "test"}


async def test_an_operator_that_knows_more_labels_replaces_no_pod_and_a_rolling_edit_relabels_none() -> None:
    world = World(nodes=3, lab={"storage": "1GB"})
    await world.converge()
    before = pods_of(world)
    for (kind, _, _), thing in world.api.objects.items():  # as a former version made them
        if kind not in (SUBNET, EVENT):
            meta(thing)["labels"] = {
                key: one for key, one in meta(thing)["labels"].items() if key not in RECOMMENDED_LABELS
            }
    since = len(world.api.writes)
    await world.converge()
    assert pods_of(world) == before
    writes = world.api.writes[since:]
    assert {verb for verb, kind, _ in writes if kind not in (SUBNET, EVENT)} == {"apply", "patch"}
    for kind in (POD, SERVICE, CLAIM, POLICY, CONFIG_MAP, BUDGET):
        assert all(set(RECOMMENDED_LABELS) <= meta(one)["labels"].keys() for one in world.api.all(kind)), kind
    since = len(world.api.writes)
    world.api.edit(SUBNET, "demo", image="p2pnet-node:next")
    await world.converge()
    assert ("patch", POD) not in {(verb, kind) for verb, kind, _ in world.api.writes[since:]}
    assert {meta(pod)["labels"]["app.kubernetes.io/version"] for pod in world.api.all(POD)} == {"next"}


async def test_network_and_faults_reach_the_lab_with_the_next_reconciliation_and_replace_no_pod() -> None:
    world = World(nodes=3)
    await world.converge()
    world.lab.mounted_document = digest_of(world.context().subnet)
    before, config = pods_of(world), world.api.one(CONFIG_MAP, "demo-config")["data"]["node.json"]
    network = {"preset": "aws", "rules": [{"from": "node-0", "latency": "90ms"}], "access": {"up": "10Mbit"}}
    faults = [{"name": "cut", "from": "node-0", "to": "node-1", "block": True}]
    world.api.edit(SUBNET, "demo", network=network, faults=faults)
    await world.reconcile()
    assert world.lab.document is not None
    assert world.lab.document["spec"]["network"] == network
    assert world.lab.document["spec"]["faults"] == faults
    await world.converge()
    assert pods_of(world) == before
    assert world.api.one(CONFIG_MAP, "demo-config")["data"]["node.json"] == config


async def test_faults_in_force_are_in_the_status_and_their_renewed_leases_cause_no_write() -> None:
    world = World(nodes=3)
    await world.converge()
    world.lab.faults = [FaultStatus("loss-1", "loss 5% from * to *", "lease", "active", until="2030-01-01T12:01:00Z")]
    await world.converge()
    assert world.status["faultsInForce"] == "loss-1"
    writes = len(world.api.writes)
    for minute in range(2, 8):
        until = f"2030-01-01T12:{minute:02d}:00Z"
        world.lab.faults = [msgspec.structs.replace(world.lab.faults[0], until=until)]
        world.now += timedelta(minutes=1)
        await world.reconcile()
    assert len(world.api.writes) == writes
    world.lab.faults = []
    await world.converge()
    assert "faults" not in world.status


async def test_a_document_whose_faults_cannot_be_is_refused_and_the_former_one_stays() -> None:
    world = World(nodes=5, faults=[{"name": "some", "from": "20%", "block": True}])
    await world.converge()
    before = pods_of(world)
    world.api.edit(SUBNET, "demo", nodes=2)
    await world.converge()
    assert world.condition("Degraded") == ("True", "InvalidSpec")
    assert "spec.faults[0].from: 20% of 2 nodes is nobody" in str(world.status["conditions"])
    assert pods_of(world) == before


async def test_a_rolling_edit_replaces_every_pod_within_its_budget() -> None:
    world = World(nodes=20)
    world.api.graceful = True
    await world.converge()
    before = pods_of(world)
    world.api.edit(SUBNET, "demo", clients=[{"name": "blob"}], broadcast={"keep": "5m"})
    for _ in range(60):
        await world.reconcile()
        ready = sum(
            not meta(pod).get("deletionTimestamp") and pod.get("status", {}).get("phase") == "Running"
            for pod in world.api.all(POD) if name_of(pod) != "demo-lab"
        )  # fmt: skip
        assert ready >= 18
        world.kubelet()
        world.now += timedelta(seconds=6)
    after = pods_of(world)
    assert {name for name in after if after[name] == before[name]} == {"demo-lab"}
    order = [name for kind, name, _ in world.api.deletions if kind == POD]
    assert order[0] == "demo-node-19"
    assert order[-1] == "demo-node-0"


async def test_a_rollout_of_a_bad_image_stops_at_its_budget_and_a_right_one_goes_on() -> None:
    world = World(nodes=10)
    await world.converge()
    world.api.edit(SUBNET, "demo", image="none:1")
    for _ in range(5):
        await world.reconcile()
        for pod in world.api.all(POD):
            if "status" not in pod and pod["spec"]["containers"][0]["image"] == "none:1":
                waiting = {
                    "name": "node",
                    "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}},
                }
                pod["status"] = {"phase": "Pending", "containerStatuses": [waiting]}
        world.now += timedelta(seconds=6)
    ready = [pod for pod in world.api.all(POD) if (pod.get("status") or {}).get("phase") == "Running"]
    assert len(ready) >= 9
    assert world.condition("Degraded") == ("True", "ImagePull")
    world.now += timedelta(minutes=11)
    await world.reconcile()
    assert world.condition("Progressing") == ("False", "RolloutStalled")
    world.api.edit(SUBNET, "demo", image="some:2")
    await world.converge()
    assert world.condition("Ready") == ("True", "Connected")
    assert world.condition("Degraded") == ("False", "Healthy")


async def test_the_lab_is_replaced_once_the_nodes_are_and_never_for_an_image_that_fails() -> None:
    world = World(nodes=3)
    await world.converge()
    before = pods_of(world)["demo-lab"]
    world.api.edit(SUBNET, "demo", image="none:1")
    for _ in range(5):
        await world.reconcile()
        world.now += timedelta(seconds=6)
    assert pods_of(world)["demo-lab"] == before
    world.api.edit(SUBNET, "demo", image="some:2")
    await world.converge()
    order = [name for kind, name, _ in world.api.deletions if kind == POD]
    assert (order.count("demo-lab"), order[-1]) == (1, "demo-lab")


async def test_pods_that_ended_are_made_again() -> None:
    world = World(nodes=3)
    await world.converge()
    world.api.one(POD, "demo-node-1")["status"]["phase"] = "Failed"
    world.api.one(POD, "demo-lab")["status"]["phase"] = "Succeeded"
    await world.converge()
    check_whole(world)
    assert {pod["status"]["phase"] for pod in world.api.all(POD)} == {"Running"}


async def test_a_paused_subnet_is_watched_and_not_touched() -> None:
    world = World(nodes=3)
    await world.converge()
    world.api.annotate("demo", paused="true")
    world.api.remove(POD, "demo-node-1")
    world.api.edit(SUBNET, "demo", nodes=5)
    before = len(world.api.writes)
    await world.reconcile(3)
    assert {name for _, _, name in world.api.writes[before:] if not name.startswith("demo.")} == {"demo/status"}
    assert world.condition("Paused") == ("True", "Annotated")
    assert world.status["ready"] == "2/5"
    world.api.annotate("demo", paused="false")
    await world.converge()
    check_whole(world)


async def test_a_paused_subnet_that_never_ran_gets_no_authority() -> None:
    world = World(annotations={"p2pnet.io/paused": "true"}, nodes=3)
    await world.reconcile(3)
    assert counted(world.api)["Secret"] == 0
    assert "authority" not in world.status


async def test_a_ttl_ends_a_subnet_after_its_run_and_warns_before() -> None:
    world = World(nodes=3, ttl="1h")
    await world.converge()
    world.now = NOW + timedelta(minutes=50, seconds=1)
    await world.reconcile()
    assert [one["reason"] for one in world.api.all(EVENT)].count("Expiring") == 1
    world.lab.runs = [RunSummary("r1", "running")]
    world.now = NOW + timedelta(minutes=61)
    await world.reconcile()
    assert world.subnet
    world.lab.runs = [RunSummary("r1", "finished", "pass", 1, 1.0, 12.5)]
    await world.reconcile()
    assert (SUBNET, NAMESPACE, "demo") not in world.api.objects
    assert await world.reconcile() is None


async def test_an_endless_run_keeps_a_subnet_half_an_hour_at_most() -> None:
    world = World(nodes=3, ttl="1h")
    await world.converge()
    world.lab.runs = [RunSummary("r1", "running")]
    world.now = NOW + timedelta(minutes=91)
    await world.reconcile()
    assert (SUBNET, NAMESPACE, "demo") not in world.api.objects


async def test_an_edited_document_is_given_to_the_lab_at_once_and_once() -> None:
    world = World(nodes=2)
    await world.converge()
    assert world.lab.document is None, "a lab that tells no document is given none"
    world.lab.mounted_document = digest_of(world.context().subnet)
    await world.reconcile()
    assert world.lab.document is None
    world.api.edit(SUBNET, "demo", ttl="2h")
    await world.reconcile()
    assert world.lab.document is not None
    assert world.lab.document["spec"]["ttl"] == "2h"
    assert world.lab.document["metadata"] == {"name": "demo", "namespace": NAMESPACE}
    pushed = world.lab.document
    await world.reconcile()
    assert world.lab.document is pushed


async def test_after_scaling_nothing_is_connected_before_the_lab_speaks_of_the_new_members() -> None:
    world = World(nodes=5)
    await world.converge()
    world.lab.stuck = await world.lab.summary("", "")  # a lab that takes its time, and speaks of five meanwhile
    world.api.edit(SUBNET, "demo", nodes=9)
    for _ in range(5):
        await world.reconcile()
        world.kubelet()
        assert world.condition("Connected") == ("False", "MembersChanging")
        assert world.condition("Ready")[0] != "True"
        assert world.status["connected"] == "?"
    world.lab.stuck = None
    await world.converge()
    assert world.condition("Connected") == ("True", "LinksUp")
    assert world.status["connected"] == "9/9"


async def test_a_paused_subnet_that_is_scaled_writes_once_and_is_not_connected() -> None:
    world = World(nodes=3)
    await world.converge()
    version = world.status["registryVersion"]
    world.api.annotate("demo", paused="true")
    world.api.edit(SUBNET, "demo", nodes=5)
    await world.converge()
    before = len(world.api.writes)
    await world.reconcile(5)
    assert len(world.api.writes) == before
    assert world.status["registryVersion"] == version
    assert world.condition("Connected") == ("False", "MembersChanging")


async def test_links_below_the_share_wanted_are_not_ready() -> None:
    world = World(nodes=3, ready={"connected": "50%"})
    world.lab.links = LinkCounts(3, 1)
    await world.converge()
    assert world.condition("Connected") == ("False", "LinksMissing")
    world.lab.links = LinkCounts(3, 2)
    await world.converge()
    assert world.condition("Connected") == ("True", "LinksUp")


async def test_a_broken_subnet_makes_few_events_and_moves_no_transition_time() -> None:
    world = World(nodes=3)
    await world.converge()
    events = counted(world.api)["Event"]
    for pod in world.api.all(POD):
        waiting = {"name": "node", "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}}
        world.set_ready(pod, ready=False, containerStatuses=[waiting])
    for _ in range(100):
        await world.reconcile()
        world.now += timedelta(seconds=7)
    assert counted(world.api)["Event"] - events <= 3
    assert world.condition("Degraded") == ("True", "CrashLoop")
    first = next(one for one in world.status["conditions"] if one["type"] == "Degraded")["lastTransitionTime"]
    assert parse_time(first) < world.now - timedelta(minutes=10)


async def test_a_deleted_subnet_is_left_to_the_garbage_collector() -> None:
    world = World(nodes=3)
    await world.converge()
    meta(world.subnet)["deletionTimestamp"] = "2030-01-01T12:10:00Z"
    before = len(world.api.writes)
    assert await world.reconcile() is None
    assert len(world.api.writes) == before
    assert "finalizers" not in meta(world.subnet)


async def test_a_secret_that_cert_manager_made_anew_for_a_subnet_that_is_gone_goes_too() -> None:
    world = World(nodes=1)
    await world.converge()
    await world.api.delete(SUBNET, NAMESPACE, "demo", meta(world.subnet)["uid"])
    labels = {MANAGED_BY: MANAGER, SUBNET_LABEL: "demo"}
    owner = {"apiVersion": "cert-manager.io/v1", "kind": "Certificate", "name": "x", "uid": "u-1"}
    issued: Object = {"annotations": {ISSUED_FOR: "u"}}
    for name, more in {"anew": issued, "own": {}, "owned": {**issued, "ownerReferences": [owner]}}.items():
        world.api.put(SECRET, NAMESPACE, {"metadata": {"name": name, "labels": labels, **more}})
    before = len(world.api.deletions)
    assert await world.reconcile() is None
    assert [name for _, name, _ in world.api.deletions[before:]] == ["anew"]


async def test_packed_pods_hold_the_leaves_of_their_members() -> None:
    world = World(nodes=7, nodesPerPod=3)
    await world.converge()
    check_whole(world)
    assert world.status["ready"] == "7/7"
    world.api.edit(SUBNET, "demo", nodes=8)
    await world.converge()
    check_whole(world)
    world.api.edit(SUBNET, "demo", nodes=1)
    await world.converge()
    check_whole(world)
    assert counted(world.api)["PodDisruptionBudget"] == 0


async def test_a_lab_with_a_claim_keeps_it() -> None:
    world = World(nodes=2, lab={"storage": "1GB"})
    await world.converge()
    claim = world.api.one(CLAIM, "demo-lab")
    assert claim["spec"]["resources"]["requests"]["storage"] == "1000000000"
    claim["spec"]["resources"]["requests"]["storage"] = "1G"  # as a server writes it
    before = len(world.api.writes)
    await world.reconcile(2)
    assert len(world.api.writes) == before


async def test_a_new_subnet_of_an_old_name_waits_for_the_old_ones_objects_to_go() -> None:
    world = World(nodes=2)
    await world.converge()
    meta(world.subnet)["uid"] = "another"
    await world.reconcile(2)
    assert world.condition("Degraded") == ("True", "NameConflict")
    assert not world.api.deletions


async def test_annotations_on_the_subnet_are_left_alone() -> None:
    world = World(annotations={"mine": "1"}, nodes=2)
    await world.converge()
    assert annotations_of(world.subnet) == {"mine": "1"}


async def test_a_postponed_status_is_written_within_seconds_though_nothing_else_is_to_do() -> None:
    world = World(nodes=2)
    await world.converge()
    world.api.annotate("demo", force_replace="once")
    for _ in range(4):  # all phases within a moment, and no condition changes
        again = await world.reconcile()
    assert world.status["authority"]["phase"] == "Trusting"
    assert again is not None
    assert again <= 5
    world.now += timedelta(seconds=5)
    again = await world.reconcile()
    assert world.status["authority"]["phase"] == "Steady"
    assert again is not None
    assert again > 50


async def test_a_subnet_with_an_open_or_recent_run_is_reconciled_every_two_seconds() -> None:
    world = World(nodes=3)
    await world.converge()
    world.now += timedelta(minutes=1)
    assert await world.reconcile() > 50
    world.lab.runs = [RunSummary("r1", "running")]
    assert await world.reconcile() == 2
    world.now += timedelta(seconds=2)
    world.lab.runs = [RunSummary("r1", "finished", "pass", 1, 1.0, 12.5)]
    assert await world.reconcile() == 2
    assert world.status["lastReport"]["p95"] == "12.5 ms"
    world.now += timedelta(seconds=20)
    assert await world.reconcile() == 2
    world.now += timedelta(seconds=20)
    assert await world.reconcile() > 50


async def test_a_bug_met_with_a_subnet_is_told_and_forgotten_once_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(nodes=2)
    await world.converge()
    world.api.edit(SUBNET, "demo", nodes=3)
    with monkeypatch.context() as broken:
        broken.setattr("p2pnet.operator.subnet.reconcile.plan", lambda *_: 1 // 0)
        for _ in range(3):
            writes = len(world.api.writes)
            with pytest.raises(ZeroDivisionError):
                await world.reconcile()
            world.now += timedelta(minutes=1)
    assert len(world.api.writes) == writes, "told once"
    assert world.condition("Degraded") == ("True", "InternalError")
    assert world.condition("Ready") == ("Unknown", "InternalError")
    assert world.status["state"] == "InternalError"
    assert world.status["observedGeneration"] == meta(world.subnet)["generation"]
    [told] = [one for one in world.api.all(EVENT) if one["reason"] == "InternalError"]
    assert "ZeroDivisionError" in told["message"]
    await world.converge()
    assert world.condition("Ready")[0] == "True"
    assert world.condition("Degraded") == ("False", "Healthy")


async def test_a_bug_whose_status_cannot_be_written_is_raised_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(nodes=2)
    monkeypatch.setattr("p2pnet.operator.subnet.reconcile.plan", lambda *_: 1 // 0)
    world.api.fault = lambda verb, kind, _: BusyError(0, "Unreachable", "gone") if kind == SUBNET else None
    with pytest.raises(ZeroDivisionError):
        await world.reconcile()


def _is_refused(verb: str, kind: ResourceKind, name: str) -> Exception | None:
    return ForbiddenError(403, "Forbidden", "no right") if kind == SECRET and "node" in name else None


@pytest.mark.parametrize("why", ["paused", "refused"])
async def test_leaves_that_are_due_and_not_written_keep_their_ends_in_status_and_metrics(why: str) -> None:
    metrics, world = Metrics(), World(nodes=2, identity={"ttl": "15m", "renewBefore": "5m"})
    world.operator = Reconciler(world.api, world.lab, image="x", metrics=metrics, now=lambda: world.now)
    await world.converge()
    [end] = {world.status["certificates"]["earliestExpiry"]}
    if why == "paused":
        world.api.annotate("demo", paused="true")
    else:
        world.api.fault = _is_refused
    world.now += timedelta(minutes=12)
    for _ in range(3):
        writes = len(world.api.writes)
        with contextlib.suppress(ForbiddenError):
            await world.reconcile()
        world.now += timedelta(seconds=20)
        assert world.status["certificates"]["earliestExpiry"] == end
        labels = {"namespace": NAMESPACE, "subnet": "demo"}
        shown_s = metrics.registry.get_sample_value("p2pnet_certificate_expiry_timestamp_seconds", labels)
        assert shown_s == parse_time(end).timestamp()
    assert world.condition("CertificatesReady") == ("False", "Issuing")
    if why == "paused":
        assert len(world.api.writes) == writes, "at rest"
