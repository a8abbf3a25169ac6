"""Nodes, a lab and an operator that serve the metrics they serve in a cluster, and what a Prometheus there would add to them.

Nodes and lab are processes in pods' form; the operator works on an API server in memory, with real metrics.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client import generate_latest, start_http_server
from prometheus_client.parser import text_string_to_metric_families
from tests.lab.podkit import NAMESPACE, UP_S, Pods, client_at, until_answers, until_connected
from tests.operator.injection_kit import InjectionWorld
from tests.operator.kit import KEY, subnet_context
from tests.ports import free_port

from p2pnet.model.jobs import FaultRequest, Payload, RunRequest
from p2pnet.operator.injection.reconcile import InjectionReconciler
from p2pnet.operator.kube.api import Object
from p2pnet.operator.kube.queue import Controller, Key
from p2pnet.operator.metrics import Metrics
from p2pnet.operator.subnet.context import SUBNET
from p2pnet.operator.subnet.plan import wanted_pods
from p2pnet.operator.subnet.plan.pods import lab_pod
from p2pnet.operator.subnet.reconcile import Reconciler

NODES, PER_POD = 4, 2
SPEC: dict[str, Any] = {
    "network": {"default": {"latency": "20ms"}},
    "faults": [{"name": "weak", "from": "node-3", "loss": "1%"}],
}
"""What makes every metric speak: a network to measure, and a fault."""


class Testnet:
    """The processes, and where each serves its metrics."""

    __test__ = False

    def __init__(self, root: Path) -> None:
        self.pods = Pods(root, NODES, PER_POD)
        self.pods.write_document(**SPEC)
        self.metrics = Metrics()
        self.lab_port = 0
        self.pages: dict[str, str] = {}
        """What operator, node and lab say, by who says it; the operator in the middle of a reconciliation."""

    def start(self) -> None:
        """Nodes, lab and operator are up, one run has ended, and every page has been read."""
        for first in range(0, NODES, PER_POD):
            self.pods.start_pod(first)
        self.lab_port = self.pods.start_lab()
        asyncio.run(self._operate())
        asyncio.run(self._until_measured())

    def run(self) -> None:
        """Another run."""
        asyncio.run(self._run())

    @contextlib.contextmanager
    def targets(self, monitors: list[Object], deployment: Object) -> Iterator[list[dict[str, Any]]]:
        """Scrape configs as the Prometheus operator makes them of these PodMonitors, with pods' addresses on this machine."""
        operator_port = free_port()
        server, thread = start_http_server(operator_port, addr="127.0.0.1", registry=self.metrics.registry)
        context = subnet_context(nodes=NODES, nodesPerPod=PER_POD)
        nodes = list(wanted_pods(context).values())
        labels = {**deployment["spec"]["template"]["metadata"], "name": "p2pnet-0", "namespace": "p2pnet-system"}
        there = [
            ({**deployment["spec"]["template"], "metadata": labels}, {"metrics": operator_port}),
            *((pod, {"health": port}) for pod, port in zip(nodes, self.pods.health.values(), strict=True)),
            (lab_pod(context), {"http": self.lab_port}),
        ]
        try:
            yield [scrape for monitor in monitors for scrape in scrapes(monitor, there)]
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    async def _operate(self) -> None:
        """An operator brings a Subnet and an Injection about, and lists, asks and leads."""
        made, metrics = InjectionWorld(), self.metrics
        world = made.world
        made.world.operator = Reconciler(world.api, world.lab, image="x", metrics=metrics, now=lambda: world.now)
        made.operator = InjectionReconciler(world.api, made.lab, metrics=metrics, now=lambda: world.now)
        await world.converge()
        for subnets in (world.operator.controller, made.operator.controller):
            await metrics.measured(subnets).reconcile(KEY)
        made.apply()
        await made.reconcile(times_=2)
        made.apply("patient", subnet="elsewhere")
        await made.reconcile("patient")
        metrics.request("get", "subnets", "200")
        metrics.depth(lambda: 0)
        metrics.listed()
        metrics.leading(True)

        async def read(_key: Key) -> float | None:
            self.pages["operator"] = generate_latest(metrics.registry).decode()
            return None

        await metrics.measured(Controller(SUBNET, (), "", read)).reconcile(KEY)

    async def _until_measured(self) -> None:
        await until_answers(self.pods, self.lab_port)
        async with client_at(self.lab_port) as lab_client, aiohttp.ClientSession() as session:
            await until_connected(lab_client, NODES, self.pods)
            await lab_client.add_fault(FaultRequest({"name": "slow", "from": "node-1", "latency": "40ms"}, lease_s=600))
            await self._run()
            deadline = time.monotonic() + UP_S
            while True:
                assert time.monotonic() < deadline, self.pods.log()
                for who, port in (("node", self.pods.health[0]), ("lab", self.lab_port)):
                    async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
                        self.pages[who] = await answer.text()
                if "\np2pnet_lab_network_seen{" in self.pages["lab"]:
                    return
                await asyncio.sleep(0.2)

    async def _run(self) -> None:
        async with client_at(self.lab_port) as lab_client:
            started = await lab_client.start_run(
                RunRequest([Payload("x", size=20_000)], count=4), key=str(id(object()))
            )
            async for _ in lab_client.follow(started.run):
                pass


def scrapes(monitor: Object, pods: list[tuple[Object, dict[str, int]]]) -> Iterator[dict[str, Any]]:
    """What a PodMonitor asks to scrape of these pods; each with the port on this machine that stands for a port's name."""
    spec = monitor["spec"]
    for number, endpoint in enumerate(spec["podMetricsEndpoints"]):
        targets = []
        for pod, ports in pods:
            labels = pod["metadata"]["labels"]
            if endpoint["port"] in ports and _selected(spec["selector"], labels):
                carried = {key: labels[key] for key in spec.get("podTargetLabels", ()) if key in labels}
                target = {
                    "namespace": pod["metadata"]["namespace"], "pod": pod["metadata"]["name"],
                    "container": pod["spec"]["containers"][0]["name"], "endpoint": endpoint["port"],
                }  # fmt: skip
                target |= {key.replace(".", "_").replace("/", "_"): value for key, value in carried.items()}
                targets.append({"targets": [f"127.0.0.1:{ports[endpoint['port']]}"], "labels": target})
        yield {
            "job_name": f"{monitor['metadata']['name']}-{number}", "metrics_path": endpoint.get("path", "/metrics"),
            "honor_labels": endpoint.get("honorLabels", False), "static_configs": targets,
        }  # fmt: skip


def _selected(selector: Object, labels: dict[str, str]) -> bool:
    exact = selector.get("matchLabels", {}).items() <= labels.items()
    return exact and all(
        one["operator"] == "In" and labels.get(one["key"]) in one["values"]
        for one in selector.get("matchExpressions", ())
    )


def exported(pages: dict[str, str]) -> dict[str, dict[str, set[str]]]:
    """Label values by metric and label, of all samples of these pages."""
    found: dict[str, dict[str, set[str]]] = {}
    for page in pages.values():
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                labels = found.setdefault(sample.name, {})
                for key, value in sample.labels.items():
                    labels.setdefault(key, set()).add(value)
    return found


__all__ = ["NAMESPACE", "Testnet", "exported", "scrapes"]
