"""The status of a subnet as a person reads it. Up to 30 nodes every node has a row; above, groups and outliers do."""

from collections import defaultdict

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from p2pnet.cli.documents import SubnetList
from p2pnet.cli.render import network, text
from p2pnet.cli.render.trend import Shown
from p2pnet.cli.terminal import clean
from p2pnet.measure.wording import adversary_parts
from p2pnet.model.behaviours import HONEST, AdversaryGroup, Behaviour
from p2pnet.model.ids import member_order
from p2pnet.model.report import MemberStatus, Status
from p2pnet.model.units import format_duration

ROWS_MAX = 30  # more nodes than that no longer fit a screen
OUTLIERS = 10
WIDE = 110  # room for the group and the detail in the table itself
RUNS_SHOWN = 5
RUNS_SHOWN_LOW = 2  # in a window of less than TALL lines
TALL = 30
ROWS_MIN = 3  # nodes
HEADING = 2  # lines above the rows of a table
COLUMNS = ("NODE", "STATE", "PEERS", "RESTARTS", "LEAF", "PID", "ADDRESS", "GROUP", "DETAIL")
WIDE_COLUMNS = ("GROUP", "DETAIL")  # only where there is something to tell, and room
DROPPED_FIRST = ("PID", "ADDRESS", "LEAF")  # in a window that is too narrow
NEGATIVE = (
    "Progressing",
    "Degraded",
    "Paused",
    "Expiring",
    "LabAway",
    "Rollout",
)  # conditions that are good when they are False
REPEATED = ("Progressing", "Connected", "CertificatesReady")  # what the counts and Ready say already
INJECTION_STYLE = {"Propagated": "green", "Failed": "red", "Invalid": "red", "Waiting": "yellow"}
STATE_STYLE = {"connected": "green", "ready": "yellow", "failed": "red", "stopped": "red", "paused": "magenta"}


def draw(
    status: Status, width: int, now: float, height: int | None = None, shown: Shown | None = None
) -> RenderableType:
    """Counts, network and faults first, then nodes and runs; `now` is Unix seconds.

    With `height` lines at most, the odd nodes first. `shown`: how it came to be, of a status that is watched.
    """
    low = height is not None and height < TALL
    counts = _counts(status, width, now, shown) + ([] if shown is None else shown.run(width))
    counts += network.status_lines(status.network, status.network_notes, status.faults, width, now, low=low)
    runs = RUNS_SHOWN_LOW if low else RUNS_SHOWN
    room = None if height is None else height - len(counts) - _lines_below(status, runs)
    if room is not None and room < ROWS_MIN:  # the nodes say more than the runs do
        runs, room = 0, height - len(counts) - _lines_below(status, 0) if height is not None else None
    parts: list[RenderableType] = [*counts, ""]
    if len(status.members) <= ROWS_MAX:
        parts += _rows(status.members, width, now, room)
    else:
        parts += [_groups(status.members), *_outliers(status.members, width, now)]
    if status.injections and runs:
        parts += ["", *_injections(status, width, now, runs)]
    if status.runs and runs:
        parts += ["", _runs(status, width, now, runs)]
    return Group(*parts)


def _lines_below(status: Status, runs: int) -> int:
    """Lines of all but counts and node rows: gaps, headings, runs."""
    counts = [min(runs, len(status.runs)), min(runs, len(status.injections))]
    counts[1] += len(status.injections) > runs > 0  # "and N more"
    return 1 + HEADING + sum(1 + HEADING + shown for shown in counts if shown)


def _rows(members: list[MemberStatus], width: int, now: float, room: int | None) -> list[RenderableType]:
    """A row per node, or of as many as there is room for."""
    if room is None or len(members) + len(_details(members, width)) <= room:
        return [_members(members, width, now), *_details(members, width)]
    shown = sorted(members, key=_oddity)[: max(ROWS_MIN, room - 1)]
    left = len(members) - len(shown)
    return [
        _members(shown, width, now),
        *([Text(f"and {left} more (without --watch: all)", style="dim")] if left else []),
    ]


def _oddity(member: MemberStatus) -> tuple[object, ...]:
    """What is not as it should be comes first."""
    return (member.state == "connected", -member.restarts, member_order(member.name))


