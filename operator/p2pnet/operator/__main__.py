"""`python -m p2pnet.operator [run | crd | rbac]`: run the operator, or print what the cluster must know before."""

import asyncio
import logging
import os
import random
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import kopf
import yaml

from p2pnet.model.errors import P2pnetError, TargetError
from p2pnet.operator import handlers, rbac
from p2pnet.operator.health import Health
from p2pnet.operator.kube.api import ApiError, BusyError, Cluster
from p2pnet.operator.kube.client import KubernetesCluster
from p2pnet.operator.kube.leader import Leadership, LeadershipLostError
from p2pnet.operator.kube.queue import Key, Workers
from p2pnet.operator.metrics import Metrics
from p2pnet.operator.settings import OperatorSettings
from p2pnet.operator.subnet.context import SUBNET
from p2pnet.operator.subnet.crd import crd
from p2pnet.operator.subnet.lab import HttpLabs, LabWatcher
from p2pnet.operator.subnet.reconcile import Reconciler

log = logging.getLogger("p2pnet.operator")

PATIENCE_S = 60.0  # with an API server that is busy or away at the start; then the process ends and is started again
ASK_AGAIN_S = 2.0
RESYNC_S = 300.0  # every Subnet is looked at this often, whatever the watches missed
ENDING_S = 12.0  # below the pod's grace period; an end takes a second, and a first process cannot be killed by itself
STUCK_S = 600.0  # a look that takes longer will never end; not even an API server that is away makes one so long


async def run(settings: OperatorSettings) -> None:
    """Run until SIGTERM. Raises TargetError when the CRD is missing or the Lease is lost."""
    metrics = Metrics()
    cluster = await KubernetesCluster.connect(on_request=metrics.request)
    try:
        if settings.metrics_port:
            metrics.serve(settings.metrics_port)
        health = Health()
        async with health.serving(settings.health_port):
            await check_crd(cluster, settings.namespaces)
            async with _leading(cluster, settings, metrics):
                await _operate(cluster, settings, metrics, health)
    finally:
        await cluster.close()


async def check_crd(cluster: Cluster, namespaces: tuple[str, ...], *, patience_s: float = PATIENCE_S) -> None:
    """Raise TargetError unless Subnets can be listed: a CRD that comes later would never be seen.

    A server that is busy or away is asked again until `patience_s` are over.
    """
    deadline_s = time.monotonic() + patience_s
    for namespace in namespaces or ("",):
        while True:
            try:
                await cluster.find(SUBNET, namespace)
                break
            except ApiError as error:
                wait_s = (error.retry_after_s if isinstance(error, BusyError) else None) or ASK_AGAIN_S
                if not isinstance(error, BusyError) or time.monotonic() + wait_s > deadline_s:
                    crd = "install it first: python -m p2pnet.operator crd | kubectl apply -f -"
                    hint = crd if error.status == 404 else ""
                    raise TargetError(f"cannot list subnets.p2pnet.io: {error}", hint=hint) from error
                log.warning("cannot list subnets.p2pnet.io yet: %s; again in %.0f s", error, wait_s)
            await asyncio.sleep(wait_s)


@asynccontextmanager
async def _leading(cluster: KubernetesCluster, settings: OperatorSettings, metrics: Metrics) -> AsyncIterator[None]:
    """Hold the Lease meanwhile, if there is one. Losing it ends the process at once: nothing more may be written."""
    if not settings.leader_election:
        metrics.leading(True)
        yield
        return
    leadership = Leadership(cluster, settings.namespace, settings.identity)
    await leadership.acquire()
    log.info("%s leads", settings.identity)
    cluster.guard = leadership.guard
    metrics.leading(True)
    keeping = asyncio.create_task(_keep(leadership))
    try:
        yield
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
        await leadership.release()


async def _keep(leadership: Leadership) -> None:
    try:
        await leadership.keep()
    except LeadershipLostError as error:
        log.critical("%s", error)
        logging.shutdown()
        os._exit(1)  # a clean end would take seconds, in which two would act


