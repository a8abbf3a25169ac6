"""The status document of a subnet, computed from what is known about its parts. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from p2pnet.lab.backends.backend import Process
from p2pnet.lab.nodes.status_poller import Unresponsive
from p2pnet.model.behaviours import HONEST, STALE_CERTIFICATE, Behaviour
from p2pnet.model.control import PeersReply
from p2pnet.model.registry import Membership
from p2pnet.model.report import (
    SERVING_STATES,
    CertificateCounts,
    Condition,
    FaultStatus,
    LinkCounts,
    MemberStatus,
    NetworkRow,
    NodeCounts,
    RunSummary,
    Status,
)
from p2pnet.model.text import some
from p2pnet.subnet.expiry import is_expiring
from p2pnet.trust import Identity

NAMED_MAX = 5  # nodes named in a message; more are counted
FINGERPRINT_CHARS = 16  # of a certificate's SHA-256, as nodes shorten it

State = str


@dataclass(frozen=True)
class StatusInputs:
    """Everything a status is computed from. Mappings are by node."""

    name: str
    target: str
    seed: int
    ready_share: float
    """The share of wanted links, 0 to 1, from which on the subnet counts as ready."""
    membership: Membership
    groups: Mapping[str, str]
    """All members, in member order."""
    processes: Mapping[str, Process]
    peers: Mapping[str, PeersReply]
    """What nodes that answer reported last."""
    leaves: Mapping[str, datetime]
    """When leaves end that the backend has issued."""
    now: datetime
    runs: list[RunSummary] = field(default_factory=list)
    up_since: float | None = None
    """Unix seconds."""
    expires_at: datetime | None = None
    packed: bool = False
    problem: str = ""
    """What the lab itself could not do; empty: nothing."""
    phase: str = ""
    """What the lab is still doing before nodes can be asked, e.g. issuing certificates; empty afterwards."""
    ignored: list[str] = field(default_factory=list)
    """Fields of the document that are not in force, and why."""
    own: Identity | None = None
    """The lab's identity."""
    network: list[NetworkRow] = field(default_factory=list)
    """What the canary saw last."""
    unresponsive: Mapping[str, Unresponsive] = field(default_factory=dict)
    """Nodes that do not answer, see `Liveness.unresponsive`."""
    heard: Mapping[str, float] = field(default_factory=dict)
    """When each node answered last, in Unix seconds."""
    faults: list[FaultStatus] = field(default_factory=list)
    in_force: list[str] = field(default_factory=list)
    """The faults that act now, in words."""
    ordered: Mapping[str, str] = field(default_factory=dict)
    """What faults have done to nodes that they keep dead or paused, in words."""
    network_notes: list[str] = field(default_factory=list)
    network_problems: list[str] = field(default_factory=list)
    """What of network and faults is not as it was asked for."""
    behaviours: Mapping[str, Behaviour] = field(default_factory=dict)
    """What nodes do that are not honest."""


