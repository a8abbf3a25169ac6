"""What a run needs to know of its subnet before anything is sent, from the lab's own words: no document is checked for it.

Reading a Subnet document takes pydantic, which costs every command 0.1 s; the one in force has been checked by its lab.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from p2pnet.lab_client import LabClient
from p2pnet.model import limits, units
from p2pnet.model.errors import SpecError
from p2pnet.model.ids import DEFAULT_CLIENT, client_among


@dataclass(frozen=True, slots=True)
class Subject:
    """The subnet of a run."""

    name: str
    nodes: Sequence[str]
    """Its members, in their order."""
    clients: Sequence[str]
    """In the document's order."""
    artifact_bytes_max: int
    artifact_bytes_max_text: str
    """As written in the document."""

    def client(self, asked: str) -> str:
        """The client to inject into. Raises SpecError naming those there are."""
        return client_among(self.clients, asked)


async def subject_of(name: str, desk: LabClient) -> Subject:
    """Ask a lab. Raises as `LabClient` does."""
    document, membership = await asyncio.gather(desk.spec(), desk.members())
    return of_document(name, document, [member.name for member in membership.registry.members])


def of_document(name: str, document: Mapping[str, Any], nodes: Sequence[str]) -> Subject:
    """From a checked document and the members in force."""
    spec = document.get("spec") or {}
    clients = [str(one["name"]) for one in spec.get("clients") or [] if one.get("name")]
    written = str((spec.get("broadcast") or {}).get("artifactBytesMax") or "")
    try:
        bound = units.parse_size(written) if written else limits.ARTIFACT_BYTES_MAX
    except SpecError:
        bound = limits.ARTIFACT_BYTES_MAX  # of a newer version: the lab judges it
    text = written or f"{limits.ARTIFACT_BYTES_MAX // limits.MIB}Mi"
    return Subject(name, nodes, clients or [DEFAULT_CLIENT], bound, text)
