"""The bench measures what it says: run small here, for its figures mean nothing on a busy machine."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.patience import PATIENCE_S

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it pins processes to cores and reads /proc")


def run(*words: str) -> str:
    command = [sys.executable, "-m", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_throughput_bench_reports_connections_and_messages_apart() -> None:
    shown = run("tests.bench.throughput", "2", "3", "100", "200")
    assert re.search(r"^6 connections in .* a second;   a dial \S+ \(\S+ to \S+\) ms$", shown, re.MULTILINE)
    assert re.search(r"^600 messages of 200 B: \S+ a second, \S+ MiB/s in all$", shown, re.MULTILINE)
    assert "all received once, whole" in shown


def test_the_bench_compares_handshakes_of_p2pnet_and_aioquic() -> None:
    shown = run("tests.bench.quic", "1", "--rows", "handshake")
    assert re.search(r"^  p2pnet +CPU \S+ ms: client \S+, server \S+;", shown, re.MULTILINE)
    assert re.search(r"^  aioquic +CPU \S+ ms: client \S+, server \S+;", shown, re.MULTILINE)


def test_the_plain_loop_is_shorter_than_forty_lines() -> None:
    source = (ROOT / "tests" / "bench" / "quic_peers" / "plain_loop.py").read_text()
    (loop,) = (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    lines = source.splitlines()[loop.lineno - 1 : loop.end_lineno]
    assert len([line for line in lines if line.strip() and '"""' not in line]) < 40
