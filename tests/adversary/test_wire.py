"""The bytes of adversaries: what is spoilt reads as before and is wrong; what is garbage reads as what it poses as."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from p2pnet.adversary import wire
from p2pnet.broadcast import effects, inputs
from p2pnet.broadcast.artifact import artifact_id, id_prefix, part_count, part_list
from p2pnet.broadcast.stripes import StripeVerdict, cut_leaves, decode_stripes
from p2pnet.broadcast.wire import (
    EntryKind,
    FetchStatus,
    decode_digest,
    decode_fetch,
    decode_fetch_answer,
    decode_updates,
    encode_advert,
    encode_digest,
    encode_fetch,
    encode_first_fetch,
    encode_gone,
    encode_leaves,
    encode_leaves_fetch,
    encode_parts,
    encode_push,
    encode_stripped,
)
from p2pnet.model.ids import ArtifactId
from p2pnet.model.limits import PART_BYTES

X = ArtifactId(bytes(range(32)))
SEEDS = st.integers(0, 1 << 32)


@given(SEEDS, st.integers(1, 3 * PART_BYTES), st.booleans())
def test_every_part_of_a_spoilt_answer_is_wrong_and_its_list_is_true(seed, size, with_list):
    data = Random(seed).randbytes(size)
    parts = [(n, data[n * PART_BYTES : (n + 1) * PART_BYTES]) for n in range(part_count(size))]
    listed = part_list(data) if with_list else b""
    answer = decode_fetch_answer(b"".join(wire.spoil_answer(encode_parts(listed, parts), Random(seed))), size)
    assert (answer.status, bytes(answer.part_list)) == (FetchStatus.PARTS, listed)
    assert all(bytes(content) != parts[number][1] for number, content in answer.parts)


@given(SEEDS)
def test_a_list_that_comes_alone_is_spoilt(seed):
    listed = part_list(bytes(PART_BYTES + 1))
    answer = decode_fetch_answer(b"".join(wire.spoil_answer(encode_parts(listed, []), Random(seed))), PART_BYTES + 1)
    assert bytes(answer.part_list) != listed


@given(SEEDS)
def test_spoilt_leaves_are_found_to_be_wrong(seed):
    from p2pnet.broadcast.merkle import part_root
    from p2pnet.broadcast.stripes import OpenPart, take_leaves

    content = Random(seed).randbytes(20_000)
    answer = b"".join(wire.spoil_answer(encode_leaves(cut_leaves(X, 0, content, 0b111)), Random(seed)))
    opened = OpenPart(len(content), part_root(content))
    assert take_leaves(opened, len(content), 0, decode_fetch_answer(answer, 20_000).part_list) is StripeVerdict.WRONG


def test_gone_stays_gone():
    assert b"".join(wire.spoil_answer(encode_gone(), Random(1))) == b"".join(encode_gone())


def test_a_spoilt_form_is_another_form_of_the_same_artifact_and_a_push_is_left_alone():
    form = encode_stripped(1, 2, 0, 1_000, X, b"form")
    [spoilt] = wire.spoil_stripped([*form, *encode_push(2, 3, 0, b"pushed")], Random(1))
    first, second = decode_updates(spoilt)
    assert spoilt[first.start : first.start + 32] == X
    assert spoilt[first.start + 32 : first.end] != b"form"
    assert spoilt[second.start : second.end] == b"pushed"


def test_pushes_become_adverts_of_the_same_artifacts():
    advert = encode_advert(1, 2, 0, 10, X)
    body = b"".join(
        wire.pushes_as_adverts([advert, *encode_push(3, 4, 1, b"data", b"key", origin=9)], id_prefix("blob"))
    )
    first, second = decode_updates(body)
    assert body[: first.end] == advert
    assert (second.kind, second.slot, second.commit, second.key, second.origin) == (EntryKind.ADVERT, 3, 4, b"key", 9)
    assert body[second.start : second.end] == artifact_id(id_prefix("blob"), b"key", 4, part_list(b"data"))
    assert wire.pushes_as_adverts([advert], id_prefix("blob")) == [advert]


def test_the_least_of_a_question_is_one_leaf_one_part_or_the_list_with_one_part():
    assert decode_fetch(wire.least_of(encode_leaves_fetch(X, 3, 0b1100))).leaves == 0b100
    assert decode_fetch(wire.least_of(encode_fetch(X, [4, 5, 6]))).parts == [4]
    assert decode_fetch(wire.least_of(encode_first_fetch(X, 16))).most == 1
    assert wire.least_of(b"no question") == b"no question"


def test_what_was_never_sent_is_answered_as_if_it_had_been():
    updates = effects.SendUpdates(1, "a", 1, [encode_advert(1, 2, 0, 10, X)] * 3, urgent=False)
    assert wire.accepted(updates) == inputs.UpdatesAnswered(1, b"\0\0\0")
    digest = effects.SendDigest(2, "a", 1, encode_digest(bytes(16), [X, X], lacks_links=False))
    assert wire.accepted(digest) == inputs.DigestAnswered(2, b"\1\1")
    assert wire.accepted(effects.SendDigest(3, "a", 1, encode_digest(bytes(16), [], lacks_links=False))).body == b"\0"
    assert wire.accepted(effects.SendSynced(4, "a", 1)) == inputs.SyncedAnswered(4, ok=True)
    assert wire.accepted(effects.Fetch(5, "a", 1, b"", 1.0)) == inputs.FetchAnswered(5, None)


@given(SEEDS)
def test_garbage_can_be_read_as_what_it_poses_as(seed):
    rng = Random(seed)
    assert len(decode_updates(b"".join(wire.garbage_adverts(5, 1, 64, rng)))) == 64
    assert [one.kind for one in decode_updates(b"".join(wire.garbage_push(5, 1, 300, rng)))] == [EntryKind.PUSH]
    assert len(decode_stripes(b"".join(wire.garbage_stripes(8, rng)))) == 8
    assert len(decode_digest(wire.garbage_digest(250, rng)).ids) == 250
    assert decode_fetch(wire.garbage_question(rng)).most == 16
