"""Whose address an address is, for datagrams whose sender or receiver has not been authenticated yet.

What the registry says is taken at once where it is numeric; beside it what was seen: addresses this node dials for a peer, and
those authenticated peers have spoken from.
"""

import ipaddress
from typing import Any

from p2pnet.model import limits
from p2pnet.peering.discovery import PeerDirectory
from p2pnet.quic import Address
from p2pnet.quic.addresses import readable

SEEN_MAX = 4 * limits.NODES_MAX
"""Addresses remembered beside the registry's: a node restarts at the same one, a replaced pod at another."""


class PeerAddresses:
    """Peers by address. Addresses of the lab are nobody's."""

    def __init__(self, name: str, directory: PeerDirectory) -> None:
        """`name`: this node's own, whose addresses count as nobody's."""
        self._name = name
        self._directory = directory
        self._listed: dict[Address, str] | None = None
        self._seen: dict[Address, str] = {}

    def directory_changed(self) -> None:
        """Read the directory again when somebody asks next."""
        self._listed = None

    def saw(self, address: Address, peer: str | None) -> None:
        """This peer is at this address; None: somebody who is no peer."""
        self._seen.pop(address, None)  # to the end: the first is the one not seen for longest
        if peer is not None:
            self._seen[address] = peer
            if len(self._seen) > SEEN_MAX:
                del self._seen[next(iter(self._seen))]

    def peer_at(self, raw: Any) -> str | None:
        """The peer at a raw address; None where none is known."""
        address = readable(raw)
        # What was seen last goes first: a registry may lag behind a peer that has moved.
        return self._seen.get(address) or self._by_registry().get(address)

    def _by_registry(self) -> dict[Address, str]:
        if self._listed is None:
            self._listed = {
                literal: name
                for name in self._directory.members
                if name != self._name
                for address in self._directory.addresses(name)
                if (literal := _literal(address)) is not None
            }
        return self._listed


def _literal(address: Address) -> Address | None:
    """The address in its one spelling; None if its host is a name, which may lead elsewhere at any time."""
    try:
        return (str(ipaddress.ip_address(address[0])), address[1])
    except ValueError:
        return None
