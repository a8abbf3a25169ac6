"""`python -m p2pnet.node CONFIG`: one node on this process. SIGTERM ends it in good order within 10 s."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from p2pnet.node.parent import die_with_parent
from p2pnet.node.process import run


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse and run; the exit code: 0 stopped, 2 config or identity cannot be used, 3 address in use, 4 parent gone."""
    parser = argparse.ArgumentParser(prog="python -m p2pnet.node", description="One p2pnet node.")
    parser.add_argument("config", type=Path, help="node config, JSON")
    parser.add_argument("--supervisor", type=int, metavar="PID", help="the process this one must not outlive")
    for option, text in (
        ("--socket-fd", "bound UDP socket to use"),
        ("--ready-fd", "gets one byte when the node serves"),
        ("--death-fd", "shows end-of-file when the supervisor is gone"),
    ):
        parser.add_argument(option, type=int, metavar="FD", help=text)
    options = parser.parse_args(arguments)
    if options.supervisor is not None:
        die_with_parent(options.supervisor)
    return run(options.config, socket_fd=options.socket_fd, ready_fd=options.ready_fd, death_fd=options.death_fd)


if __name__ == "__main__":
    sys.exit(main())
