"""What stands between the core and the driver of an adversary: what is sent in whose place, and what nobody is left with."""

import subprocess
import sys
from random import Random
from typing import get_args

import pytest

from p2pnet.adversary import Conduct, DishonestBroadcast, make_conduct
from p2pnet.adversary.attacks import OWN_TOKENS, REPLAYED_MAX, FloodingConduct, ReplayingConduct
from p2pnet.adversary.conducts import HELD_MAX, SLOW_NS, SlowConduct
from p2pnet.adversary.dishonest import UNANSWERED_MAX
from p2pnet.broadcast import Broadcast, effects, inputs
from p2pnet.broadcast.blob import BlobClient
from p2pnet.broadcast.wire import encode_gone
from p2pnet.model.behaviours import HONEST, STALE_CERTIFICATE, Behaviour
from p2pnet.model.config import BroadcastSettings, NodeConfig
from p2pnet.node.clients import make_broadcast

WALL = 1_700_000_000.0
ASK = b"\0" * 32 + b"\0\1"


def broadcast_of(behaviour, **settings):
    made = BroadcastSettings(**settings)
    conduct = make_conduct(behaviour, Random(1), me="z", seed=7, client="blob", settings=made)
    return DishonestBroadcast(BlobClient(), "z", made, Random(2), conduct=conduct), conduct


def of(kind, done):
    return [effect for effect in done if isinstance(effect, kind)]


def test_an_honest_node_has_no_trace_of_an_adversary():
    assert type(make_broadcast(NodeConfig("node-0", "demo"), BlobClient(), "1")) is Broadcast
    code = "import sys, p2pnet.node.__main__; sys.exit('p2pnet.adversary' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


KINDS = tuple(one for one in get_args(Behaviour) if one not in (HONEST, STALE_CERTIFICATE))


@pytest.mark.parametrize("behaviour", KINDS)
def test_a_nodes_config_makes_an_adversary_of_it(behaviour):
    made = make_broadcast(NodeConfig("node-0", "demo", behaviour=behaviour), BlobClient(), "1")
    assert isinstance(made, DishonestBroadcast)


def test_a_node_with_a_stale_certificate_is_otherwise_honest():
    assert (
        type(make_broadcast(NodeConfig("node-0", "demo", behaviour="stale-certificate"), BlobClient(), "1"))
        is Broadcast
    )


def test_a_conduct_by_itself_changes_nothing():
    done = {}
    for make in (
        lambda: Broadcast(BlobClient(), "z", BroadcastSettings(), Random(2)),
        lambda: DishonestBroadcast(BlobClient(), "z", BroadcastSettings(), Random(2), conduct=Conduct(Random(1))),
    ):
        core, found = make(), []
        for at, item in enumerate(
            (inputs.PeerUp("a", 1), inputs.Wake(), inputs.FetchReceived("a", 1, 1, ASK), inputs.PeerDown("a", 1))
        ):
            found += core.handle(item, at, WALL)
        done[type(core)] = repr(found)
    assert len(set(done.values())) == 1


def test_a_request_that_is_never_answered_is_answered_when_its_connection_has_ended():
    core, _ = broadcast_of("withholding")
    core.handle(inputs.PeerUp("a", 1), 0, WALL)
    assert not of(effects.AnswerFetch, core.handle(inputs.FetchReceived("a", 1, 9, ASK), 1, WALL))
    assert core.handle(inputs.PeerDown("a", 1), 2, WALL)[0] == effects.AnswerFetch(9, [])
    # One that comes late, of a connection that is gone, waits for nothing.
    assert core.handle(inputs.FetchReceived("a", 1, 10, ASK), 3, WALL) == [effects.AnswerFetch(10, [])]


def test_a_forgetful_node_says_of_everything_that_it_is_gone():
    core, _ = broadcast_of("forgetful")
    core.handle(inputs.PeerUp("a", 1), 0, WALL)
    assert of(effects.AnswerFetch, core.handle(inputs.FetchReceived("a", 1, 9, ASK), 1, WALL)) == [
        effects.AnswerFetch(9, encode_gone())
    ]


