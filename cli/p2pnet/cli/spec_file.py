"""From `-f FILE`, NAME and `--nodes` to one checked Subnet."""

import errno
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from p2pnet.cli.outcome import CommandError
from p2pnet.model import limits
from p2pnet.model.errors import SpecError
from p2pnet.subnet.document import honoured, load_subnet, to_document
from p2pnet.subnet.members import parse_edges
from p2pnet.subnet.reading import find_subnet, named
from p2pnet.subnet.spec import Subnet
from p2pnet.subnet.support import unsupported


def read_spec(
    path: Path,
    *,
    name: str | None = None,
    note: Callable[[str], None] = lambda _text: None,
    nodes_max: int = limits.NODES_MAX,
) -> Subnet:
    """The document in a file, or on stdin for `-`, with the edges of a file it names put in. CommandError (exit 2).

    Of several Subnets in it the one called `name`; `note` hears what else stands there, which is left to kubectl.
    `nodes_max`: as `load_subnet` has it.
    """
    label = "stdin" if str(path) == "-" else str(path)
    try:
        text = sys.stdin.buffer.read() if label == "stdin" else path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None
    if not text.strip():
        raise CommandError(
            "the Subnet document is empty", where=label, next_step="p2pnet schema subnet shows what belongs in it"
        )
    try:
        found = find_subnet(text, name=name)
    except SpecError as error:
        raise _wrong(error, label) from None
    if found.others:
        note(f"also in {label}, and left to kubectl: {named(found.others)}")
    subnet = _load(found.document, label, nodes_max)
    topology = subnet.spec.topology
    if topology is None or topology.edges_from is None or topology.edges_from.file is None:
        return subnet
    edges_path = path.parent / topology.edges_from.file
    document = to_document(subnet)
    document["spec"]["topology"].pop("edgesFrom")
    document["spec"]["topology"]["edges"] = _edges(edges_path)
    return _load(document, label, nodes_max)


def with_nodes(subnet: Subnet, nodes: int, *, nodes_max: int = limits.NODES_MAX) -> Subnet:
    """The same document with another size of group `node`."""
    document = to_document(subnet)
    document.setdefault("spec", {})["nodes"] = nodes
    return _load(document, "--nodes", nodes_max)


def with_image(subnet: Subnet, image: str) -> Subnet:
    """The same document with another image for all its nodes. CommandError (exit 2) where groups have images of their own."""
    document = to_document(subnet)
    own = [group["name"] for group in document["spec"].get("groups") or [] if group.get("image")]
    if own:
        raise CommandError(
            f"group {own[0]} has an image of its own, which {image} does not replace", where=f"Subnet {subnet.name}",
            next_step="take spec.groups[].image out, or compare two documents",
        )  # fmt: skip
    document["spec"]["image"] = image
    return _load(document, image, limits.NODES_MAX)


def check_name(name: str | None, subnet: Subnet, path: Path) -> None:
    """CommandError (exit 2) when the command line and the file mean two different subnets."""
    if name is not None and name != subnet.name:
        raise CommandError(
            f"the command line says {name}, the file's metadata.name says {subnet.name}",
            where=str(path),
            next_step=f"leave the name out, or make them the same: p2pnet up {subnet.name} -f {path}",
        )


def supported(subnet: Subnet, target: str, *, ignore: bool) -> tuple[Subnet, list[str]]:
    """The document as the target honours it, with a note on each field that is ignored.

    CommandError (exit 2) naming the fields without `ignore`, and for a document that makes no sense without them.
    """
    fields = unsupported(subnet, target)
    if fields and not ignore:
        raise CommandError(
            "; ".join(fields),
            where=f"Subnet {subnet.name}",
            next_step="remove what is named, or use --ignore-unsupported",
        )
    try:
        left = honoured(subnet, target)
    except SpecError as error:
        paths = ", ".join(field.partition(":")[0] for field in fields)
        raise CommandError(
            f"without {paths}, which would be ignored, the document is wrong: {error}",
            where=f"Subnet {subnet.name}",
            next_step="remove what is named, or write something that this target can honour",
        ) from None
    return left, [f"ignored: {field}" for field in fields]


def unreadable(path: Path, error: OSError) -> CommandError:
    """A file a person named cannot be read."""
    reasons = {
        errno.ENOENT: "there is no such file",
        errno.EISDIR: "it is a directory, not a file",
        errno.EACCES: "it may not be read",
    }
    why = reasons.get(error.errno or 0, error.strerror or str(error))
    return CommandError(f"cannot read {path}: {why}", where=str(path), next_step="name a file that can be read")


def _load(document: Mapping[str, Any], label: str, nodes_max: int) -> Subnet:
    try:
        return load_subnet(document, nodes_max=nodes_max)
    except SpecError as error:
        raise _wrong(error, label) from None


def _wrong(error: SpecError, label: str) -> CommandError:
    return CommandError(str(error), where=label, next_step="correct it; p2pnet schema subnet shows what is known")


def _edges(path: Path) -> list[list[str]]:
    try:
        return parse_edges(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise unreadable(path, error) from None
    except SpecError as error:
        raise CommandError(str(error), where=str(path), next_step="write `a b`, one edge a line") from None
