"""What nodes of a document are told."""

import pytest

from p2pnet.subnet.document import load_subnet
from p2pnet.subnet.node_config import broadcast_settings

HEAD = {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "demo"}}


@pytest.mark.parametrize(("kind", "full"), [("full", True), ("ring", False)])
def test_whether_auto_deals_large_artifacts_out_is_left_to_the_uplink(kind: str, full: bool) -> None:
    settings = broadcast_settings(load_subnet({**HEAD, "spec": {"nodes": 5, "topology": {"kind": kind}}}))
    assert settings.relay == "auto"
    assert (settings.full_mesh, settings.auto_scatters) == (full, False)
