"""Writes leave objects of others alone, make nothing twice, and say what could not be written."""

from datetime import timedelta

import pytest
from tests.operator.kit import KEY, NAMESPACE, World, check_whole, counted, pods_of

from p2pnet.operator.kube.api import (
    BUDGET,
    CONFIG_MAP,
    POD,
    SECRET,
    SERVICE,
    ApiError,
    BusyError,
    ConflictError,
    EndingError,
    ForbiddenError,
    decoded,
    meta,
    name_of,
)


async def test_writes_that_time_out_after_they_were_done_make_no_duplicates() -> None:
    world = World(nodes=5)
    turn = iter(range(10_000))

    def late(*_: object) -> BusyError | None:
        error = BusyError(0, "Unreachable", "timed out")
        error.late = True  # type: ignore[attr-defined]
        return error if next(turn) % 3 == 1 else None

    world.api.fault = late
    await world.converge(200)
    check_whole(world)


async def test_edits_by_hand_are_reverted_and_what_others_added_stays() -> None:
    world = World(nodes=3)
    await world.converge()
    meta(world.api.one(SERVICE, "demo-nodes"))["labels"]["team"] = "ada"
    world.api.one(SERVICE, "demo-nodes")["spec"]["ports"][0]["port"] = 1
    world.api.one(CONFIG_MAP, "demo-config")["data"]["node.json"] = "{}"
    world.api.one(BUDGET, "demo-nodes")["spec"]["minAvailable"] = 0
    world.api.one(SECRET, "demo-node-0")["data"]["node-0.crt"] = "bm9uZQ=="
    del meta(world.api.one(POD, "demo-node-1"))["labels"]["p2pnet.io/role"]
    await world.converge()
    check_whole(world)
    assert world.api.one(SERVICE, "demo-nodes")["spec"]["ports"][0]["port"] == 8080
    assert meta(world.api.one(SERVICE, "demo-nodes"))["labels"]["team"] == "ada"
    assert world.api.one(BUDGET, "demo-nodes")["spec"]["minAvailable"] == 2
    assert meta(world.api.one(POD, "demo-node-1"))["labels"]["p2pnet.io/role"] == "node"


async def test_objects_that_lost_all_labels_get_them_back_and_are_not_created_twice() -> None:
    world = World(nodes=3)
    await world.converge()
    uids = pods_of(world)
    authority = decoded(world.api.one(SECRET, "demo-ca"))
    for kind, name in [(POD, "demo-node-1"), (SECRET, "demo-ca"), (SECRET, "demo-node-2"), (SECRET, "demo-lab-token")]:
        meta(world.api.one(kind, name))["labels"] = {}
    await world.converge()
    check_whole(world)
    assert pods_of(world) == uids
    assert decoded(world.api.one(SECRET, "demo-ca")) == authority


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (SECRET, "demo-node-1"),
        (SECRET, "demo-ca"),
        (POD, "demo-node-1"),
        (CONFIG_MAP, "demo-config"),
        (SERVICE, "demo-lab"),
    ],
)
async def test_an_object_of_somebody_else_is_left_alone_and_named(kind, name) -> None:
    world = World(nodes=3)
    foreign = {"apiVersion": "v1", "kind": kind.kind, "metadata": {"name": name, "labels": {"mine": "yes"}}, "spec": {}}
    world.api.put(kind, NAMESPACE, foreign)
    before = world.api.one(kind, name)
    await world.reconcile(3)
    assert world.api.one(kind, name) == before
    assert world.condition("Degraded") == ("True", "NameConflict")
    mounted = {volume.get("secret", {}).get("secretName") for pod in world.api.all(POD)
               for volume in pod["spec"].get("volumes", [])}  # fmt: skip
    assert name not in mounted or kind != SECRET
    if name == "demo-ca":
        assert counted(world.api)["Secret"] == 1 + ("demo-lab-token" in {name_of(one) for one in world.api.all(SECRET)})
    world.api.remove(kind, name)
    await world.converge()
    check_whole(world)
    assert world.condition("Degraded") == ("False", "Healthy")


async def test_a_missing_right_is_named_and_retried_later() -> None:
    world = World(nodes=3)
    world.api.fault = lambda verb, kind, _: (
        ForbiddenError(403, "Forbidden", "cannot create pods", what="POST pods")
        if (verb, kind) == ("create", POD)
        else None
    )
    with pytest.raises(ForbiddenError):
        await world.reconcile()
    assert world.condition("Degraded") == ("True", "Forbidden")
    world.api.fault = lambda *_: None
    await world.converge()
    check_whole(world)


async def test_a_quota_and_a_refused_pod_have_reasons_of_their_own() -> None:
    for error, reason in [
        (ForbiddenError(403, "Forbidden", "exceeded quota: pods=2"), "Quota"),
        (ApiError(422, "Invalid", "memory: must be less than or equal to limit"), "Refused"),
    ]:
        world = World(nodes=3)
        world.api.fault = lambda verb, kind, _, error=error: error if (verb, kind) == ("create", POD) else None  # type: ignore[misc]
        with pytest.raises(ApiError):
            await world.reconcile()
        assert world.condition("Degraded") == ("True", reason)


async def test_no_leaf_is_issued_by_an_authority_that_could_not_be_written() -> None:
    world = World(nodes=3)
    world.api.fault = lambda _, kind, name: ForbiddenError(403, "Forbidden", "no") if name == "demo-ca" else None
    with pytest.raises(ForbiddenError):
        await world.reconcile()
    assert {name_of(one) for one in world.api.all(SECRET)} <= {"demo-lab-token"}
    assert counted(world.api)["Pod"] == 0


async def test_in_a_namespace_that_is_being_deleted_nothing_is_created_and_nothing_logged_as_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(nodes=3)
    await world.converge()
    world.api.remove(POD, "demo-node-1")
    world.api.fault = lambda verb, kind, _: (
        EndingError(403, "Forbidden", "because it is being terminated") if verb == "create" and kind == POD else None
    )
    before = len(world.api.writes)
    assert await world.reconcile() == 60
    assert len(world.api.writes) == before
    assert not [one for one in caplog.records if one.levelname != "INFO"]


async def test_two_operators_at_once_make_everything_once() -> None:
    import asyncio

    world = World(nodes=5)
    first = world.operator
    world.start()
    for _ in range(6):
        results = await asyncio.gather(first.reconcile(KEY), world.operator.reconcile(KEY), return_exceptions=True)
        assert all(isinstance(one, float | ConflictError) for one in results)
        world.kubelet()
        world.now += timedelta(seconds=6)
    check_whole(world)
