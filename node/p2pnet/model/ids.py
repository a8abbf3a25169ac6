"""Identifiers and their text forms: artifact ids, node names, SPIFFE URIs, run ids."""

import re
from collections.abc import Sequence
from typing import NewType

from p2pnet.model.errors import SpecError

NodeName = NewType("NodeName", str)
"""`<group>-<i>`, unique in a subnet, e.g. `node-0`."""

ArtifactId = NewType("ArtifactId", bytes)
"""32 bytes, BLAKE2b-256; see `broadcast.artifact`."""

Slot = NewType("Slot", int)
CommitId = NewType("CommitId", int)
ConnectionId = NewType("ConnectionId", int)
"""Ours: receiver-local, growing with every connection of this process; it orders the connections of one peer."""

RunId = NewType("RunId", str)

LABEL_CHARS_MAX = 80  # of a run's label: it is a column of a table
ARTIFACT_ID_BYTES = 32
ARTIFACT_TEXT_SURE = 6  # hex characters of the beginning of an id that are rarely those of another, or meant as a name

SUBNET_NAME = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")
GROUP_NAME = re.compile(r"[a-z][a-z0-9]{0,11}")
CLIENT_NAME = re.compile(r"[a-z][a-z0-9]{0,11}")  # part of routes, metric labels and artifact ids
DEFAULT_CLIENT = "blob"
"""The client of a subnet whose document names none."""


def member_uri(trust_domain: str, namespace: str, subnet: str, node: str) -> str:
    """The SPIFFE URI that a node's leaf must carry, exactly."""
    return f"spiffe://{trust_domain}/ns/{namespace}/subnet/{subnet}/node/{node}"


def lab_uri(trust_domain: str, namespace: str, subnet: str) -> str:
    """The SPIFFE URI of the subnet's lab: the only identity that may use a node's control routes."""
    return f"spiffe://{trust_domain}/ns/{namespace}/subnet/{subnet}/lab"


def node_of_uri(uri: str, trust_domain: str, namespace: str, subnet: str) -> str | None:
    """The node name in a member URI of exactly this subnet, else None (the lab, another subnet, anything else)."""
    prefix = member_uri(trust_domain, namespace, subnet, "")
    name = uri[len(prefix) :] if uri.startswith(prefix) else ""
    return name if name and "/" not in name else None


def member_name(group: str, index: int) -> str:
    """The name of the `index`-th node of a group, counted from 0."""
    return f"{group}-{index}"


def member_order(name: str) -> tuple[str, int]:
    """Sort key: (group, i), so that `node-10` follows `node-9`."""
    group, _, index = name.rpartition("-")
    return (group, int(index)) if index.isdigit() else (name, -1)


def check_subnet_name(name: str) -> str:
    """The name itself, or SpecError naming the rule it breaks."""
    if not SUBNET_NAME.fullmatch(name):
        raise SpecError(
            f"subnet name {name!r}: at most 40 characters, a lower-case letter first, then letters, digits and dashes,"
            " no dash at the end"
        )
    return name


def check_label(label: str) -> str:
    """A run's label, trimmed. Raises SpecError for one that is too long, or that could not be told from another word."""
    text = label.strip()
    if len(text) > LABEL_CHARS_MAX:
        raise SpecError(f"a label has at most {LABEL_CHARS_MAX} characters, this one has {len(text)}")
    if not text.isprintable():
        raise SpecError(f"label {text!r}: a label is one line of printable characters")
    if text == "latest" or text.startswith(("-", "latest~")):
        raise SpecError(f"label {text!r}: that word means a run already")
    return text


def client_among(names: Sequence[str], asked: str = "") -> str:
    """The client to inject into: the one asked for; without one `blob`, or the first of a subnet that has no blob.

    Raises SpecError naming those there are.
    """
    if asked and asked not in names:
        raise SpecError(f"there is no client {asked!r}: the subnet has {', '.join(names)}")
    return asked or (DEFAULT_CLIENT if DEFAULT_CLIENT in names else names[0])
