"""What many Subnets cost the operator: time until all are as asked, memory, processor time at rest and per look, edits.

    python tests/bench/scale.py [--subnets 100] [--nodes 3] [--edits 100] [--large 50]

API server, etcd and garbage collector are real, and the operator is a process as in a pod; pods and labs are played by
this one, which takes a good part of the time until all are ready. Nothing else should run on the machine.
"""

import argparse
import contextlib
import math
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.cluster.control import Control, Place, Twin
from tests.cluster.kit import Cluster, until
from tests.cluster.process import Operator
from tests.cluster.scrape import metrics, processor_s, resident_mib, value

PORT = 18084
PATIENCE_S = 900.0
LOOKS = 30


class Bench:
    """A control plane, a place in it, and an operator at work."""

    def __init__(self, control: Control, place: Place, operator: Operator) -> None:
        self.control = control
        self.place = place
        self.operator = operator

    def count(self, name: str, **labels: str) -> float:
        """A metric of the operator; 0 while it does not answer yet."""
        with contextlib.suppress(OSError):
            return value(metrics(self.control, PORT), name, **labels)
        return 0.0

    def ready(self) -> int:
        """How many Subnets are as asked."""
        return sum(as_asked(one) for one in self.place.find("subnets"))

    def come_about(self, subnets: int, nodes: int) -> list[Twin]:
        """All of them, applied at once."""
        began, before = time.monotonic(), processor_s(self.operator.pid)
        made = [self.place.subnet(f"many-{number}", {"nodes": nodes}) for number in range(subnets)]
        self.until(lambda: self.ready() == subnets, "all are ready")
        taken, worked = time.monotonic() - began, processor_s(self.operator.pid) - before
        print(f"{subnets} Subnets of {nodes} nodes: all Ready {taken:.1f} s after the first apply,")
        print(f"   of which the operator worked {worked:.1f} s; {self.memory()}")
        return made

    def start_again(self, subnets: int) -> None:
        """A new operator process looks at everything there is."""
        began = time.monotonic()
        self.operator.restart()
        self.until(lambda: self.count("p2pnet_reconcile_total", result="ok") >= subnets, "all were looked at")
        taken = time.monotonic() - began
        self.until(lambda: self.count("p2pnet_workqueue_depth") == 0, "nobody waits any more")
        writes = self.requests()[1]
        print(
            f"   a new process has looked at all of them {taken:.1f} s after its start, {writes:.0f} writes; {self.memory()}"
        )

    def rest(self, seconds: float = 60.0) -> None:
        """What the operator takes when nothing happens."""
        time.sleep(10)
        before, looks = processor_s(self.operator.pid), self.count("p2pnet_reconcile_total")
        time.sleep(seconds)
        share = (processor_s(self.operator.pid) - before) / seconds
        rate = (self.count("p2pnet_reconcile_total") - looks) / seconds
        print(f"   at rest: {share * 100:.1f} % of one core, {rate:.1f} looks/s; {self.memory()}")

    def edits(self, subnets: list[Twin], count: int) -> None:
        """Single edits: from the write to the status that has seen it."""
        chance, taken = random.Random(7), []
        for number in range(count):
            subnet = chance.choice(subnets)
            began = time.monotonic()
            subnet.edit(ready={"within": f"{121 + number}s"})
            generation = subnet.thing()["metadata"]["generation"]
            self.until(seen(subnet, generation), "the status has seen it")
            taken.append(time.monotonic() - began)
        taken.sort()
        p50, p99 = (taken[math.ceil(len(taken) * share) - 1] for share in (0.5, 0.99))
        print(f"   {count} single edits: seen in the status after p50 {p50:.2f} s, p99 {p99:.2f} s")

    def looks(self, subnet: Twin) -> None:
        """What one look at a large Subnet costs that has nothing to do; each is set off by a stranger's annotation."""
        time.sleep(10)
        asked, before = self.requests(), processor_s(self.operator.pid)
        looks = self.count("p2pnet_reconcile_total")
        for number in range(LOOKS):
            note = {"metadata": {"annotations": {"stranger": str(number)}}}
            self.place.patch("configmaps", f"{subnet.name}-config", note)
            time.sleep(1)
        looks = self.count("p2pnet_reconcile_total") - looks
        taken = processor_s(self.operator.pid) - before
        reads, writes = (now - then for now, then in zip(self.requests(), asked, strict=True))
        print(
            f"   a look with nothing to do: {taken / looks * 1000:.0f} ms of processor time, "
            f"{reads / looks:.1f} reads, {writes / looks:.2f} writes ({looks:.0f} looks)"
        )

    def requests(self) -> tuple[float, float]:
        """Reads and writes so far."""
        page = metrics(self.control, PORT)
        reads = value(page, "p2pnet_api_requests_total", verb="get")
        return reads, value(page, "p2pnet_api_requests_total") - reads

    def memory(self) -> str:
        """Of the operator."""
        return f"{resident_mib(self.operator.pid):.0f} MiB resident"

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait, without standing in the way of what is measured."""
        until(condition, what, within_s=PATIENCE_S, every_s=0.05)


def as_asked(subnet: dict[str, object]) -> bool:
    """Whether a Subnet's status says so, about the newest spec."""
    status: dict[str, object] = subnet.get("status") or {}  # type: ignore[assignment]
    found = {one["type"]: one["status"] for one in status.get("conditions") or []}  # type: ignore[attr-defined]
    current = status.get("observedGeneration") == subnet["metadata"]["generation"]  # type: ignore[index]
    return bool(current and found.get("Ready") == "True" and found.get("Progressing") == "False")


def seen(subnet: Twin, generation: int) -> Callable[[], bool]:
    """Whether the status is of this generation."""
    return lambda: (subnet.thing().get("status") or {}).get("observedGeneration") == generation


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    """A control plane, made here unless one is running, with an empty place and an operator."""
    cluster = Cluster(f"{Cluster().name}-api")
    running = cluster.script("exec", "kubectl", "get", "--raw", "/readyz", check=False).returncode == 0
    if not running:
        cluster.script("build")
        cluster.script("up", "0")
    try:
        with (
            Control(cluster) as control,
            control.place("bench") as place,
            control.operator(metrics_port=str(PORT)) as operator,
        ):
            yield Bench(control, place, operator)
    finally:
        if not running:
            cluster.script("down")


def main() -> None:
    """Print the figures as they come."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subnets", type=int, default=100)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--edits", type=int, default=100)
    parser.add_argument("--large", type=int, default=50)
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with bench() as run:
        large = run.place.subnet("large", {"nodes": options.large})
        print(
            f"one Subnet of {options.large} nodes: Ready {large.until_ready(options.large, PATIENCE_S):.1f} s after the apply"
        )
        run.looks(large)
        run.place.delete("subnets", "large")
        subnets = run.come_about(options.subnets, options.nodes)
        run.start_again(options.subnets)
        run.rest()
        run.edits(subnets, options.edits)


if __name__ == "__main__":
    main()
