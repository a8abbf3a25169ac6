"""The live page's server with a lab that is not there: who gets in, what the buttons do, and what is told to whom."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable, Collection
from datetime import UTC, datetime
from typing import Any

import aiohttp
import msgspec
import pytest

from p2pnet.cli.outcome import CommandError
from p2pnet.cli.ui.fault_history import KEPT_MAX, FaultHistory
from p2pnet.cli.ui.feed import LINES_MAX, Feed, told_of
from p2pnet.cli.ui.guard import Guard
from p2pnet.cli.ui.orders import TEXT_MAX
from p2pnet.cli.ui.phases import SlowHops
from p2pnet.cli.ui.receipts import LiveReceipts
from p2pnet.cli.ui.sampling import LiveSamples
from p2pnet.cli.ui.server import BODY_BYTES_MAX, serving
from p2pnet.cli.ui.streams import CLIENTS_MAX, QUEUE_MAX, FullError, Streams
from p2pnet.measure.propagation import ARTIFACTS_DRAWN_MAX
from p2pnet.model.control import LinkSample, Sample
from p2pnet.model.errors import SpecError, TargetError
from p2pnet.model.events import Collected, EventKind, FetchTimes
from p2pnet.model.jobs import Payload, RunRequest, RunState
from p2pnet.model.registry import Membership
from p2pnet.model.report import FaultStatus, RunSummary, Status
from p2pnet.model.time_series import NodeSample
from p2pnet.present import LiveSums, live_parts
from p2pnet.scenario.targets import sized

A, B = "ab" * 32, "cd" * 32


SEQ = itertools.count()


def event(node: str, kind: EventKind, ms: int, *, artifact: str = A, peer: str = "", hop: int = 0) -> Collected:
    return Collected(
        node=node,
        incarnation="i",
        seq=next(SEQ),
        t_ns=ms * 10**6,
        kind=kind,
        artifact=artifact,
        peer=peer,
        hop=hop,
        bytes=9,
    )


class LiveLab:
    """The fake lab, which tells events and can be killed and started again."""

    def __init__(self, fake: Any) -> None:
        self.fake = fake
        self.process = "lab-1"
        self.told: asyncio.Queue[Collected | None] = asyncio.Queue()
        self.dead = False
        self.version = 1
        self.files: dict[tuple[str, str], bytes] = {}
        self.files_asked = 0
        self.broken_files: TargetError | None = None

    def __getattr__(self, name: str) -> Any:
        if self.dead:
            raise TargetError("the lab is gone", where="here", hint="start it")
        return getattr(self.fake, name)

    async def lab(self) -> str:
        return self.process

    async def members(self) -> Membership:
        told = await self.fake.members()
        return msgspec.structs.replace(told, registry=msgspec.structs.replace(told.registry, version=self.version))

    async def run_file_from(self, run_id: str, file: str, start: int) -> bytes:
        self.files_asked += 1
        if self.broken_files is not None:
            raise self.broken_files
        return self.files.get((run_id, file), b"")[start:]

    async def artifact_events(self, artifact: str) -> Any:
        raise SpecError(f"no artifact {artifact}")

    async def events(self, cursor: int = 0, kinds: Collection[EventKind] = ()) -> AsyncIterator[Collected]:
        assert set(kinds) == {EventKind.PUBLISHED, EventKind.VALIDATED, EventKind.DUPLICATE}
        while (told := await self.told.get()) is not None:
            yield told
        raise TargetError("the lab is gone", where="here", hint="start it")


class Visitor:
    """A browser, as far as it has a cookie and sends headers."""

    def __init__(self, guard: Guard, session: aiohttp.ClientSession) -> None:
        self.guard, self.session, self.base = guard, session, f"http://127.0.0.1:{guard.port}"

    async def get(self, path: str, **headers: str) -> tuple[int, str, Any]:
        async with self.session.get(self.base + path, headers=headers, allow_redirects=False) as answer:
            return answer.status, await answer.text(), answer.headers

    async def enter(self) -> None:
        assert (await self.get(self.guard.url().removeprefix(self.base)))[0] == 303

    async def order(self, order: Any, **headers: str) -> tuple[int, Any]:
        sent = {"Origin": self.base, "Content-Type": "application/json"} | headers
        body = order if isinstance(order, bytes) else json.dumps(order)
        async with self.session.post(
            f"{self.base}/orders", data=body, headers={k: v for k, v in sent.items() if v}
        ) as answer:
            return answer.status, await answer.json()

    @contextlib.asynccontextmanager
    async def follow(self) -> AsyncIterator[Callable[[str], Any]]:
        """Waits for the next event of a name, and gives its data."""
        async with self.session.get(f"{self.base}/events") as answer:
            assert answer.status == 200

            async def until(name: str) -> Any:
                while True:
                    line = (await answer.content.readline()).decode()
                    assert line, "the stream ended"
                    if line == f"event: {name}\n":
                        return json.loads((await answer.content.readline()).decode().removeprefix("data: "))

            yield until


@pytest.fixture
def live(target: Any, make_status: Callable[..., Status], monkeypatch: pytest.MonkeyPatch) -> LiveLab:
    monkeypatch.setattr("p2pnet.cli.ui.feed.LOOK_S", 0.02)
    monkeypatch.setattr("p2pnet.cli.ui.feed.TELL_S", 0.01)
    target.fake.statuses = [_numbered(make_status())]
    target.fake.states = [RunState("r-9", "queued", RunRequest(payloads=[Payload("x")]), 1.0)]
    target.fake = LiveLab(target.fake)
    return target.fake


def _numbered(status: Status) -> Status:
    return msgspec.structs.replace(status, registry_version=1)


@pytest.fixture
async def visitor(live: LiveLab, target: Any) -> AsyncIterator[Visitor]:
    feed = Feed("demo", target)
    following = asyncio.create_task(feed.run())
    await feed.known.wait()
    async with (
        serving(feed, target) as guard,
        aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session,
    ):
        yield Visitor(guard, session)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_the_address_works_once_and_gives_a_cookie_that_scripts_and_other_sites_do_not_get(visitor):
    path = visitor.guard.url().removeprefix(visitor.base)
    assert (await visitor.get("/"))[0] == 403
    assert (await visitor.get("/?token=wrong"))[0] == 403
    status, _, headers = await visitor.get(path)
    assert (status, headers["Location"]) == (303, "/")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(headers["Set-Cookie"].split("; "))
    assert (await visitor.get(path))[0] == 403
    status, text, headers = await visitor.get("/")
    assert status == 200
    assert 'data-view="network"' in text
    assert headers["Cache-Control"] == "no-store"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy.partition("style-src")[0]


async def test_other_hosts_and_pages_are_refused_with_the_cookie_too(visitor):
    await visitor.enter()
    port = visitor.guard.port
    for path in ("/", "/events", "/view"):
        for headers in (
            {"Host": f"rebound.example:{port}"}, {"Host": "127.0.0.1"}, {"Host": f"127.0.0.1:{port + 1}"},
            {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": f"http://127.0.0.1:{port + 1}"},
        ):  # fmt: skip
            assert (await visitor.get(path, **headers))[0] == 403, (path, headers)


async def test_a_refused_request_does_not_use_up_the_address(visitor):
    path = visitor.guard.url().removeprefix(visitor.base)
    assert (await visitor.get(path, Host="rebound.example"))[0] == 403
    assert (await visitor.get(path, Origin="http://evil.example"))[0] == 403
    await visitor.enter()


async def test_nothing_is_done_without_the_cookie_and_a_request_of_the_page_itself(visitor, live):
    order = {"verb": "inject"}
    assert (await visitor.order(order))[0] == 403
    await visitor.enter()
    for headers in (
        {"Origin": ""}, {"Origin": "null"}, {"Origin": "http://evil.example"},
        {"Host": f"rebound.example:{visitor.guard.port}"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"},
    ):  # fmt: skip
        assert (await visitor.order(order, **headers))[0] == 403, headers
    assert (await visitor.order(order, **{"Content-Type": "text/plain"}))[0] == 415
    assert (await visitor.get("/orders"))[0] == 405
    assert live.asked == []


async def test_buttons_do_what_the_command_they_show_does(visitor, live):
    await visitor.enter()
    status, said = await visitor.order({"verb": "inject", "size": "64KiB", "count": "3", "rate": "5/s"})
    assert (status, said["command"]) == (200, "p2pnet inject demo --size 64KiB --count 3 --rate 5/s --no-wait")
    asked = live.asked[-1][1]
    assert (asked.payloads[0].size, asked.count, asked.rate) == (65536, 3, 5.0)
    status, said = await visitor.order(
        {"verb": "break", "kind": "loss", "value": "20%", "node": "node-1", "lasting": "30s"}
    )
    assert (status, said["command"]) == (200, "p2pnet fault demo add loss 20% --node node-1 --for 30s")
    assert live.asked[-1] == ("add", {"loss": "20%", "from": "node-1", "bothWays": True, "for": "30s"}, None)
    status, said = await visitor.order({"verb": "heal", "fault": "fault-1"})
    assert (status, said["command"]) == (200, "p2pnet fault demo clear fault-1")
    assert live.asked[-1] == ("clear", "fault-1")


async def test_a_fault_of_the_document_is_healed_by_an_edit(visitor, live):
    await visitor.enter()
    live.fake.take_faults([{"name": "slow", "latency": "90ms"}])
    assert (await visitor.order({"verb": "heal", "fault": "slow"}))[0] == 200
    assert live.asked[-1] == ("edit", {"spec": {"faults": []}})


@pytest.mark.parametrize(
    "order",
    [
        {"verb": "inject", "size": "much"}, {"verb": "inject", "size": "0B"}, {"verb": "inject", "count": "0"},
        {"verb": "inject", "count": "-1"}, {"verb": "inject", "rate": "fast"}, {"verb": "inject", "size": "99GiB"},
        {"verb": "break"}, {"verb": "break", "kind": "loss", "value": "20%"},
        {"verb": "break", "kind": "nothing", "lasting": "3s"}, {"verb": "break", "kind": "loss", "value": "x", "lasting": "3s"},
        {"verb": "break", "kind": "loss", "value": "1%", "lasting": "long"},
        {"verb": "heal", "fault": "none"}, {"verb": "down"}, {"verb": "inject", "more": 1}, {"verb": "inject", "size": 5},
        [], b"{", b"\xff", {"verb": "heal", "fault": "x" * (TEXT_MAX + 1)},
    ],
    ids=str,
)  # fmt: skip
async def test_an_order_that_makes_no_sense_is_refused_in_words(visitor, live, order):
    await visitor.enter()
    status, said = await visitor.order(order)
    assert status == 422
    assert said["text"]
    assert [what[0] for what in live.asked if what[0] in ("run", "add", "clear")] == []


async def test_an_order_that_is_too_long_is_not_read(visitor):
    await visitor.enter()
    assert (await visitor.order(b" " * (BODY_BYTES_MAX + 1)))[0] == 413


async def test_pages_hear_receipts_as_they_come_and_one_that_comes_back_hears_all(visitor, live):
    await visitor.enter()
    async with visitor.follow() as until:
        assert await until("generation") == 1
        live.told.put_nowait(event("node-0", EventKind.PUBLISHED, 100))
        live.told.put_nowait(event("node-1", EventKind.VALIDATED, 120, peer="node-0", hop=1))
        heard: list[int] = []
        while heard != [1]:
            heard += [node for one in await until("receipts") for node in one["node"]]
    async with visitor.follow() as until:
        (whole,) = await until("receipts")
        assert whole["id"] == A
        assert (whole["publisher"], whole["node"], whole["after_us"], whole["from"]) == (0, [1], [20_000], [0])
        assert (await until("status"))["nodes"] == {"desired": 3, "connected": 3}


async def test_a_lab_that_is_gone_is_told_and_followed_again_when_it_is_back(visitor, live):
    await visitor.enter()
    async with visitor.follow() as until:
        await until("status")
        live.dead = True
        live.told.put_nowait(None)
        assert "the lab is gone" in await until("lost")
        status, said = await visitor.order({"verb": "inject"})
        assert (status, said["text"]) == (502, "the lab is gone")
        live.dead, live.process = False, "lab-2"
        assert await until("generation") == 2
        await until("status")


async def test_a_subnet_that_is_not_up_ends_it_with_3(target):
    target.seen = "dead"
    with pytest.raises(TargetError) as raised:
        await Feed("demo", target).run()
    assert raised.value.exit_code == 3


async def test_a_port_that_is_taken_is_said(visitor, target):
    with pytest.raises(CommandError, match="cannot be had"):
        async with serving(Feed("demo", target), target, port=visitor.guard.port):
            pass


async def test_more_pages_than_there_is_room_for_are_sent_away():
    streams = Streams(lambda: [b"first"])
    listening = [streams.listen(60) for _ in range(CLIENTS_MAX)]
    assert [await anext(one) for one in listening] == [b"first"] * CLIENTS_MAX
    with pytest.raises(FullError):
        await anext(streams.listen(60))
    await listening[0].aclose()
    late = streams.listen(60)
    assert await anext(late) == b"first"
    for one in (*listening, late):
        await one.aclose()
    assert len(streams) == 0


async def test_a_page_that_falls_behind_is_let_go_and_others_are_not():
    streams = Streams(lambda: [b"first"])
    slow, quick = streams.listen(60), streams.listen(60)
    await anext(slow)
    await anext(quick)
    for number in range(QUEUE_MAX + 1):
        streams.tell("status", number)
        assert await anext(quick) == f"event: status\ndata: {number}\n\n".encode()
    with pytest.raises(StopAsyncIteration):
        await anext(slow)
    assert len(streams) == 1
    streams.close()
    with pytest.raises(StopAsyncIteration):
        await anext(quick)


async def test_a_stream_without_news_is_kept_open_by_comments():
    listening = Streams(lambda: [b"first"]).listen(0)
    assert [await anext(listening), await anext(listening)] == [b"first", b": still here\n\n"]
    await listening.aclose()


def test_receipts_wait_for_the_publication_and_come_once():
    receipts = LiveReceipts(["a", "b"])
    receipts.take(event("b", EventKind.VALIDATED, 130, peer="a", hop=1))
    assert receipts.news() == []
    receipts.take(event("a", EventKind.PUBLISHED, 100))
    (told,) = receipts.news()
    assert (told["node"], told["after_us"], told["hop"], told["from"]) == ([1], [30_000], [1], [0])
    receipts.take(event("b", EventKind.VALIDATED, 150, peer="a", hop=1))
    receipts.take(event("stranger", EventKind.VALIDATED, 150))
    receipts.take(event("b", EventKind.DUPLICATE, 150))
    assert receipts.news() == []
    assert receipts.whole() == [told]


def ids(receipts: LiveReceipts) -> list[str]:
    return [one["id"] for one in receipts.whole()]


def test_of_a_burst_as_many_as_a_page_draws_are_followed_to_their_end():
    receipts, most = LiveReceipts(["a", "b"]), ARTIFACTS_DRAWN_MAX
    burst = [f"{number:064x}" for number in range(2 * most)]
    for artifact in burst:
        receipts.take(event("a", EventKind.PUBLISHED, 1, artifact=artifact))
    for artifact in burst:
        receipts.take(event("b", EventKind.VALIDATED, 2, artifact=artifact, peer="a", hop=1))
    assert ids(receipts) == burst[:most]
    assert [one["node"] for one in receipts.whole()] == [[1]] * most


def test_the_end_of_what_made_room_is_told_all_the_same():
    receipts, most = LiveReceipts(["a", "b"]), ARTIFACTS_DRAWN_MAX
    past = [f"{number:064x}" for number in range(3 * most)]
    for number, artifact in enumerate(past):
        receipts.take(event("a", EventKind.PUBLISHED, number, artifact=artifact))
        receipts.take(event("b", EventKind.VALIDATED, number, artifact=artifact, peer="a", hop=1))
    assert ids(receipts) == past[-most:]
    assert [(one["id"], one["node"]) for one in receipts.news()] == [(artifact, [1]) for artifact in past[-2 * most :]]
    assert receipts.news() == []


def test_what_is_everywhere_or_waited_for_too_long_makes_room_and_does_not_come_back():
    receipts, most = LiveReceipts(["a", "b"]), ARTIFACTS_DRAWN_MAX
    first = [f"{number:064x}" for number in range(most)]
    for artifact in first:
        receipts.take(event("a", EventKind.PUBLISHED, 1, artifact=artifact))
    receipts.take(event("b", EventKind.VALIDATED, 2, artifact=first[7], peer="a", hop=1))
    receipts.news()
    receipts.take(event("a", EventKind.PUBLISHED, 3, artifact="e" * 64))
    assert ids(receipts) == [*first[:7], *first[8:], "e" * 64]
    receipts.take(event("a", EventKind.PUBLISHED, 60_002, artifact="f" * 64))
    assert ids(receipts) == [*first[1:7], *first[8:], "e" * 64, "f" * 64]
    receipts.take(event("b", EventKind.VALIDATED, 70_000, artifact=first[0], peer="a", hop=1))
    assert first[0] not in ids(receipts)


def test_what_is_said_of_a_status_is_bounded(make_status):
    faults = [FaultStatus(f"f-{number}", "loss", "lease", "active") for number in range(200)]
    told = told_of(msgspec.structs.replace(make_status(500, connected=3), faults=faults))
    assert len(told["lines"]) == LINES_MAX + 1
    assert "more: p2pnet status demo" in told["lines"][-1]
    assert len(told["faults"]) == 100


async def test_a_tab_that_is_closed_leaves_no_error_behind(visitor, live, caplog):
    await visitor.enter()
    async with visitor.follow() as until:
        await until("status")
    live.told.put_nowait(event("node-0", EventKind.PUBLISHED, 100))
    async with visitor.follow() as until:
        while not await until("receipts"):
            pass
    for number in range(3):
        live.told.put_nowait(event("node-0", EventKind.PUBLISHED, 100, artifact=f"{number:064x}"))
    async with visitor.follow() as until:
        while len(await until("receipts")) < 4:
            pass
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_of_nodes_that_do_not_behave_publications_are_followed_and_no_receipt_is_expected():
    receipts = LiveReceipts(["a", "b", "bad"], {"bad"})
    receipts.take(event("bad", EventKind.PUBLISHED, 100))
    for node in ("a", "b", "bad"):
        receipts.take(event(node, EventKind.VALIDATED, 120, peer="bad", hop=1))
    receipts.take(event("bad", EventKind.DUPLICATE, 130))
    assert [one["node"] for one in receipts.whole()] == [[0, 1]]
    assert receipts.sums.reach.curve().due[-1] == 2
    receipts.take(event("a", EventKind.PUBLISHED, 140, artifact=B))
    assert receipts.sums.reach.curve().due[-1] == 3
    assert receipts.sums.spread.duplicates == [0, 0, 0]


def test_waits_are_summed_once_the_sender_is_known_and_bytes_of_every_artifact():
    receipts = LiveReceipts(["a", "b", "c"])
    receipts.take(event("c", EventKind.VALIDATED, 150, peer="b", hop=2))
    receipts.take(event("a", EventKind.PUBLISHED, 100))
    spread = receipts.sums.spread
    assert spread.slowest == {}
    receipts.take(event("b", EventKind.VALIDATED, 120, peer="a", hop=1))
    assert (spread.slowest["c"].latency_ms, spread.slowest["c"].wait_ms) == (50, 30)
    assert (spread.links[1, 2].receipts, spread.links[1, 2].bytes, spread.links[1, 2].wait_max_ms) == (1, 9, 30)
    receipts.take(event("c", EventKind.DUPLICATE, 160, peer="a"))
    assert spread.duplicates == [0, 0, 1]
    assert receipts.sums.reach.curve().received[-1] == 2


def test_a_receipt_whose_sender_never_tells_its_own_is_summed_when_its_artifact_is_let_go():
    receipts = LiveReceipts(["a", "b", "c"])
    receipts.take(event("a", EventKind.PUBLISHED, 100))
    receipts.take(event("c", EventKind.VALIDATED, 150, peer="b", hop=2))
    for number in range(ARTIFACTS_DRAWN_MAX):
        receipts.take(event("a", EventKind.PUBLISHED, 70_000, artifact=f"{number:064x}"))
    slowest = receipts.sums.spread.slowest["c"]
    assert (slowest.latency_ms, slowest.sender_ms) == (50, None)


def test_what_the_lab_tells_again_after_a_lost_connection_counts_once():
    receipts = LiveReceipts(["a", "b"])
    told = [
        event("a", EventKind.PUBLISHED, 100),
        event("b", EventKind.VALIDATED, 120, peer="a", hop=1),
        event("b", EventKind.DUPLICATE, 130, peer="a"),
    ]
    for one in told * 2:
        receipts.take(one)
    assert (receipts.sums.spread.duplicates, receipts.sums.spread.received) == ([0, 1], [0, 1])


def test_ways_beyond_their_bound_are_counted_together(monkeypatch):
    monkeypatch.setattr("p2pnet.cli.ui.sums.WAYS_MAX", 2)
    receipts = LiveReceipts([f"n-{number}" for number in range(5)])
    for number in range(1, 5):
        receipts.take(event(f"n-{number}", EventKind.VALIDATED, 120, peer="n-0", hop=1))
    assert (len(receipts.sums.spread.links), receipts.sums.spread.ways_left_out) == (2, 2)


async def test_samples_are_read_in_parts_as_the_file_grows_and_to_its_end():
    def line(node: str, second: int) -> bytes:
        sample = Sample(second * 10**9, 1.0, 0.0, 0.25, links=[LinkSample("b", 700, 90, 0, 0, 0, 12.0, 0)])
        return msgspec.json.encode(NodeSample(node, second * 10**9, sample)) + b"\n"

    class Files:
        data = b""

        async def run_file_from(self, run_id: str, file: str, start: int) -> bytes:
            if file == "run.json":
                return b'{"run": "r-1", "unix_offset_s": 1000.5}'
            return self.data[start : start + 400]

    files, samples = Files(), LiveSamples()
    await samples.look(files, "r-1", None)
    assert (samples.series, samples.unix_offset_s) == (None, None)
    files.data = line("a", 1) + line("b", 1) + line("a", 2)[:30]
    await samples.look(files, "r-1", 0)
    assert samples.unix_offset_s == 1000.5
    assert samples.series.nodes == ["a", "b"]
    files.data = (
        line("a", 1) + line("b", 1) + b"".join(line("a", second) for second in range(2, 9)) + b"of another version\n"
    )
    for _ in range(6):
        await samples.look(files, "", 0)
    assert samples.series.times_s() == list(range(1, 9))
    assert samples.series.sent_bytes == {("a", "b"): 700 * 8, ("b", "b"): 700}


def test_a_fault_that_a_status_tells_no_more_is_over_and_stays_on_the_axis_of_time():
    history, now = FaultHistory(), datetime(2026, 11, 29, 12, 0, 5, tzinfo=UTC)
    waiting = FaultStatus("loss-1", "loss 20%", "lease", "waiting")
    active = msgspec.structs.replace(waiting, state="active", since="2026-11-29T12:00:00Z")
    history.take([waiting])
    history.take([active])
    history.take([], now)
    assert [(one.state, one.since, one.until) for one in history.listed()] == [
        ("ended", "2026-11-29T12:00:00Z", "2026-11-29T12:00:05Z")
    ]
    history.take([msgspec.structs.replace(active, name=f"f-{number}") for number in range(2 * KEPT_MAX)])
    assert len(history.listed()) == KEPT_MAX


async def test_parts_are_told_when_they_change_and_nodes_that_are_down_by_their_state(visitor, live):
    await visitor.enter()
    down = msgspec.structs.replace(live.fake.statuses[0].members[1], state="paused")
    members = [live.fake.statuses[0].members[0], down, *live.fake.statuses[0].members[2:]]
    async with visitor.follow() as until:
        first = await until("parts")
        assert first["reach"] is None
        assert "No receipt came yet" in first["tables"]["slow"]
        live.told.put_nowait(event("node-0", EventKind.PUBLISHED, 100))
        live.told.put_nowait(event("node-1", EventKind.VALIDATED, 120, peer="node-0", hop=1))
        told: dict[str, Any] = {}
        while not told.get("traffic", {}).get("payload"):
            told = await until("parts")
        assert told["traffic"]["payload"] == [[0, 1, 9]]
        assert "duplicates" not in told
        live.fake.statuses = [msgspec.structs.replace(live.fake.statuses[0], members=members)]
        while (await until("status"))["states"] != {"paused": [1]}:
            pass


async def test_a_page_that_shows_other_nodes_gets_the_view_of_those_there_are(visitor, live):
    assert (await visitor.get("/view"))[0] == 403
    await visitor.enter()
    live.fake.subnet = sized(live.fake.subnet, "node", 5)
    live.version = 2
    live.fake.statuses = [msgspec.structs.replace(live.fake.statuses[0], registry_version=2)]
    async with visitor.follow() as until:
        while await until("generation") != 2:
            pass
    told = json.loads((await visitor.get("/view"))[1])
    assert (told["generation"], len(told["view"]["nodes"]["name"])) == (2, 5)


async def test_a_newer_list_of_the_same_nodes_does_not_begin_the_page_anew(visitor, live):
    await visitor.enter()
    async with visitor.follow() as until:
        assert await until("generation") == 1
        await until("status")
        live.version = 2
        live.fake.statuses = [msgspec.structs.replace(live.fake.statuses[0], registry_version=2, up_since=5.0)]
        live.told.put_nowait(event("node-0", EventKind.PUBLISHED, 100))
        while not await until("receipts"):
            pass
    async with visitor.follow() as until:
        assert await until("generation") == 1


async def test_a_lab_that_has_no_samples_to_give_is_not_lost(visitor, live):
    live.broken_files = TargetError("refused", where="here")
    live.fake.statuses = [
        msgspec.structs.replace(live.fake.statuses[0], runs=[RunSummary("r-1", "running")], up_since=1.0)
    ]
    await visitor.enter()
    live.told.put_nowait(event("node-0", EventKind.PUBLISHED, 100))
    async with visitor.follow() as until:
        while not await until("receipts"):
            pass
        while live.files_asked < 3:
            await asyncio.sleep(0.01)
        live.told.put_nowait(event("node-1", EventKind.VALIDATED, 120, peer="node-0", hop=1))
        while not any(one["node"] for one in await until("receipts")):
            pass


async def test_phases_of_the_slowest_hops_are_asked_for_once_and_forgotten_with_them():
    class Lab:
        asked: list[str] = []  # noqa: RUF012

        async def artifact_events(self, artifact: str) -> Any:
            self.asked.append(artifact)
            told = [
                event("a", EventKind.PUBLISHED, 100), event("b", EventKind.ADVERTISED, 104, peer="a"),
                msgspec.structs.replace(
                    event("b", EventKind.RECEIVED, 118, peer="a", hop=1), detail=FetchTimes(1000, 5000, 8000).to_detail()
                ),
                event("b", EventKind.VALIDATED, 120, peer="a", hop=1),
            ]  # fmt: skip
            return artifact, None, told

    receipts, hops = LiveReceipts(["a", "b"]), SlowHops(["a", "b"])
    receipts.take(event("a", EventKind.PUBLISHED, 100))
    receipts.take(event("b", EventKind.VALIDATED, 120, peer="a", hop=1))
    for _ in range(3):
        await hops.look(Lab(), receipts.sums.spread)
    assert Lab.asked == [A]
    assert hops.hops["b"].hop.phases is not None
    told = live_parts(LiveSums(sums=receipts.sums.spread, slow=hops.hops))["tables"]["slow"]
    assert "Phases" in told
    assert "transfer" in told
    receipts.take(event("a", EventKind.PUBLISHED, 200, artifact=B))
    receipts.take(event("b", EventKind.VALIDATED, 290, artifact=B, peer="a", hop=1))
    await hops.look(Lab(), receipts.sums.spread)
    assert Lab.asked == [A, B]