async def _operate(cluster: Cluster, settings: OperatorSettings, metrics: Metrics, health: Health) -> None:
    ears = LabWatcher(HttpLabs())
    reconciler = Reconciler(cluster, HttpLabs(), image=settings.node_image, metrics=metrics, ears=ears)
    workers = Workers(lambda key: metrics.watched(key, reconciler.reconcile), workers=settings.workers)
    metrics.depth(lambda: workers.waiting)
    registry = kopf.OperatorRegistry()
    handlers.register(registry, handlers.Triggers(workers))
    _credentials(registry)
    kopf_settings = kopf.OperatorSettings()
    handlers.configure(kopf_settings)
    ears.wake = workers.add
    workers.start()
    health.check = lambda: _alive(workers, metrics)
    resync = asyncio.create_task(_resync(cluster, settings.namespaces, workers, metrics))

    @kopf.on.cleanup(registry=registry)
    async def end(**_: object) -> None:
        """Before kopf's own end, which gives whatever still runs five seconds."""
        _end_for_sure()
        resync.cancel()
        await workers.stop()

    try:
        await kopf.operator(
            registry=registry, settings=kopf_settings, standalone=True, clusterwide=not settings.namespaces,
            namespaces=settings.namespaces,
        )  # fmt: skip
    finally:
        resync.cancel()
        await workers.stop()
        await ears.close()


def _end_for_sure() -> None:
    """Have the process end soon, whatever hangs: a look that is cut off does no harm, a Lease that is kept does."""
    timer = threading.Timer(ENDING_S, os._exit, [1])
    timer.daemon = True
    timer.start()


def _credentials(registry: kopf.OperatorRegistry) -> None:
    @kopf.on.login(registry=registry)
    async def login(logger: kopf.Logger, settings: kopf.OperatorSettings, **_: object) -> kopf.ConnectionInfo | None:
        found = kopf.login_with_service_account(logger=logger, settings=settings)
        return found or kopf.login_with_kubeconfig(logger=logger, settings=settings)


def _alive(workers: Workers, metrics: Metrics) -> None:
    """For the liveness probe: raises when the workers are dead or stuck, never because the API server is away."""
    if not workers.alive or metrics.longest_look_s > STUCK_S:
        raise TargetError("the workers are stuck")


async def _resync(cluster: Cluster, namespaces: tuple[str, ...], workers: Workers, metrics: Metrics) -> None:
    while True:
        for namespace in namespaces or ("",):
            try:
                found = await cluster.find(SUBNET, namespace)
            except ApiError as error:
                log.warning("%s", error)
                continue
            metrics.listed()
            for subnet in found:
                workers.add(Key(subnet["metadata"]["namespace"], subnet["metadata"]["name"]))
        await asyncio.sleep(RESYNC_S * random.uniform(0.9, 1.1))


def main(arguments: list[str]) -> int:
    """The exit code: 0, 2 for wrong words, 3 for a cluster that cannot be worked with."""
    match arguments:
        case ["crd"]:
            print(yaml.safe_dump(crd(), sort_keys=False), end="")  # noqa: T201 - what was asked for
        case ["rbac"]:
            print(yaml.safe_dump(rbac.role(cluster_wide=True), sort_keys=False), end="")  # noqa: T201
        case [] | ["run"]:
            return _run()
        case _:
            print("usage: python -m p2pnet.operator [run | crd | rbac]", file=sys.stderr)  # noqa: T201
            return 2
    return 0


def _run() -> int:
    try:
        settings = OperatorSettings.read()
        logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
        _quieten()
        asyncio.run(run(settings))
    except P2pnetError as error:
        hint = getattr(error, "hint", "")
        print(f"p2pnet-operator: {error}" + (f"\n{hint}" if hint else ""), file=sys.stderr)  # noqa: T201
        return int(getattr(error, "exit_code", 2))
    return 0


def _quieten() -> None:
    """Kopf's debug log prints whole objects, Secrets too; and nobody wants a line per probe or event."""
    logging.getLogger("kopf").setLevel(max(logging.INFO, logging.getLogger().level))
    for name in ("kopf.activities.probe", "kopf.objects", "aiohttp.access"):
        logging.getLogger(name).setLevel(logging.WARNING)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
