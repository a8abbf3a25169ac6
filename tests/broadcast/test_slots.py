"""Slot numbers and commit ids."""

from hypothesis import given
from hypothesis import strategies as st

from p2pnet.broadcast.slots import SlotSet


def test_the_most_recently_freed_slot_is_taken_first() -> None:
    slots = SlotSet(10)
    assert [slots.take() for _ in range(3)] == [0, 1, 2]
    slots.free(0)
    slots.free(1)
    assert [slots.take(), slots.take(), slots.take()] == [1, 0, 3]


def test_a_freed_slot_is_taken_again_before_a_new_number() -> None:
    slots = SlotSet(10)
    for _ in range(3):
        slots.take()
    slots.free(1)
    assert slots.take() == 1
    assert (slots.allocated, slots.in_use) == (3, 3)


def test_no_slot_is_given_beyond_the_limit() -> None:
    slots = SlotSet(2)
    assert [slots.take() for _ in range(3)] == [0, 1, None]


def test_commit_ids_count_from_zero() -> None:
    slots = SlotSet(1)
    assert [slots.commit() for _ in range(3)] == [0, 1, 2]


@given(st.lists(st.integers(-3, 20), max_size=60), st.integers(1, 8))
def test_a_number_is_held_once_and_stays_below_the_limit(steps: list[int], limit: int) -> None:
    slots, held = SlotSet(limit), list[int]()
    for step in steps:
        if step < 0 and held:
            slots.free(held.pop(step % len(held)))
        elif (slot := slots.take()) is not None:
            assert slot not in held
            assert slot < limit
            held.append(slot)
        else:
            assert len(held) == limit
        assert slots.in_use == len(held)
        assert slots.room == limit - len(held)
