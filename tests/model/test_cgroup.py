"""What control groups allow and count, of both versions, of groups above, and without any."""

from pathlib import Path

import pytest

from p2pnet.model.cgroup import Cgroups, OomCounter

MIB = 1 << 20


def place(root: Path, cgroup: str, files: dict[str, str]) -> tuple[Path, Path]:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root / "proc", root / "cg"


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
def test_a_kill_is_counted_where_the_system_counts_it(tmp_path: Path, cgroup: str, file: str) -> None:
    places = place(tmp_path, cgroup, {file: "low 0\noom 9\noom_kill 3\n"})
    counter = OomCounter(*places)
    assert Cgroups(*places).oom_kills() == 3
    assert not counter.grew()
    (tmp_path / file).write_text("low 0\noom 12\noom_kill 4\n")
    assert counter.grew()
    assert not counter.grew()


def test_where_nothing_counts_nothing_is_claimed(tmp_path: Path) -> None:
    groups = Cgroups(tmp_path, tmp_path)
    assert (groups.oom_kills(), groups.memory_free(), groups.cpus()) == (None, None, None)
    assert not OomCounter(tmp_path, tmp_path).grew()


def test_the_tightest_limit_of_all_groups_above_counts_and_cache_can_be_had_back(tmp_path: Path) -> None:
    files = {
        "cg/a/b/memory.max": "max\n",
        "cg/a/b/memory.current": f"{90 * MIB}\n",
        "cg/a/memory.max": f"{200 * MIB}\n",
        "cg/a/memory.current": f"{150 * MIB}\n",
        "cg/a/memory.stat": f"anon 7\ninactive_file {30 * MIB}\n",
        "cg/memory.max": f"{900 * MIB}\n",
        "cg/memory.current": f"{300 * MIB}\n",
        "cg/a/b/cpu.max": "150000 100000\n",
        "cg/a/cpu.max": "max 100000\n",
    }
    groups = Cgroups(*place(tmp_path, "0::/a/b\n", files))
    assert (groups.memory_free(), groups.cpus()) == (80 * MIB, 1.5)


def test_version_1_is_read_by_its_own_names(tmp_path: Path) -> None:
    files = {
        "cg/memory/docker/7/memory.limit_in_bytes": f"{200 * MIB}\n",
        "cg/memory/docker/7/memory.usage_in_bytes": f"{250 * MIB}\n",
        "cg/memory/docker/7/memory.stat": f"total_inactive_file {70 * MIB}\n",
        "cg/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "cg/memory/memory.usage_in_bytes": "1\n",
        "cg/cpu/x/cpu.cfs_quota_us": "50000\n",
        "cg/cpu/x/cpu.cfs_period_us": "100000\n",
        "cg/cpu/cpu.cfs_quota_us": "-1\n",
        "cg/cpu/cpu.cfs_period_us": "100000\n",
    }
    groups = Cgroups(*place(tmp_path, "9:memory:/docker/7\n4:cpu,cpuacct:/x\n0::/\n", files))
    assert (groups.memory_free(), groups.cpus()) == (20 * MIB, 0.5)


@pytest.mark.parametrize("text", ["", "max", "-1 100000", "x y", "100000 0", "max 100000"])
def test_a_quota_that_is_none_limits_nothing(tmp_path: Path, text: str) -> None:
    assert Cgroups(*place(tmp_path, "0::/\n", {"cg/cpu.max": text})).cpus() is None
