"""The lab as a whole: what ends it, and when the revision of its status changes."""

import asyncio

import pytest
from tests.patience import PATIENCE_S

from p2pnet.lab import lab as lab_module
from p2pnet.lab.lab import TOLD_S, Lab, RevisionCounter
from p2pnet.lab_client import LabClient
from p2pnet.lab_client.client import wait_until_up
from p2pnet.model.jobs import Payload, RunRequest
from p2pnet.subnet.expiry import ExpiryTimer


class Hands:
    """Two clocks that somebody sets."""

    def __init__(self) -> None:
        self.steady, self.wall = 1_000.0, 1_795_292_000.0
        self.expiry = ExpiryTimer(lambda: self.steady, lambda: self.wall)

    def pass_(self, seconds: float) -> None:
        self.steady += seconds
        self.wall += seconds


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    monkeypatch.setattr(lab_module, "UPKEEP_S", 0.01)
    return Hands()


@pytest.fixture
def document() -> dict:
    spec = {"nodes": 3, "ttl": "1h"}
    return {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "demo"}, "spec": spec}


async def test_ten_minutes_before_its_end_a_subnet_says_so_and_an_edit_gives_it_more(
    hands: Hands, lab: Lab, lab_client: LabClient, caplog: pytest.LogCaptureFixture
) -> None:
    lab.expiry = hands.expiry
    await wait_until_up(lab_client, timeout_s=PATIENCE_S)
    hands.pass_(3001)
    while "its ttl of 1h is over at" not in caplog.text:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert caplog.text.count("its ttl of 1h is over at") == 1
    assert not lab.expired

    await lab_client.patch_spec({"spec": {"ttl": "2h"}})
    hands.pass_(3600)
    await asyncio.sleep(0.1)
    assert not lab.stopping.is_set()
    hands.pass_(600)
    await asyncio.wait_for(lab.stopping.wait(), PATIENCE_S)
    assert (lab.expired, lab.stop_reason) == (True, "its ttl of 2h is over")


async def test_a_subnet_whose_ttl_is_over_waits_for_its_run(
    hands: Hands, lab: Lab, lab_client: LabClient, nodes
) -> None:
    lab.expiry = hands.expiry
    nodes.gate.clear()
    run = await lab_client.start_run(RunRequest(payloads=[Payload("x", size=10)], within_s=30), key="k")
    hands.pass_(3601)
    await asyncio.sleep(0.1)
    assert not lab.stopping.is_set()

    nodes.gate.set()
    async for state in lab_client.follow(run.run):
        last = state
    assert last.report.verdict == "pass"
    await asyncio.wait_for(lab.stopping.wait(), PATIENCE_S)


async def test_a_new_revision_reaches_all_who_wait_and_who_missed_it() -> None:
    counter = RevisionCounter()
    first = counter.current
    waiting = [asyncio.create_task(counter.wait_past(first, 20.0)) for _ in range(3)]
    await asyncio.sleep(0)
    counter.touch()
    assert await asyncio.gather(*waiting) == [counter.current] * 3
    assert counter.current != first
    assert await counter.wait_past(first, 20.0) == counter.current, "that revision is over"
    assert await counter.wait_past(counter.current, 0.0) == counter.current
    assert RevisionCounter().current != RevisionCounter().current, "another lab has versions of its own"


def test_links_that_come_up_one_by_one_make_a_revision_a_second_and_the_last_one_at_once() -> None:
    counter = RevisionCounter()

    def told(links: tuple[int, int], now_s: float, *, whole: bool = False) -> bool:
        before = counter.current
        counter.observe(links, now_s, at_once=whole)
        return counter.current != before

    assert told((0, 1), 100.0)
    assert not told((0, 2), 100.5)
    assert told((1, 3), 100.5 + TOLD_S)
    assert not told((2, 5), 101.6)
    assert told((3, 6), 101.7, whole=True)
    assert not told((3, 6), 109.0, whole=True)
    assert told((2, 5), 110.0), "a link that is lost later is told at once, too"


async def test_a_run_makes_a_revision_when_it_is_taken_and_when_it_has_ended(lab: Lab, lab_client: LabClient) -> None:
    while not lab.settled():
        await asyncio.sleep(0.01)
    before = lab.revision.current
    assert (await lab_client.summary()).revision == before
    waiting = asyncio.create_task(lab.revision.wait_past(before, 20.0))
    run = await lab_client.start_run(RunRequest([Payload("x", size=100)]), key="k")
    taken = await waiting
    assert taken != before
    *_, last = [state async for state in lab_client.follow(run.run)]
    assert last.state == "finished"
    ended = await lab.revision.wait_past(taken, 20.0)
    assert ended != taken
    assert (await lab_client.summary()).runs[-1].state == "finished"
