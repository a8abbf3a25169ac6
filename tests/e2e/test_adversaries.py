"""Live nodes of which some misbehave: honest ones get everything from each other, and reports say who does not count."""

from typing import Any

import yaml

DOCUMENT = {
    "apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "demo"},
    "spec": {
        "nodes": 3, "nodesPerPod": 3,  # the honest ones share a process
        "groups": [
            {"name": "liar", "nodes": 1, "behaviour": "lying"},
            {"name": "flooder", "nodes": 1, "behaviour": "flooding"},
            {"name": "old", "nodes": 1, "behaviour": "stale-certificate"},
        ],
    },
}  # fmt: skip


def test_honest_nodes_reach_each_other_beside_a_liar_a_flooder_and_one_whom_all_refuse(person: Any) -> None:
    file = person.folder / "subnet.yaml"
    file.write_text(yaml.safe_dump(DOCUMENT))
    person.run("up", "-f", str(file), inside=True)
    status = person.document("status", "demo")
    assert {one["name"]: one["behaviour"] for one in status["members"] if one["behaviour"] != "honest"} == {
        "liar-0": "lying",
        "flooder-0": "flooding",
        "old-0": "stale-certificate",
    }
    assert status["links"] == {"expected": 10, "up": 10}, "everybody refuses old-0"
    [old] = [one for one in status["members"] if one["name"] == "old-0"]
    assert (old["peers"], old["detail"][:39]) == (0, "shows a certificate that has ended: its")

    report = person.document("inject", "demo", "--size", "300KiB", "--count", "2", "--from", "all", "--within", "100s")
    assert (report["verdict"], report["reach"]) == ("pass", {"expected": 12, "delivered": 12, "ratio": 1.0})
    assert report["publishers"] == [f"node-{i}" for i in range(3)]
    assert report["adversaries"] == [
        {"group": "liar", "behaviour": "lying", "nodes": ["liar-0"]},
        {"group": "flooder", "behaviour": "flooding", "nodes": ["flooder-0"]},
        {"group": "old", "behaviour": "stale-certificate", "nodes": ["old-0"]},
    ]
    assert [one["node"] for one in report["per_node"]] == report["publishers"]

    lied = person.document("inject", "demo", "--size", "300KiB", "--from", "liar-0", "--within", "2s", code=1)
    assert lied["reach"] == {"expected": 3, "delivered": 0, "ratio": 0.0}
    assert "liar-0, which published, is lying" in lied["notes"]
    shown = person.run("report", "demo", code=1, inside=True).out
    assert "1 lying: liar-0" in shown
    assert "1 flooding: flooder-0" in person.run("status", "demo", inside=True).out
