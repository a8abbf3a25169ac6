"""`ping` against real endpoints: what it says of those that answer, and what it advises about those that do not."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from tests.patience import PATIENCE_S

from p2pnet.cli.documents import Ping, Pings, RoundTrip
from p2pnet.cli.outcome import CommandError, Outcome
from p2pnet.cli.render import Output, render
from p2pnet.cli.session import Session
from p2pnet.cli.verbs import ping
from p2pnet.cli.verbs.schema import schema_of
from p2pnet.model.registry import Member, Membership, Registry
from p2pnet.quic import Connection, Endpoint, FixedIdentity, Reachability, Trust
from p2pnet.trust import Authority, Bundle, Identity

URI = "spiffe://p2pnet.test/ns/local/subnet/demo/"


class Place:
    """An authority on disk, and peers that are vouched for by it."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority.create("demo", now=datetime.now(UTC))
        self.bundle = folder / "ca.crt"
        self.folder = folder
        self.endpoints: list[Endpoint] = []
        self.bundle.write_bytes(self.authority.certificate_pem)

    def identity(self, name: str) -> Identity:
        leaf = self.authority.issue(URI + name, now=datetime.now(UTC), ttl=timedelta(hours=2))
        return Identity.of(leaf, self.authority.certificate_pem)

    def leaf(self, name: str) -> dict[str, Path]:
        """Options that say we are `name`."""
        self.identity(name).write(self.folder / name)
        return {"bundle": self.bundle, "cert": self.folder / name / "tls.crt", "key": self.folder / name / "tls.key"}

    async def peer(
        self, name: str, *, trust: Trust | None = None, address: tuple[str, int] = ("127.0.0.1", 0), echo: bool = True,
        admits: Callable[[str], str | None] = lambda _uri: None,
    ) -> str:  # fmt: skip
        """A peer that listens; its address."""
        made = trust or Trust.subnet(FixedIdentity(self.identity(name)), admits)
        endpoint = await Endpoint.bind(
            address, trust=made, on_message=lambda _connection, message: message.refuse(0x23)
        )
        self.endpoints.append(endpoint)
        if echo:
            Reachability(endpoint)
        host, port = endpoint.address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    place = Place(tmp_path)
    yield place
    for endpoint in place.endpoints:
        endpoint.close()
        await endpoint.wait_closed()


