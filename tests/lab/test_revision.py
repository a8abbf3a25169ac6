"""Who waits for news of a subnet hears of runs and links, and of nothing else."""

import asyncio

from p2pnet.lab.lab import Lab, RevisionCounter
from p2pnet.lab_client import LabClient
from p2pnet.model.jobs import Payload, RunRequest


async def test_news_come_to_all_who_wait_and_to_who_missed_them() -> None:
    news = RevisionCounter()
    first = news.version
    waiting = [asyncio.create_task(news.beyond(first, 20.0)) for _ in range(3)]
    await asyncio.sleep(0)
    news.touch()
    assert await asyncio.gather(*waiting) == [news.version] * 3
    assert news.version != first
    assert await news.beyond(first, 20.0) == news.version, "it is old news by now"
    assert await news.beyond(news.version, 0.0) == news.version
    news.see((3, 3))
    seen = news.version
    news.see((3, 3))
    assert news.version == seen
    assert RevisionCounter().version != RevisionCounter().version, "another lab has versions of its own"


async def test_a_run_is_news_when_it_is_taken_and_when_it_has_ended(lab: Lab, desk: LabClient) -> None:
    while not lab._settled():
        await asyncio.sleep(0.01)
    before = lab.news.version
    assert (await desk.summary()).news == before
    waiting = asyncio.create_task(lab.news.beyond(before, 20.0))
    run = await desk.start_run(RunRequest([Payload("x", size=100)]), key="k")
    taken = await waiting
    assert taken != before
    *_, last = [state async for state in desk.follow(run.run)]
    assert last.state == "finished"
    ended = await lab.news.beyond(taken, 20.0)
    assert ended != taken
    assert (await desk.summary()).runs[-1].state == "finished"
