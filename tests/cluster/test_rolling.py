"""A rolling edit on a real cluster: pods are replaced within the budget, and the artifacts of afterwards reach everybody."""

from tests.cluster.demo import Demo, Standing
from tests.cluster.kit import Cluster, until

NODES = 4
ROLLED_S = 400.0
"""One pod after the other, each waited for."""


def test_a_rolling_edit_replaces_every_pod_and_never_more_than_one_is_away(operator: Cluster, namespace: str) -> None:
    demo = Demo(operator, namespace, {"nodes": NODES})
    demo.until_ready(NODES)
    before = demo.until_pods(NODES)
    standing = Standing(demo)

    demo.patch({"broadcast": {"keep": "11m"}})

    def rolled() -> dict[str, str] | None:
        now = standing.look()
        new = len(now) == NODES and not set(now.values()) & set(before.values())
        return now if new else None

    after = until(rolled, "every pod is another one", ROLLED_S, every_s=0.1)
    demo.until_ready(NODES)
    assert standing.least == NODES - 1
    assert after.keys() == before.keys()
    assert demo.restarts() == 0
    assert demo.p2pnet("inject", "demo", "--count", "3")["verdict"] == "pass"
