import itertools
from random import Random
from statistics import mean, pvariance

import pytest

from p2pnet.sim.chance import Chance


def test_one_text_gives_one_sequence_and_another_text_another():
    assert [Chance("a").random() for _ in range(3)] == [Chance("a").random()] * 3
    first, again, other = (Chance(text) for text in "aab")
    assert [first.random() for _ in range(50)] == [again.random() for _ in range(50)]
    assert first.random() != other.random()


def test_draws_are_even_and_independent_of_each_other():
    rng = Chance("even")
    drawn = [rng.random() for _ in range(20_000)]
    assert all(0 <= one < 1 for one in drawn)
    assert mean(drawn) == pytest.approx(0.5, abs=0.01)
    assert pvariance(drawn) == pytest.approx(1 / 12, rel=0.03)
    assert mean(a * b for a, b in itertools.pairwise(drawn)) == pytest.approx(0.25, abs=0.01)
    # Nodes differ in one character of their text: their first draws must not resemble each other.
    firsts = [Chance(f"7/n{number}/1/core").random() for number in range(5_000)]
    assert mean(firsts) == pytest.approx(0.5, abs=0.02)


def test_a_sample_has_different_members_each_as_often():
    rng = Chance("sample")
    seen = dict.fromkeys(range(10), 0)
    for _ in range(3_000):
        chosen = rng.sample(range(10), 3)
        assert len(set(chosen)) == 3
        for one in chosen:
            seen[one] += 1
    assert all(780 < count < 1_020 for count in seen.values())
    assert sorted(rng.sample([1, 2, 3], 3)) == [1, 2, 3]
    assert rng.sample([], 0) == []
    with pytest.raises(ValueError, match="4 of 3"):
        rng.sample([1, 2, 3], 4)


def test_it_has_what_the_broadcast_draws_with():
    rng = Chance("bytes")
    assert all(2 <= rng.uniform(2, 3) < 3 for _ in range(100))
    assert [len(rng.randbytes(count)) for count in (0, 1, 8, 16, 19)] == [0, 1, 8, 16, 19]
    assert rng.randbytes(16) != rng.randbytes(16)


def test_it_takes_a_small_part_of_the_memory_of_pythons_own():
    assert Chance("small").__sizeof__() * 10 < Random(1).__sizeof__()
