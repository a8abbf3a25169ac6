"""Local addresses to listen on: loopback, and every address, of both IP families where the system has both."""

import functools
import socket

ANY = "::"
"""The host that means every address, IPv6 and IPv4; IPv4 alone where the system has no IPv6."""


def listenable(host: str) -> str:
    """The host to bind: 0.0.0.0 in place of ANY where the system has no dual-stack sockets."""
    return "0.0.0.0" if host == ANY and not socket.has_dualstack_ipv6() else host


@functools.cache
def loopback() -> str:
    """The loopback address: 127.0.0.1, or ::1 where loopback has no IPv4 address."""
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.bind((host, 0))
        except OSError:
            continue
        return host
    return "127.0.0.1"  # binding it will raise the error that says what is wrong


def listener(host: str, port: int) -> socket.socket:
    """A listening TCP socket, for both IP families if `host` is ANY. Raises OSError."""
    host = listenable(host)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, dualstack_ipv6=host == ANY)


def bind_udp(host: str, port: int) -> socket.socket:
    """A UDP socket bound to a numeric host, for both IP families if that is ANY. Raises OSError, OverflowError."""
    host = listenable(host)
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        if host == ANY:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((host, port))
    except (OSError, OverflowError):
        sock.close()
        raise
    return sock
