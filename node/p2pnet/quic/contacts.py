"""The bootstrap cache: addresses of peers we once reached, newest first, in a file that may be lost or damaged."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

Address = tuple[str, int]

CONTACTS_MAX = 200
WRITE_EVERY = 10  # new addresses


class Contacts:
    """Remembers up to 200 addresses. Fixed contacts come last and are never written."""

    def __init__(self, path: Path, fixed: Iterable[Address] = ()) -> None:
        self._path = path
        self._fixed = tuple(dict.fromkeys(fixed))
        self._known: dict[Address, None] = dict.fromkeys(_read(path))  # oldest first
        self._unwritten = 0

    def addresses(self) -> list[Address]:
        """In the order to try them: newest first, then the fixed ones."""
        return [*reversed(self._known), *self._fixed]

    def reached(self, address: Address) -> None:
        """We dialled this peer and it answered; inbound peers prove nothing about reachability."""
        if address in self._fixed:
            return
        is_new = self._known.pop(address, 0) == 0
        self._known[address] = None
        while len(self._known) > CONTACTS_MAX:
            del self._known[next(iter(self._known))]
        self._unwritten += is_new
        if self._unwritten >= WRITE_EVERY:
            self.write()

    def write(self) -> None:
        """Write now, in one step: a reader sees the old file or the new one. Raises OSError."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        temporary.write_text(json.dumps(list(self._known)))
        temporary.replace(self._path)
        self._unwritten = 0


def _read(path: Path) -> list[Address]:
    """What is in the file that makes sense; nothing when there is none or it is damaged."""
    try:
        entries = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return []
    if not isinstance(entries, list):
        return []
    sane = [(one[0], one[1]) for one in entries if isinstance(one, list) and len(one) == 2]
    return [(host, port) for host, port in sane if isinstance(host, str) and isinstance(port, int)][-CONTACTS_MAX:]
