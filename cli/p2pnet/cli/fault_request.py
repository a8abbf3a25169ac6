"""The words of a `fault add` -> an item of `spec.faults`. Pure: what only the document of the subnet tells is its lab's to check.

KIND says what is wrong, VALUE is its main figure, options say the rest. Options are named here as they are typed.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

from p2pnet.cli.outcome import CommandError
from p2pnet.model import units
from p2pnet.model.errors import SpecError
from p2pnet.model.network import LOSS_BURST_MAX, MTU_MAX, MTU_MIN

Fault = dict[str, Any]
"""An item of `spec.faults` as JSON values."""

SHAPE = {
    "--latency": "latency", "--jitter": "jitter", "--distribution": "distribution", "--no-keep-order": "keepOrder",
    "--loss": "loss", "--loss-burst": "lossBurst", "--duplication": "duplication", "--reorder": "reorder",
    "--bandwidth": "bandwidth", "--queue": "queue", "--discipline": "discipline", "--mtu": "mtu",
}  # fmt: skip
"""Option -> key of a shape."""
ACCESS = {"--up": "up", "--down": "down", "--queue": "queue", "--discipline": "discipline"}
"""Option -> key of an access link."""
LINKS = ("--from", "--to", "--both-ways", "--node")
NODES = ("--from", "--node")
EVERY = ("--name", "--after", "--for", "--keep")
"""Options that every kind takes."""


class Kind(NamedTuple):
    """One thing that can be wrong."""

    help: str
    takes: tuple[str, ...]
    """Options beside those of every kind."""
    value: tuple[str, ...] = ()
    """The options that VALUE stands for."""


def _shaped(help_: str, option: str = "") -> Kind:
    return Kind(help_, (*SHAPE, *LINKS), (option,) if option else ())


KINDS = {
    "latency": _shaped("packets take so much longer: latency 90ms", "--latency"),
    "delay": _shaped("the same as latency", "--latency"),
    "jitter": _shaped("delays vary: jitter 5ms --latency 50ms", "--jitter"),
    "loss": _shaped("packets are lost: loss 20%", "--loss"),
    "duplication": _shaped("packets arrive twice: duplication 1%", "--duplication"),
    "reorder": _shaped("packets are overtaken: reorder 5%", "--reorder"),
    "bandwidth": _shaped("each path is so narrow: bandwidth 5Mbit", "--bandwidth"),
    "mtu": _shaped("larger packets vanish: mtu 1400", "--mtu"),
    "shape": _shaped("several at once: shape --latency 50ms --loss 1%"),
    "access": Kind("access links are so narrow: access 1Mbit --node node-3", (*ACCESS, *NODES), ("--up", "--down")),
    "block": Kind("no packet gets through: block --from node-0 --to node-1", LINKS),
    "partition": Kind("parts are cut from each other: partition 30%", ("--minority", "--part"), ("--minority",)),
    "pause": Kind("nodes stand still: pause node-3", NODES, ("--node",)),
    "kill": Kind("nodes are killed: kill node-3", NODES, ("--node",)),
    "restart": Kind("nodes are restarted: restart node-3", NODES, ("--node",)),
    "churn": Kind("nodes die and come back: churn 6/m", ("--rate", "--down-for", "--seed", *NODES), ("--rate",)),
}
NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
PICKY = ("pause", "kill", "restart")
"""Kinds for which nobody is meant unless somebody is named: all nodes at once are rarely what was wanted."""


def _mtu(text: str) -> int:
    if not (text.isascii() and text.isdigit() and MTU_MIN <= int(text[:6]) <= MTU_MAX):
        raise SpecError(f"{text!r} is no MTU: write bytes from {MTU_MIN} to {MTU_MAX}, like 1400")
    return int(text)


def _burst(text: str) -> float:
    try:
        burst = float(text)
    except ValueError:
        burst = 0.0
    if not 1 <= burst <= LOSS_BURST_MAX:
        raise SpecError(f"{text!r} is no length of a burst: write packets from 1 to {LOSS_BURST_MAX:.0f}, like 5")
    return burst


def _kept(parse: Callable[[str], object]) -> Callable[[str], str]:
    """The text itself, once it has been understood: documents keep what was written."""

    def read(text: str) -> str:
        parse(text)
        return text.strip()

    return read


def _lasting(text: str) -> str:
    if units.parse_duration(text) <= 0:
        raise SpecError(f"{text!r} is no time to last: write more than zero")
    return text.strip()


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise SpecError(f"{text!r} is no name: write lower-case letters, digits and dashes, like cut-eu")
    return text


READERS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("--latency", "--jitter", "--after"), _kept(units.parse_duration)),
    **dict.fromkeys(("--for", "--down-for"), _lasting),
    **dict.fromkeys(("--loss", "--duplication", "--reorder", "--minority"), _kept(units.parse_share)),
    **dict.fromkeys(("--bandwidth", "--up", "--down"), _kept(units.parse_bandwidth)),
    "--queue": _kept(units.parse_size),
    "--rate": _kept(units.parse_rate),
    "--name": _name,
    "--mtu": _mtu,
    "--loss-burst": _burst,
}
"""Option -> what reads its text into the document's value. Raises SpecError."""


