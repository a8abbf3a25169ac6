"""The beacon: shares of a height become its aggregate, what lies below is purged, and nothing forged passes."""

from typing import Any

import msgspec
import pytest

from p2pnet.broadcast import (
    AddToValidated,
    Artifact,
    ArtifactId,
    BeaconClient,
    Bounce,
    ChangeAction,
    HandleInvalid,
    LocalError,
    MalformedError,
    MoveToValidated,
    Pool,
    PurgeBelow,
)
from p2pnet.broadcast.beacon import AGGREGATE, AHEAD_MAX, SHARE, Aggregate, BeaconShare


def key(kind: bytes, height: int) -> bytes:
    return kind + height.to_bytes(8, "big")


def beacon(node: str = "a", threshold: int = 2, **settings) -> BeaconClient:
    return BeaconClient(node, threshold=threshold, **settings)


def run(client: BeaconClient, pool: Pool, now: float = 0.0) -> list[ChangeAction]:
    """Call it, and do to the pool what it says."""
    actions = client.on_state_change([], pool, now)
    for action in actions:
        match action:
            case AddToValidated(data):
                hold(client, pool, data, validated=True)
            case MoveToValidated(artifact):
                pool.validated[artifact] = pool.unvalidated.pop(artifact)
            case HandleInvalid(artifact, _):
                del pool.unvalidated[artifact]
            case PurgeBelow(height):
                for artifact in pool.below(height):
                    pool.validated.pop(artifact, None)
                    pool.unvalidated.pop(artifact, None)
    return actions


def hold(client: BeaconClient, pool: Pool, data: bytes, *, validated: bool = False) -> ArtifactId:
    artifact = ArtifactId(data.ljust(32, b"\0")[-32:])
    section = pool.validated if validated else pool.unvalidated
    section[artifact] = Artifact(id=artifact, data=data, parts=b"", inspected=client.inspect(data))
    return artifact


def made(actions: list[ChangeAction]) -> list[bytes]:
    return [action.data for action in actions if isinstance(action, AddToValidated)]


def contents(client: BeaconClient, actions: list[ChangeAction]) -> list[Any]:
    return [client.inspect(data).content for data in made(actions)]


def share_of(node: str, height: int = 1) -> bytes:
    """What a node's own beacon signs for this height, all heights before it being aggregated."""
    client, pool = beacon(node, threshold=1), Pool()
    for second in range(2 * height):
        for data in made(run(client, pool, float(second))):
            found = client.inspect(data).content
            if isinstance(found, BeaconShare) and found.height == height:
                return data
    raise AssertionError("it signed nothing")


# Shares


def test_a_node_signs_one_share_of_the_next_height_and_not_twice() -> None:
    client, pool = beacon(), Pool()
    (share,) = contents(client, run(client, pool))
    assert (share.height, share.signer) == (1, "a")
    assert run(client, pool, 100.0) == []


def test_a_node_signs_no_height_beyond_its_last_and_none_before_its_interval_is_over() -> None:
    client, pool = beacon(threshold=1, heights=2, interval_s=10.0), Pool()
    assert [share.height for share in contents(client, run(client, pool, 0.0))] == [1]
    run(client, pool, 5.0)
    assert client.height == 1
    assert made(run(client, pool, 9.0)) == []
    assert [share.height for share in contents(client, run(client, pool, 10.0))] == [2]
    run(client, pool, 20.0)
    assert made(run(client, pool, 30.0)) == []


def test_a_share_that_its_signer_did_not_sign_is_invalid() -> None:
    client, pool = beacon(), Pool()
    forged = hold(client, pool, msgspec.msgpack.encode(BeaconShare(1, "b", bytes(16))))
    assert HandleInvalid(forged, "wrong signature") in run(client, pool)
    assert forged not in pool.validated


def test_a_share_of_another_group_is_invalid() -> None:
    other, client, pool = beacon("b", group_key="another"), beacon(), Pool()
    (data,) = made(run(other, Pool()))
    assert HandleInvalid(hold(client, pool, data), "wrong signature") in run(client, pool)


# Aggregates


