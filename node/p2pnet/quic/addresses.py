"""Addresses: what people write, what the system takes, and what is shown. They are compared as addresses, not as text.

The system's form is Python's socket address, (host, port) or (host, port, flow, scope) with a numeric host, and behind
it, on a socket bound to every address, the local one that a datagram came to: answers must leave from there.
"""

import asyncio
import ipaddress
import socket
from typing import Any

from p2pnet.quic.errors import BadAddress

Address = tuple[str, int]
"""Host (a name, an IPv4 or IPv6 address, the latter perhaps with a zone) and UDP port."""


def readable(raw: Any) -> Address:
    """The system's form as people write it: IPv4 as IPv4, a link-local address with its zone."""
    host, port = raw[0], raw[1]
    if ":" in host:
        if host.startswith("::ffff:") and "." in host:
            return (host[7:], port)
        if len(raw) > 3 and raw[3] and "%" not in host:
            return (f"{host}%{_zone(raw[3])}", port)
    return (host, port)


def numeric(address: Address, family: int) -> Any | None:
    """The system's form of an address written in numbers; None for a name. Raises BadAddress.

    IPv4 addresses are reached from an IPv6 socket as mapped ones. An address that means "any" means this machine.
    """
    host, port = address
    if not 0 < port < 65_536:
        raise BadAddress(f"{host}:{port}: no peer listens on port {port}")
    plain = host.partition("%")[0]
    try:
        ip = ipaddress.ip_address(plain)
    except ValueError:
        return None
    if ip.is_unspecified:
        host = "127.0.0.1" if ip.version == 4 else "::1"
    if ip.version == 6 and ip.ipv4_mapped is not None and family == socket.AF_INET:
        host = str(ip.ipv4_mapped)
    elif ip.version == 6 and family == socket.AF_INET:
        raise BadAddress(f"{host}: this endpoint speaks IPv4")
    elif ip.version == 4 and family == socket.AF_INET6:
        host = f"::ffff:{host}"
    if ip.is_multicast:
        raise BadAddress(f"{host}: no single peer is at a multicast address")
    try:
        found = socket.getaddrinfo(host, port, family, socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
    except OSError as error:
        raise BadAddress(f"{host}: {error}") from error
    return _bare(found[0][4])


async def resolve(address: Address, family: int, loop: asyncio.AbstractEventLoop) -> Any:
    """The system's form of an address, asking for names. Raises BadAddress."""
    raw = numeric(address, family)
    if raw is not None:
        return raw
    host, port = address
    flags = socket.AI_V4MAPPED if family == socket.AF_INET6 else 0
    try:
        found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_DGRAM, flags=flags)
    except (OSError, UnicodeError) as error:
        raise BadAddress(f"{host}: {error}") from error
    return _bare(found[0][4])


def remote(raw: Any) -> Any:
    """The system's form without the local address behind it: two of the same peer are equal."""
    return raw[: 4 if ":" in raw[0] else 2]


def host_of(raw: Any) -> Any:
    """What tells hosts apart, whatever their ports."""
    return (raw[0], raw[3] if len(raw) > 3 else 0)


def _bare(raw: Any) -> Any:
    """Getaddrinfo may leave the zone in the text as well as in the number."""
    return (raw[0].partition("%")[0], *raw[1:])


def _zone(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return str(index)
