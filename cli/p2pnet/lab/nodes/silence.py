"""Which nodes answer the lab: when each was heard last, and since when those are silent that do not answer."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from p2pnet.model.log_lines import ABOUT_NODES

SILENT_S = 5.0
"""A node that has not answered for so long counts as silent; a shorter pause is a busy machine."""

log = logging.getLogger(ABOUT_NODES)


@dataclass(slots=True)
class NodeContact:
    """What the lab has heard of one node. Unix seconds."""

    heard: float | None = None
    """When it answered last; None: it never has."""
    unanswered: float | None = None
    """When it was asked first without an answer since."""
    told: bool = False
    """Whether the silence has been logged."""


@dataclass(frozen=True, slots=True)
class Silence:
    """For the status: of a node that does not answer."""

    since: float
    """Unix seconds: when it was asked first without an answer since."""
    reason: str = ""
    """Why the lab could not ask it."""


class NodeContacts:
    """Fed by those who ask nodes.

    `reason(node)` says why one could not be asked, `process(node)` how its process is, `counts(node)` whether an answer is
    to be expected of it at all: not of one that is paused or starting. `now` gives Unix seconds.
    """

    def __init__(
        self,
        reason: Callable[[str], str] = lambda _node: "",
        process: Callable[[str], str] = lambda _node: "",
        counts: Callable[[str], bool] = lambda _node: True,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._reason = reason
        self._process = process
        self._counts = counts
        self._now = now
        self._contacts: dict[str, NodeContact] = {}

    def heard(self, node: str) -> None:
        """It answered."""
        contact = self._contacts.setdefault(node, NodeContact())
        now = self._now()
        if contact.told:
            log.info("%s: answers again after %.1f s of silence", node, now - (contact.unanswered or now))
        contact.heard, contact.unanswered, contact.told = now, None, False

    def silent(self, node: str, asked: float) -> None:
        """It was asked then and did not answer."""
        contact = self._contacts.setdefault(node, NodeContact())
        if contact.unanswered is None:
            contact.unanswered = asked
        silence = self.silence(node)
        if silence is not None and not contact.told and self._counts(node):
            contact.told = True
            seconds = f"silent for {self._now() - silence.since:.0f} s"
            log.warning("%s: %s", node, "; ".join(filter(None, (seconds, self._process(node), silence.reason))))

    def changed(self, node: str, *, gone: bool) -> None:
        """Its process ended or starts (`gone`), which is no silence but known and told elsewhere; or it serves."""
        contact = self._contacts.get(node)
        if contact is not None and (gone or not contact.told):
            contact.unanswered, contact.told = None, False

    def keep(self, nodes: set[str]) -> None:
        """Forget everybody else."""
        for node in self._contacts.keys() - nodes:
            del self._contacts[node]

    def last_heard(self, node: str) -> float | None:
        """Unix seconds; None: never."""
        contact = self._contacts.get(node)
        return contact.heard if contact else None

    def silence(self, node: str) -> Silence | None:
        """Of a node that has not answered for SILENT_S; None for others."""
        contact = self._contacts.get(node)
        if contact is None or contact.unanswered is None or self._now() - contact.unanswered < SILENT_S:
            return None
        return Silence(contact.unanswered, self._reason(node))
