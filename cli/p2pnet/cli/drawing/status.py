"""The status of a subnet as a person reads it. Up to 30 nodes every node has a row; above, groups and outliers do."""

from collections import defaultdict

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from p2pnet.cli.documents import SubnetList
from p2pnet.cli.drawing import text
from p2pnet.cli.failure import clean
from p2pnet.model.ids import member_order
from p2pnet.model.report import MemberStatus, Status
from p2pnet.model.units import format_duration

ROWS_MAX = 30  # more nodes than that no longer fit a screen
OUTLIERS = 10
WIDE = 110  # room for the group and the detail in the table itself
RUNS_SHOWN = 5
NEGATIVE = ("Progressing", "Degraded", "Paused", "Expiring")  # conditions that are good when they are False
REPEATED = ("Progressing", "Connected", "CertificatesReady")  # what the counts and Ready say already
STATE_STYLE = {"connected": "green", "ready": "yellow", "failed": "red", "stopped": "red", "paused": "magenta"}


def draw(status: Status, width: int, now: float) -> RenderableType:
    """Counts first, then nodes, runs and faults; `now` is Unix seconds."""
    parts: list[RenderableType] = [*_counts(status, width, now), ""]
    if len(status.members) <= ROWS_MAX:
        parts += [_members(status.members, width, now), *_details(status.members, width)]
    else:
        parts += [_groups(status.members), *_outliers(status.members, width, now)]
    if status.runs:
        parts += ["", _runs(status, now)]
    if status.faults:
        parts += ["", _faults(status)]
    return Group(*parts)


def draw_list(listing: SubnetList, now: float) -> RenderableType:
    """One row per subnet."""
    places = [line.context and f"{line.context}/{line.namespace}" for line in listing.subnets]
    columns = ("SUBNET", "TARGET", *(["CONTEXT"] if any(places) else []), "STATE", "CONNECTED", "LINKS", "AGE")
    drawn = text.table(*columns, right=("CONNECTED", "LINKS", "AGE"))
    if not listing.subnets:
        return Text("there is no subnet", style="dim")
    for line, place in zip(listing.subnets, places, strict=True):
        drawn.add_row(
            line.name,
            line.target,
            *([clean(place or text.DASH)] if any(places) else []),
            Text(line.state, style="green" if line.state == "up" else "red"),
            text.DASH if line.desired is None else f"{line.connected}/{line.desired}",
            text.DASH if line.links_expected is None else f"{line.links_up}/{line.links_expected}",
            text.DASH if line.up_since is None else format_duration(max(0.0, now - line.up_since)),
        )
    return drawn


def _counts(status: Status, width: int, now: float) -> list[Text]:
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
            [_share(nodes.connected, nodes.desired, "connected"), f"{nodes.ready} ready", f"{nodes.running} running"],
            width,
        ),
        *text.flow("links", [_share(links.up, links.expected, "up")], width),
        *text.flow("leaves", [f"{certificates.issued} issued", f"first expires in {expiry}" if expiry else ""], width),
    ]
    for condition in status.conditions:
        alarming = condition.status == "True" if condition.type in NEGATIVE else condition.status != "True"
        if alarming and condition.type not in REPEATED:
            why = ": ".join(filter(None, (condition.reason, condition.message)))
            lines += text.flow("", [Text(f"{condition.type}={condition.status}", style="yellow"), why], width)
    if status.expires_at:
        lines += text.flow("expires", [status.expires_at], width, style="yellow")
    return lines


def _share(part: int, whole: int, word: str) -> Text:
    return Text(f"{part}/{whole} {word}", style="green" if part == whole else "yellow")


def _members(members: list[MemberStatus], width: int, now: float) -> Table:
    grouped = width >= WIDE and len({member.group for member in members}) > 1
    detailed = width >= WIDE and any(member.detail for member in members)
    extra = [*(["GROUP"] if grouped else []), *(["DETAIL"] if detailed else [])]
    columns = ("NODE", "STATE", "PEERS", "RESTARTS", "LEAF", "PID", "ADDRESS")
    drawn = text.table(*columns, *extra, right=("PEERS", "RESTARTS", "LEAF", "PID"))
    for member in sorted(members, key=lambda one: member_order(one.name)):
        row: list[Text | str] = [
            member.name,
            Text(member.state, style=STATE_STYLE.get(member.state, "")),
            f"{member.peers}/{member.wanted}" if member.wanted else str(member.peers),
            Text(str(member.restarts), style="yellow" if member.restarts else ""),
            text.until(member.cert_not_after, now) or text.DASH,
            text.count(member.pid),
            member.address,
        ]
        drawn.add_row(*row, *([member.group] if grouped else []), *([clean(member.detail)] if detailed else []))
    return drawn


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
    odd.sort(key=lambda member: (member.state == "connected", -member.restarts, member_order(member.name)))
    if not odd:
        return [Text("every node is connected, none was restarted", style="dim")]
    parts: list[RenderableType] = ["", _members(odd[:OUTLIERS], width, now), *_details(odd[:OUTLIERS], width)]
    if len(odd) > OUTLIERS:
        parts.append(Text(f"and {len(odd) - OUTLIERS} more outliers (all nodes: -o json)", style="dim"))
    return parts


def _runs(status: Status, now: float) -> Table:
    drawn = text.table(
        "RUN", "STATE", "VERDICT", "ARTIFACTS", "REACH", "P95", "AGE", right=("ARTIFACTS", "REACH", "P95", "AGE")
    )
    recent = sorted(status.runs, key=lambda run: run.started_at or now, reverse=True)
    for run in recent[:RUNS_SHOWN]:
        drawn.add_row(
            Text(run.run, style="cyan"),
            run.state + (" (shared)" if run.shared else ""),
            run.verdict or text.DASH,
            str(run.artifacts),
            text.percent(run.reach),
            text.milliseconds(run.p95_ms),
            text.DASH if run.started_at is None else format_duration(max(0.0, now - run.started_at)),
        )
    return drawn


def _faults(status: Status) -> Table:
    drawn = text.table("FAULT", "SETTINGS")
    for fault in status.faults:
        settings = "  ".join(
            f"{key}={value}" for key, value in fault.items() if key != "name" and value not in (None, "")
        )
        drawn.add_row(str(fault.get("name", "")), settings)
    return drawn
