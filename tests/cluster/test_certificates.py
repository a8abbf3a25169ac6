"""Leaves and the authority change under a Subnet that is at work: no pod starts again, no artifact is lost."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.cluster.demo import Demo
from tests.cluster.kit import Cluster, until

SERVED_S = 300.0  # kubelets bring changed Secrets to their pods when they look next; in most clusters within 90 s


@pytest.fixture
def demo(operator: Cluster, namespace: str) -> Demo:
    """Four nodes, ready."""
    made = Demo(operator, namespace, {"nodes": 4})
    made.until_ready(4)
    return made


@contextlib.contextmanager
def injection(demo: Demo) -> Iterator[list[Any]]:
    """Four artifacts a second, from random nodes, one run after the other until the block ends; then their reports are here."""
    reports: list[Any] = []
    words = ["inject", "demo", "--size", "4KiB", "--rate", "4/s", "--count", "20", "--within", "30s"]
    over = threading.Event()

    def inject() -> None:
        while not over.is_set():
            with contextlib.suppress(ValueError):  # on a busy machine an order may come to nothing
                reports.append(demo.p2pnet(*words, check=False))

    thread = threading.Thread(target=inject)
    thread.start()
    try:
        yield reports
    finally:
        over.set()
        thread.join()


def check_lossless(reports: list[Any]) -> None:
    """Every artifact of these runs has reached everybody. Those say nothing in which a busy machine measured too little."""
    valid = [report for report in reports if not report["invalid"]]
    assert valid, [report["invalid"] for report in reports]
    for report in valid:
        assert (report["reach"]["ratio"], report["verdict"]) == (1, "pass"), report


def served(demo: Demo) -> dict[str, tuple[str, ...]]:
    """Node -> its leaf and whom it trusts, in its own words."""
    return {one["name"]: (one["leaf"], *sorted(one["trusted"])) for one in demo.p2pnet("status", "demo")["members"]}


def test_leaves_are_renewed_and_the_authority_is_replaced_under_way(demo: Demo) -> None:
    before, pods, authority = served(demo), demo.uids(), demo.status()["authority"]
    with injection(demo) as reports:
        demo.annotate("force-renew", "once")
        until(
            lambda: all(leaf != before[name][0] for name, (leaf, *_) in served(demo).items()),
            "all show a new leaf", within_s=SERVED_S,
        )  # fmt: skip
        assert {words[1:] for words in served(demo).values()} == {words[1:] for words in before.values()}
        demo.annotate("force-replace", "once")

        def replaced() -> bool:
            now = demo.status()["authority"]
            return now["fingerprint"] != authority["fingerprint"] and now["phase"] == "Steady"

        until(replaced, "the new authority is the only one", within_s=3 * SERVED_S)
    check_lossless(reports)
    demo.until_ready(4)
    assert (demo.restarts(), demo.uids()) == (0, pods)
    until(lambda: all(len(words) == 2 for words in served(demo).values()), "nobody trusts the old one any more")
