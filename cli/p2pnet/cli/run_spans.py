"""The spans of every artifact of a kept run, read from its events some artifacts at a time."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from p2pnet.measure import hop_ends, hop_tree, publications, window_ns
from p2pnet.model.events import Collected, EventKind
from p2pnet.model.jobs import RunFile
from p2pnet.model.time_series import NodeSample
from p2pnet.present import ArtifactSpan, artifact_spans
from p2pnet.store import State, archive

EVENTS_HELD_MAX = 200_000  # some 100 MB; the events of a longer run are read again
EVENTS_PER_RECEIPT = 4  # announced, received, validated, and one to spare
LINKS_HELD_MAX = 200_000  # of samples, some 40 MB: fifty nodes for a minute and a half


def run_spans(run: RunFile, state: State) -> Iterator[ArtifactSpan]:
    """Artifact by artifact, in the order of publication. Raises SpecError where the events are not there.

    What the ends of hops did is told unless the run has more samples than can be held.
    """
    if run.artifacts:
        archive.check_events(state, run.run)
    events = state.run(run.run) / archive.EVENTS_FILE
    known = dict.fromkeys(run.artifacts)
    known |= dict.fromkeys(publications(archive.iter_events(events, kind=EventKind.PUBLISHED)))
    artifacts = list(known)
    samples = _samples(run, state)
    block = max(1, EVENTS_HELD_MAX // (EVENTS_PER_RECEIPT * max(1, len(run.nodes))))
    for start in range(0, len(artifacts), block):
        some = dict[str, list[Collected]]((artifact, []) for artifact in artifacts[start : start + block])
        for event in archive.iter_events(events):
            if event.artifact in some:
                some[event.artifact].append(event)
        for artifact, theirs in some.items():
            tree = hop_tree(artifact, theirs, run.nodes, run.adversaries)
            yield from artifact_spans(tree, run, theirs, hop_ends(tree, _within(samples, window_ns(tree))))


def _samples(run: RunFile, state: State) -> list[NodeSample]:
    """All of them in the order of time; none where there are too many."""
    found, held = [], 0
    for one in archive.iter_samples(state.run(run.run)):
        held += 1 + len(one.sample.links)
        if held > LINKS_HELD_MAX:
            return []
        found.append(one)
    return sorted(found, key=lambda one: one.t_ns)


def _within(samples: list[NodeSample], window: tuple[int, int] | None) -> list[NodeSample]:
    if window is None:
        return []
    begin = bisect_left(samples, window[0], key=lambda one: one.t_ns)
    return samples[begin : bisect_right(samples, window[1], key=lambda one: one.t_ns)]
