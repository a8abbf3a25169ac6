"""Text forms that several rooms share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.model.text import address_text, parse_address, plural, signal_name, some


def test_as_many_names_as_there_is_room_for_and_the_number_of_the_others() -> None:
    assert some([]) == ""
    assert some(["a", "b"], most=2) == "a, b"
    assert some(iter("abcde"), most=2) == "a, b and 3 more"


def test_a_count_stands_before_its_noun() -> None:
    assert [plural(number, "node") for number in (0, 1, 1234)] == ["0 nodes", "1 node", "1,234 nodes"]


@given(st.from_regex(r"[a-z0-9.-]{1,20}", fullmatch=True) | st.ip_addresses().map(str), st.integers(1, 65535))
def test_an_address_is_read_as_it_was_written(host: str, port: int) -> None:
    assert parse_address(address_text(host, port)) == (host, port)


@pytest.mark.parametrize("text", ["", "host", "host:", ":1", "host:0", "host:65536", "host:x", "host:\u0664"])
def test_a_text_that_is_no_address_gives_none(text: str) -> None:
    assert parse_address(text) is None


def test_a_signal_is_shown_by_its_name_or_its_number() -> None:
    assert [signal_name(number) for number in (9, 40)] == ["SIGKILL", "signal 40"]
