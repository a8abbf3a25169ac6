"""What `cluster.sh` starts leaves no trace on the machine."""

import subprocess
from pathlib import Path

from tests.cluster.kit import Cluster, conditions, until


def test_a_cluster_leaves_nothing_behind(built: Cluster) -> None:
    other = Cluster(f"{built.name}-trace")
    other.script("down")
    before = footprint(other)
    try:
        other.script("up", "2")
        nodes = other.get("nodes")
        assert [conditions(node)["Ready"] for node in nodes] == ["True", "True"]
        assert other.pids()
        assert footprint(other) != before
    finally:
        other.script("down")
    assert footprint(other) == before
    until(lambda: not other.pids(), "its processes are gone")


def footprint(cluster: Cluster) -> dict[str, set[str]]:
    """What a cluster could leave on a machine: mounts, network namespaces, control groups, folders at fixed places."""
    named = [path.name for path in Path("/run/netns").glob("*")]
    fixed = ["/var/lib/kubelet", "/var/lib/cni", "/var/log/containers", "/var/log/pods", "/run/containerd"]
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    return {
        "mounts": {mount for mount in mounts if cluster.name in mount or "kubelet" in mount},
        "namespaces": {name for name in named if name.startswith((cluster.name, "cni-"))},
        "links": {
            line for line in links.splitlines() if "node" in line
        },  # whoever builds images beside this has links, too
        "groups": {str(path) for path in Path("/sys/fs/cgroup").rglob(f"*{cluster.name}*")},
        "folders": {str(path) for folder in fixed for path in Path(folder).glob("*")},
    }
