"""Quotas: what a peer is charged with stays within its own limit, and all of it comes back."""

from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from p2pnet.broadcast.quota import Quota
from p2pnet.model.ids import ArtifactId

LIMIT = 100
IDS = [ArtifactId(bytes([i]) * 32) for i in range(6)]
A, B, C, D = IDS[:4]
PEERS = "pq"
ID, PEER, SIZE = st.sampled_from(IDS), st.sampled_from(PEERS), st.integers(1, 130)


def whole(quota: Quota, artifact: ArtifactId, size: int, peer: str = "p") -> list[ArtifactId] | None:
    """Reserve as the assembler does; what was given up for it, or None."""
    victims = quota.reserve(artifact, peer, size)
    if victims is not None:
        for victim in victims:
            quota.release(victim)
        quota.use(artifact, peer, size)
    return victims


def test_a_peer_may_fill_its_limit_and_not_more() -> None:
    quota = Quota(LIMIT)
    assert whole(quota, A, 60) == []
    assert whole(quota, B, 40) == []
    assert whole(quota, C, 1) is None
    assert not quota.has_room("p", 1)
    assert quota.has_room("q", LIMIT)


def test_one_artifact_alone_may_exceed_the_limit() -> None:
    quota = Quota(LIMIT)
    assert quota.has_room("p", 10 * LIMIT)
    assert whole(quota, A, 10 * LIMIT) == []
    assert whole(quota, B, 1) is None
    assert not quota.pass_on(B, "p", 1)


def test_passing_bytes_fill_half_of_the_limit_only() -> None:
    quota = Quota(LIMIT)
    assert quota.pass_on(A, "p", 30)
    assert quota.pass_on(B, "p", 20)
    assert not quota.pass_on(C, "p", 1)


def test_the_passing_bytes_of_one_artifact_alone_never_wait_for_themselves() -> None:
    quota = Quota(LIMIT)
    assert all(quota.pass_on(A, "p", 30) for _ in range(10))
    assert not quota.pass_on(B, "p", 1)
    assert whole(quota, B, 10) == [A]


def test_passing_bytes_give_way_to_a_whole_artifact_the_oldest_first_and_no_more_than_needed() -> None:
    quota = Quota(LIMIT)
    for artifact in (A, B, C):
        assert quota.pass_on(artifact, "p", 15)
    assert whole(quota, D, 80) == [A, B]
    assert quota.held("p") == 95


def test_an_artifact_whose_parts_did_not_come_has_nothing_to_give_way_with() -> None:
    quota = Quota(LIMIT)
    for artifact in (A, B):
        quota.pass_on(artifact, "p", 20)
    quota.give_back(A, "p", 20)
    assert whole(quota, D, 90) == [B]


def test_whole_artifacts_do_not_give_way() -> None:
    quota = Quota(LIMIT)
    whole(quota, A, 60)
    assert whole(quota, B, 60) is None
    assert quota.held("p") == 60


def test_an_artifact_whose_bytes_were_passing_is_charged_once_when_it_is_reserved() -> None:
    quota = Quota(LIMIT)
    quota.pass_on(A, "p", 40)
    assert whole(quota, A, 90) == []
    assert quota.held("p") == 90
    assert quota.pass_on(A, "p", 40)
    assert quota.held("p") == 90


def test_passing_bytes_that_did_not_come_are_given_back() -> None:
    quota = Quota(LIMIT)
    quota.pass_on(A, "p", 50)
    quota.give_back(A, "p", 20)
    assert quota.held("p") == 30
    assert quota.pass_on(B, "p", 20)


def test_those_who_wait_are_served_first_come_first_served_once_there_is_room() -> None:
    quota = Quota(LIMIT)
    whole(quota, A, 100)
    for artifact in (C, B, D):
        quota.wait(artifact, "p")
    quota.wait(C, "p")
    assert not quota.has_relieved
    quota.release(A)
    assert quota.relieved() == ["p"]
    assert not quota.has_relieved
    assert [quota.first_waiting("p") for _ in range(4)] == [C, B, D, None]


def test_who_waits_for_a_whole_artifact_does_not_stand_behind_passing_parts() -> None:
    quota = Quota(LIMIT)
    whole(quota, A, 100)
    quota.wait(B, "p", passing=True)
    quota.wait(C, "p", passing=True)
    quota.wait(D, "p")
    quota.wait(C, "p")
    assert [quota.first_waiting("p") for _ in range(3)] == [D, C, None]
    assert quota.is_waiting(B, "p")
    assert [quota.first_waiting("p", passing=True) for _ in range(2)] == [B, None]
    assert not quota.is_waiting(B, "p")


def test_who_waits_leaves_the_line_with_its_task() -> None:
    quota = Quota(LIMIT)
    whole(quota, A, 100)
    quota.wait(B, "p")
    quota.wait(C, "p")
    quota.wait(B, "q")
    quota.release(B)
    assert quota.waiting() == [(C, "p")]
    assert quota.first_waiting("q") is None


def test_one_artifact_may_be_charged_to_several_deliverers() -> None:
    quota = Quota(LIMIT)
    quota.use(A, "p", 30)
    quota.use(A, "q", 40)
    assert [quota.held(peer) for peer in PEERS] == [30, 40]
    quota.release(A)
    assert [quota.held(peer) for peer in PEERS] == [0, 0]
    assert not quota.uses()


