"""Where nodes are drawn: the same for the same seed, near their peers, on earth where their places are known."""

import math

from p2pnet.netem.presets import preset
from p2pnet.present.layouts import SCALE, by_links, on_earth, places_of
from p2pnet.present.regions import coordinates
from p2pnet.topology import edges


def linked(nodes, seed=1, kind="random-regular", degree=4):
    names = [f"node-{n}" for n in range(nodes)]
    found = edges(kind, names, degree=degree, seed=seed, extra_edges=[])
    numbers = {name: number for number, name in enumerate(names)}
    return [(numbers[a], numbers[b]) for a, b in found]


def lengths(positions, pairs):
    return [math.hypot(positions.x[a] - positions.x[b], positions.y[a] - positions.y[b]) for a, b in pairs]


def test_the_same_seed_gives_the_same_places():
    pairs = linked(60)
    assert by_links(60, pairs, 7) == by_links(60, pairs, 7)
    assert by_links(60, pairs, 7) != by_links(60, pairs, 8)


def test_linked_nodes_are_nearer_than_others():
    ring = linked(80, kind="ring", degree=2)
    positions = by_links(80, ring, 1)
    near = lengths(positions, ring)
    far = lengths(positions, [(n, (n + 40) % 80) for n in range(40)])
    assert sum(near) / len(near) < sum(far) / len(far) / 4


def test_every_place_is_inside_the_picture_and_no_two_nodes_share_one():
    for nodes, pairs in ((1, []), (2, [(0, 1)]), (9, []), (200, linked(200)), (70, [])):
        positions = by_links(nodes, pairs, 3)
        assert len(set(zip(positions.x, positions.y, strict=True))) == nodes
        assert all(-SCALE <= one <= SCALE for one in [*positions.x, *positions.y])
    assert by_links(0, [], 1).x == []


def test_nodes_that_nothing_links_are_placed_too():
    assert len(by_links(30, linked(20), 1).x) == 30


def test_every_region_of_the_measured_clouds_is_on_earth():
    for place in preset("aws").places:
        at = coordinates(place)
        assert at is not None, place
        assert -90 < at[0] < 90
        assert -180 < at[1] < 180


def test_nodes_of_one_place_stand_beside_each_other():
    positions = on_earth(["eu", "eu", "us", "eu"])
    assert len(set(zip(positions.x, positions.y, strict=True))) == 4
    assert all(abs(positions.x[n] - 90) < 40 for n in (0, 1, 3))


def test_an_unknown_place_means_no_map():
    assert on_earth(["eu", "7"]) is None
    assert on_earth([]) is None
    assert places_of(["a", "b"], {"a": "eu"}) is None
    assert places_of(["a"], {"a": "eu"}) == ["eu"]