def fault_of(words: Sequence[str], options: Mapping[str, Any]) -> Fault:
    """The item that KIND, VALUE and options mean. CommandError (exit 2) where they make none."""
    given = dict(options)
    kind = _kind(words, given)
    for option, value in _valued(kind, words[1:]).items():
        if option in given:
            raise _wrong(f"both {words[1]!r} and {option} {_typed(given[option])}", "give one of the two")
        given[option] = value
    foreign = [option for option in given if option not in (*KINDS[kind].takes, *EVERY)]
    if foreign:
        taking = [one for one, other in KINDS.items() if foreign[0] in other.takes]
        raise _wrong(f"{kind} takes no {foreign[0]}", f"leave it out; it belongs to {', '.join(taking)}")
    fault = _about(kind, given) | _where(kind, given)
    return fault | {key: given[f"--{key}"] for key in ("name", "after", "for") if f"--{key}" in given}


def once(fault: Mapping[str, Any]) -> bool:
    """Whether it is done and over: there is nothing to hold."""
    return bool(fault.get("restart") or (fault.get("kill") and not fault.get("for")))


def stem_of(fault: Mapping[str, Any]) -> str:
    """The word that a name is made of, when none was given: `loss` for `loss-1`, of a shape its first figure."""
    return next((kind for kind in KINDS if kind in fault), "fault")


# --- parts ---


def _kind(words: Sequence[str], given: Mapping[str, Any]) -> str:
    if words and words[0] in KINDS:
        return words[0]
    if not words and any(option in SHAPE for option in given):
        return "shape"
    known = ", ".join(KINDS)
    if not words:
        raise _wrong("what is to be wrong?", f"name a kind: {known}")
    near = get_close_matches(words[0], KINDS, n=1)
    raise _wrong(
        f"there is no kind of fault {words[0]!r}" + (f", did you mean {near[0]}?" if near else ""), f"one of {known}"
    )


def _valued(kind: str, values: Sequence[str]) -> dict[str, Any]:
    """What VALUE says, by the options it stands for."""
    meant = KINDS[kind].value
    if not values:
        return {}
    if not meant or len(values) > 1:
        extra = values[0] if not meant else values[1]
        raise _wrong(
            f"{kind} takes {'one value' if meant else 'no value'}: {extra!r} is one too many", "see the options"
        )
    if meant == ("--node",):
        return {"--node": [values[0]]}
    try:
        return {option: READERS[option](values[0]) for option in meant}
    except SpecError as error:
        raise _wrong(str(error), f"for example {KINDS[kind].help.rpartition(': ')[2]}") from None


def _about(kind: str, given: Mapping[str, Any]) -> Fault:
    """What is wrong."""
    if kind == "access":
        line = _keys(ACCESS, given)
        if not {"up", "down"} & line.keys():
            raise _wrong("an access link of what bandwidth?", "give a value like 1Mbit, or --up, or --down")
        return {"access": line}
    if kind == "partition":
        return {"partition": _partition(given)}
    if kind == "churn":
        if "--rate" not in given:
            raise _wrong("how many nodes per time?", "give a value like 6/m")
        return {"churn": _keys({"--rate": "rate", "--down-for": "down", "--seed": "seed"}, given)}
    if kind == "block" or kind in PICKY:
        return {kind: True}
    shape = _keys(SHAPE, given)
    needed = KINDS[kind].value
    if not shape or (needed and needed[0] not in given):
        raise _wrong(
            f"{kind} needs {'its value' if needed else 'options that say what it does'}",
            f"for example {KINDS[kind].help.rpartition(': ')[2]}",
        )
    return shape


def _partition(given: Mapping[str, Any]) -> Fault:
    parts = given.get("--part", [])
    if bool(parts) == ("--minority" in given):
        raise _wrong(
            "a partition has either a minority or parts", "give a share like 30%, or --part SELECTOR for each part"
        )
    return {"groups": list(parts)} if parts else {"minority": given["--minority"]}


def _where(kind: str, given: Mapping[str, Any]) -> Fault:
    """Which links or nodes."""
    nodes = [part.strip() for text in given.get("--node", []) for part in text.split(",") if part.strip()]
    if not nodes:
        if kind in PICKY and "--from" not in given:
            raise _wrong(f"which nodes to {kind}?", "give --node NODE, a share like 20%, or --from '*' for all")
        found = {key: given[f"--{key}"] for key in ("from", "to") if f"--{key}" in given}
        return found | ({"bothWays": True} if given.get("--both-ways") else {})
    clash = [option for option in LINKS[:3] if option in given]
    if clash:
        raise _wrong(
            f"both --node and {clash[0]}", "--node means all links of a node, both ways; for some give --from and --to"
        )
    if len(nodes) > 1 and any("%" in one or one == "*" for one in nodes):
        raise _wrong(f"--node {','.join(nodes)}", "give either names of nodes or one share")
    return {"from": ",".join(nodes)} | ({"bothWays": True} if "--both-ways" in KINDS[kind].takes else {})


def _keys(names: Mapping[str, str], given: Mapping[str, Any]) -> Fault:
    found = {key: given[option] for option, key in names.items() if option in given}
    return found | ({"keepOrder": False} if "keepOrder" in found else {})


def _typed(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _wrong(what: str, next_step: str) -> CommandError:
    return CommandError(what, where="p2pnet fault NAME add", next_step=next_step)
