"""Clients with mistakes and habits of users' clients."""

import pytest

from p2pnet.adversary.clients import DERIVED, DerivingClient, StumblingClient
from p2pnet.broadcast import BlobClient, Bounce
from p2pnet.model.ids import ArtifactId
from p2pnet.sim import World


def test_a_stumbling_client_raises_so_often_for_each_artifact_and_then_wants_it():
    client = StumblingClient(stumbles=2)
    for name in (b"a", b"b"):
        for _ in range(2):
            with pytest.raises(OSError, match="not open yet"):
                client.bouncer(ArtifactId(name * 32), b"", 10)
        assert client.bouncer(ArtifactId(name * 32), b"", 10) is Bounce.WANTS


def test_what_a_stumbling_client_raised_for_arrives_all_the_same():
    world = World(seed=1)
    nodes = [world.node(f"n{number}", client=StumblingClient) for number in range(3)]
    world.full_mesh(delay="20ms")
    found = nodes[0].publish(b"x" * 500)
    world.settle()
    assert all(node.holds(found) for node in nodes)
    assert world.broken() == []


def test_what_some_derive_all_others_get_and_nobody_derives_of_it_again():
    world = World(seed=1)
    nodes = [world.node(f"node-{number}", client=DerivingClient) for number in range(4)]
    world.full_mesh(delay="20ms")
    nodes[0].publish(b"x" * 500, keep="1h")
    world.settle()
    held = {tuple(sorted(node.held())) for node in nodes}
    assert [len(one) for one in held] == [2]
    names = {found.inspected.name: found.size for found in nodes[0].core.pool.validated.values()}
    assert names[DERIVED] == 65_536


@pytest.mark.parametrize(("make", "said"), [
    (lambda: StumblingClient(stumbles=-1), "stumbles -1: a number from 0 to 100"),
    (lambda: StumblingClient(stumbles="2"), "stumbles '2'"),
    (lambda: DerivingClient("n", size=1 << 30), "size 1073741824: a number from 0 to 1048576"),
])  # fmt: skip
def test_a_bad_setting_says_what_is_allowed(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_they_are_the_blob_client_besides():
    assert isinstance(StumblingClient(), BlobClient)
    assert isinstance(DerivingClient("n"), BlobClient)
