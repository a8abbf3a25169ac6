"""When artifacts expire, and which ids are unwanted."""

from hypothesis import given
from hypothesis import strategies as st

from p2pnet.broadcast.expiry import FOREVER, REFUSED_AFTER_S, REFUSED_PER_PEER_MAX, Expiry
from p2pnet.model.ids import ArtifactId


def id_of(number: int) -> ArtifactId:
    return ArtifactId(number.to_bytes(32, "big"))


A, B = id_of(1), id_of(2)
STEPS = st.one_of(
    st.tuples(st.just("add"), st.integers(0, 8), st.integers(0, 300), st.just("")),
    st.tuples(st.just("refuse"), st.integers(0, 8), st.integers(0, 300), st.sampled_from(["", "p", "q"])),
    st.tuples(st.just("forget"), st.integers(0, 8), st.just(0), st.just("")),
    st.tuples(st.just("pass"), st.just(0), st.integers(0, 120), st.just("")),
)  # fmt: skip


def test_an_artifact_expires_at_its_time_and_stays_unwanted_for_a_minute() -> None:
    expiry = Expiry()
    expiry.add(A, 100.0)
    assert expiry.next() == 100.0
    assert expiry.due(99.9) == []
    assert expiry.due(100.0) == [A]
    assert expiry.is_refused(A)
    assert expiry.due(100.0 + REFUSED_AFTER_S) == []
    assert not expiry.is_refused(A)
    assert expiry.next() is None


def test_what_never_expires_asks_for_no_wake_up() -> None:
    expiry = Expiry()
    expiry.add(A, FOREVER)
    expiry.refuse(B, FOREVER)
    assert expiry.next() is None
    assert expiry.is_refused(B)


def test_several_expire_at_once_oldest_first() -> None:
    expiry = Expiry()
    for number, at in enumerate([30.0, 10.0, 20.0]):
        expiry.add(id_of(number), at)
    assert expiry.due(25.0) == [id_of(1), id_of(2)]


def test_what_left_the_pool_does_not_expire() -> None:
    expiry = Expiry()
    expiry.add(A, 10.0)
    expiry.forget(A)
    assert expiry.due(20.0) == []
    assert not expiry.is_refused(A)


def test_what_a_peer_sends_changes_nothing_about_an_id_that_was_removed_here() -> None:
    expiry = Expiry()
    expiry.refuse(A, 1000.0)
    expiry.refuse(A, 10.0, "liar")
    expiry.due(20.0)
    assert expiry.is_refused(A)


def test_removing_here_outlives_a_peers_invalid_artifact_of_the_same_id() -> None:
    expiry = Expiry()
    expiry.refuse(A, 10.0, "liar")
    expiry.refuse(A, 1000.0)
    expiry.due(20.0)
    assert expiry.is_refused(A)


def test_garbage_of_a_peer_evicts_only_garbage_of_the_same_peer() -> None:
    expiry = Expiry(refused_max=5)
    expiry.refuse(A, 1000.0)
    expiry.refuse(B, 1000.0, "other")
    for number in range(10, 10 + 3 * REFUSED_PER_PEER_MAX):
        expiry.refuse(id_of(number), 1000.0, "liar")
    assert expiry.is_refused(A)
    assert expiry.is_refused(B)
    assert expiry.evicted == 2 * REFUSED_PER_PEER_MAX
    assert not expiry.is_refused(id_of(10))
    assert expiry.is_refused(id_of(9 + 3 * REFUSED_PER_PEER_MAX))


def test_beyond_the_bound_the_oldest_refusal_makes_room_and_is_counted() -> None:
    expiry = Expiry(refused_max=3)
    for number in range(5):
        expiry.refuse(id_of(number), FOREVER)
    assert [expiry.is_refused(id_of(number)) for number in range(5)] == [False, False, True, True, True]
    assert expiry.evicted == 2


def test_a_flood_of_short_lives_leaves_no_memory_behind() -> None:
    expiry = Expiry()
    for number in range(20_000):
        expiry.add(id_of(number), 1e9 + number)
        expiry.forget(id_of(number))
    assert len(expiry._heap) <= 1001


@given(st.lists(STEPS, max_size=60))
def test_any_story_agrees_with_a_plain_book_of_times(steps: list[tuple[str, int, int, str]]) -> None:
    expiry, now = Expiry(), 0.0
    ends: dict[ArtifactId, float] = {}
    refused: dict[ArtifactId, tuple[float, str]] = {}
    for kind, number, span, culprit in steps:
        artifact = id_of(number)
        if kind == "add" and artifact not in refused:
            expiry.add(artifact, now + span)
            ends[artifact] = now + span
        elif kind == "refuse":
            expiry.refuse(artifact, now + span, culprit)
            ends.pop(artifact, None)
            if artifact not in refused or not culprit or refused[artifact][1]:
                refused[artifact] = (now + span, culprit)
        elif kind == "forget":
            expiry.forget(artifact)
            ends.pop(artifact, None)
        elif kind == "pass":
            now += span
            due = expiry.due(now)
            assert sorted(due) == sorted(artifact for artifact, at in ends.items() if at <= now)
            assert [ends[artifact] for artifact in due] == sorted(ends[artifact] for artifact in due)
            refused |= {artifact: (ends.pop(artifact) + REFUSED_AFTER_S, "") for artifact in due}
            refused = {artifact: word for artifact, word in refused.items() if word[0] > now}
        assert {artifact for artifact in map(id_of, range(9)) if expiry.is_refused(artifact)} == set(refused)
        times = [*ends.values(), *(at for at, _ in refused.values())]
        assert expiry.next() == (min(times) if times else None)
