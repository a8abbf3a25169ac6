"""`render`: the objects that the operator would make of a document. Nothing is asked, nothing is applied."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from p2pnet.cli.documents import Objects
from p2pnet.cli.options import IgnoreUnsupported, VerbOptions, file_option, namespace_option
from p2pnet.cli.outcome import Outcome
from p2pnet.cli.session import Session

if TYPE_CHECKING:
    from p2pnet.subnet.spec import Subnet  # with pydantic, which help does without

EXAMPLE = "p2pnet render -f subnet.yaml"
NO_UID = "00000000-0000-0000-0000-000000000000"
"""Stands for the uid of a Subnet that no API server has made."""


@dataclass(frozen=True)
class RenderOptions(VerbOptions):
    """Print the Kubernetes objects of a document.

    As the operator would make them; keys and certificates are left out.
    """

    file: Annotated[Path, file_option("A Subnet document")]
    ignore_unsupported: IgnoreUnsupported = False
    namespace: Annotated[
        str | None, namespace_option("Namespace of the objects.  [default: the document's, else `default`]")
    ] = field(default=None, kw_only=True)


async def run(options: RenderOptions, session: Session) -> Outcome:
    """The Subnet and what follows from it, keys and certificates left out."""
    from p2pnet.cli.spec_file import read_spec, supported

    written = read_spec(options.file, note=session.note)
    subnet, notes = supported(written, "cluster", ignore=options.ignore_unsupported)
    for note in notes:
        session.note(note)
    namespace = options.namespace or subnet.metadata.namespace or "default"
    return Outcome(Objects(objects_of(subnet, namespace)), next=(f"p2pnet up --on cluster -f {options.file}",))


def objects_of(subnet: "Subnet", namespace: str) -> list[dict[str, Any]]:
    """The Subnet, then everything in the order in which the operator makes it."""
    from p2pnet.cli.targets.cluster import installation
    from p2pnet.operator.kube.desired import Apply, Create
    from p2pnet.operator.subnet.context import Observed, SubnetContext
    from p2pnet.operator.subnet.plan import plan
    from p2pnet.subnet.document import kept_annotations, to_document

    _, node_image = installation.images(installation.manifest())
    document = to_document(subnet)
    document["metadata"] = {
        "name": subnet.name,
        "namespace": namespace,
        **kept_annotations(subnet.metadata.annotations),
    }
    context = SubnetContext(subnet, namespace, NO_UID, node_image, annotations=subnet.metadata.annotations)
    made = plan(context, Observed(document), datetime.now(UTC))
    bodies = [action.body for action in made.actions if isinstance(action, Apply | Create)]
    return [document, *(_public(body) for body in bodies)]


def _public(body: dict[str, Any]) -> dict[str, Any]:
    """Without its owner, which does not exist yet, and without the values of a Secret, which are drawn when it is made."""
    metadata = {key: value for key, value in body["metadata"].items() if key != "ownerReferences"}
    shown = {**body, "metadata": metadata}
    if body["kind"] == "Secret":
        shown["data"] = dict.fromkeys(body.get("data") or {}, "")
    return shown
