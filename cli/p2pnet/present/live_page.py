"""The page of a subnet that runs: what the rich page draws, fed while it goes on; what it says else comes with the events, too.

It is served, never kept: its policy lets it ask the server it came from, and nobody else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from p2pnet.present.markup import Content, Markup, tag
from p2pnet.present.scripted import SCRIPTS, beside, digest, drawn, head, part, script
from p2pnet.present.view import Json, encoded

_PARTS = (
    ("summary", "Summary"),
    ("act", "Act"),
    ("network", "Network"),
    ("latency", "Latency"),
    ("hops", "Hops"),
    ("reach", "Reach"),
    ("traffic", "Links"),
    ("duplicates", "Duplicates"),
    ("slow", "Slowest"),
    ("faults", "Faults"),
    ("series", "Series"),
)
FIELD_CHARS_MAX = 200


@dataclass(frozen=True, kw_only=True)
class LiveSubnet:
    """What a live page is about."""

    name: str
    view: Json
    """As `view.live_view` gives it."""
    generation: int
    """Which view that is: a page of another one must be loaded again."""
    kinds: Sequence[str]
    """Kinds of faults that can be asked for."""
    typed: str = ""
    """Options that say where the subnet lives, which commands to type need too."""
    program: str = "p2pnet"
    """What a person types before a verb."""


def to_live_html(subnet: LiveSubnet) -> str:
    """The whole page; `live_policy` goes with it."""
    facts: Json = {
        "name": subnet.name, "generation": subnet.generation, "typed": subnet.typed, "program": subnet.program,
    }  # fmt: skip
    data = [
        tag("script", Markup(encoded(one)), type="application/json", id=key)
        for key, one in (("view-data", subnet.view), ("live-data", facts))
    ]
    scripts = [tag("script", Markup(text)) for text in _scripts()]
    main = tag("main", *_content(subnet))
    body = tag("body", _bar(subnet), main, *data, *scripts)
    return f"<!doctype html>\n{tag('html', head(f'{subnet.name}, live'), body, lang='en')}\n"


@lru_cache(maxsize=1)
def live_policy() -> str:
    """The Content-Security-Policy of the page."""
    return "; ".join([
        "default-src 'none'", f"script-src {' '.join(map(digest, _scripts()))}", "style-src 'unsafe-inline'", "img-src data:",
        "connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
    ])  # fmt: skip


def _scripts() -> list[str]:
    return [*map(script, SCRIPTS), beside("live.js")]


def _bar(subnet: LiveSubnet) -> Markup:
    links = [tag("a", title, href=f"#{key}") for key, title in _PARTS]
    return tag(
        "div",
        tag("a", "Skip to the page", href="#summary", class_="skip"),
        tag(
            "div", tag("strong", subnet.name, class_="bar-name"), tag("span", "connecting", class_="badge", id="live-state"),
            class_="bar-title",
        ),
        tag("nav", *links, aria_label="Parts of the page"),
        tag("button", "Dark", type="button", id="theme", class_="ghost", hidden=True),
        class_="bar",
    )  # fmt: skip


def _content(subnet: LiveSubnet) -> list[Content]:
    return [
        part(
            "summary",
            "Now",
            tag("p", "Nothing was heard of it yet.", id="live-said", role="status"),
            tag("ul", id="live-lines"),
        ),
        tag("p", "This page needs scripts, which are part of it.", class_="card", id="unscripted"),
        part("act", "Act", *_forms(subnet), tag("p", id="live-answer", role="status")),
        part("network", "Network", drawn("network")),
        tag(
            "div",
            part("latency", "Latency", drawn("latency")),
            part("hops", "Latency per hop", drawn("hops")),
            class_="columns",
        ),
        tag(
            "div",
            part("reach", "Reach over time", drawn("reach")),
            part("traffic", "Bytes per link", drawn("traffic")),
            class_="columns",
        ),
        part("duplicates", "Duplicates", drawn("duplicates")),
        part("slow", "Slowest nodes and links", _table("slow")),
        part("faults", "Faults and the network, asked and seen", drawn("faults"), _table("faults")),
        part("series", "Series per node", drawn("series"), _table("findings")),
        tag(
            "footer",
            "Served on this machine alone. Latencies, hops and waits are of the artifacts that were followed, bytes and "
            "duplicates of all since this page was served; p2pnet report has all of a run.",
        ),
    ]


def _table(key: str) -> Markup:
    """Where the page puts a table that it is told."""
    return tag("div", data_table=key, class_="told")


def _forms(subnet: LiveSubnet) -> list[Content]:
    kinds = tag(
        "select", *(tag("option", kind, value=kind, selected=kind == "loss") for kind in subnet.kinds), name="kind"
    )
    return [
        _form("inject", "Inject", _field("size", "Size", "64KiB"), _field("count", "Count", "5"), _field("rate", "Rate", "5/s")),
        _form(
            "break", "Break", tag("label", "Kind ", kinds, class_="field"), _field("value", "Value", "20%"),
            _field("node", "Node", ""), _field("lasting", "For", "30s"),
        ),
        _form("heal", "Heal", tag("label", "Fault ", tag("select", name="fault"), class_="field")),
    ]  # fmt: skip


def _form(verb: str, title: str, *fields: Content) -> Markup:
    """Its button does what the command beside it would."""
    button = tag("button", title, type="submit", class_="main")
    return tag(
        "form", *fields, button, tag("code", class_="command"), class_="controls", data_verb=verb, autocomplete="off"
    )


def _field(name: str, title: str, value: str) -> Markup:
    box = tag("input", type="search", name=name, value=value, maxlength=str(FIELD_CHARS_MAX), size="9")
    return tag("label", f"{title} ", box, class_="field")
