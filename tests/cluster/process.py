"""The operator as processes of the working tree, in a cluster's network."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.cluster.kit import ROOT, until

END_S = 60.0
"""For an operator to end, far above what it takes; one that hangs ends later, by its own timer, or not at all."""
_RUN = """
import json, sys
from tests.cluster.warm import change
change(json.loads(sys.argv[1]))
from p2pnet.operator.__main__ import main
sys.exit(main(["run"]))
"""


class Nest:
    """Where operators come from, one network each: started as a user would, or forked from one that is warm."""

    def __init__(self, network: str) -> None:
        self._inside = ["nsenter", f"--net=/run/netns/{network}"]
        self._lock = threading.Lock()
        self._warm: subprocess.Popen[str] | None = None

    def command(self, values: dict[str, Any]) -> list[str]:
        """How to start one."""
        if values:
            return [*self._inside, sys.executable, "-c", _RUN, json.dumps(values)]
        return [*self._inside, sys.executable, "-m", "p2pnet.operator", "run"]

    def ask(self, **asked: Any) -> dict[str, Any]:
        """A word with the warm one."""
        with self._lock:
            if self._warm is None:
                words = [*self._inside, sys.executable, str(Path(__file__).with_name("warm.py"))]
                self._warm = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            assert self._warm.stdin is not None
            assert self._warm.stdout is not None
            self._warm.stdin.write(json.dumps(asked) + "\n")
            self._warm.stdin.flush()
            found: dict[str, Any] = json.loads(self._warm.stdout.readline())
            return found

    def close(self) -> None:
        """End the warm one."""
        if self._warm is not None:
            with self._warm:
                self._warm.kill()


class Operator:
    """One operator: at most one process at a time, and as many as a test wants one after another."""

    def __init__(
        self,
        nest: Nest,
        log: Path,
        kubeconfig: Path,
        environment: dict[str, str],
        values: dict[str, Any],
        *,
        warm: bool,
    ) -> None:
        self._nest = nest
        self._log = log
        self._values = values
        self._warm = warm
        self._environment = {
            "KUBECONFIG": str(kubeconfig), "P2PNET_METRICS_PORT": "0", "P2PNET_HEALTH_PORT": "0",
            "P2PNET_NODE_IMAGE": "p2pnet-node:test", **{f"P2PNET_{key.upper()}": value for key, value in environment.items()},
        }  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self.pid = 0
        self.code: int | None = None
        """How the last process ended, as `subprocess` tells it; None while it runs."""
        self.codes: list[int] = []
        self.starts = 0

    def start(self) -> None:
        """Start it; it must not be running."""
        assert not self.running, "it runs already"
        self.code, self._process = None, None
        self.starts += 1
        if self._warm:
            self.pid = self._nest.ask(start=self._environment, set=self._values, log=str(self._log))["pid"]
            return
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._nest.command(self._values), env={**os.environ, **self._environment}, cwd=ROOT,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self.pid = self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        if self.pid == 0 or self.code is not None:
            return False
        self.code = self._process.poll() if self._process else self._nest.ask(poll=self.pid)["code"]
        if self.code is not None:
            self.codes.append(self.code)
        return self.code is None

    def log(self) -> str:
        """Everything it has said, in all its lives."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self.running:
            os.kill(self.pid, number)

    def wait(self, within_s: float = END_S) -> int:
        """The exit code."""
        until(lambda: not self.running, "the operator ends", within_s, every_s=0.02)
        assert self.code is not None
        return self.code

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        if self.running:
            self.signal(signal.SIGKILL)
            self.wait()

    def terminate(self) -> int:
        """SIGTERM, and wait for the end: the exit code. One that hangs ends itself with 1 (`ENDING_S` of the operator)."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def restart(self) -> None:
        """Kill it, and start it again."""
        self.kill()
        self.start()

    @contextlib.contextmanager
    def supervised(self) -> Iterator[None]:
        """Whenever it ends, it is started again, at once."""
        end = threading.Event()

        def look() -> None:
            while not end.wait(0.01):
                if not self.running:
                    self.start()

        thread = threading.Thread(target=look, name="supervisor")
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()
