"""Ports of this machine that a test may take: below those that the kernel gives to whoever asks for any."""

import contextlib
import secrets
import socket

FIRST, END = 20_000, 32_000


def free_port(host: str = "127.0.0.1") -> int:
    """Free for UDP and TCP."""
    return ports_in_a_row(1, host)


def ports_in_a_row(count: int, host: str = "127.0.0.1") -> int:
    """The first of so many that are free for UDP and TCP."""
    while True:
        first = FIRST + secrets.randbelow(END - FIRST - count)
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for port in range(first, first + count):
                for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                    stack.enter_context(socket.socket(socket.AF_INET, kind)).bind((host, port))
            return first
