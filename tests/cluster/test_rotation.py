"""Twenty nodes get other leaves while artifacts travel between them: nobody starts again, and nothing is lost."""

import pytest
from tests.cluster.demo import Demo
from tests.cluster.kit import Cluster, until
from tests.cluster.test_certificates import SERVED_S, check_lossless, injection, served

NODES = 20


@pytest.mark.alone
def test_twenty_nodes_are_rotated_under_way_without_a_restart_or_a_lost_artifact(
    operator: Cluster, namespace: str
) -> None:
    demo = Demo(operator, namespace, {"nodes": NODES})
    demo.until_ready(NODES)
    before, pods = served(demo), demo.uids()
    assert len(before) == NODES

    def rotated() -> bool:
        now = served(demo)
        return now.keys() == before.keys() and all(leaf != before[name][0] for name, (leaf, *_) in now.items())

    with injection(demo) as reports:
        demo.annotate("force-renew", "once")
        until(rotated, "all show another leaf", within_s=SERVED_S)
    check_lossless(reports)
    demo.until_ready(NODES)
    assert (demo.restarts(), demo.uids()) == (0, pods)
