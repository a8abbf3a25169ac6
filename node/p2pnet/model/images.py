"""The container images of this version: one for nodes and labs, one for the operator."""

import re

OPERATOR_IMAGE = "p2pnet/p2pnet-operator"
NODE_IMAGE = "p2pnet/p2pnet-node"
UNRELEASED = "dev"
"""Tag between releases: no registry has such an image, whoever works on the tree builds it. The chart's appVersion there."""

RELEASED = re.compile(r"\d+(\.\d+)*((a|b|rc)\d+)?(\.post\d+)?")


def image_tag(version: str) -> str:
    """The tag of both images for a version of the distribution, as PEP 440 writes it; a tag may hold no `+`."""
    return version if RELEASED.fullmatch(version) else UNRELEASED
