"""`python -m p2pnet.operator [run | crd | rbac] [--log-format text|json]`: run the operator, or print its CRDs or its role."""

import asyncio
import logging
import os
import random
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from importlib import metadata

import kopf
import yaml

from p2pnet.model.errors import P2pnetError, TargetError
from p2pnet.model.log_lines import FORMAT_ENV, FORMATS, is_json, log_all
from p2pnet.operator import handlers, rbac
from p2pnet.operator.health import Health
from p2pnet.operator.injection.context import INJECTION
from p2pnet.operator.injection.crd import crd as injection_crd
from p2pnet.operator.injection.lab import HttpRunLabs
from p2pnet.operator.injection.reconcile import InjectionReconciler
from p2pnet.operator.kube.api import ApiError, BusyError, Cluster, ResourceKind
from p2pnet.operator.kube.claims import Claims
from p2pnet.operator.kube.client import KubernetesCluster
from p2pnet.operator.kube.events import EventRecorder
from p2pnet.operator.kube.leader import Leadership, LeadershipLostError
from p2pnet.operator.kube.queue import Key, Workers
from p2pnet.operator.metrics import Metrics
from p2pnet.operator.settings import OperatorSettings
from p2pnet.operator.subnet.context import SUBNET
from p2pnet.operator.subnet.crd import crd as subnet_crd
from p2pnet.operator.subnet.lab import HttpLabs, LabWatcher
from p2pnet.operator.subnet.reconcile import Reconciler

log = logging.getLogger("p2pnet.operator")

KINDS = (SUBNET, INJECTION)
"""Every kind of resource with a controller."""
PATIENCE_S = 60.0  # at start, for an API server that is busy or away; then the process ends and is started again
RETRY_S = 2.0
RESYNC_S = 300.0  # every resource is reconciled this often, whatever the watches missed
ENDING_S = 12.0  # below the pod's grace period; an orderly end takes about a second
STUCK_S = 600.0  # a reconciliation that takes longer is hung: an API server that is away fails it much sooner


async def run(settings: OperatorSettings) -> None:
    """Run until SIGTERM. Raises TargetError when a CRD is missing or the Lease is lost."""
    metrics = Metrics()
    cluster = await KubernetesCluster.connect(on_request=metrics.request)
    try:
        if settings.metrics_port:
            metrics.serve(settings.metrics_port)
        health = Health()
        # Before the Lease is held: a replica that waits for it is alive, too.
        async with health.serving(settings.health_port):
            await check_crds(cluster, settings.namespaces)
            async with _leading(cluster, settings, metrics):
                await _operate(cluster, settings, metrics, health)
    finally:
        await cluster.close()


async def check_crds(
    cluster: Cluster,
    namespaces: tuple[str, ...],
    *,
    kinds: Sequence[ResourceKind] = KINDS,
    patience_s: float = PATIENCE_S,
) -> None:
    """Raise TargetError unless every kind can be listed: a watch on a CRD that is installed later would never start.

    A server that is busy or away is asked again for `patience_s` seconds.
    """
    deadline_s = time.monotonic() + patience_s
    for kind in kinds:
        for namespace in namespaces or ("",):
            await _check_crd(cluster, kind, namespace, deadline_s)


async def _check_crd(cluster: Cluster, kind: ResourceKind, namespace: str, deadline_s: float) -> None:
    resource = f"{kind.plural}.{kind.group}"
    while True:
        try:
            await cluster.find(kind, namespace)
        except ApiError as error:
            wait_s = (error.retry_after_s if isinstance(error, BusyError) else None) or RETRY_S
            if not isinstance(error, BusyError) or time.monotonic() + wait_s > deadline_s:
                install = "install it first: python -m p2pnet.operator crd | kubectl apply -f -"
                hint = install if error.status == 404 else ""
                raise TargetError(f"cannot list {resource}: {error}", hint=hint) from error
            log.warning("cannot list %s yet: %s; again in %.0f s", resource, error, wait_s)
            await asyncio.sleep(wait_s)
        else:
            return


