"""What the operator counts: reconciliations by result, and the series of each Subnet."""

import pytest
from tests.operator.injection_kit import InjectionWorld
from tests.operator.kit import KEY, World

from p2pnet.operator.injection.reconcile import InjectionReconciler
from p2pnet.operator.kube.api import BusyError, ConflictError, ForbiddenError
from p2pnet.operator.kube.queue import Controller, Key
from p2pnet.operator.metrics import Metrics
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
    assert metrics.registry.get_sample_value("p2pnet_injections_total", {"verdict": "pass"}) is None
