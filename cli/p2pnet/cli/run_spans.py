"""The spans of every artifact of a kept run, read from its events some artifacts at a time."""

from collections.abc import Iterator

from p2pnet.measure import hop_tree, publications
from p2pnet.model.events import Collected, EventKind
from p2pnet.model.jobs import RunFile
from p2pnet.present import ArtifactSpan, artifact_spans
from p2pnet.store import State, archive

EVENTS_HELD_MAX = 200_000  # some 100 MB; the events of a longer run are read again
EVENTS_PER_RECEIPT = 4  # announced, received, validated, and one to spare


def run_spans(run: RunFile, state: State) -> Iterator[ArtifactSpan]:
    """Artifact by artifact, in the order of publication. Raises SpecError where the events are not there."""
    events = state.run(run.run) / archive.EVENTS_FILE
    known = dict.fromkeys(run.artifacts)
    known |= dict.fromkeys(publications(archive.iter_events(events, kind=EventKind.PUBLISHED)))
    artifacts = list(known)
    block = max(1, EVENTS_HELD_MAX // (EVENTS_PER_RECEIPT * max(1, len(run.nodes))))
    for start in range(0, len(artifacts), block):
        some = dict[str, list[Collected]]((artifact, []) for artifact in artifacts[start : start + block])
        for event in archive.iter_events(events):
            if event.artifact in some:
                some[event.artifact].append(event)
        for artifact, theirs in some.items():
            yield from artifact_spans(hop_tree(artifact, theirs, run.nodes, run.adversaries), run, theirs)
