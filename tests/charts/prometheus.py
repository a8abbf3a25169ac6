"""A real Prometheus: the one on PATH, or Debian's package, unpacked beside and not installed: it would start a service.

It may be left out, with the reason, on a machine where it cannot be had; never where P2PNET_REQUIRE_PROMETHEUS is 1.
"""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from tests.patience import PATIENCE_S
from tests.ports import free_port

PACKAGE = "prometheus"
REQUIRED = os.environ.get("P2PNET_REQUIRE_PROMETHEUS") == "1"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "p2pnet-prometheus"
DOWNLOAD_S = 120


class PrometheusTools(NamedTuple):
    """Paths of both programs."""

    prometheus: str
    promtool: str

    def promtool_says(self, *words: str) -> str:
        """What a command of promtool prints; AssertionError with it when that fails."""
        done = subprocess.run([self.promtool, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def tools() -> PrometheusTools:
    """Both programs, unpacked where they are not there."""
    if (there := _found()) is not None:
        return there
    why = "no prometheus and promtool here, and no apt-get to have them from"
    if shutil.which("apt-get") and shutil.which("dpkg-deb"):
        CACHE.mkdir(parents=True, exist_ok=True)
        with (CACHE / "lock").open("w") as lock:  # workers of several runs
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _found() is None:
                why = _unpack()
        if (there := _found()) is not None:
            return there
    if REQUIRED:
        pytest.fail(why)
    print(why)
    pytest.skip(why)


def _found() -> PrometheusTools | None:
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), str(CACHE / "usr" / "bin")))
    programs = [shutil.which(name, path=path) for name in ("prometheus", "promtool")]
    return PrometheusTools(programs[0], programs[1]) if programs[0] and programs[1] else None


def _unpack() -> str:
    """Fetch and unpack the package; why it was not possible, empty when it was."""
    for words in (["download"], ["update"], ["download"]):
        if words == ["update"] and os.geteuid() != 0:
            break
        more = [PACKAGE] if words == ["download"] else []
        done = subprocess.run(
            ["apt-get", *words, *more], cwd=CACHE, capture_output=True, text=True, check=False, timeout=DOWNLOAD_S
        )
        packages = sorted(CACHE.glob(f"{PACKAGE}_*.deb"))
        if packages:
            subprocess.run(["dpkg-deb", "--extract", str(packages[-1]), str(CACHE)], check=True)
            return ""
    return f"apt-get could not download {PACKAGE}: {done.stderr[-500:]}"


class Prometheus:
    """A running server and its API."""

    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}"

    def ask(self, path: str, **query: str) -> Any:
        """The `data` of an answer. OSError where there is none; AssertionError for one that is an error."""
        url = f"{self._base}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            found = json.load(answer)
        assert found["status"] == "success", found
        return found["data"]

    def query(self, expression: str) -> list[Any]:
        """The series that an expression gives now."""
        return list(self.ask("query", query=expression)["result"])


@contextlib.contextmanager
def serving(found: PrometheusTools, folder: Path, scrapes: list[dict[str, Any]], rules: Path) -> Iterator[Prometheus]:
    """A Prometheus that scrapes every second, until the block ends."""
    port = free_port()
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "scrape_configs": scrapes,
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    words = [
        found.prometheus, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            server = Prometheus(port)
            deadline = time.monotonic() + PATIENCE_S
            while True:
                with contextlib.suppress(OSError):
                    server.ask("status/runtimeinfo")
                    break
                assert time.monotonic() < deadline, (folder / "prometheus.log").read_text()
                assert process.poll() is None, (folder / "prometheus.log").read_text()
                time.sleep(0.05)
            yield server
        finally:
            process.kill()
            process.wait()
