"""Sockets that listen on both IP families, on one, and on a machine that has only one."""

import socket

import pytest

from p2pnet.quic.hosts import ANY, bind_udp, listenable, listener, loopback

BOTH = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs IPv6")


@BOTH
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_every_address_is_those_of_both_families(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with listener(ANY, 0) as listening, socket.create_connection((host, listening.getsockname()[1]), 5):
        pass
    with bind_udp(ANY, 0) as bound, socket.socket(family, socket.SOCK_DGRAM) as other:
        bound.settimeout(5)
        other.sendto(b"x", (host, bound.getsockname()[1]))
        assert bound.recv(10) == b"x"


@BOTH
def test_one_address_is_that_alone() -> None:
    with listener("::1", 0) as listening, pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", listening.getsockname()[1]), 5)


def test_without_ipv6_every_address_is_those_of_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    assert listenable(ANY) == "0.0.0.0"
    with listener(ANY, 0) as listening, bind_udp(ANY, 0) as bound:
        assert {listening.family, bound.family} == {socket.AF_INET}


def test_loopback_is_one_that_can_be_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    with bind_udp(loopback(), 0) as bound:
        assert bound.getsockname()[0] == loopback()

    class SixOnly(socket.socket):
        def bind(self, address: object) -> None:
            if self.family == socket.AF_INET:
                raise OSError(99, "Cannot assign requested address")

    monkeypatch.setattr(socket, "socket", SixOnly)
    assert loopback.__wrapped__() == "::1"
