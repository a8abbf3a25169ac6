"""A subnet that a bench measures goes with the bench, however that ends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.patience import PATIENCE_S

BENCH = """
import sys
from tests.bench.subnet import MeasuredSubnet
with MeasuredSubnet(2) as subnet:
    print(subnet.state, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, None])
def test_a_bench_leaves_no_subnet_when_it_is_killed_nor_when_it_ends(how: signal.Signals | None) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BENCH], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[1],
    ) as bench:  # fmt: skip
        assert bench.stdout is not None
        assert bench.stdin is not None
        state = Path(bench.stdout.readline().strip())
        lab = json.loads((state / "subnets" / "bench" / "lab.json").read_bytes())["pid"]
        if how is not None:
            bench.send_signal(how)
        bench.stdin.close()
        bench.wait(PATIENCE_S)
    deadline = time.monotonic() + PATIENCE_S
    while (state.exists() or _lives(lab)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not state.exists()
    assert not _lives(lab)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
