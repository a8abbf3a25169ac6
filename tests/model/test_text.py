"""Some of many names in a sentence."""

from p2pnet.model.text import some


def test_as_many_names_as_there_is_room_for_and_the_number_of_the_others() -> None:
    assert some([]) == ""
    assert some(["a", "b"], most=2) == "a, b"
    assert some(iter("abcde"), most=2) == "a, b and 3 more"
