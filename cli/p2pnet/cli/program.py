"""The program as it was called: `p2pnet`, or `kubectl p2pnet`; and its verbs."""

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
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
_PLACE = ("--on", "-n", "--context")
PLACED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(VERBS.keys() - {"sim", "replay", "schema", "completion", "render", "ping"}, _PLACE),
    **dict.fromkeys(("install", "uninstall"), ("--on", "--context")),  # the operator has a namespace of its own
}
"""Verb -> the options that say where a subnet lives, as far as it takes them."""
KEEPING = ("report", "trace", "get", "runs", "collect")
"""Verbs that know what the simulator keeps."""
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


def placed(text: str, place: Mapping[str, str], *, name: str = "", at_end: bool = False) -> str:
    """The text with every command line of p2pnet in it at a place: options that are missing stand behind verb and NAME.

    `place`: option -> value, of those in PLACED. `at_end`: the text is one command line, and they stand behind it.
    """
    ends = [*(found.start() for found in _COMMAND.finditer(text)), len(text)]
    commands = (text[start:end] for start, end in pairwise(ends))
    return text[: ends[0]] + "".join(_placed(command, place, name, at_end=at_end) for command in commands)


def _placed(command: str, place: Mapping[str, str], name: str, *, at_end: bool) -> str:
    """One command line, and what follows it in a text."""
    verb = command.split(maxsplit=2)[1].rstrip(".,;:)`")
    said = re.split(r"[\n;`]", command, maxsplit=1)[0]
    takes = PLACED.get(verb, ()) if place.get("--on") != "sim" or verb in KEEPING else ()
    missing = [
        f" {option} {shlex.quote(value)}"
        for option, value in place.items()
        if option in takes
        and (option, value) not in _MEANT.get(verb, ())
        and not re.search(rf" {_SAID.get(option, option)}[ =]", f"{said} ")
    ]
    head = f"p2pnet {verb}"
    if name and re.match(rf"{re.escape(f'{head} {name}')}(?![-\w.])", command):
        head += f" {name}"
    end = len(command) if at_end else len(head)
    return command[:end] + "".join(missing) + command[end:]


_MEANT = dict.fromkeys(("install", "uninstall"), (("--on", "cluster"),))
"""Verb -> what it means anyway."""
_SAID = {"-n": "(?:-n|--namespace)"}


def as_called(text: str) -> str:
    """The text with every command line of p2pnet in it as this program was called, ready to be typed again."""
    return _COMMAND.sub("kubectl p2pnet ", text) if is_plugin() else text
