import os
import select
from pathlib import Path

import pytest

from p2pnet.node.parent import choose_start, close_all_but


@pytest.mark.parametrize(
    ("platform", "how"), [("linux", "fork"), ("darwin", "spawn"), ("freebsd14", "spawn"), ("win32", "spawn")]
)
def test_linux_forks_and_everything_else_spawns(platform: str, how: str) -> None:
    assert choose_start(platform) == how


def test_a_child_keeps_only_the_descriptors_it_was_given(tmp_path: Path) -> None:
    kept, lost = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        close_all_but([kept[1]])
        wrong = [fd for fd in (kept[0], *lost) if _is_open(fd)] or not _is_open(kept[1])
        os._exit(1 if wrong else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    for fd in (*kept, *lost):
        os.close(fd)


def test_a_pipe_nobody_writes_shows_the_end_of_its_holder() -> None:
    read, write = os.pipe()
    assert select.select([read], [], [], 0) == ([], [], [])
    os.close(write)
    assert select.select([read], [], [], 0)[0] == [read]
    os.close(read)


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