def draw_list(listing: SubnetList, width: int, now: float) -> RenderableType:
    """One row per subnet."""
    places = [line.context and f"{line.context}/{line.namespace}" for line in listing.subnets]
    columns = ("SUBNET", "TARGET", *(["CONTEXT"] if any(places) else []), "STATE", "CONNECTED", "LINKS", "AGE")
    if not listing.subnets:
        return Text("there is no subnet", style="dim")
    rows: list[list[Text | str]] = [
        [
            line.name,
            line.target,
            *([clean(place or text.DASH)] if any(places) else []),
            Text(line.state, style="green" if line.state == "up" else "red"),
            text.DASH if line.desired is None else f"{line.connected}/{line.desired}",
            text.DASH if line.links_expected is None else f"{line.links_up}/{line.links_expected}",
            text.DASH if line.up_since is None else format_duration(max(0.0, now - line.up_since)),
        ]
        for line, place in zip(listing.subnets, places, strict=True)
    ]
    return text.fitted(columns, rows, width, spare=("AGE", "LINKS", "TARGET"), right=("CONNECTED", "LINKS", "AGE"))


def _counts(status: Status, width: int, now: float, shown: Shown | None) -> list[Text]:
    nodes, links, certificates = status.nodes, status.links, status.certificates
    age = "" if status.up_since is None else f"up {format_duration(max(0.0, now - status.up_since))}"
    expiry = text.until(certificates.earliest_expiry, now)
    lines = [
        *text.flow(
            "subnet",
            [
                Text(status.name, style="bold cyan"),
                status.target,
                age,
                "packed" if status.packed else "",
                f"seed {status.seed}",
            ],
            width,
        ),
        *text.flow(
            "nodes",
            [
                _share(nodes.connected, nodes.desired, "connected"),
                f"{nodes.ready} ready",
                f"{nodes.running} running",
                *(shown.nodes(status, width) if shown else []),
            ],
            width,
        ),
        *text.flow(
            "links", [_share(links.up, links.expected, "up"), *(shown.links(status, width) if shown else [])], width
        ),
        *text.flow("leaves", [f"{certificates.issued} issued", f"first expires in {expiry}" if expiry else ""], width),
    ]
    for condition in status.conditions:
        alarming = condition.status == "True" if condition.type in NEGATIVE else condition.status != "True"
        if alarming and condition.type not in REPEATED and condition.reason != "Faults":  # they have lines of their own
            why = ": ".join(filter(None, (condition.reason, condition.message)))
            lines += text.flow("", [Text(f"{condition.type}={condition.status}", style="yellow"), why], width)
    lines += text.flow(
        "honest", adversary_parts(_adversaries(status.members), len(status.members)), width, "bold yellow"
    )
    lines += text.ignored_lines(status.ignored, width)
    if status.expires_at:
        lines += text.flow("expires", [status.expires_at], width, style="yellow")
    return lines


def _adversaries(members: list[MemberStatus]) -> list[AdversaryGroup]:
    found: dict[tuple[str, Behaviour], list[str]] = {}
    for member in members:
        if member.behaviour != HONEST:
            found.setdefault((member.group, member.behaviour), []).append(member.name)
    return [AdversaryGroup(group, behaviour, names) for (group, behaviour), names in found.items()]


def _share(part: int, whole: int, word: str) -> Text:
    return Text(f"{part}/{whole} {word}", style="green" if part == whole else "yellow")


def _members(members: list[MemberStatus], width: int, now: float) -> Table:
    """A row per node; what a narrow window has no room for is left out, not broken: `-o json` has it."""
    rows = [_cells(member, now) for member in sorted(members, key=lambda one: member_order(one.name))]
    shown = [name for name in COLUMNS if name not in WIDE_COLUMNS]
    if width >= WIDE and len({member.group for member in members}) > 1:
        shown.append("GROUP")
    if width >= WIDE and any(member.detail for member in members):
        shown.append("DETAIL")
    cells = [[row[name] for name in shown] for row in rows]
    right = ("PEERS", "RESTARTS", "LEAF", "PID")
    return text.fitted(shown, cells, width, spare=DROPPED_FIRST, right=right, prose=("DETAIL",))


