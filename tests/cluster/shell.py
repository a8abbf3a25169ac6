"""The command line in a cluster's network, at once: a process that has imported everything forks one for each command.

Run there as `python shell.py`. Each line of stdin is JSON: {"words": [...], "folder": path}. The command finds its state
in `folder`/state and leaves there `out`, `err` and, when it has ended, `code`.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

END_S = 900.0
"""The longest a test waits for a command."""


class Shell:
    """Runs commands where `start` leads to: words that come before those of a program."""

    def __init__(self, start: list[str], environment: dict[str, str]) -> None:
        words = [*start, sys.executable, __file__]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, text=True, env=environment)
        self._lock = threading.Lock()

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`p2pnet WORDS` to its end."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            with self._lock:
                assert self._process.stdin is not None
                self._process.stdin.write(json.dumps({"words": words, "folder": name}) + "\n")
                self._process.stdin.flush()
            deadline = time.monotonic() + END_S
            while not (folder / "code").exists():
                assert self._process.poll() is None, "who forks commands has ended"
                assert time.monotonic() < deadline, f"not within {END_S:g} s: p2pnet {' '.join(words)}"
                time.sleep(0.02)
            code, out, err = ((folder / part).read_text() for part in ("code", "out", "err"))
            return subprocess.CompletedProcess(["p2pnet", *words], int(code), out, err)

    def close(self) -> None:
        """End the process that forks."""
        with self._process:
            pass  # its stdin is closed, and it is waited for


def main() -> None:
    """Fork until stdin ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    for name in ("p2pnet.cli.app", "p2pnet.cli.targets.cluster"):
        importlib.import_module(name)
    for line in sys.stdin:
        asked = json.loads(line)
        if os.fork() == 0:
            _command(asked["words"], Path(asked["folder"]))


def _command(words: list[str], folder: Path) -> None:
    """This process becomes the command; it does not return."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for name, there in ((os.devnull, 0), (folder / "out", 1), (folder / "err", 2)):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT), there)
    os.environ["P2PNET_STATE"] = str(folder / "state")
    sys.argv = ["p2pnet", *words]
    code = 1
    try:
        code = int(importlib.import_module("p2pnet.cli.app").main(words))
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        (folder / "ended").write_text(str(code))
        (folder / "ended").rename(folder / "code")
        os._exit(0)


if __name__ == "__main__":
    main()
