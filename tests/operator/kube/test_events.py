"""An event is told once, here and in the log, and of a resource that never rests no more often than people can read."""

import logging

import pytest
from tests.operator.kit import FAULTS, NOW, Api

from p2pnet.operator.kube.api import EVENT, POD, Object
from p2pnet.operator.kube.events import BURST, MESSAGE_CHARS_MAX, NAMES_MAX, REFILL_S, EventRecorder, ObjectEvent

POD_OBJECT: Object = {"metadata": {"name": "a", "namespace": "lab-of-ada", "uid": "u"}}


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def soon(since: str, *, warning: bool = False) -> ObjectEvent:
    return ObjectEvent("Expiring", "soon", since, warning)


async def test_the_same_event_is_written_and_logged_once_even_by_the_process_after(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    api = Api(lambda: NOW)
    recorder = EventRecorder(api, POD)
    for _ in range(3):
        await recorder.post(POD_OBJECT, [soon("x", warning=True), soon("y")])
    await EventRecorder(api, POD).post(POD_OBJECT, [soon("x", warning=True), soon("y")])
    assert [one["type"] for one in api.all(EVENT)] == ["Warning", "Normal"]
    assert api.all(EVENT)[0]["involvedObject"]["kind"] == "Pod"
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        ("WARNING", "Pod lab-of-ada/a: Expiring: soon"), ("INFO", "Pod lab-of-ada/a: Expiring: soon"),
    ]  # fmt: skip


async def test_an_event_that_cannot_be_written_hurts_nobody_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    api = Api(lambda: NOW)
    api.fault = lambda *_: FAULTS["forbidden"]
    recorder = EventRecorder(api, POD)
    for _ in range(3):
        await recorder.post(POD_OBJECT, [soon("x")])
    assert api.all(EVENT) == []
    assert len(caplog.records) == 1


async def test_what_comes_too_fast_is_counted_instead_of_told() -> None:
    api, clock = Api(lambda: NOW), Clock()
    recorder = EventRecorder(api, POD, clock=clock)
    for index in range(BURST + 7):
        await recorder.post(POD_OBJECT, [soon(str(index))])
    assert len(api.all(EVENT)) == BURST
    other: Object = {"metadata": {**POD_OBJECT["metadata"], "uid": "v"}}
    await recorder.post(other, [soon("0")])
    assert len(api.all(EVENT)) == BURST + 1, "others are not held back"
    clock.now += REFILL_S
    await recorder.post(POD_OBJECT, [soon("later"), soon("too fast again")])
    assert [one["message"] for one in api.all(EVENT)][BURST + 1 :] == ["soon (and 7 events before that came too fast)"]


async def test_a_message_is_cut_and_names_are_forgotten_in_time() -> None:
    api, clock = Api(lambda: NOW), Clock()
    recorder = EventRecorder(api, POD, clock=clock)
    await recorder.post(POD_OBJECT, [ObjectEvent("Long", "x" * 5000, "0")])
    assert len(api.all(EVENT)[0]["message"]) == MESSAGE_CHARS_MAX
    for index in range(NAMES_MAX):
        clock.now += REFILL_S
        await recorder.post(POD_OBJECT, [soon(str(index))])
    writes = len(api.writes)
    await recorder.post(POD_OBJECT, [ObjectEvent("Long", "x" * 5000, "0")])
    assert len(api.writes) == writes, "the API server knows it still"
