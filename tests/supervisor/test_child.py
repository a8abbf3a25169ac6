"""How a child of the supervisor begins and ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from p2pnet.supervisor import child


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_forked_child_ends_with_what_it_returns_and_writes_to_its_log(tmp_path: Path) -> None:
    def run() -> int:
        os.write(1, b"to stdout\n")
        os.write(2, b"to stderr\n")
        return 7

    assert ended(child.fork(run, (), tmp_path / "log")) == 7
    assert (tmp_path / "log").read_text() == "to stdout\nto stderr\n"


def test_a_forked_child_that_raises_ends_with_a_fault(tmp_path: Path) -> None:
    def run() -> int:
        raise RuntimeError("no reason")

    assert ended(child.fork(run, (), tmp_path / "log")) == child.EXIT_FAULT


def test_a_forked_child_keeps_only_the_descriptors_it_is_given(tmp_path: Path) -> None:
    read, write = os.pipe()
    other_read, other_write = os.pipe()

    def run() -> int:
        os.write(write, b"x")
        try:
            os.write(other_write, b"x")
        except OSError:
            return 0
        return 1

    assert ended(child.fork(run, (write,), tmp_path / "log")) == 0
    assert os.read(read, 9) == b"x"
    for fd in (read, write, other_read, other_write):
        os.close(fd)


def test_what_is_warm_is_hidden_from_the_collector_which_works_on() -> None:
    code = (
        "import gc; from p2pnet.supervisor import child; child.warm_up();"
        "assert gc.isenabled() and gc.get_freeze_count() > 10_000 > len(gc.get_objects())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["p2pnet.supervisor.pod", "p2pnet.lab.__main__"])
def test_so_is_what_a_pod_and_a_lab_import(module: str) -> None:
    code = (
        f"import gc, runpy, sys; sys.argv = ['{module}', '--help']\n"
        f"try: runpy.run_module('{module}', run_name='__main__')\n"
        "except SystemExit: assert gc.isenabled() and gc.get_freeze_count() > 10_000"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
