"""What a document does to the network between its nodes, and which faults act on it, in a line for a person. Pure.

From the document as JSON values: to check one takes pydantic, 0.1 s of every command, and the lab has checked it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from p2pnet.model.report import FaultStatus
from p2pnet.model.text import some

FAULTS_NAMED = 3
_FIGURES = ("latency", "jitter", "loss", "duplication", "reorder", "bandwidth", "mtu")


def shaping(spec: Mapping[str, Any]) -> list[str]:
    """What `spec.network` asks for, in parts like `preset aws`, `2 rules`; empty where it asks for nothing."""
    network = spec.get("network") or {}
    preset, default, access = (network.get(key) or {} for key in ("preset", "default", "access"))
    figures = [f"{name} {default[name]}" for name in _FIGURES if default.get(name)]
    rules = len(network.get("rules") or [])
    lines = access.get("up") or access.get("down") or any(access.get("groups") or {})
    return [
        *([f"preset {preset}"] if preset and preset != "none" else []),
        *([f"default {', '.join(figures)}"] if figures else []),
        *([f"{rules} {'rule' if rules == 1 else 'rules'}"] if rules else []),
        *(["access links"] if lines else []),
    ]


def written(spec: Mapping[str, Any]) -> str:
    """`preset aws, 2 rules; 1 fault: cut-eu`: all that a document does to the network and its nodes. Empty: nothing."""
    names = [str(fault.get("name")) for fault in spec.get("faults") or []]
    faults = f"{len(names)} {'fault' if len(names) == 1 else 'faults'}: {some(names, FAULTS_NAMED)}" if names else ""
    return "; ".join(filter(None, (", ".join(shaping(spec)), faults)))


def in_force(spec: Mapping[str, Any], faults: Sequence[FaultStatus]) -> str:
    """`preset aws, 2 rules; fault loss-1 (loss 20% from * to *)`: what a run that begins now meets. Empty: nothing."""
    acting = [f"{fault.name} ({fault.what})" for fault in faults if fault.state == "active"]
    named = f"{'fault' if len(acting) == 1 else 'faults'} {some(acting, FAULTS_NAMED)}" if acting else ""
    return "; ".join(filter(None, (", ".join(shaping(spec)), named)))
