"""A subnet to measure, driven through the command line as a user would, with its processes' CPU and memory read from /proc."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")


class MeasuredSubnet:
    """A context: `with MeasuredSubnet(10) as subnet`, in a state directory of its own that is removed afterwards."""

    def __init__(self, nodes: int, *, document: str | None = None, name: str = "bench") -> None:
        self.nodes = nodes
        self.name = name
        self.document = document
        self.state = Path(tempfile.mkdtemp(prefix="p2pnet-bench."))
        self.seconds_to_connected = 0.0

    def __enter__(self) -> MeasuredSubnet:
        command = ["up", self.name, "--nodes", str(self.nodes), "--timeout", "300s"]
        if self.document is not None:
            path = self.state / "subnet.yaml"
            path.write_text(self.document)
            command = ["up", self.name, "-f", str(path), "--timeout", "300s"]
        self._remover = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.remover", str(self.state), self.name],
            stdin=subprocess.PIPE, start_new_session=True, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        start = time.monotonic()
        self.cli(*command)
        self.seconds_to_connected = time.monotonic() - start
        return self

    def __exit__(self, *_: object) -> None:
        self._remover.communicate()  # its stdin ends here, or with this process

    def cli(self, *arguments: str) -> str:
        """Run one command; its standard output. A failure ends the measurement with what the command said."""
        done = subprocess.run(
            [sys.executable, "-m", "p2pnet.cli", *arguments],
            env=os.environ | {"P2PNET_STATE": str(self.state)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode not in (0, 1, 5):
            sys.exit(f"p2pnet {' '.join(arguments)}: exit {done.returncode}\n{done.stderr}")
        return done.stdout

    def document_of(self, *arguments: str) -> Any:
        """The JSON a command prints."""
        return json.loads(self.cli(*arguments, "-o", "json"))

    def node_pids(self) -> list[int]:
        """Processes that run nodes; with packing fewer than nodes."""
        members = self.document_of("status", self.name)["members"]
        return sorted({member["pid"] for member in members if member["pid"]})

    def cpu_seconds(self) -> float:
        """CPU of the node processes so far, user and system."""
        return sum(process_cpu_seconds(pid) for pid in self.node_pids())

    def pss_mb(self) -> list[float]:
        """Proportional set size of each node process, in 10^6 bytes."""
        return [pss_bytes(pid) / 1e6 for pid in self.node_pids()]


def process_cpu_seconds(pid: int) -> float:
    """User and system time of one process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def pss_bytes(pid: int) -> int:
    """Memory of one process, shared pages divided by their sharers."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0
