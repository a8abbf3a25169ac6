"""How peers answered: one peer in lines, several as a table; above 30 those that did not answer and the slowest."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from p2pnet.cli.documents import Ping, Pings
from p2pnet.cli.render import text
from p2pnet.cli.terminal import clean

ROWS_MAX = 30
SLOWEST = 10


def draw(pings: Pings, width: int, now: float) -> RenderableType:
    """`now` is Unix seconds."""
    if len(pings.pings) == 1:
        return Group(*_lines(pings.pings[0], pings.trust, width, now))
    shown = pings.pings
    rest: list[RenderableType] = []
    if len(shown) > ROWS_MAX:
        silent = [ping for ping in shown if not ping.answered]
        answered = sorted((ping for ping in shown if ping.answered), key=_slowness, reverse=True)
        shown = [*silent[:ROWS_MAX], *answered[:SLOWEST]]
        rest = [Text(f"and {len(pings.pings) - len(shown)} more (all: -o json)", style="dim")]
    troubles = [
        line
        for ping in shown
        if not ping.answered
        for line in text.flow(f"{_name(ping)} ", [ping.error], width, style="red")
    ]
    seen = {ping.seen_as for ping in shown if ping.seen_as}
    same = [Text(f"they see us at {clean(next(iter(seen)))}", style="dim")] if len(seen) == 1 else []
    return Group(_table(shown, now, seen=len(seen) > 1), *rest, *same, *troubles)


def _lines(ping: Ping, trust: str, width: int, now: float) -> list[Text]:
    head: list[Text | str] = [Text(_name(ping), style="bold cyan")]
    if ping.peer not in (None, _name(ping)):
        head.append(f"at {ping.peer}")
    if not ping.answered:
        return [*text.flow("peer", head, width), *text.flow("failed", [ping.error], width, style="bold red")]
    trip = ping.rtt_ms
    if ping.echo:
        middle = f", {text.milliseconds(trip.median)} median of {trip.echoes}" if trip.echoes > 1 else ""
        echo = f"echo {text.milliseconds(trip.min)} min{middle}" if middle else f"echo {text.milliseconds(trip.min)}"
    else:
        echo = f"no echo served; QUIC's round trip {text.milliseconds(trip.smoothed)}"
    path = "" if ping.mtu_bytes is None else f"carries {ping.mtu_bytes} bytes a datagram"
    seen = f"sees us at {clean(ping.seen_as)}" if ping.seen_as else ""
    lines = [
        *text.flow("peer", [*head, path, seen], width),
        *text.flow("time", [f"handshake {text.milliseconds(ping.handshake_ms)}", echo], width),
    ]
    leaf = ping.certificate
    if leaf is None:
        return [*lines, *text.flow("leaf", [Text(f"not checked: trust is {trust}", style="yellow")], width)]
    expiry = text.until(leaf.not_after, now)
    named = leaf.uri or "no URI"
    return [
        *lines,
        *text.flow("leaf", [named, f"expires in {expiry}" if expiry else "", f"sha256 {leaf.sha256}"], width),
    ]


def _table(pings: list[Ping], now: float, *, seen: bool) -> Table:
    """`seen`: with a column for the address they see us at."""
    right = ("HANDSHAKE", "ROUND TRIP", "MTU", "LEAF")
    drawn = text.table("PEER", "ANSWER", *right, *(["SEES US AT"] if seen else []), right=right)
    for ping in pings:
        answer = "echo" if ping.echo else "no echo" if ping.answered else "none"
        drawn.add_row(
            _name(ping),
            Text(answer, style="green" if ping.echo else "yellow" if ping.answered else "red"),
            text.milliseconds(ping.handshake_ms),
            text.milliseconds(ping.rtt_ms.median if ping.echo else ping.rtt_ms.smoothed),
            text.count(ping.mtu_bytes),
            (text.until(ping.certificate.not_after, now) if ping.certificate else "") or text.DASH,
            *([clean(ping.seen_as or text.DASH)] if seen else []),
        )
    return drawn


def _name(ping: Ping) -> str:
    return clean(ping.node or ping.address)


def _slowness(ping: Ping) -> float:
    return ping.rtt_ms.median or ping.rtt_ms.smoothed or 0.0
