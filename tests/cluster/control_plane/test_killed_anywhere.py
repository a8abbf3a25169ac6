"""The operator is killed right after a write, again and again, at every write there is; it always ends as if it had not been."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.cluster.control import Control, Place, Twin
from tests.cluster.faults import AfterChanges
from tests.cluster.kit import until
from tests.cluster.process import END_S, Operator
from tests.cluster.proxy import Proxy, uid_required
from tests.cluster.witness import Witness, until_right

AFTER_RESTART_S = 600.0
"""For what is asked to come about while the operator is killed again and again, on a busy machine."""
RESTS_S = 120.0
"""For the last write to have been made."""
QUICK = {"subnet.plan.rollout.MIN_READY": 0.3, "subnet.reconcile.CONVERGING_S": 0.5}
"""What a test of ten seconds cannot wait for, shortened."""


@dataclass
class Trial:
    """An operator that is killed after every so many changes, once `on`."""

    place: Place
    proxy: Proxy
    operator: Operator
    fault: AfterChanges

    def on(self) -> None:
        self.proxy.faults = [self.fault]

    def check(self, demo: Twin, nodes: int) -> None:
        self.rest()
        until_right(demo, nodes)
        assert all(uid_required(ask) for ask in self.proxy.asks if ask.verb == "delete")
        assert set(self.operator.codes) <= {-signal.SIGKILL}, "it never ends by itself"

    def rest(self) -> None:
        """Wait until nothing is written any more."""
        until(lambda: time.monotonic() - self.proxy.changes()[-1].at > 1, "it comes to rest", RESTS_S, every_s=0.1)


@contextlib.contextmanager
def killed_after_every(control: Control, changes: int, values: dict[str, float]) -> Iterator[Trial]:
    with (
        control.place() as place,
        control.proxy() as proxy,
        control.operator(proxy, warm=True, values=values, watch_namespaces=place.name) as operator,
        operator.supervised(),
    ):
        fault = AfterChanges(changes, lambda: os.kill(operator.pid, signal.SIGKILL))
        yield Trial(place, proxy, operator, fault)
        assert fault.acted, "it was killed at least once"


def create(control: Control, changes: int, nodes: int) -> None:
    with killed_after_every(control, changes, {}) as trial:
        trial.on()
        demo = trial.place.subnet("demo", {"nodes": nodes})
        with Witness.of(demo) as seen:
            demo.until_ready(nodes, AFTER_RESTART_S + 3 * (nodes + 20) / changes)
            trial.check(demo, nodes)
        assert {name: len(uids) for name, uids in seen.made.items()} == dict.fromkeys(demo.uids(), 1), (
            "each was made once"
        )
        assert len(seen.authorities) == 1
        assert not seen.strangers


def scale(control: Control, changes: int, few: int, many: int) -> None:
    with killed_after_every(control, changes, {}) as trial:
        demo = trial.place.subnet("demo", {"nodes": few})
        with Witness.of(demo) as seen:
            demo.until_ready(few)
            before = demo.uids()
            trial.on()
            for nodes in (many, few, many):
                demo.edit(nodes=nodes)
                demo.until_ready(nodes, AFTER_RESTART_S + 5 * many / changes)
                trial.check(demo, nodes)
        assert before.items() <= demo.uids().items(), "who stays is left alone"
        assert len(seen.authorities) == 1
        assert not seen.strangers


def roll(control: Control, changes: int, nodes: int) -> None:
    with killed_after_every(control, changes, QUICK) as trial:
        demo = trial.place.subnet("demo", {"nodes": nodes})
        with Witness.of(demo) as seen:
            demo.until_ready(nodes)
            seen.count()
            trial.on()
            demo.edit(image="p2pnet-node:next")
            until(
                lambda: images(demo, nodes) == {"p2pnet-node:next"},
                "all are replaced, the lab at last",
                AFTER_RESTART_S + 3 * nodes,
            )
            demo.until_ready(nodes)
            trial.check(demo, nodes)
            assert seen.least is not None
            assert seen.least >= nodes - max(1, nodes // 10)
        of_nodes = {name: len(uids) for name, uids in seen.made.items() if "-node-" in name}
        assert of_nodes == {f"demo-node-{number}": 2 for number in range(nodes)}, "each was replaced once"
        assert len(seen.authorities) == 1


def images(demo: Twin, nodes: int) -> set[str]:
    """Of its pods; empty while one of them is on its way out, or missing."""
    pods = demo.children("pods").values()
    going = any("deletionTimestamp" in pod["metadata"] for pod in pods)
    return set() if going or len(pods) <= nodes else {pod["spec"]["containers"][0]["image"] for pod in pods}


def replace_authority(control: Control, changes: int, nodes: int) -> None:
    with killed_after_every(control, changes, QUICK) as trial:
        demo = trial.place.subnet("demo", {"nodes": nodes})
        with Witness.of(demo) as seen:
            demo.until_ready(nodes)
            pods = demo.uids()
            trial.on()
            demo.annotate("force-replace", "once")

            def replaced() -> bool:
                authority = (demo.thing().get("status") or {}).get("authority") or {}
                return bool((authority.get("replaced"), authority.get("phase")) == ("once", "Steady"))

            until(replaced, "the authority is replaced", AFTER_RESTART_S + 3 * nodes, every_s=0.1)
            demo.until_ready(nodes)
            trial.check(demo, nodes)
        assert demo.uids() == pods, "nobody was restarted for it"
        assert len(seen.authorities) == 2, "one before, one after"
        assert not seen.strangers, "everybody trusted everybody all the time"


STORIES = {
    "creating": lambda control, changes: create(control, changes, 5),
    "scaling": lambda control, changes: scale(control, changes, 2, 5),
    "rolling": lambda control, changes: roll(control, changes, 4),
    "replacing-the-authority": lambda control, changes: replace_authority(control, changes, 3),
}


def test_killed_after_every_few_changes_it_ends_with_exactly_what_was_asked(
    control: Control, chance: random.Random
) -> None:
    for story in chance.sample(sorted(STORIES), 2):
        changes = chance.randint(2, 9)
        print(f"killed after every {changes} changes while {story}")
        STORIES[story](control, changes)


@pytest.mark.soak
@pytest.mark.parametrize("changes", range(1, 13))
@pytest.mark.parametrize("story", STORIES)
def test_killed_after_every_change_there_is(control: Control, story: str, changes: int) -> None:
    STORIES[story](control, changes)


@pytest.mark.soak
@pytest.mark.parametrize("changes", range(1, 111))
def test_killed_while_creating_fifty_nodes(control: Control, changes: int) -> None:
    create(control, changes, 50)


@pytest.mark.soak
@pytest.mark.parametrize("changes", [*range(1, 12), *range(13, 60, 5)])
def test_killed_while_scaling_from_ten_to_fifty_and_back(control: Control, changes: int) -> None:
    scale(control, changes, 10, 50)


@pytest.mark.soak
@pytest.mark.parametrize("changes", range(1, 12))
def test_killed_while_rolling_and_while_replacing_the_authority_of_twenty(control: Control, changes: int) -> None:
    roll(control, changes, 20)
    replace_authority(control, changes, 20)


def test_told_to_end_while_creating_it_ends_soon_and_well_and_the_next_one_goes_on(control: Control) -> None:
    with (
        control.place() as place,
        control.proxy() as proxy,
        control.operator(proxy, watch_namespaces=place.name) as operator,
    ):
        proxy.faults = [AfterChanges(9, lambda: os.kill(operator.pid, signal.SIGTERM), times=1, mute=False)]
        demo = place.subnet("demo", {"nodes": 12})
        until(lambda: not operator.running, "it ends", END_S, every_s=0.05)
        assert operator.code == 0
        assert len(demo.uids()) < 13
        operator.start()
        demo.until_ready(12)
        until_right(demo, 12)
        assert operator.terminate() == 0, "at rest, with watches open; one that hangs is ended with 1"
