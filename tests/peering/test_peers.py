import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.model.peer_messages import Hello
from p2pnet.peering.peers import HelloRefusedError, read_hello, write_hello


@given(st.text(max_size=30), st.text(max_size=30), st.integers(0, 100), st.integers(0, 2**40), st.text(max_size=30))
def test_a_hello_is_read_as_it_was_written(name: str, incarnation: str, protocol: int, version: int, why: str) -> None:
    hello = Hello(name, incarnation, protocol, version, why)
    assert read_hello(write_hello(hello), name) == hello


@given(st.binary(max_size=200))
def test_any_bytes_are_a_hello_or_refused(payload: bytes) -> None:
    with contextlib.suppress(HelloRefusedError):
        assert isinstance(read_hello(payload, "node-0"), Hello)


def test_a_hello_under_another_name_than_the_certificates_is_refused() -> None:
    with pytest.raises(HelloRefusedError, match="node-1"):
        read_hello(write_hello(Hello("node-2", "cafe")), "node-1")