@asynccontextmanager
async def _leading(cluster: KubernetesCluster, settings: OperatorSettings, metrics: Metrics) -> AsyncIterator[None]:
    """Hold the Lease in the block, if replicas share one. Losing it ends the process at once: it must not write any more."""
    if not settings.leader_election:
        metrics.leading(True)
        yield
        return
    leadership = Leadership(cluster, settings.namespace, settings.identity)
    await leadership.acquire()
    log.info("%s leads", settings.identity)
    cluster.guard = leadership.guard
    metrics.leading(True)
    renewing = asyncio.create_task(_renew(leadership))
    try:
        yield
    finally:
        renewing.cancel()
        with suppress(asyncio.CancelledError):
            await renewing
        await leadership.release()


async def _renew(leadership: Leadership) -> None:
    try:
        await leadership.keep()
    except LeadershipLostError as error:
        log.critical("%s", error)
        logging.shutdown()
        os._exit(1)  # a clean end would take seconds, in which two replicas would act


async def _operate(cluster: Cluster, settings: OperatorSettings, metrics: Metrics, health: Health) -> None:
    labs = HttpLabs()
    lab_watcher = LabWatcher(labs)
    subnets = Reconciler(
        cluster, labs, image=settings.node_image, pull_secrets=settings.pull_secrets, metrics=metrics, lab_watcher=lab_watcher,
        machines=not settings.namespaces,  # Node objects are of no namespace
        any_user=settings.any_user,
    )  # fmt: skip
    injections = InjectionReconciler(cluster, HttpRunLabs(), metrics=metrics)
    subnets.on_lab = injections.sweep
    claims = Claims(cluster, settings.installation, namespaces=settings.namespaces, home=settings.namespace)
    await claims.acquire()
    controllers = [
        metrics.measured(claims.exclusive(one, EventRecorder(cluster, one.kind), on_left=left))
        for one, left in ((subnets.controller, metrics.forget), (injections.controller, None))
    ]
    workers = Workers(controllers, workers=settings.workers)
    metrics.depth(lambda: workers.waiting)
    lab_watcher.on_change = injections.wake = workers.add
    registry, kopf_settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
    handlers.register(registry, handlers.Triggers(workers, controllers), controllers)
    handlers.configure(kopf_settings, controllers)
    _register_login(registry)
    workers.start()
    health.check = lambda: check_alive(workers, metrics)
    again = asyncio.Event()
    claims.on_change = again.set
    resync = asyncio.create_task(_resync(cluster, settings.namespaces, workers, metrics, again))
    claiming = asyncio.create_task(claims.keep())

    @kopf.on.cleanup(registry=registry)
    async def end(**_: object) -> None:
        """Stop our own tasks before kopf ends, which gives whatever still runs five seconds."""
        _exit_soon()
        resync.cancel()
        claiming.cancel()
        await workers.stop()
        await claims.leave()

    try:
        await kopf.operator(
            registry=registry, settings=kopf_settings, standalone=True, clusterwide=not settings.namespaces,
            namespaces=settings.namespaces,
        )  # fmt: skip
    finally:
        resync.cancel()
        claiming.cancel()
        await workers.stop()
        await lab_watcher.close()


def _exit_soon() -> None:
    """End the process soon, whatever hangs: a cancelled reconciliation does no harm, a Lease that is kept does."""
    timer = threading.Timer(ENDING_S, os._exit, [1])
    timer.daemon = True
    timer.start()


def _register_login(registry: kopf.OperatorRegistry) -> None:
    @kopf.on.login(registry=registry)
    async def login(logger: kopf.Logger, settings: kopf.OperatorSettings, **_: object) -> kopf.ConnectionInfo | None:
        found = kopf.login_with_service_account(logger=logger, settings=settings)
        return found or kopf.login_with_kubeconfig(logger=logger, settings=settings)


