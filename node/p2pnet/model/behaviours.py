"""What the nodes of a group do wrong, by name: of the Subnet document, of a node's config, and of reports."""

from typing import Literal

import msgspec

Behaviour = Literal[
    "honest",
    "silent",
    "slow",
    "lying",
    "withholding",
    "forgetful",
    "selective",
    "flooding",
    "replaying",
    "stale-certificate",
]
HONEST: Behaviour = "honest"
STALE_CERTIFICATE: Behaviour = "stale-certificate"
"""The only one that concerns the node's identity, and not what it says and answers."""


class AdversaryGroup(msgspec.Struct, frozen=True):
    """The nodes of one group that do not behave."""

    group: str
    behaviour: Behaviour
    nodes: list[str]
    """Their names, in member order."""
