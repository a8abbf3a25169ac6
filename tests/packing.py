"""A run whose events are being packed while somebody reads them, again and again."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from p2pnet.store import archive

ROUNDS = 150
TEXT = b"".join(b'{"number":%d}\n' % number for number in range(500))


@contextlib.contextmanager
def packing(folder: Path, turn: int) -> Iterator[None]:
    """Plain events in a run's directory, which are packed by another thread while the body runs.

    The later the turn, the sooner that begins: so all moments of it are met.
    """
    (folder / archive.EVENTS_FILE).write_bytes(TEXT)
    (folder / archive.COMPRESSED_FILE).unlink(missing_ok=True)
    begun = threading.Event()
    thread = threading.Thread(target=_pack, args=(folder, begun, 0.003 * (1 - turn / ROUNDS)))
    thread.start()
    try:
        yield
    finally:
        begun.set()
        thread.join()


def _pack(folder: Path, begun: threading.Event, after_s: float) -> None:
    begun.wait(after_s)
    assert archive.compress(folder)