@pytest.fixture
def silent() -> Iterator[str]:
    """An address where nobody says anything."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


Pinged = Callable[..., Awaitable[Outcome]]


@pytest.fixture
def pinged(session: Session) -> Pinged:
    async def ask(*addresses: str, **options: Any) -> Outcome:
        return await ping.run(ping.PingOptions(addresses=addresses, **options), session)

    return ask


def document(outcome: Outcome) -> Pings:
    assert isinstance(outcome.document, Pings)
    jsonschema.validate(json.loads(render(outcome.document, Output.JSON)), schema_of("ping"))
    return outcome.document


async def test_a_peer_that_serves_the_echo_is_described(place: Place, pinged: Pinged) -> None:
    address = await place.peer("anna")

    outcome = await pinged(address, **place.leaf("bert"), count=5)

    [one] = document(outcome).pings
    assert (outcome.exit_code, one.answered, one.echo, one.address, one.peer) == (0, True, True, address, address)
    assert one.rtt_ms.echoes == 5
    assert 0 < one.rtt_ms.min <= one.rtt_ms.median
    assert one.handshake_ms is not None
    assert one.handshake_ms > 0
    assert one.seen_as is not None
    assert one.seen_as.startswith("127.0.0.1:")
    assert one.certificate is not None
    assert one.certificate.uri == URI + "anna"
    assert one.certificate.sha256 == place.endpoints[0].trust.identity.fingerprint
    assert datetime.fromisoformat(one.certificate.not_after) == place.endpoints[0].trust.identity.not_after


async def test_a_peer_without_the_echo_answers_all_the_same(place: Place, pinged: Pinged) -> None:
    outcome = await pinged(await place.peer("anna", echo=False), **place.leaf("bert"))

    [one] = document(outcome).pings
    assert (outcome.exit_code, one.answered, one.echo, one.seen_as) == (0, True, False, None)
    assert one.rtt_ms.min is None
    assert one.rtt_ms.smoothed is not None
    assert "no echo served" in render(document(outcome), Output.TABLE)


async def test_several_are_asked_at_once_and_told_in_their_order(place: Place, pinged: Pinged, silent: str) -> None:
    first, last = await place.peer("anna"), await place.peer("cleo", address=("::1", 0))

    outcome = await pinged(first, silent, last, first, **place.leaf("bert"), timeout_s=5.0)

    shown = document(outcome)
    assert [one.address for one in shown.pings] == [first, silent, last]
    assert [one.answered for one in shown.pings] == [True, False, True]
    assert outcome.failure is not None
    assert outcome.exit_code == outcome.failure.exit_code == 3
    assert outcome.failure.what == f"1 of 3 peers do not answer: {silent}"
    assert outcome.failure.where == silent
    assert "--timeout 10s waits longer" in outcome.failure.next_step
    drawn = render(shown, Output.TABLE, width=80)
    assert all(len(line) <= 80 for line in drawn.splitlines())
    assert [json.loads(line)["address"] for line in render(shown, Output.NDJSON).splitlines()] == [first, silent, last]


async def test_whom_nobody_vouches_for_is_no_answer(place: Place, pinged: Pinged, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    stranger = Place(tmp_path / "other")
    trust = Trust.authority(Bundle.from_pem(stranger.bundle.read_bytes()), FixedIdentity(stranger.identity("eve")))
    address = await place.peer("eve", trust=trust)

    outcome = await pinged(address, bundle=place.bundle)

    assert outcome.exit_code == 3
    assert outcome.failure is not None
    assert "does not answer" in outcome.failure.what
    assert f"its certificate is none that {place.bundle} admits" in outcome.failure.next_step


async def test_who_does_not_admit_us_says_so_and_what_would_help(place: Place, pinged: Pinged) -> None:
    closed = await place.peer("anna", admits=lambda uri: f"{uri.rpartition('/')[2]} may not")
    opened = await place.peer("cleo")

    refused, nameless = await pinged(closed, **place.leaf("bert")), await pinged(opened, bundle=place.bundle)

    for outcome, us in (
        (refused, f"the leaf in {place.folder / 'bert' / 'tls.crt'}"),
        (nameless, "peers without a cert"),
    ):
        assert outcome.exit_code == 3
        assert outcome.failure is not None
        assert "refused" in outcome.failure.what
        assert f"it does not admit {us}" in outcome.failure.next_step


async def test_anyone_meets_endpoints_of_qp2p_and_proves_nothing(
    place: Place, pinged: Pinged, session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    open_door, ours = await place.peer("", trust=Trust.anyone()), await place.peer("anna")
    caplog.clear()

    outcome = await pinged(open_door, anyone=True)
    refused = await pinged(ours, anyone=True)

    [one] = document(outcome).pings
    assert (outcome.exit_code, one.echo, one.certificate) == (0, True, None)
    assert "not checked: trust is anyone" in render(document(outcome), Output.TABLE)
    assert isinstance(session.stderr, io.StringIO)
    assert "note: trust is anyone: who answers is not authenticated" in session.stderr.getvalue()
    session.quiet = True
    await pinged(open_door, anyone=True)
    assert session.stderr.getvalue().count("not authenticated") == 2
    assert "not authenticated" not in caplog.text
    assert refused.failure is not None
    assert "it asks for an identity" in refused.failure.next_step


async def test_a_name_that_means_nothing_is_a_peer_not_found(pinged: Pinged) -> None:
    outcome = await pinged("no-such-host.invalid:4100", anyone=True)

    assert outcome.exit_code == 3
    assert outcome.failure is not None
    assert "no-such-host.invalid" in outcome.failure.what
    assert "check the name" in outcome.failure.next_step


async def test_a_name_server_that_never_answers_keeps_nobody(pinged: Pinged, monkeypatch: pytest.MonkeyPatch) -> None:
    given_up = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kind: given_up.wait(30) and [])

    outcome = await pinged("slow.example:1", anyone=True, timeout_s=0.05)

    given_up.set()
    assert outcome.failure is not None
    assert "its name server does not answer in 0.05 s" in outcome.failure.what


async def test_the_mtu_is_what_the_search_for_it_comes_to(
    place: Place, pinged: Pinged, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = iter([1200.0, 1200.0, 1452.0, 4000.0])

    monkeypatch.setattr(Connection, "counters", lambda _: {"mtu_bytes": next(sizes, 8900.0)})

    outcome = await pinged(await place.peer("anna"), **place.leaf("bert"))

    assert document(outcome).pings[0].mtu_bytes == 8900
    assert "carries 8900 bytes a datagram" in render(document(outcome), Output.TABLE)


async def test_cancelling_closes_what_was_opened(place: Place, pinged: Pinged, silent: str) -> None:
    address = await place.peer("anna")
    asking = asyncio.ensure_future(pinged(address, silent, **place.leaf("bert"), timeout_s=60.0))
    async with asyncio.timeout(PATIENCE_S):
        while not place.endpoints[0].connections:
            await asyncio.sleep(0.01)

        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        while place.endpoints[0].connections:
            await asyncio.sleep(0.01)


# --- subnets of this machine, as files: nodes answer for them ---


async def subnet(place: Place, target: Any, *names: str) -> list[str]:
    """Files of the subnet demo with these nodes, which are up; their addresses."""
    paths = target.state.subnet("demo").make()
    place.identity("lab").write(paths.lab_identity)
    addresses = [await place.peer(f"node/{name}") for name in names]
    members = [Member(name, f"{URI}node/{name}", [address]) for name, address in zip(names, addresses, strict=True)]
    paths.members.write_bytes(msgspec.json.encode(Membership(Registry(1, members))))
    return addresses


async def test_nodes_of_a_subnet_are_asked_by_name_by_address_or_all(place: Place, target: Any, pinged: Pinged) -> None:
    first, second = await subnet(place, target, "node-0", "node-1")

    for asked, options, found in (
        (("node-1",), {"subnet": "demo"}, ["node-1"]),
        ((first,), {"subnet": "demo"}, ["node-0"]),
        ((), {"subnet": "demo"}, ["node-0", "node-1"]),
        ((second, "node-0"), {}, ["node-1", "node-0"]),
    ):
        outcome = await pinged(*asked, **options)
        shown = document(outcome)
        assert (outcome.exit_code, shown.subnet, shown.trust) == (0, "demo", "subnet demo")
        assert [one.node for one in shown.pings] == found
        assert all(one.echo for one in shown.pings)
        assert outcome.next == ("p2pnet status demo",)


async def test_another_node_at_a_nodes_address_is_not_that_node(place: Place, target: Any, pinged: Pinged) -> None:
    first, _second = await subnet(place, target, "node-0", "node-1")
    liar = [Member("node-1", f"{URI}node/node-1", [first])]
    target.state.subnet("demo").members.write_bytes(msgspec.json.encode(Membership(Registry(2, liar))))

    outcome = await pinged("node-1", subnet="demo")

    assert outcome.exit_code == 3
    assert outcome.failure is not None
    assert "node/node-0 answered instead of" in outcome.failure.what


async def test_a_node_there_is_not_is_named_with_those_that_are(place: Place, target: Any, pinged: Pinged) -> None:
    await subnet(place, target, *(f"node-{index}" for index in range(10)))

    with pytest.raises(CommandError, match="demo has no node 'nodeX'") as caught:
        await pinged("nodeX", subnet="demo")

    assert caught.value.exit_code == 2
    assert (
        caught.value.next_step
        == "one of " + ", ".join(f"node-{index}" for index in range(8)) + " and 2 more, or HOST:PORT"
    )


@pytest.mark.parametrize("presence", ["absent", "starting", "dead"])
async def test_a_subnet_that_is_not_up_has_no_nodes_to_ask(target: Any, pinged: Pinged, presence: str) -> None:
    target.seen = presence
    if presence == "absent":
        target.subnet = lambda name: (_ for _ in ()).throw(
            CommandError("none", where="here", next_step="up", exit_code=3)
        )

    with pytest.raises(CommandError) as caught:
        await pinged("node-0", subnet="demo")

    assert caught.value.exit_code == 3


async def test_an_address_of_no_subnet_here_wants_to_know_whom_to_trust(
    place: Place, target: Any, pinged: Pinged
) -> None:
    await subnet(place, target, "node-0")

    with pytest.raises(CommandError, match=r"nothing says whom to trust at 10\.0\.0\.1:99") as caught:
        await pinged("10.0.0.1:99")

    assert caught.value.next_step == "--subnet NAME, --bundle FILE (with --cert and --key), or --anyone"


async def test_an_address_that_two_subnets_have_wants_the_name_of_one(
    place: Place, target: Any, pinged: Pinged
) -> None:
    [address] = await subnet(place, target, "node-0")
    other = target.state.subnet("other").make()
    other.members.write_bytes(target.state.subnet("demo").members.read_bytes())
    target.names, target.presence = (lambda: ["demo", "other"]), (lambda _name: "up")

    with pytest.raises(CommandError, match=r"which subnet's, demo or other\?"):
        await pinged(address)


# --- the command line ---


def test_above_thirty_peers_those_that_failed_and_the_slowest_are_shown() -> None:
    trip = [RoundTrip(min=1.0, median=float(index), smoothed=1.0, echoes=3) for index in range(40)]
    pings = [Ping(address=f"a:{index}", answered=True, echo=True, rtt_ms=trip[index]) for index in range(40)]
    pings[7] = Ping(address="a:7", answered=False, error="no answer\x1b[2J")

    drawn = render(Pings(trust="anyone", pings=pings), Output.TABLE)

    rows = [line.split()[0] for line in drawn.splitlines()[2:]]
    assert rows[:3] == ["a:7", "a:39", "a:38"]
    assert "and 29 more" in drawn
    assert "\x1b" not in drawn


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Missing argument 'ADDRESS...'"),
        (("10.0.0.1", "--anyone"), "'10.0.0.1' is no address"),
        (("10.0.0.1:0", "--anyone"), "'10.0.0.1:0' is no address"),
        (("10.0.0.1:99999", "--anyone"), "is no address"),
        (("a:1", "--anyone", "--subnet", "demo"), "--subnet and --anyone say different things"),
        (("a:1", "--anyone", "--bundle", "ca.crt"), "--bundle and --anyone say different things"),
        (("a:1", "--bundle", "ca.crt", "--cert", "tls.crt"), "--cert and --key belong together"),
        (("a:1", "--cert", "tls.crt", "--key", "tls.key"), "nothing says who the peer has to be"),
        (("a:1", "--bundle", "nowhere.crt"), "there is no such file"),
        (("a:1", "--bundle", "."), "Is a directory"),
        (("a:1", "--bundle", __file__), "not a trust bundle"),
        (("a:1", "--anyone", "--count", "0"), "greater than or equal to 1"),
        (("a:1", "--anyone", "--timeout", "5"), "write a number with its unit"),
        (("a:1",), "nothing says whom to trust at a:1"),
        (("node-3",), "'node-3' is no address"),
        (("a:1", "--subnet", "Demo"), "subnet name 'Demo'"),
    ],
)
def test_a_wrong_ping_ends_with_2_and_three_lines(
    p2pnet: Callable[..., Any], words: tuple[str, ...], said: str
) -> None:
    ended = p2pnet("ping", *words)

    assert ended.code == 2, ended.err
    assert said in ended.err
    assert [line[:6] for line in ended.err.splitlines() if "not authenticated" not in line] == [
        "error:",
        "where:",
        " next:",
    ]
    assert ended.out == ""


def test_a_key_of_another_leaf_is_found_out_before_anybody_is_asked(p2pnet: Callable[..., Any], tmp_path: Path) -> None:
    place = Place(tmp_path)
    one, other = place.leaf("bert"), place.leaf("cleo")

    ended = p2pnet(
        "ping", "a:1", "--bundle", str(one["bundle"]), "--cert", str(one["cert"]), "--key", str(other["key"])
    )

    assert ended.code == 2
    assert f"{other['key']} is not the key of the leaf in {one['cert']}" in ended.err