def test_enough_shares_make_an_aggregate_that_everybody_else_accepts() -> None:
    client, pool = beacon(), Pool()
    run(client, pool)
    hold(client, pool, share_of("b"))
    [data] = [data for data in made(run(client, pool)) if isinstance(client.inspect(data).content, Aggregate)]
    (aggregate,) = contents(client, [AddToValidated(data)])
    assert aggregate.signers == ["a", "b"]
    assert client.height == 1
    other, elsewhere = beacon("c"), Pool()
    artifact = hold(other, elsewhere, data)
    assert MoveToValidated(artifact) in run(other, elsewhere)
    assert other.height == 1


def test_two_nodes_make_the_same_aggregate_byte_for_byte() -> None:
    aggregates: set[bytes] = set()
    for name in "ab":
        client, pool = beacon(name), Pool()
        for data in map(share_of, "ab"):
            hold(client, pool, data)
        aggregates.update(d for d in made(run(client, pool)) if isinstance(client.inspect(d).content, Aggregate))
    assert len(aggregates) == 1


@pytest.mark.parametrize(
    ("signers", "reason"),
    [(["a"], "1 signers are no 2"), (["a", "a"], "1 signers are no 2"), (["a", "b"], "wrong value")],
)
def test_a_forged_aggregate_is_invalid(signers: list[str], reason: str) -> None:
    client, pool = beacon(), Pool()
    forged = hold(client, pool, msgspec.msgpack.encode(Aggregate(1, bytes(16), signers)))
    assert HandleInvalid(forged, reason) in run(client, pool)
    assert client.height == 0


def test_what_lies_below_an_aggregate_is_purged() -> None:
    client, pool = beacon(threshold=1), Pool()
    for second in range(20):
        run(client, pool, float(second))
    assert client.height > 5
    assert min(found.inspected.height or 0 for found in pool.validated.values()) >= client.height - 1
    assert len(pool.validated) <= 4


# Before it is here


@pytest.mark.parametrize(
    ("kind", "height", "word"),
    [
        (SHARE, 4, Bounce.UNWANTED), (SHARE, 5, Bounce.UNWANTED), (SHARE, 6, Bounce.WANTS),
        (SHARE, 5 + AHEAD_MAX, Bounce.WANTS), (SHARE, 6 + AHEAD_MAX, Bounce.MAYBE_LATER),
        (AGGREGATE, 4, Bounce.UNWANTED), (AGGREGATE, 5, Bounce.WANTS), (AGGREGATE, 1000, Bounce.WANTS),
    ],
)  # fmt: skip
def test_the_bouncer_decides_by_kind_and_height(kind: bytes, height: int, word: Bounce) -> None:
    client = beacon()
    client.height = 5
    assert client.bouncer(ArtifactId(bytes(32)), key(kind, height), 100) is word


@pytest.mark.parametrize("nonsense", [b"", b"s", b"x" + bytes(8), bytes(32)])
def test_an_artifact_under_a_senseless_key_is_unwanted(nonsense: bytes) -> None:
    client = beacon()
    assert client.bouncer(ArtifactId(bytes(32)), nonsense, 100) is Bounce.UNWANTED


def test_a_share_is_relayed_by_nobody_and_an_aggregate_as_the_settings_say() -> None:
    client = beacon()
    assert client.relay(ArtifactId(bytes(32)), key(SHARE, 3)) == "none"
    assert client.relay(ArtifactId(bytes(32)), key(AGGREGATE, 3)) is None


def test_everything_of_it_is_urgent_and_says_its_height_in_its_key() -> None:
    client = beacon()
    inspected = client.inspect(share_of("b"))
    assert (inspected.key, inspected.height) == (key(SHARE, 1), 1)
    assert client.is_urgent(ArtifactId(bytes(32)), inspected)


# What is none of it


@pytest.mark.parametrize(
    "data",
    [b"", b"file", msgspec.msgpack.encode(BeaconShare(0, "a", b"")), msgspec.msgpack.encode(BeaconShare(1 << 63, "a", b"")),
     bytes(70_000)],
)  # fmt: skip
def test_what_is_no_share_and_no_aggregate_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        beacon().inspect(data)


def test_nothing_can_be_injected_into_a_beacon() -> None:
    with pytest.raises(LocalError, match="nothing can be injected"):
        beacon().make("f", b"x", nonce=bytes(16), now=0.0, keep_s=1.0)


@pytest.mark.parametrize("settings", [{"threshold": 0}, {"threshold": 501}, {"interval_s": 0.0}])
def test_settings_that_cannot_be_are_refused_by_name(settings) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        BeaconClient("a", **settings)
