"""A Subnet whose lab has news is looked at at once; one whose lab has none costs an open request."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.operator.kit import KEY, World

from p2pnet.model.errors import TargetError
from p2pnet.operator.kube.queue import Key
from p2pnet.operator.subnet.lab_watcher import LabWatcher
from p2pnet.operator.subnet.reconcile import Reconciler


class Lab:
    """Answers when told to."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[str] = asyncio.Queue()
        self.answers: asyncio.Queue[str | Exception] = asyncio.Queue()

    async def news(self, address: str, token: str, after: str) -> str:
        assert (address, token) == ("10.0.0.1:8090", "secret")
        self.asked.put_nowait(after)
        answer = await self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
async def lab() -> Lab:
    return Lab()


@pytest.fixture
async def woken() -> asyncio.Queue[Key]:
    return asyncio.Queue()


@pytest.fixture
async def ears(lab: Lab, woken: asyncio.Queue[Key]) -> AsyncIterator[LabWatcher]:
    ears = LabWatcher(lab, pause_s=0.0)
    ears.wake = woken.put_nowait
    yield ears
    await ears.close()


async def test_news_wake_once_and_a_minute_without_any_asks_again(
    lab: Lab, ears: LabWatcher, woken: asyncio.Queue[Key]
) -> None:
    ears.listen(KEY, "10.0.0.1:8090", "secret", "a.1")
    lab.answers.put_nowait("a.1")
    for _ in range(2):
        assert await asyncio.wait_for(lab.asked.get(), 5) == "a.1"
    assert woken.empty()
    lab.answers.put_nowait("a.2")
    assert await asyncio.wait_for(woken.get(), 5) == KEY
    assert lab.asked.empty(), "the look that follows says what to wait for next"


async def test_listening_for_the_same_is_one_question_and_for_something_newer_another(
    lab: Lab, ears: LabWatcher
) -> None:
    ears.listen(KEY, "10.0.0.1:8090", "secret", "a.1")
    assert await asyncio.wait_for(lab.asked.get(), 5) == "a.1"
    ears.listen(KEY, "10.0.0.1:8090", "secret", "a.1")
    ears.listen(KEY, "10.0.0.1:8090", "secret", "a.2")
    assert await asyncio.wait_for(lab.asked.get(), 5) == "a.2"
    assert lab.asked.empty()


async def test_a_lab_that_is_gone_is_left_to_the_next_look(
    lab: Lab, ears: LabWatcher, woken: asyncio.Queue[Key]
) -> None:
    ears.listen(KEY, "10.0.0.1:8090", "secret", "a.1")
    lab.answers.put_nowait(TargetError("the lab is silent"))
    await asyncio.wait_for(lab.asked.get(), 5)
    ears.forget(KEY)
    ears.listen(KEY, "10.0.0.1:8090", "secret", "a.1")
    assert await asyncio.wait_for(lab.asked.get(), 5) == "a.1"
    assert woken.empty()


async def test_a_look_listens_to_the_lab_it_has_seen_and_forgets_one_whose_subnet_is_gone() -> None:
    heard: list[object] = []

    class Listening(LabWatcher):
        def listen(self, key: Key, address: str, token: str, after: str) -> None:
            heard.append((key, after))

        def forget(self, key: Key) -> None:
            heard.append(("forgotten", key))

    world = World(nodes=2)
    world.lab.news_version = "b.3"
    world.operator = Reconciler(world.api, world.lab, image="some:1", now=lambda: world.now, ears=Listening(world.lab))
    await world.converge()
    assert set(heard) == {(KEY, "b.3")}
    del world.api.objects[next(place for place in world.api.objects if place[0].kind == "Subnet")]
    await world.look()
    assert heard[-1] == ("forgotten", KEY)
