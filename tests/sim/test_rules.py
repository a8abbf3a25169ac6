"""The rules of the broadcast that leave no trace in who holds what: broken ones are named, with node and time."""

import pytest
from tests.sim.episodes import play
from tests.sim.mutants import planted

from p2pnet.sim import World
from p2pnet.sim.rules import SENTENCES_MAX, BrokenRuleError, RuleWatch

TOLD = [
    ("V8", 90, r"n1 looked \d+ times at fetches, for \d+ pieces of news, \d+\.\d{3} s after the start"),
    ("V10", 18, r"asked \d+ times in vain, for \d+ announcements, "),
    ("V11", 57, r"n0 keeps 36945d20, d4061f74 in line for a slot, and does not hold it"),
    ("resurrecting-late-push", 103, r"n2 keeps f635e92a as announced by n1, which announces no such thing"),
    ("synced-before-the-answers", 1, r"n3 said synced to n5 before it announced .* and 4 more, 17\.356 s"),
    ("passes-stripes-on-twice", 2, r"passed a stripe on to n\d twice, "),
]


@pytest.mark.parametrize(("fault", "episode", "said"), TOLD, ids=[fault for fault, _, _ in TOLD])
def test_a_broken_rule_is_named_with_the_node_and_the_time(fault, episode, said):
    with planted(fault), pytest.raises((AssertionError, BrokenRuleError), match=said):
        play(episode)


def test_a_sound_world_breaks_none_and_is_the_same_watched_or_not():
    def digest(*, watched: bool) -> str:
        world = World(seed=3)
        if watched:
            world.watch_rules()
        nodes = [world.node(f"n{number}") for number in range(4)]
        world.full_mesh(delay="20ms", loss=0.1)
        for number in range(12):
            nodes[number % 4].publish(bytes(2_000 * number + 1), keep="1h")
            world.replace("n0", "n1")
            world.run("300ms")
        world.settle()
        assert world.broken_rules() == []
        assert not world.has_broken_rules
        return world.digest()

    assert digest(watched=True) == digest(watched=False)


def test_so_many_broken_rules_are_kept_and_no_more():
    watch = RuleWatch()
    for number in range(2 * SENTENCES_MAX):
        watch._say(f"n0 broke rule {number}", 1_500_000_000)
    assert len(watch.broken) == SENTENCES_MAX
    assert next(iter(watch.broken)) == "n0 broke rule 0, 1.500 s after the start"
