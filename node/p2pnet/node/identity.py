"""The node's identity on disk: read at start, checked for changes, replaced only by one whose parts fit together."""

import os
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from p2pnet.model.errors import P2pnetError, SpecError
from p2pnet.trust import LAB_BUNDLE_FILE, Identity, identity_files

CHECK_S = 1.0
"""How often the files are checked for changes: four stats, and far more often than any certificate is renewed."""

_Stamp = tuple[tuple[int, int, int], ...]


class IdentityFiles:
    """An `IdentitySource` for the endpoint: `current` is always whole, `version` grows with every replacement."""

    def __init__(
        self, directory: Path, uri: str, *, now: datetime, name: str = "tls", may_have_ended: bool = False
    ) -> None:
        """Read the identity of `uri`. Raises SpecError when it cannot be used: a node without one does not start.

        `may_have_ended`: a leaf whose time is over is shown all the same.
        """
        self._may_have_ended = may_have_ended
        self._directory = directory
        self._name = name
        self._files = (*identity_files(name), LAB_BUNDLE_FILE)
        self._uri = uri
        self._seen = self._stamp()
        self.version = 1
        self.current: Identity = self._read(now)
        self.problem = ""
        """Why the newest files are not in use; empty when they are."""

    def reload(self, now: datetime, changed: Callable[[Identity, Identity], None]) -> None:
        """Use the files if they changed and fit; then `changed(old, new)` is called. Files that do not fit become a `problem`."""
        stamp = self._stamp()
        if stamp == self._seen and not self.problem:
            return
        try:
            new = self._read(now)
        except SpecError as error:
            self.problem = str(error)  # most likely in the middle of a replacement: the next call tries again
            return
        finally:
            # The stamp from before the read: files replaced during it are seen as changed next time.
            self._seen = stamp
        self.problem = ""
        if new != self.current:  # touched files with the same content change nothing
            old, self.current = self.current, new
            self.version += 1
            changed(old, new)

    def _read(self, now: datetime) -> Identity:
        identity = Identity.read(self._directory, self._name)
        if identity.uri != self._uri:
            raise SpecError(f"{self._directory / self._files[0]}: is for {identity.uri}, this node is {self._uri}")
        try:
            last = identity.not_after - timedelta(seconds=1)
            identity.verify(now=min(now, last) if self._may_have_ended else now)
        except P2pnetError as error:
            raise SpecError(f"{self._directory / self._files[0]}: {error}") from error
        return identity

    def _stamp(self) -> _Stamp:
        return tuple(_file_stamp(self._directory / name) for name in self._files)


def what_changed(old: Identity, new: Identity) -> str:
    """What differs, for the event: `leaf`, `bundle` or `leaf and bundle`."""
    leaf = "leaf" if old.chain_pem != new.chain_pem or old.key_pem != new.key_pem else ""
    bundles = (old.bundle_pem, old.lab_bundle_pem) != (new.bundle_pem, new.lab_bundle_pem)
    bundle = "bundle" if bundles else ""
    return " and ".join(part for part in (leaf, bundle) if part)


def _file_stamp(path: Path) -> tuple[int, int, int]:
    try:
        stat = os.stat(path)  # noqa: PTH116 - follows the links a mounted Secret is made of
    except OSError:
        return (0, 0, 0)
    return (stat.st_mtime_ns, stat.st_ino, stat.st_size)
