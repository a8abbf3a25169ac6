"""`render`: the objects that the operator would make of a document. Nothing is asked, nothing is applied."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from p2pnet.cli.documents import Objects
from p2pnet.cli.outcome import Outcome
from p2pnet.cli.session import Session
from p2pnet.cli.spec_file import read_spec, supported
from p2pnet.cli.targets.cluster import installation
from p2pnet.subnet.document import kept_annotations, to_document
from p2pnet.subnet.spec import Subnet

NO_UID = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class Options:
    """As on the command line."""

    file: Path
    ignore_unsupported: bool = False


async def run(options: Options, session: Session) -> Outcome:
    """The Subnet and what follows from it, keys and certificates left out."""
    written = read_spec(options.file, note=session.note)
    subnet, notes = supported(written, "cluster", ignore=options.ignore_unsupported)
    for note in notes:
        session.note(note)
    namespace = session.namespace or subnet.metadata.namespace or "default"
    return Outcome(Objects(objects_of(subnet, namespace)), next=(f"p2pnet up --on cluster -f {options.file}",))


def objects_of(subnet: Subnet, namespace: str) -> list[dict[str, Any]]:
    """The Subnet, then everything in the order in which the operator makes it."""
    from p2pnet.operator.kube.desired import Apply, Create
    from p2pnet.operator.subnet.context import Observed, SubnetContext
    from p2pnet.operator.subnet.plan import plan

    _, node_image = installation.images(installation.manifest())
    document = to_document(subnet)
    document["metadata"] = {
        "name": subnet.name,
        "namespace": namespace,
        **kept_annotations(subnet.metadata.annotations),
    }
    site = SubnetContext(subnet, namespace, NO_UID, node_image, annotations=subnet.metadata.annotations)
    made = plan(site, Observed(document), datetime.now(UTC))
    bodies = [action.body for action in made.actions if isinstance(action, Apply | Create)]
    return [document, *(_public(body) for body in bodies)]


def _public(body: dict[str, Any]) -> dict[str, Any]:
    """Without its owner, which does not exist yet, and without the values of a Secret, which are drawn when it is made."""
    metadata = {key: value for key, value in body["metadata"].items() if key != "ownerReferences"}
    shown = {**body, "metadata": metadata}
    if body["kind"] == "Secret":
        shown["data"] = dict.fromkeys(body.get("data") or {}, "")
    return shown