class QuotaMachine(RuleBasedStateMachine):
    """Any order of calls, beside a plain model: {(artifact, peer): bytes} and a list of who waits."""

    def __init__(self) -> None:
        super().__init__()
        self.quota = Quota(LIMIT)
        self.firm: dict[tuple[ArtifactId, str], int] = {}
        self.passing: dict[tuple[ArtifactId, str], int] = {}
        self.lines: dict[bool, list[tuple[ArtifactId, str]]] = {False: [], True: []}

    def held(self, peer: str) -> int:
        return sum(size for kind in (self.firm, self.passing) for (_, payer), size in kind.items() if payer == peer)

    def end(self, artifact: ArtifactId) -> None:
        self.quota.release(artifact)
        gone: Callable[[Any], bool] = lambda key: key[0] == artifact  # noqa: E731
        for kind in (self.firm, self.passing):
            for key in list(filter(gone, kind)):
                del kind[key]
        self.lines = {passing: [one for one in line if not gone(one)] for passing, line in self.lines.items()}

    def wait(self, artifact: ArtifactId, peer: str, *, passing: bool) -> None:
        self.quota.wait(artifact, peer, passing=passing)
        if (artifact, peer) in self.lines[not passing]:
            self.lines[not passing].remove((artifact, peer))
        if (artifact, peer) not in self.lines[passing]:
            self.lines[passing].append((artifact, peer))

    @rule(artifact=ID, peer=PEER, size=SIZE)
    def push(self, artifact: ArtifactId, peer: str, size: int) -> None:
        room = self.quota.has_room(peer, size)
        assert room == (not self.held(peer) or self.held(peer) + size <= LIMIT)
        if room and (artifact, peer) not in self.firm:
            self.quota.use(artifact, peer, size)
            self.passing.pop((artifact, peer), None)
            self.firm[artifact, peer] = size

    @rule(artifact=ID, peer=PEER, size=SIZE)
    def reserve(self, artifact: ArtifactId, peer: str, size: int) -> None:
        victims = self.quota.reserve(artifact, peer, size)
        if (artifact, peer) in self.firm:
            assert victims == []
            return
        firm = sum(n for (_, payer), n in self.firm.items() if payer == peer)
        firm_somewhere = {other for other, _ in self.firm} - {artifact}
        staying = sum(n for (other, payer), n in self.passing.items() if payer == peer and other in firm_somewhere)
        assert (victims is None) == (firm + staying > 0 and firm + staying + size > LIMIT)
        if victims is None:
            self.wait(artifact, peer, passing=False)
            return
        for victim in victims:
            assert self.passing[victim, peer] > 0
            self.end(victim)
        self.quota.use(artifact, peer, size)
        self.passing.pop((artifact, peer), None)
        self.firm[artifact, peer] = size

    @rule(artifact=ID, peer=PEER, size=SIZE)
    def pass_on(self, artifact: ArtifactId, peer: str, size: int) -> None:
        if not self.quota.pass_on(artifact, peer, size):
            self.wait(artifact, peer, passing=True)
        elif (artifact, peer) not in self.firm:
            self.passing[artifact, peer] = self.passing.get((artifact, peer), 0) + size

    @precondition(lambda self: any(self.passing.values()))
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from([key for key, size in self.passing.items() if size]))
        size = data.draw(st.integers(1, self.passing[key]))
        self.quota.give_back(*key, size)
        self.passing[key] -= size

    @rule(artifact=ID)
    def release(self, artifact: ArtifactId) -> None:
        before = {peer: self.held(peer) for peer in PEERS}
        self.end(artifact)
        waited_for = {peer for line in self.lines.values() for _, peer in line}
        wanted = {peer for peer in waited_for if self.held(peer) < before[peer]}
        assert wanted <= set(self.quota.relieved())

    @rule(peer=PEER, passing=st.booleans())
    def serve(self, peer: str, *, passing: bool) -> None:
        first = next((one for one in self.lines[passing] if one[1] == peer), None)
        assert self.quota.first_waiting(peer, passing=passing) == (None if first is None else first[0])
        if first is not None:
            self.lines[passing].remove(first)

    @invariant()
    def the_sum_of_charges_stays_within_the_limit_except_for_a_lone_artifact(self) -> None:
        for peer in PEERS:
            assert self.quota.held(peer) == self.held(peer)
            charged = [
                size for kind in (self.firm, self.passing) for (_, p), size in kind.items() if p == peer and size
            ]
            assert self.held(peer) <= LIMIT or len(charged) == 1

    @invariant()
    def everybody_who_waits_is_in_line(self) -> None:
        waiting = self.lines[False] + self.lines[True]
        assert sorted(self.quota.waiting()) == sorted(waiting)
        assert all(self.quota.is_waiting(*one) for one in waiting)

    def teardown(self) -> None:
        """Release returns to zero, and nothing is left."""
        for artifact in IDS:
            self.end(artifact)
        assert not self.quota.uses()
        assert not self.quota.waiting()
        assert [self.quota.held(peer) for peer in PEERS] == [0, 0]
        self.quota.relieved()
        assert not self.quota._by_peer
        assert not self.quota._waiting


TestAnyOrderOfCalls = QuotaMachine.TestCase
TestAnyOrderOfCalls.settings = settings(deadline=None, max_examples=100, stateful_step_count=40)
