"""What a replay in the simulator cannot have again of a recorded run: a sentence each, as exact as the record is."""

from importlib.metadata import version

from p2pnet.measure.wording import milliseconds
from p2pnet.model.events import EventKind
from p2pnet.model.jobs import RunFile
from p2pnet.model.report import Report
from p2pnet.model.text import some
from p2pnet.store import State, archive

NAMED_MAX = 5
LIVE = (
    "the time that nodes and kernel took: what is slow here is the modelled network alone",
    "QUIC itself: handshakes, packets, windows and retries of real connections are modelled, message by message",
    "which links were really up: those of the topology are, unless a recorded fault cuts them",
)


def other_bytes(name: str, others: str) -> str:
    """What there is to say about a published file that is not in the bundle."""
    return f"file {name}: its bytes are not in the bundle, {others} stand for them"


def simulated_limits(run: RunFile, missing: list[str]) -> list[str]:
    """What there is of a run of the simulator. `missing`: files that it published and that are not in the bundle."""
    found = [other_bytes(name, "others of its size") for name in missing]
    if run.version != version("p2pnet"):
        found.append(f"p2pnet {run.version}, which made the record: this is {version('p2pnet')}")
    if run.state == "cancelled":
        found.append("the moment in which the recorded run was interrupted")
    return found


def live_limits(state: State, run: RunFile, report: Report | None, *, unpublished: int) -> list[str]:
    """What there is of a run of live nodes. `unpublished`: artifacts of whose publication the record tells nothing."""
    found = list(LIVE)
    images = _images(run)
    if images:
        found.append(f"the code of image {some(images, NAMED_MAX)}: the replay runs that of p2pnet {version('p2pnet')}")
    elif run.version != version("p2pnet"):
        found.append(f"the code of p2pnet {run.version}: the replay runs that of {version('p2pnet')}")
    if report is not None and report.clock_bound_ms:
        bound = milliseconds(report.clock_bound_ms)
        found.append(f"times better than the clocks were known: {bound} between two nodes")
    uploads = [one.name for one in run.request.payloads if one.upload]
    if uploads:
        found.append(f"the bytes of {some(uploads, NAMED_MAX)}: generated ones of the same size stand for them")
    if report is not None and report.shared:
        found.append("other runs that went on beside it")
    if report is not None and report.unknown:
        found.append(f"{report.unknown} receipts of which the record does not know whether they came")
    if unpublished > 0:
        found.append(f"{unpublished} artifacts of whose publication the record tells nothing")
    return found + _unordered(state, run)


def _images(run: RunFile) -> list[str]:
    spec = run.spec.get("spec")
    if not isinstance(spec, dict):
        return []
    groups = [one for one in spec.get("groups") or [] if isinstance(one, dict)]
    named = [spec.get("image"), *(one.get("image") for one in groups)]
    return list(dict.fromkeys(str(one) for one in named if one))


def _unordered(state: State, run: RunFile) -> list[str]:
    """What happened to nodes and links that no fault of the record had ordered: the record knows that, not why."""
    ordered = {node for fault in run.faults for node in fault.nodes}
    starts: dict[str, dict[str, None]] = {}
    downs: list[str] = []
    for event in archive.iter_events(state.run(run.run)):
        starts.setdefault(event.node, {})[event.incarnation] = None
        if event.kind is EventKind.PEER_DOWN and not run.faults:
            downs.append(f"{event.node} to {event.peer}")
    found = []
    again = [node for node, seen in starts.items() if len(seen) > 1 and node not in ordered]
    if again:
        found.append(
            f"new starts of {some(again, NAMED_MAX)} that no recorded fault ordered: when their processes ended is not known"
        )
    if downs:
        found.append(f"links lost without a fault: {some(dict.fromkeys(downs), NAMED_MAX)}")
    return found
