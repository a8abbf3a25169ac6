"""Paths of real IP: network namespaces in a row, joined by veth pairs, each link with an MTU of its own.

A namespace here has no name and no process: it lives while this process holds a descriptor of it, so that nothing is
left behind however a test ends. A socket stays in the namespace it was made in: the tests make theirs through
`Namespace.socket` and run the endpoints in their own event loop.
"""

from __future__ import annotations

import ctypes
import ipaddress
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tests.patience import PATIENCE_S

REQUIRED = "P2PNET_REQUIRE_NAMESPACES"
"""Set to 1 where namespaces must be had, as in CI: what would be a skip is a failure."""
MTU = 1_500
_CLONE_NEWNET = 0x40000000
_FRAGMENTS = ("FragOKs", "FragCreates", "ReasmReqds", "ReasmOKs")

T = TypeVar("T")


def why_none(*tools: str) -> str:
    """Why this machine cannot have namespaces, or lacks one of these tools; empty when it has all."""
    if not sys.platform.startswith("linux"):
        return "network namespaces need Linux"
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [tool for tool in ("ip", *tools) if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    try:
        Row([MTU]).close()
    except (OSError, AssertionError) as error:
        return f"no network namespaces here: {error}"
    return ""


class Namespace:
    """A network of its own, with loopback up."""

    def __init__(self) -> None:
        self.fd = _in_thread(_unshare)
        try:
            self.ip("link set lo up")
            for name in ("all", "default"):  # an address is usable at once, without looking for duplicates first
                self.set(f"ipv6/conf/{name}/accept_dad", 0)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of it; the kernel takes it away with its last socket. Idempotent."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def inside(self, work: Callable[[], T]) -> T:
        """What `work` returns, called in a thread inside: sockets, processes and loops it makes stay inside."""

        def entered() -> T:
            _call("setns", self.fd, _CLONE_NEWNET)
            return work()

        return _in_thread(entered)

    def run(self, *command: str, text: str | None = None, pass_fds: Sequence[int] = ()) -> str:
        """What a command says inside; raises AssertionError with its words when it fails."""
        done = self.inside(
            lambda: subprocess.run(
                command, input=text, capture_output=True, text=True, check=False, timeout=PATIENCE_S, pass_fds=pass_fds
            )
        )
        assert not done.returncode, f"{' '.join(command)}: exit {done.returncode}\n{text or ''}{done.stderr}"
        return done.stdout

    def sh(self, command: str) -> str:
        """As `run`, for words without spaces in them."""
        return self.run(*command.split())

    def ip(self, *commands: str, pass_fds: Sequence[int] = ()) -> None:
        """Lines of `ip`, in order."""
        self.run("ip", "-batch", "-", text="\n".join(commands) + "\n", pass_fds=pass_fds)

    def set(self, name: str, value: int) -> None:
        """A kernel setting below /proc/sys/net."""
        self.inside(lambda: Path("/proc/sys/net", name).write_text(str(value)))

    def socket(self, host: str, port: int = 0) -> socket.socket:
        """A UDP socket inside, bound to this numeric address (with zone, where it is link-local)."""

        def bound() -> socket.socket:
            family, kind, protocol, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST | socket.AI_PASSIVE
            )[0]
            sock = socket.socket(family, kind, protocol)
            sock.bind(address)
            return sock

        return self.inside(bound)

    def process(self, *command: str) -> subprocess.Popen[str]:
        """A process inside, with a pipe for its output."""
        return self.inside(lambda: subprocess.Popen(command, stdout=subprocess.PIPE, text=True))

    def link_local(self, interface: str) -> str:
        """The interface's own fe80:: address, without zone."""
        for line in self.run("ip", "-6", "-oneline", "address", "show", "dev", interface, "scope", "link").splitlines():
            return line.split()[3].partition("/")[0]
        raise AssertionError(f"{interface} has no link-local address")

    def fragments(self) -> dict[str, int]:
        """How many IP fragments were made or put together inside, since it exists, by counter; IPv4 and IPv6."""
        return self.inside(_fragments)


