"""Who waits for news of a subnet hears of runs and links, and of nothing else."""

import asyncio

from p2pnet.lab.lab import Lab, RevisionCounter
from p2pnet.lab_client import LabClient
from p2pnet.model.jobs import Payload, RunRequest


async def test_news_come_to_all_who_wait_and_to_who_missed_them() -> None:
    news = RevisionCounter()
    first = news.current
    waiting = [asyncio.create_task(news.wait_past(first, 20.0)) for _ in range(3)]
    await asyncio.sleep(0)
    news.touch()
    assert await asyncio.gather(*waiting) == [news.current] * 3
    assert news.current != first
    assert await news.wait_past(first, 20.0) == news.current, "it is old news by now"
    assert await news.wait_past(news.current, 0.0) == news.current
    news.observe((3, 3))
    seen = news.current
    news.observe((3, 3))
    assert news.current == seen
    assert RevisionCounter().current != RevisionCounter().current, "another lab has versions of its own"


async def test_a_run_is_news_when_it_is_taken_and_when_it_has_ended(lab: Lab, lab_client: LabClient) -> None:
    while not lab._settled():
        await asyncio.sleep(0.01)
    before = lab.revision.current
    assert (await lab_client.summary()).news == before
    waiting = asyncio.create_task(lab.revision.wait_past(before, 20.0))
    run = await lab_client.start_run(RunRequest([Payload("x", size=100)]), key="k")
    taken = await waiting
    assert taken != before
    *_, last = [state async for state in lab_client.follow(run.run)]
    assert last.state == "finished"
    ended = await lab.revision.wait_past(taken, 20.0)
    assert ended != taken
    assert (await lab_client.summary()).runs[-1].state == "finished"
