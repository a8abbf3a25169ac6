"""The published qp2p crate as the other side: the program in tests/bench/peers/qp2p, and what it reports.

It is built once, with cargo, into the user's cache. Where cargo is missing its tests skip; with P2PNET_REQUIRE_QP2P=1 they fail.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.patience import PATIENCE_S

REQUIRED = "P2PNET_REQUIRE_QP2P"
SOURCE = Path(__file__).parents[1] / "bench" / "peers" / "qp2p"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "p2pnet-bench"
BUILD_S = 900  # with an empty cache, on a machine that is busy with other tests
Report = dict[str, Any]


def program() -> Path:
    """The program, built of the sources as they are now. Skips, or fails where it is required, if there is no cargo."""
    sources = [SOURCE / "Cargo.toml", SOURCE / "src" / "main.rs"]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    built = CACHE / f"qp2p-{digest[:16]}"
    if built.exists():
        return built
    cargo = shutil.which("cargo")
    if cargo is None:
        why = "no cargo here to build the real qp2p with"
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(f"{REQUIRED}=1, but there is {why}")
        pytest.skip(why)
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "qp2p.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another test session may be building it
        if not built.exists():
            _build(cargo, built)
    return built


def _build(cargo: str, built: Path) -> None:
    target = CACHE / "qp2p"
    command = [cargo, "build", "--release", "--quiet", "--manifest-path", SOURCE / "Cargo.toml", "--target-dir", target]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_S, check=False)
    assert done.returncode == 0, f"cargo build failed:\n{done.stderr[-4000:]}"
    # Named after its sources: a measurement may build other ones in the same folder.
    copy = built.with_suffix(f".{os.getpid()}")
    shutil.copy2(target / "release" / "qp2p-bench", copy)
    copy.rename(built)


class EchoServer:
    """A qp2p endpoint that answers every message with itself, and reports it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.reports: list[Report] = []
        """One per message: `hash` (SHA-256), `bytes`, `header`, `dst` (hex), `bi`; and `error` when a connection ended."""
        self.port = 0

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", self.port)

    @property
    def hashes(self) -> list[str]:
        """Of every message, in the order they came."""
        return [report["hash"] for report in self.reports if "hash" in report]

    async def read(self) -> None:
        async for line in self.process.stdout:
            self.reports.append(json.loads(line))


@asynccontextmanager
async def echo_server(path: Path) -> AsyncIterator[EchoServer]:
    """Runs until the block is left."""
    process = await asyncio.create_subprocess_exec(path, "echo", "0", stdout=subprocess.PIPE)
    server = EchoServer(process)
    try:
        server.port = json.loads(await asyncio.wait_for(process.stdout.readline(), PATIENCE_S))["listening"]
        reading = asyncio.create_task(server.read())
        try:
            yield server
        finally:
            process.kill()
            await reading
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def load(
    path: Path, port: int, count: int, size: int, in_flight: int, *, bi: bool = False, timeout_s: float = PATIENCE_S
) -> list[Report]:
    """Have a qp2p client send `count` different messages: `hash` of each, and `reply` (a hash) where `bi`.

    Raises AssertionError if it fails or takes too long.
    """
    arguments = ["load", str(port), str(count), str(size), str(in_flight), *(["bi"] if bi else [])]
    process = await asyncio.create_subprocess_exec(path, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        out, err = await asyncio.wait_for(process.communicate(), timeout_s)
    except TimeoutError:
        raise AssertionError(f"qp2p's client was not done with {arguments} after {timeout_s:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, f"qp2p's client failed: {err.decode()}"
    return [report for line in out.splitlines() if "hash" in (report := json.loads(line))]