class Row:
    """Namespaces in a row: `mtus[i]` is the MTU of the link between number i and i + 1, the first and last are ends.

    Link i has 10.77.i.1 and fd77:0:0:i::1 at its left end, .2 and ::2 at its right; interfaces are `right` at the left end
    and `left` at the right. Everybody between forwards, and answers what is too large by ICMP.
    """

    def __init__(self, mtus: Sequence[int]) -> None:
        self.namespaces: list[Namespace] = []
        self.links = range(len(mtus))
        self.ipv6 = min(mtus) >= 1_280  # on smaller links Linux has none
        try:
            for _ in range(len(mtus) + 1):
                self.namespaces.append(Namespace())
            for link, mtu in enumerate(mtus):
                self._join(link, mtu)
            for position, namespace in enumerate(self.namespaces):
                self._route(position, namespace)
        except BaseException:
            self.close()
            raise

    @property
    def client(self) -> Namespace:
        """The left end."""
        return self.namespaces[0]

    @property
    def server(self) -> Namespace:
        """The right end."""
        return self.namespaces[-1]

    def host(self, end: Namespace, *, version: int = 4) -> str:
        """The address of one of the two ends."""
        found = _left(0, version) if end is self.client else _right(self.links[-1], version)
        return str(ipaddress.ip_address(found))

    def set_mtu(self, link: int, mtu: int) -> None:
        """Change a link's MTU, at both ends."""
        self.namespaces[link].ip(f"link set right mtu {mtu}")
        self.namespaces[link + 1].ip(f"link set left mtu {mtu}")

    def hide_icmp(self) -> None:
        """From now on nobody between the ends says what is too large: a black hole. Needs iptables and ip6tables."""
        for router in self.namespaces[1:-1]:
            router.sh("iptables -A OUTPUT -p icmp --icmp-type fragmentation-needed -j DROP")
            router.sh("ip6tables -A OUTPUT -p icmpv6 --icmpv6-type packet-too-big -j DROP")

    def fragments(self) -> dict[str, int]:
        """The counters of all namespaces together."""
        total: dict[str, int] = {}
        for namespace in self.namespaces:
            for name, count in namespace.fragments().items():
                total[name] = total.get(name, 0) + count
        return total

    def close(self) -> None:
        """Let go of all of it. Idempotent."""
        for namespace in self.namespaces:
            namespace.close()

    def _join(self, link: int, mtu: int) -> None:
        left, right = self.namespaces[link], self.namespaces[link + 1]
        left.ip(
            f"link add name right mtu {mtu} type veth peer name left mtu {mtu} netns /proc/self/fd/{right.fd}",
            "link set right up",
            pass_fds=[right.fd],
        )
        right.ip("link set left up")
        for namespace, name, address in ((left, "right", _left), (right, "left", _right)):
            namespace.ip(f"address add {address(link, 4)}/24 dev {name}")
            if self.ipv6:
                namespace.ip(f"address add {address(link, 6)}/64 dev {name} nodad")

    def _route(self, position: int, namespace: Namespace) -> None:
        if 0 < position < len(self.links):
            namespace.set("ipv4/ip_forward", 1)
            namespace.set("ipv6/conf/all/forwarding", 1)
        for link in self.links:
            if link in (position - 1, position):
                continue
            toward = _left(position - 1, 4) if link < position else _right(position, 4)
            namespace.ip(f"route add 10.77.{link}.0/24 via {toward}")
            if self.ipv6:
                toward = _left(position - 1, 6) if link < position else _right(position, 6)
                namespace.ip(f"route add fd77:0:0:{link}::/64 via {toward}")


def _left(link: int, version: int) -> str:
    return f"10.77.{link}.1" if version == 4 else f"fd77:0:0:{link}::1"


def _right(link: int, version: int) -> str:
    return f"10.77.{link}.2" if version == 4 else f"fd77:0:0:{link}::2"


@contextmanager
def row(*mtus: int) -> Iterator[Row]:
    """A row that is let go of afterwards."""
    made = Row(mtus)
    try:
        yield made
    finally:
        made.close()


def _in_thread(work: Callable[[], T]) -> T:
    """In a thread of its own, which ends with the work: a namespace entered is never left otherwise."""
    with ThreadPoolExecutor(1) as one:
        return one.submit(work).result()


def _unshare() -> int:
    _call("unshare", _CLONE_NEWNET)
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _call(name: str, *words: Any) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*words):
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")


def _fragments() -> dict[str, int]:
    names, counts = (
        line.split()[1:] for line in Path("/proc/thread-self/net/snmp").read_text().splitlines() if line[:3] == "Ip:"
    )
    four = dict(zip(names, counts, strict=True))
    six = dict(line.split() for line in Path("/proc/thread-self/net/snmp6").read_text().splitlines())
    return {f"Ip{name}": int(four[name]) for name in _FRAGMENTS} | {
        f"Ip6{name}": int(six[f"Ip6{name}"]) for name in _FRAGMENTS
    }
