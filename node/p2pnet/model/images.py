"""The container images of this version: one for nodes and labs, one for the operator."""

import re

OPERATOR_IMAGE = "p2pnet/p2pnet-operator"
NODE_IMAGE = "p2pnet/p2pnet-node"
UNRELEASED = "dev"
"""Tag between releases: no registry has such an image, whoever works on the tree builds it. The chart's appVersion there."""

RELEASED = re.compile(r"\d+(\.\d+)*((a|b|rc)\d+)?(\.post\d+)?")


LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
"""A label's value, as Kubernetes has it; a tag may be longer, and begin or end otherwise."""


def version_label(image: str) -> str:
    """The tag of an image, for the label `app.kubernetes.io/version`; empty where it has none, or one that no label can have."""
    tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2]
    return tag if LABEL.fullmatch(tag) else ""


def image_tag(version: str) -> str:
    """The tag of both images for a version of the distribution, as PEP 440 writes it; a tag may hold no `+`."""
    return version if RELEASED.fullmatch(version) else UNRELEASED
