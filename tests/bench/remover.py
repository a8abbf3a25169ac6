"""`python -m tests.bench.remover STATE NAME`: takes a measured subnet down once its bench has ended, killed or not.

It waits for the end of its stdin, which the bench holds.
"""

import os
import shutil
import subprocess
import sys


def main() -> None:
    """Wait, then remove the subnet and its state directory."""
    state, name = sys.argv[1:]
    sys.stdin.buffer.read()
    subprocess.run(
        [sys.executable, "-m", "p2pnet.cli", "down", name, "--yes", "-q"],
        env=os.environ | {"P2PNET_STATE": state}, stdout=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    shutil.rmtree(state, ignore_errors=True)


if __name__ == "__main__":
    main()
