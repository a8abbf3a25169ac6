"""What the operator counts: reconciliations by result, and the series of each Subnet."""

import pytest
from prometheus_client import generate_latest
from tests.operator.injection_kit import InjectionWorld
from tests.operator.kit import KEY, World

from p2pnet.operator.injection.context import INJECTION
from p2pnet.operator.injection.reconcile import InjectionReconciler
from p2pnet.operator.kube.api import BusyError, ConflictError, ForbiddenError
from p2pnet.operator.kube.queue import Controller, Key
from p2pnet.operator.metrics import RESULTS, VERDICTS, Metrics
from p2pnet.operator.subnet.context import SUBNET
from p2pnet.operator.subnet.reconcile import Reconciler

PLACE = {"kind": "Subnet", "namespace": KEY.namespace, "name": KEY.name}


async def test_a_subnets_series_go_with_it() -> None:
    metrics, world = Metrics(), World(nodes=2)
    world.operator = Reconciler(world.api, world.lab, image="x", metrics=metrics, now=lambda: world.now)
    await world.converge()

    def series() -> list[str]:
        return [
            sample.name
            for family in metrics.registry.collect()
            for sample in family.samples
            if "demo" in sample.labels.values()
        ]

    controller = metrics.measured(world.operator.controller)
    assert await controller.reconcile(world.key) is not None
    assert "p2pnet_subnet_nodes" in series()
    assert "p2pnet_certificate_expiry_timestamp_seconds" in series()
    renewed_before_s = metrics.registry.get_sample_value(
        "p2pnet_certificate_renew_before_seconds", {"namespace": KEY.namespace, "subnet": KEY.name}
    )
    assert renewed_before_s == world.context().subnet.spec.identity.renew_before_seconds
    assert "p2pnet_subnet_condition" in series()
    assert "p2pnet_subnet_condition_reason" in series()
    world.api.remove(SUBNET, "demo")
    await controller.reconcile(world.key)
    assert series() == []


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (None, "ok"),
        (ConflictError(409, "Conflict", "written since"), "conflict"),
        (ForbiddenError(403, "Forbidden", "no right"), "forbidden"),
        (ForbiddenError(403, "Forbidden", "exceeded quota"), "api"),
        (BusyError(503, "Busy", "later"), "api"),
        (ValueError("a bug"), "error"),
    ],
)
async def test_reconciliations_are_counted_by_their_result(error: Exception | None, result: str) -> None:
    metrics = Metrics()

    async def reconcile(_key: Key) -> float | None:
        assert metrics.registry.get_sample_value("p2pnet_reconcile_in_progress_start_time_seconds", PLACE)
        if error is not None:
            raise error
        return None

    controller = metrics.measured(Controller(SUBNET, (), "label", reconcile))
    if error is None:
        await controller.reconcile(KEY)
    else:
        with pytest.raises(type(error)):
            await controller.reconcile(KEY)
    assert metrics.registry.get_sample_value("p2pnet_reconcile_total", {"result": result}) == 1
    assert metrics.registry.get_sample_value("p2pnet_reconcile_in_progress_start_time_seconds", PLACE) is None
    assert metrics.longest_running_s == 0.0


async def test_injections_are_counted_by_verdict_once_each() -> None:
    world = await InjectionWorld.ready()
    metrics = Metrics()
    world.operator = InjectionReconciler(world.api, world.lab, metrics=metrics, now=lambda: world.world.now)
    world.apply()
    await world.reconcile()
    world.lab.end(world.status()["run"], "fail")
    await world.reconcile(times_=3)
    assert metrics.registry.get_sample_value("p2pnet_injections_total", {"verdict": "fail"}) == 1
    assert metrics.registry.get_sample_value("p2pnet_injections_total", {"verdict": "pass"}) == 0


async def test_each_condition_has_the_status_it_has_and_the_reason_it_gives() -> None:
    metrics, world = Metrics(), World(nodes=2)

    def conditions() -> dict[str, str]:
        [family] = [one for one in metrics.registry.collect() if one.name == "p2pnet_subnet_condition"]
        assert len(family.samples) == 3 * len({one.labels["condition"] for one in family.samples})
        return {one.labels["condition"]: one.labels["status"] for one in family.samples if one.value}

    def reasons() -> dict[str, str]:
        [family] = [one for one in metrics.registry.collect() if one.name == "p2pnet_subnet_condition_reason"]
        assert len(family.samples) == len({one.labels["condition"] for one in family.samples}), "one reason at a time"
        return {one.labels["condition"]: one.labels["reason"] for one in family.samples}

    world.operator = Reconciler(world.api, world.lab, image="x", metrics=metrics, now=lambda: world.now)
    await world.reconcile()
    assert (conditions()["Ready"], reasons()["Connected"]) == ("False", "LabUnreachable")
    await world.converge()
    assert conditions() == {one["type"]: one["status"] for one in world.status["conditions"]}
    assert reasons() == {one["type"]: one["reason"] for one in world.status["conditions"]}
    world.api.edit(SUBNET, "demo", nodes=0)  # refused: what cannot be planned has metrics, too
    await world.reconcile()
    assert (conditions()["Degraded"], reasons()["Degraded"]) == ("True", "InvalidSpec")
    assert "p2pnet_subnet_condition{" in generate_latest(metrics.registry).decode()


async def test_injections_are_counted_by_subnet_and_state_as_long_as_they_are_there() -> None:
    world = await InjectionWorld.ready()
    metrics = Metrics()

    def counted() -> dict[str, float]:
        [family] = [one for one in metrics.registry.collect() if one.name == "p2pnet_subnet_injections"]
        assert {one.labels["subnet"] for one in family.samples} <= {"demo"}
        return {one.labels["state"]: one.value for one in family.samples if one.value}

    def start() -> None:
        world.operator = InjectionReconciler(world.api, world.lab, metrics=metrics, now=lambda: world.world.now)

    start()
    world.apply()
    await world.reconcile(times_=2)
    assert counted() == {"Running": 1}
    world.lab.end(world.status()["run"], "fail")
    await world.reconcile(times_=3)
    assert counted() == {"Failed": 1}
    metrics = Metrics()
    start()
    await world.reconcile()
    assert counted() == {"Failed": 1}, "what was over before this operator began is counted, too"
    world.api.remove(INJECTION, "smoke")
    await world.reconcile()
    assert counted() == {}


def test_what_can_fail_is_counted_from_nought() -> None:
    """A rate needs two samples: a series that begins with its first failure hides it."""
    registry = Metrics().registry
    assert {registry.get_sample_value("p2pnet_reconcile_total", {"result": one}) for one in RESULTS} == {0}
    assert {registry.get_sample_value("p2pnet_injections_total", {"verdict": one}) for one in VERDICTS} == {0}
