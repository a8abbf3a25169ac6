"""What the rich page shows beside the report, gathered from what is kept of a run: receipts, samples, links and places."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from p2pnet.cli.run_receipts import propagation_of
from p2pnet.model.errors import SpecError
from p2pnet.model.jobs import RunFile
from p2pnet.model.report import Report
from p2pnet.store import State, archive

if TYPE_CHECKING:  # not for verbs that write no page
    from p2pnet.measure.propagation import Propagation
    from p2pnet.present import DrawnRun, SlowHop, Surroundings

RUNS_DRAWN_MAX = 8


def full_page(report: Report, state: State, beside: Sequence[str] = ()) -> str:
    """The page about a run. `beside`: ids of kept runs whose latencies are drawn, too. Raises SpecError for one that is not kept.

    A report whose run is not kept has a page without what receipts would tell.
    """
    from p2pnet.present import DrawnRun, Surroundings, to_full_html

    others = [_drawn(archive.read_run(state, run)[1], state) for run in beside[: RUNS_DRAWN_MAX - 1]]
    runs = [_drawn(report, state), *others]
    known = [one for one in runs if one is not None]
    first = known[0] if known and known[0].report is report else DrawnRun(report=report)
    around = _surroundings(first, first.run, state) if first.run is not None else Surroundings()
    return to_full_html([first, *(one for one in known if one is not first)], around)


def _drawn(report: Report | None, state: State) -> "DrawnRun | None":
    """A run with its receipts; None of one that has not ended. Without its files it is its report alone."""
    from p2pnet.measure.propagation import artifacts_to_draw
    from p2pnet.present import DrawnRun

    if report is None:
        return None
    try:
        run = archive.read_run_file(state, report.run)
    except SpecError:
        return DrawnRun(report=report)
    drawn = artifacts_to_draw(report.artifact_ids, report.slowest, len(run.nodes))
    try:
        return DrawnRun(report=report, run=run, propagation=propagation_of(report, run, state, drawn))
    except SpecError:  # `report_files` says so
        return DrawnRun(report=report, run=run)


def _surroundings(first: "DrawnRun", run: RunFile, state: State) -> "Surroundings":
    from p2pnet.measure.sampled import SampledNodes
    from p2pnet.present import Surroundings

    links, full, places = network_of(run.spec)
    start = first.propagation.first_ns if first.propagation is not None else None
    series = SampledNodes(start or 0) if start is not None else None
    if series is not None:
        for sample in archive.iter_samples(state.run(run.run)):
            series.add(sample)
    slow = {} if first.propagation is None else _slow_hops(run, first.propagation, state)
    return Surroundings(links=links, full=full, places=places, series=series, slow=slow)


def _slow_hops(run: RunFile, propagation: "Propagation", state: State) -> "dict[str, SlowHop]":
    """The hops of the slowest receipts, by node: a dozen, of as many artifacts at most."""
    from p2pnet.measure import hop_ends, hop_tree, window_ns
    from p2pnet.present import SlowHop, slowest_receipts

    of_artifact: dict[str, set[str]] = {}
    for node, one in slowest_receipts(propagation):
        of_artifact.setdefault(one.artifact, set()).add(node)
    found: dict[str, SlowHop] = {}
    for artifact, nodes in of_artifact.items():
        whole = hop_tree(artifact, archive.read_events(state, run.run, artifact), run.nodes, run.adversaries)
        tree = replace(whole, nodes=[one for one in whole.nodes if one.node in nodes])
        window = window_ns(tree)
        ends = {} if window is None else hop_ends(tree, archive.iter_samples(state.run(run.run), window))
        found |= {one.node: SlowHop(one, ends.get(one.node)) for one in tree.nodes}
    return found


def network_of(document: Mapping[str, Any]) -> tuple[list[tuple[str, str]], bool, dict[str, str]]:
    """The links that the document asks for, whether those are all there can be, and the places of nodes, where it tells."""
    from p2pnet.subnet.document import load_subnet
    from p2pnet.subnet.members import edges_of
    from p2pnet.subnet.placement import PLACE_LABEL, placement_of
    from p2pnet.subnet.selectors import Roster
    from p2pnet.subnet.spec import SIMULATED_NODES_MAX

    with contextlib.suppress(SpecError):
        subnet = load_subnet(document, nodes_max=SIMULATED_NODES_MAX)
        roster, edges = Roster(subnet), edges_of(subnet)
        network = subnet.spec.network
        placed = placement_of(roster, network.preset).places if network is not None else {}
        labels = {group: words[PLACE_LABEL] for group, words in roster.labels.items() if PLACE_LABEL in words}
        named = {node: labels[group] for node, group in roster.groups.items() if group in labels}
        return list(edges or ()), edges is None, {**named, **placed}
    return [], False, {}
