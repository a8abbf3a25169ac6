"""The kernel's count of processes it killed for want of memory, under both versions of cgroups and without any."""

from pathlib import Path

import pytest

from p2pnet.model.oom import OomCounter


def machine(root: Path, cgroup: str, files: dict[str, str]) -> OomCounter:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return OomCounter(root / "proc", root / "cg")


@pytest.mark.parametrize(
    ("cgroup", "file"),
    [
        ("0::/user.slice/a\n", "cg/user.slice/a/memory.events"),
        ("0::/\n", "cg/memory.events"),
        ("0::/outside/of/the/container\n", "cg/memory.events"),
        ("4:cpu:/x\n9:memory:/docker/7\n", "cg/memory/docker/7/memory.oom_control"),
        ("4:cpu:/x\n", "proc/vmstat"),
    ],
)
def test_a_kill_is_counted_where_the_system_counts_it(tmp_path, cgroup, file):
    counter = machine(tmp_path, cgroup, {file: "low 0\noom 9\noom_kill 3\n"})
    assert counter.read() == 3
    assert not counter.grew()
    (tmp_path / file).write_text("low 0\noom 12\noom_kill 4\n")
    assert counter.grew()
    assert not counter.grew()


def test_where_nothing_counts_nothing_is_claimed(tmp_path):
    counter = OomCounter(tmp_path, tmp_path)
    assert counter.read() is None
    assert not counter.grew()
