"""The compiled peers of the bench: the real qp2p (cargo) and the relay (cc), built once into the user's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

PEERS = Path(__file__).parents[1] / "peers"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "p2pnet-bench"
BUILD_S = 900


def qp2p() -> Path | str:
    """The program around the published crate, or why there is none."""
    folder = PEERS / "qp2p"
    built = _built("qp2p", [folder / "Cargo.toml", folder / "src" / "main.rs"])
    if built.exists():
        return built
    cargo = shutil.which("cargo")
    if cargo is None:
        return "no cargo here to build the real qp2p with"
    target = CACHE / "qp2p"
    command = [cargo, "build", "--release", "--quiet", "--manifest-path", folder / "Cargo.toml", "--target-dir", target]
    return _build(command, target / "release" / "qp2p-bench", built)


def relay() -> Path | str:
    """The path between two sockets, or why there is none."""
    source = PEERS / "relay" / "relay.c"
    built = _built("relay", [source])
    if built.exists():
        return built
    compiler = shutil.which("cc")
    if compiler is None:
        return "no C compiler here to build the relay with"
    made = built.with_suffix(f".{os.getpid()}.made")
    return _build([compiler, "-O2", "-o", made, source], made, built)


def _built(name: str, sources: list[Path]) -> Path:
    """Named after the sources: other ones are another program."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    return CACHE / f"{name}-{digest[:16]}"


def _build(command: list[str | Path], made: Path, built: Path) -> Path | str:
    CACHE.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_S, check=False)
    if done.returncode != 0:
        return f"{command[0]} failed: {done.stderr.strip().splitlines()[-1:]}"
    copy = built.with_suffix(f".{os.getpid()}")
    shutil.copy2(made, copy)
    copy.replace(built)
    return built
