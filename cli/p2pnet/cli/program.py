"""The program as it was called: `p2pnet`, or `kubectl p2pnet`; and its verbs."""

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

VERBS = {
    "up": "Start a subnet, or edit one.",
    "status": "Show how a subnet is.",
    "down": "Stop and remove a subnet.",
    "inject": "Publish artifacts and report.",
    "sim": "Simulate a subnet and report.",
    "run": "Run a scenario.",
    "fault": "Break the network or nodes of a subnet.",
    "report": "Show the report of a run.",
    "compare": "Compare two versions, and judge by gates.",
    "collect": "Pack a run to carry it away.",
    "replay": "Run a bundle again in the simulator.",
    "trace": "Draw an artifact's hop tree.",
    "get": "Get an artifact from a node.",
    "withdraw": "Take an artifact back.",
    "ls": "List the subnets there are.",
    "runs": "List the runs that are kept, or tidy them up.",
    "logs": "Show the logs of all nodes.",
    "ui": "Serve a live page of a subnet.",
    "ping": "Ask peers for an echo.",
    "doctor": "Check this machine.",
    "schema": "Print a JSON Schema.",
    "completion": "Print a completion script.",
    "install": "Install the operator in a cluster.",
    "uninstall": "Remove the operator from a cluster.",
    "render": "Print the Kubernetes objects of a document.",
}
"""Verb -> the first line of its help, in the order of `--help`. Here, so that no verb is imported to list them."""
_COMMAND = re.compile(rf"(?<![\w/.-])(?<!kubectl )p2pnet (?=(?:{'|'.join(VERBS)})\b|VERB\b|--)")


def is_plugin() -> bool:
    """Whether this is `kubectl p2pnet`, which kubectl runs as `kubectl-p2pnet`."""
    return Path(sys.argv[0]).name.startswith("kubectl-")


def program_name() -> str:
    """What a person types before the verb."""
    return "kubectl p2pnet" if is_plugin() else "p2pnet"


def command_line(words: Sequence[str] | None = None) -> str:
    """A command line of this program (default: this process's), quoted for a shell."""
    return f"{program_name()} {shlex.join(sys.argv[1:] if words is None else words)}".rstrip()


def as_called(text: str) -> str:
    """The text with every command line of p2pnet in it as this program was called, ready to be typed again."""
    return _COMMAND.sub("kubectl p2pnet ", text) if is_plugin() else text