def status_of(known: StatusInputs) -> Status:
    """The status document."""
    apart = {name for name, behaviour in known.behaviours.items() if behaviour == STALE_CERTIFICATE}
    all_wanted = known.membership.all_wanted(apart)
    wanted = {name: all_wanted.get(name, []) for name in known.groups}
    addresses = {one.name: one.addresses[0] for one in known.membership.registry.members if one.addresses}
    reported = {name: {peer.name for peer in peers.peers} for name, peers in known.peers.items()}
    up = {name: _peers_up(name, wanted[name], reported) for name in known.groups}
    absent = {name for name in known.groups if _is_absent(name, known)}
    lacks = {name: len(wanted[name]) - len(up[name]) for name in known.groups}
    members = [
        _member(name, group, known, _Edges(wanted[name], up[name], absent, reported, lacks), addresses.get(name, ""))
        for name, group in known.groups.items()
    ]
    links = LinkCounts(sum(map(len, wanted.values())) // 2, sum(map(len, up.values())) // 2)
    nodes = NodeCounts(
        desired=len(members),
        running=sum(member.state in SERVING_STATES for member in members),
        ready=sum(member.state in ("ready", "connected") for member in members),
        connected=sum(member.state == "connected" for member in members),
    )
    ends = [end for name in known.groups if name not in apart and (end := _leaf_end(name, known)) is not None]
    return Status(
        name=known.name, target=known.target, nodes=nodes, links=links,
        certificates=CertificateCounts(len(ends), _rfc3339(min(ends)) if ends else None),
        conditions=_conditions(known, members, nodes, links, ends), runs=known.runs, members=members,
        packed=known.packed, seed=known.seed, registry_version=known.membership.registry.version,
        up_since=known.up_since, expires_at=_rfc3339(known.expires_at) if known.expires_at else None,
        trusted=[one[:FINGERPRINT_CHARS] for one in known.own.bundle.fingerprints] if known.own else [],
        leaf=known.own.fingerprint[:FINGERPRINT_CHARS] if known.own else "", ignored=known.ignored,
        faults=known.faults, network_notes=known.network_notes, network=known.network,
    )  # fmt: skip


def _peers_up(name: str, wanted: list[str], reported: Mapping[str, set[str]]) -> list[str]:
    """The wanted peers whose link both ends report as authenticated; `reported`: peers by node."""
    mine = reported.get(name, set())
    return [other for other in wanted if other in mine and name in reported.get(other, set())]


@dataclass(frozen=True, slots=True)
class _Edges:
    """The edges of one node: wanted, up, and what is known about the other ends."""

    wanted: list[str]
    up: list[str]
    absent: set[str]
    """Nodes of the subnet that cannot be peers now: only their own details say why."""
    reported: Mapping[str, set[str]]
    """Peers by node, as each node reports them."""
    lacks: Mapping[str, int]
    """By node, how many of its edges are not up."""


def _is_absent(name: str, known: StatusInputs) -> bool:
    process = known.processes.get(name, Process())
    return name not in known.peers or process.halted or process.state not in ("running", "unknown")


def _member(name: str, group: str, known: StatusInputs, edges: _Edges, address: str) -> MemberStatus:
    process, peers, found = known.processes.get(name, Process()), known.peers.get(name), known.unresponsive.get(name)
    state: State = process.state
    detail = process.detail
    if process.state in ("running", "unknown", "starting") and peers is not None and not process.halted:
        state = "ready" if peers.ready else "running"
        if len(edges.up) == len(edges.wanted) and (peers.ready or not edges.wanted):
            state, detail = "connected", ""
        elif not detail:
            detail = _lack(name, edges)
    elif process.state in ("running", "unknown") and found is not None:
        state, detail = "unknown", _silence_text(name, known, found, edges)
    else:
        found = None
        detail = known.ordered.get(name, detail)
    if known.behaviours.get(name) == STALE_CERTIFICATE and not detail:
        detail = "shows a certificate that has ended: its peers refuse it, as they should"
    ends, heard = _leaf_end(name, known), known.heard.get(name)
    return MemberStatus(
        name=name, group=group, state=state, address=address, peers=len(peers.peers) if peers else 0,  # type: ignore[arg-type]
        restarts=process.restarts, cert_not_after=_rfc3339(ends) if ends else None, pid=process.pid,
        wanted=len(edges.wanted), detail=detail,
        silent_since=_rfc3339_of(found.since) if found is not None and peers is None else None,
        last_heard=None if heard is None else _rfc3339_of(heard),
        trusted=peers.trusted if peers else [], leaf=peers.leaf if peers else "",
        unfinished=peers.unfinished if peers else None,
        behaviour=known.behaviours.get(name, HONEST),
    )  # fmt: skip


def _lack(name: str, edges: _Edges) -> str:
    """What a node that answers still lacks to be connected. A missing edge is reported by the end that lacks more."""
    missing = [other for other in edges.wanted if other not in edges.up]
    mine = edges.lacks[name]
    unexplained = [other for other in missing if other not in edges.absent and edges.lacks.get(other, 0) <= mine]
    if unexplained:
        return f"no link with {_names(unexplained)}"
    return "" if missing else "is not ready yet"


def _silence_text(name: str, known: StatusInputs, found: Unresponsive, edges: _Edges) -> str:
    """For how long a node is silent, with what tells a hanging process from a cut network: its process and its peers."""
    parts = [f"silent for {max(0.0, known.now.timestamp() - found.since):.0f} s"]
    parts += filter(None, (process_text(known.processes.get(name, Process())), found.reason))
    asked = [other for other in edges.wanted if other in edges.reported]
    linked = sum(name in edges.reported[other] for other in asked)
    if asked:
        parts.append(f"{linked} of {len(asked)} peers still have a link with it")
    return "; ".join(parts)


def process_text(process: Process) -> str:
    """What is known of the process of a node that does not answer; empty: nothing."""
    if process.detail or process.state != "running":
        return process.detail
    return f"its process{'' if process.pid is None else f' {process.pid}'} runs but does not answer"


def _leaf_end(name: str, known: StatusInputs) -> datetime | None:
    """When the leaf ends that a node reports to use; for a silent node, the one it was given last."""
    peers = known.peers.get(name)
    if peers is not None and peers.cert_not_after:
        return datetime.fromtimestamp(peers.cert_not_after, UTC)
    return known.leaves.get(name)


def _conditions(
    known: StatusInputs, members: list[MemberStatus], nodes: NodeCounts, links: LinkCounts, ends: list[datetime]
) -> list[Condition]:
    enough = links.up >= known.ready_share * links.expected if links.expected else nodes.ready == nodes.desired
    whole = nodes.connected == nodes.desired
    ready = enough and nodes.desired > 0 and (nodes.ready == nodes.desired or known.ready_share < 1)
    waiting = _waiting(known, members, nodes, links)
    expired = [end for end in ends if end <= known.now]
    due = sum(member.behaviour != STALE_CERTIFICATE for member in members)
    issued = len(ends) == due and not expired
    certificates = f"certificates {len(ends)}/{due}" + (f", {len(expired)} expired" if expired else "")
    broken = [member for member in members if _is_broken(member, known)]
    what = known.problem or "; ".join([
        *([_faults_text(known)] if known.in_force else []), *known.network_problems[:NAMED_MAX],
        *(_problem_of(member, known) for member in broken[:NAMED_MAX]), *_more(broken),
    ])  # fmt: skip
    by_faults = known.in_force and not known.problem and not known.network_problems
    why = "Faults" if by_faults and all(member.name in known.ordered for member in broken) else "Trouble"
    converges = not whole and not known.in_force
    expiring = known.expires_at is not None and is_expiring(known.expires_at - known.now)
    return [
        _condition("Ready", ready, "Connected" if ready else "Waiting", "" if ready else waiting),
        _condition(
            "Connected",
            whole,
            "AllLinksUp" if whole else "LinksMissing",
            _links_text(links, broken) + _by_faults(known, whole=whole),
        ),
        _condition("CertificatesReady", issued, "Issued" if issued else "Issuing", certificates),
        _condition(
            "Progressing",
            converges,
            "AsWanted" if whole else "Converging" if converges else "Faults",
            "" if whole else waiting,
        ),
        _condition("Degraded", bool(what), why if what else "Healthy", what),
        *(
            [_condition("Expiring", True, "Ttl", f"ends at {_rfc3339(known.expires_at)}")]
            if expiring and known.expires_at
            else []
        ),
    ]


def _is_broken(member: MemberStatus, known: StatusInputs) -> bool:
    """Whether the node counts as degraded. A starting node does not."""
    if member.state == "unknown":
        return member.silent_since is not None or known.processes.get(member.name, Process()).halted
    return member.state in ("restarting", "failed", "stopped", "paused")


def _faults_text(known: StatusInputs) -> str:
    return f"fault{'s' if len(known.in_force) > 1 else ''} in force: {_names(known.in_force)}"


def _by_faults(known: StatusInputs, *, whole: bool) -> str:
    return "" if whole or not known.in_force else f"; {_faults_text(known)}"


def _problem_of(member: MemberStatus, known: StatusInputs) -> str:
    if member.state == "unknown" or member.name in known.ordered:
        return f"{member.name} {member.detail}"
    return f"{member.name} {member.state}"


def _more(broken: list[MemberStatus]) -> list[str]:
    return [f"and {len(broken) - NAMED_MAX} more"] if len(broken) > NAMED_MAX else []


def _links_text(links: LinkCounts, broken: list[MemberStatus]) -> str:
    down = f"; {_names([member.name for member in broken])} not there" if broken and links.up < links.expected else ""
    return f"links {links.up}/{links.expected}{down}"


def _waiting(known: StatusInputs, members: list[MemberStatus], nodes: NodeCounts, links: LinkCounts) -> str:
    """What is missing until all nodes are connected: first that all answer, then their links."""
    if known.problem or known.phase:
        return known.problem or known.phase
    silent = [member.name for member in members if member.state not in SERVING_STATES]
    if silent:
        found = f"nodes {nodes.running}/{nodes.desired} answer; waiting for {_names(silent)}"
    else:
        behind = [member.name for member in members if member.state != "connected"]
        found = f"links {links.up}/{links.expected}; not connected: {_names(behind)}"
    return found + _by_faults(known, whole=False)


def _condition(kind: str, holds: bool, reason: str, message: str) -> Condition:
    return Condition(kind, "True" if holds else "False", reason, message)


def _names(names: list[str]) -> str:
    return some(names, NAMED_MAX)


def _rfc3339_of(seconds: float) -> str:
    return _rfc3339(datetime.fromtimestamp(seconds, UTC))


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