def check_alive(workers: Workers, metrics: Metrics) -> None:
    """For the liveness probe. Raises TargetError when workers are dead or hung, never because the API server is away."""
    if not workers.alive or metrics.longest_running_s > STUCK_S:
        raise TargetError("the workers are stuck")


async def _resync(
    cluster: Cluster, namespaces: tuple[str, ...], workers: Workers, metrics: Metrics, again: asyncio.Event
) -> None:
    """Reconcile every resource now and then, and whenever `again` is set."""
    while True:
        again.clear()
        for kind, namespace in ((kind, place) for kind in KINDS for place in namespaces or ("",)):
            try:
                found = await cluster.find(kind, namespace)
            except ApiError as error:
                log.warning("%s", error)
                continue
            metrics.listed()
            for thing in found:
                workers.add(Key(kind, thing["metadata"]["namespace"], thing["metadata"]["name"]))
        # Spread: operators that started together do not list together.
        with suppress(TimeoutError):
            async with asyncio.timeout(RESYNC_S * random.uniform(0.9, 1.1)):
                await again.wait()


def main(arguments: list[str]) -> int:
    """Run a command; the exit code: 0, 2 for wrong arguments or settings, 3 for a cluster that cannot be used."""
    *command, log_format = _log_format(arguments)
    match command:
        case ["crd"]:
            print(yaml.safe_dump_all((subnet_crd(), injection_crd()), sort_keys=False), end="")  # noqa: T201 - the output of this command
        case ["rbac"]:
            print(yaml.safe_dump(rbac.role(cluster_wide=True), sort_keys=False), end="")  # noqa: T201
        case [] | ["run"]:
            return _run(log_format)
        case _:
            print("usage: python -m p2pnet.operator [run | crd | rbac] [--log-format text|json]", file=sys.stderr)  # noqa: T201
            return 2
    return 0


def _log_format(arguments: list[str]) -> list[str]:
    """The arguments without `--log-format`, and last what it says; empty: nothing."""
    for index, one in enumerate(arguments):
        name, equals, value = one.partition("=")
        if name != "--log-format":
            continue
        after = index + 1 if equals else index + 2
        given = value if equals else (arguments[index + 1 :] or ["?"])[0]
        return [*arguments[:index], *arguments[after:], given] if given in FORMATS else ["?", given]
    return [*arguments, ""]


def _run(log_format: str = "") -> int:
    as_json = log_format == "json" if log_format else is_json()
    try:
        environment = {**os.environ, FORMAT_ENV: log_format} if log_format else os.environ
        settings = OperatorSettings.read(environment)
        log_all(logging.StreamHandler(sys.stderr), settings.log_level, as_json=settings.log_format == "json")
        _quieten()
        _log_start(settings)
        asyncio.run(run(settings))
        log.info("stops")
    except P2pnetError as error:
        hint = getattr(error, "hint", "")
        if as_json:
            log.critical("%s%s", error, f"; {hint}" if hint else "")
        else:
            print(f"p2pnet-operator: {error}" + (f"\n{hint}" if hint else ""), file=sys.stderr)  # noqa: T201
        return int(getattr(error, "exit_code", 2))
    return 0


def _log_start(settings: OperatorSettings) -> None:
    served = ", ".join(settings.namespaces) or "all namespaces"
    waits = ", acts when it holds the Lease" if settings.leader_election else ""
    log.info(
        "p2pnet-operator %s as %s: serves %s with %d workers, node image %s%s", metadata.version("p2pnet"),
        settings.identity, served, settings.workers, settings.node_image, waits,
    )  # fmt: skip


def _quieten() -> None:
    """Silence kopf's debug log, which prints whole objects, Secrets too, and its lines per probe and event."""
    logging.getLogger("kopf").setLevel(max(logging.INFO, logging.getLogger().level))
    for name in ("kopf.activities", "kopf._core.engines.activities", "kopf.objects", "aiohttp.access"):
        logging.getLogger(name).setLevel(logging.WARNING)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