def test_only_so_many_requests_are_left_unanswered():
    core, _ = broadcast_of("withholding")
    core.handle(inputs.PeerUp("a", 1), 0, WALL)
    answered = []
    for token in range(UNANSWERED_MAX + 5):
        answered += of(effects.AnswerFetch, core.handle(inputs.FetchReceived("a", 1, token, ASK), 1, WALL))
    assert [one.token for one in answered] == [0, 1, 2, 3, 4]


def test_a_silent_core_is_told_that_its_words_were_taken():
    core, _ = broadcast_of("silent")
    core.handle(inputs.PeerUp("a", 1), 0, WALL)
    client = BlobClient()
    made = client.make("x", b"data", nonce=bytes(16), now=WALL, keep_s=60)
    core.handle(inputs.Publish(made, 4), 1, WALL)
    done = []
    for at in range(2, 10):
        done += core.handle(inputs.Wake(), at, WALL)
    assert not of((effects.SendUpdates, effects.SendSynced, effects.SendDigest), done)
    assert core.counters["delivered"] == 1


def test_what_a_slow_node_holds_back_is_bounded_and_may_still_be_cancelled():
    conduct = SlowConduct(Random(1))
    sent = [effects.SendDigest(token, "a", 1, b"x") for token in range(HELD_MAX + 1)]
    assert [list(conduct.asks(one, 5)) for one in sent] == [[]] * HELD_MAX + [[sent[0]]]
    assert list(conduct.cancels(effects.Cancel(1))) == []
    assert list(conduct.cancels(effects.Cancel(0))) == [effects.Cancel(0)]
    assert conduct.due(lasting=False) == 5 + SLOW_NS
    assert list(conduct.acts(4 + SLOW_NS)) == []
    assert [one.token for one in conduct.acts(5 + SLOW_NS)] == [2, *range(3, HELD_MAX + 1)]


def test_a_flood_waits_where_nothing_is_answered_and_stops_without_peers():
    conduct = FloodingConduct(Random(1), 100)
    conduct.peers["a"] = 1
    conduct.links_changed(0)
    tokens = []
    for _ in range(40):
        now = conduct.due(lasting=True)
        sent = conduct.acts(now)
        assert sum(isinstance(one, effects.SendUpdates) for one in sent) <= len(sent)
        tokens += [one.token for one in sent]
    assert len(tokens) == 16
    assert min(tokens) > OWN_TOKENS
    conduct.answered(tokens[0], 0)
    assert len(conduct.acts(conduct.due(lasting=True))) == 1
    conduct.peers.clear()
    conduct.links_changed(0)
    assert conduct.due(lasting=True) is None
    assert conduct.due(lasting=False) is None


def test_a_replaying_node_keeps_so_many_requests():
    conduct = ReplayingConduct(Random(1))
    for number in range(REPLAYED_MAX + 50):
        conduct.hears(inputs.UpdatesReceived("a", 1, number, b"%d" % number))
    conduct.hears(inputs.UpdatesReceived("a", 1, 0, bytes(1 << 20)))
    assert len(conduct._kept) == REPLAYED_MAX
    assert max(len(body) for _, body in conduct._kept) < 10


def test_answers_to_its_own_requests_never_reach_the_core():
    core, conduct = broadcast_of("flooding")
    core.handle(inputs.PeerUp("a", 1), 0, WALL)
    done = core.handle(inputs.Wake(), core.next_wakeup(), WALL)
    done += core.handle(inputs.Wake(), conduct.due(lasting=True), WALL)
    mine = [one.token for one in done if getattr(one, "token", 0) > OWN_TOKENS]
    assert mine
    assert core.handle(inputs.UpdatesAnswered(mine[0], b"\0"), 10, WALL) == []
    assert core.handle(inputs.FetchAnswered(mine[-1], None), 10, WALL) == []


def test_a_config_names_honest_nodes_by_leaving_it_out():
    assert NodeConfig("node-0", "demo").behaviour == HONEST