def _cells(member: MemberStatus, now: float) -> dict[str, Text]:
    peers = f"{member.peers}/{member.wanted}" if member.wanted else str(member.peers)
    values = (
        Text(member.name),
        Text(member.state, style=STATE_STYLE.get(member.state, "")),
        Text(peers),
        Text(str(member.restarts), style="yellow" if member.restarts else ""),
        Text(text.until(member.cert_not_after, now) or text.DASH),
        Text(text.count(member.pid)),
        Text(member.address),
        Text(member.group),
        Text(clean(member.detail)),
    )
    return dict(zip(COLUMNS, values, strict=True))


def _details(members: list[MemberStatus], width: int) -> list[Text]:
    """Below a table that has no room for it: what is known about those that are not as they should be."""
    if width >= WIDE:
        return []
    odd = [member for member in members if member.detail]
    return [line for member in odd for line in text.flow(f"{member.name} ", [member.detail], width, style="yellow")]


def _groups(members: list[MemberStatus]) -> Table:
    grouped: dict[str, list[MemberStatus]] = defaultdict(list)
    for member in members:
        grouped[member.group].append(member)
    drawn = text.table(
        "GROUP", "NODES", "CONNECTED", "PEERS", "RESTARTS", right=("NODES", "CONNECTED", "PEERS", "RESTARTS")
    )
    for name, group in sorted(grouped.items()):
        connected = sum(member.state == "connected" for member in group)
        peers = [member.peers for member in group]
        drawn.add_row(
            name,
            str(len(group)),
            _share(connected, len(group), "").plain.strip(),
            f"{min(peers)}-{max(peers)}",
            str(sum(member.restarts for member in group)),
        )
    return drawn


def _outliers(members: list[MemberStatus], width: int, now: float) -> list[RenderableType]:
    odd = [member for member in members if member.state != "connected" or member.restarts]
    odd.sort(key=_oddity)
    if not odd:
        return [Text("every node is connected, none was restarted", style="dim")]
    parts: list[RenderableType] = ["", _members(odd[:OUTLIERS], width, now), *_details(odd[:OUTLIERS], width)]
    if len(odd) > OUTLIERS:
        parts.append(Text(f"and {len(odd) - OUTLIERS} more outliers (all nodes: -o json)", style="dim"))
    return parts


def _injections(status: Status, width: int, now: float, shown: int) -> list[RenderableType]:
    """Those that are not over, then the newest; why they wait."""
    columns = ("INJECTION", "STATE", "REASON", "RUN", "REACH", "P95", "AGE")
    rows: list[list[Text | str]] = [
        [
            Text(clean(line.name), style="cyan"),
            Text(clean(line.state or "-"), style=INJECTION_STYLE.get(line.state, "")),
            clean(line.reason or text.DASH),
            clean(line.run or text.DASH),
            text.percent(line.reach),
            text.milliseconds(line.p95_ms),
            text.DASH if line.created_at is None else format_duration(max(0.0, now - line.created_at)),
        ]
        for line in status.injections[:shown]
    ]
    drawn = text.fitted(columns, rows, width, spare=("AGE", "P95", "REACH", "RUN"), right=("REACH", "P95", "AGE"))
    left = len(status.injections) - shown
    return [drawn, *([Text(f"and {left} more (kubectl get injections)", style="dim")] if left > 0 else [])]


def _runs(status: Status, width: int, now: float, shown: int) -> Table:
    columns = ("RUN", "STATE", "VERDICT", "ARTIFACTS", "REACH", "P95", "AGE")
    recent = sorted(status.runs, key=lambda run: run.started_at or now, reverse=True)
    rows: list[list[Text | str]] = [
        [
            Text(run.run, style="cyan"),
            run.state + (" (shared)" if run.shared else ""),
            run.verdict or text.DASH,
            str(run.artifacts),
            text.percent(run.reach),
            text.milliseconds(run.p95_ms),
            text.DASH if run.started_at is None else format_duration(max(0.0, now - run.started_at)),
        ]
        for run in recent[:shown]
    ]
    spare = ("ARTIFACTS", "AGE", "P95", "REACH")
    return text.fitted(columns, rows, width, spare=spare, right=("ARTIFACTS", "REACH", "P95", "AGE"))
