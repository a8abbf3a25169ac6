"""When is a subnet ready, what is still awaited, and who keeps it back. Pure: a Status in, words out."""

import math

from p2pnet.model.ids import member_order
from p2pnet.model.report import MemberStatus, Status
from p2pnet.model.text import some

BLOCKERS_SHOWN = 5
WORDS_MAX = 160  # of what a container runtime says about an image
NO_OPERATOR = "NoOperator"
"""Reason of the condition Rollout where the cluster has no operator at all."""
KEEPING = ("LabAway", "Rollout")
"""Conditions of a subnet in a cluster that keep it from being ready, whatever its counts say."""


def is_ready(status: Status, *, nodes: int, share: float) -> bool:
    """Whether `share` of the edges between the `nodes` wanted are up; without any edge, whether that share is ready."""
    if status.nodes.desired != nodes:
        return False  # the lab has not taken the document in yet
    if any(one.type in KEEPING and one.status == "True" for one in status.conditions):
        return False
    if status.links.expected == 0:
        return status.nodes.ready >= math.ceil(nodes * share)
    return status.links.up >= math.ceil(status.links.expected * share)


def why_unattended(status: Status) -> str:
    """What is said of a subnet in a cluster without an operator, for which it is no use to wait; empty for others."""
    return next((one.message for one in status.conditions if one.reason == NO_OPERATOR), "")


def awaited(status: Status, nodes: int) -> str:
    """`certificates 12/20, nodes running 9/10, links 140/190`: only what is not complete."""
    pairs = (
        ("certificates", status.certificates.issued, nodes),
        ("nodes running", status.nodes.running, nodes),
        ("nodes ready", status.nodes.ready, nodes),
        ("links", status.links.up, status.links.expected),
    )
    missing = [f"{what} {have}/{want}" for what, have, want in pairs if have < want]
    if status.target != "local":
        missing += _in_the_way(status)
    return ", ".join(missing) or "the last links"


def _in_the_way(status: Status) -> list[str]:
    """What a cluster names as the reason: the lab, a rollout, an image that cannot be pulled."""
    found = {one.type: one for one in status.conditions if one.status == "True"}
    words = ["the lab"] if "LabAway" in found else []
    words += [found["Rollout"].message] if "Rollout" in found else []
    if "Degraded" in found:
        words.append(f"{found['Degraded'].reason}: {found['Degraded'].message[:WORDS_MAX]}")
    return words


def blockers(status: Status) -> str:
    """The nodes that are not connected, the worst first, each with what is known about it."""
    odd = [member for member in status.members if member.state != "connected"]
    if not odd:
        return "every node is connected"
    odd.sort(key=lambda member: (-member.restarts, member.peers - member.wanted, member_order(member.name)))
    return some(map(_words, odd), BLOCKERS_SHOWN)


def _words(member: MemberStatus) -> str:
    facts = [f"{member.peers}/{member.wanted} links"]
    if member.restarts:
        facts.append(f"{member.restarts} restarts")
    if member.detail:
        facts.append(member.detail)
    return f"{member.name} {member.state} ({', '.join(facts)})"
