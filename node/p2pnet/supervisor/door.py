"""The TCP port of a pod's health page, opened before anything else is imported: who asks early waits and is not refused.

Imports nothing of p2pnet, for that is what takes long. The kernel keeps connections until the page is served; it is answered
as soon as there is an answer, so a kubelet's first probe neither fails nor waits for the next one.
"""

import socket
from collections.abc import Sequence

EVERYWHERE = "::"
BACKLOG = 128
"""Connections that may wait."""


def open_door(host: str, port: int) -> socket.socket | None:
    """Listen; None where that is not to be had: whoever serves the page says why, with a message."""
    if not 0 <= port < 1 << 16:
        return None
    for tried in (host, *(["0.0.0.0"] if host == EVERYWHERE else [])):
        family = socket.AF_INET6 if ":" in tried else socket.AF_INET
        try:
            return socket.create_server(
                (tried, port), family=family, backlog=BACKLOG, dualstack_ipv6=tried == EVERYWHERE
            )
        except OSError:
            continue
    return None


def address_in(arguments: Sequence[str], option: str, default: tuple[str, int]) -> tuple[str, int]:
    """Host and port in an option's value, `8080` or `[::]:8080`; what it does not say is the default's."""
    for index, one in enumerate(arguments):
        name, equals, value = one.partition("=")
        if name == option:
            given = value if equals else (list(arguments[index + 1 :]) or [""])[0]
            host, _, port = given.rpartition(":")
            return host.strip("[]") or default[0], int(port) if port.isdecimal() else default[1]
    return default
