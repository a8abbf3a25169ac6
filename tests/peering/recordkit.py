"""Signed records of the nodes of one subnet, at a fixed time."""

from datetime import UTC, datetime, timedelta
from functools import cache

from p2pnet.model.ids import member_uri
from p2pnet.model.peer_messages import (
    Record,
)
from p2pnet.peering.records import write_record
from p2pnet.trust import Authority, Identity

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


NOW_S = int(NOW.timestamp())


SCOPE = ("p2pnet", "local", "demo")


AUTHORITY = Authority.create("demo", now=NOW, ttl=timedelta(days=30))


def uri(name: str) -> str:
    return member_uri(*SCOPE, name)


@cache
def identity(name: str, authority: Authority = AUTHORITY, life: timedelta = timedelta(hours=2)) -> Identity:
    return Identity.of(authority.issue(uri(name), now=NOW, ttl=life), AUTHORITY.certificate_pem)


BUNDLE = identity("node-0").bundle


@cache
def record(
    name: str, sequence: int = 0, *, incarnation: int = 7, life_s: float = 600, authority: Authority = AUTHORITY
) -> bytes:
    written = Record(incarnation, sequence, int(NOW_S + life_s), [f"10.0.0.{sequence % 250}:4100"])
    return write_record(written, identity(name, authority))
