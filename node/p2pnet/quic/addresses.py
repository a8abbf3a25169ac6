"""Addresses as people write them, and as the system takes them. They are compared as addresses, not as text.

The system's form, also called raw, is Python's socket address: (host, port) or (host, port, flow, scope) with a numeric host.
On a socket bound to every address it has one more element, the local address that a datagram came to: answers must leave from
there, or the peer takes them for somebody else's.
"""

import asyncio
import ipaddress
import socket
from typing import Any

from p2pnet.quic.errors import BadAddress

Address = tuple[str, int]
"""(host, UDP port). The host is a name, an IPv4 address, or an IPv6 address that may have a zone, as in `fe80::1%eth0`."""


def readable(raw: Any) -> Address:
    """A raw address as people write it: a mapped IPv4 address as IPv4, a link-local IPv6 address with its zone."""
    host, port = raw[0], raw[1]
    if ":" in host:
        if host.startswith("::ffff:") and "." in host:
            return (host[7:], port)
        if len(raw) > 3 and raw[3] and "%" not in host:
            return (f"{host}%{_zone(raw[3])}", port)
    return (host, port)


def numeric(address: Address, family: int) -> Any | None:
    """The raw form of a numeric address; None for a name. Raises BadAddress.

    `family`: of the socket; an IPv6 socket reaches IPv4 addresses as mapped ones. The unspecified address means this machine.
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
    """The raw form of an address; a name is resolved. Raises BadAddress."""
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
    """A raw address without the local one behind it: those of the same peer are equal."""
    return raw[: 4 if ":" in raw[0] else 2]


def host_of(raw: Any) -> Any:
    """What identifies the host of a raw address, whatever its port: (host, scope)."""
    return (raw[0], raw[3] if len(raw) > 3 else 0)


def _bare(raw: Any) -> Any:
    """A raw address with the zone only in its scope: getaddrinfo may leave it in the text too."""
    return (raw[0].partition("%")[0], *raw[1:])


def _zone(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return str(index)
