"""`p2pnet`, `kubectl p2pnet`, `python -m p2pnet.cli`."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """The entry point of the scripts."""
    try:
        from p2pnet.cli.app import main as run

        code = run()
    except KeyboardInterrupt:  # before there was anything to interrupt
        if sys.stderr is not None:
            sys.stderr.write("interrupted: nothing was done\n")
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
