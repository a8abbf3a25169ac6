"""`fault`: what words mean, how long what is ordered lasts, how it ends, and what is said of it."""

import io
import json
import os
import signal
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml

from p2pnet.cli import app, holding, ordering
from p2pnet.cli.documents import FaultLine
from p2pnet.cli.fault_request import KINDS, fault_of
from p2pnet.cli.outcome import CommandError
from p2pnet.cli.verbs.schema import schema_of
from p2pnet.lab_client import ProblemError
from p2pnet.model.errors import TargetError
from p2pnet.model.jobs import Problem
from p2pnet.model.report import FaultStatus
from p2pnet.subnet.document import load_subnet, to_document

Ask = Callable[..., Any]


@pytest.fixture
def ask(p2pnet: Ask, target: Any, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """The command line against a target without processes; a fault that is held is renewed all the time."""
    monkeypatch.setattr(app, "find_target", lambda *_, **__: target)
    for module, name in ((holding, "RENEW_S"), (holding, "RETRY_S"), (ordering, "POLL_S")):
        monkeypatch.setattr(module, name, 0.001)
    monkeypatch.setattr(ordering, "TAKEN_S", 0.05)
    return p2pnet


def ordered(target: Any) -> list[tuple[dict[str, Any], float | None]]:
    return [(fault, lease_s) for what, fault, lease_s in (one for one in target.fake.asked if one[0] == "add")]


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def leased(name: str, **more: Any) -> FaultStatus:
    return FaultStatus(name, "loss 20% from * to *", "lease", "active", ["node-0"], **more)


MEANT: list[tuple[str, dict[str, Any]]] = [
    ("latency 90ms", {"latency": "90ms"}),
    ("delay 90ms --jitter 5ms --distribution uniform", {"latency": "90ms", "jitter": "5ms", "distribution": "uniform"}),
    ("jitter 5ms --latency 50ms --no-keep-order", {"jitter": "5ms", "latency": "50ms", "keepOrder": False}),
    ("loss 20%", {"loss": "20%"}),
    ("loss --loss 20% --loss-burst 5", {"loss": "20%", "lossBurst": 5.0}),
    ("duplication 1%", {"duplication": "1%"}),
    ("reorder 5%", {"reorder": "5%"}),
    ("bandwidth 5Mbit --queue 64KiB --discipline codel", {"bandwidth": "5Mbit", "queue": "64KiB", "discipline": "codel"}),
    ("mtu 1400", {"mtu": 1400}),
    ("shape --latency 5ms --loss 1%", {"latency": "5ms", "loss": "1%"}),
    ("--latency 5ms --loss 1%", {"latency": "5ms", "loss": "1%"}),
    ("loss 1% --from region=eu --to node-3 --both-ways", {"loss": "1%", "from": "region=eu", "to": "node-3", "bothWays": True}),
    ("loss 1% --from 20%", {"loss": "1%", "from": "20%"}),
    ("loss 1% --node node-3", {"loss": "1%", "from": "node-3", "bothWays": True}),
    ("loss 1% --node node-3,node-4 --node node-5", {"loss": "1%", "from": "node-3,node-4,node-5", "bothWays": True}),
    ("access 1Mbit --node node-3", {"access": {"up": "1Mbit", "down": "1Mbit"}, "from": "node-3"}),
    ("access --up 1Mbit --queue 64KiB --from group=home", {"access": {"up": "1Mbit", "queue": "64KiB"}, "from": "group=home"}),
    ("block --from node-0 --to node-1", {"block": True, "from": "node-0", "to": "node-1"}),
    ("partition 30%", {"partition": {"minority": "30%"}}),
    ("partition --part region=eu --part region=us", {"partition": {"groups": ["region=eu", "region=us"]}}),
    ("pause node-3", {"pause": True, "from": "node-3"}),
    ("kill --node node-3", {"kill": True, "from": "node-3"}),
    ("kill 20%", {"kill": True, "from": "20%"}),
    ("kill --from *", {"kill": True, "from": "*"}),
    ("restart --node node-3,node-4", {"restart": True, "from": "node-3,node-4"}),
    ("churn 6/m", {"churn": {"rate": "6/m"}}),
    ("churn --rate 6/m --down-for 10s --seed 7", {"churn": {"rate": "6/m", "down": "10s", "seed": 7}}),
    ("loss 1% --name wet --after 10s", {"loss": "1%", "name": "wet", "after": "10s"}),
]  # fmt: skip


@pytest.mark.parametrize(("words", "fault"), MEANT, ids=[words for words, _ in MEANT])
def test_words_mean_an_item_of_the_document(ask: Ask, target: Any, words: str, fault: dict[str, Any]) -> None:
    ended = ask("fault", "demo", "add", *words.split(), "--for", "30s")

    assert ended.code == 0, ended.err
    assert ordered(target) == [({**fault, "for": "30s"}, None)]


WRONG = [
    ("add", "what is to be wrong?"),
    ("add los 5%", "did you mean loss?"),
    ("add node-3", "there is no kind of fault 'node-3'"),
    ("add loss", "loss needs its value"),
    ("add loss 20", "write a percentage between 0% and 100%"),
    ("add loss 20% 30%", "'30%' is one too many"),
    ("add loss 20% --loss 30%", "both '20%' and --loss 30%"),
    ("add loss --loss 20", "write a percentage"),
    ("add latency 90", "write a number with its unit"),
    ("add mtu 100", "from 1280 to 65535"),
    ("add mtu 1e3", "from 1280 to 65535"),
    ("add loss 1% --loss-burst 0.5", "from 1 to 1000"),
    ("add loss 1% --name Wet", "is no name"),
    ("add loss 1% --for 0s", "more than zero"),
    ("add loss 1% --for 30", "write a number with its unit"),
    ("add block 5%", "block takes no value: '5%' is one too many"),
    ("add kill", "which nodes to kill?"),
    ("add pause --for 5s", "which nodes to pause?"),
    ("add kill node-3 --loss 5%", "kill takes no --loss"),
    ("add loss 1% --up 1Mbit", "loss takes no --up"),
    ("add --up 1Mbit", "what is to be wrong?"),
    ("add access --node node-3", "what bandwidth?"),
    ("add partition", "either a minority or parts"),
    ("add partition 30% --part node-3", "either a minority or parts"),
    ("add churn", "how many nodes per time?"),
    ("add churn 6", "is no rate"),
    ("add loss 1% --node node-3 --to node-4", "both --node and --to"),
    ("add loss 1% --node node-3,20%", "either names of nodes or one share"),
    ("add shape", "shape needs options"),
    ("add loss 1% --all", "add takes no --all"),
    ("add loss 1% -f faults.yaml", "both a file and loss"),
    ("add -f faults.yaml --node node-3", "both a file and --node"),
    ("add -f nowhere.yaml", "there is no such file"),
    ("list loss-1", "list takes no 'loss-1'"),
    ("list --for 3s", "list takes no --for"),
    ("clear loss-1 --all", "both loss-1 and --all"),
    ("clear --node node-3", "clear takes no --node"),
    ("clear --keep", "clear takes no --keep"),
    ("mend", "'mend' is not one of"),
]


@pytest.mark.parametrize(("words", "said"), WRONG, ids=[words for words, _ in WRONG])
def test_what_makes_no_fault_is_refused_before_anything_is_asked(ask: Ask, target: Any, words: str, said: str) -> None:
    ended = ask("fault", "demo", *words.split())

    assert ended.code == 2, ended.err
    assert said in ended.err
    assert len(ended.err.splitlines()) == 3
    assert target.fake.asked == []


@pytest.mark.parametrize("kind", [kind for kind in KINDS if ": " in KINDS[kind].help])
def test_the_example_of_every_kind_makes_a_fault_that_a_document_may_hold(kind: str) -> None:
    words = KINDS[kind].help.rpartition(": ")[2].split()
    options = dict(pairwise(words))
    given = {
        option: [value] if option == "--node" else value for option, value in options.items() if option[:2] == "--"
    }
    plain = [word for place, word in enumerate(words) if word[:2] != "--" and words[place - 1][:2] != "--"]

    fault = fault_of(plain, given)

    assert words[0] == kind
    assert {"name": "x", **fault}.keys() <= schema_of("subnet")["$defs"]["FaultSpec"]["properties"].keys()


# --- how long ---


@pytest.mark.parametrize("words", ["kill --node node-3", "restart node-3"])
def test_what_is_done_once_is_done_and_the_command_returns(ask: Ask, target: Any, words: str) -> None:
    ended = ask("fault", "demo", "add", *words.split())

    assert ended.code == 0, ended.err
    assert [lease_s for _, lease_s in ordered(target)] == [None]
    assert "fault-1 is done" in ended.err
    assert not [one for one in target.fake.asked if one[0] in ("renew", "clear")]


def test_a_fault_for_a_time_is_ordered_and_not_waited_for(ask: Ask, target: Any) -> None:
    ended = ask("fault", "demo", "add", "kill", "node-3", "--for", "30s")

    assert ended.code == 0
    assert [lease_s for _, lease_s in ordered(target)] == [None]
    assert "fault-1 is in force until 2026-11-21T20:14:20Z" in ended.err
    assert "fault-1" in target.fake.faulty


@pytest.mark.parametrize("end", [interrupt, terminate], ids=["Ctrl-C", "SIGTERM"])
def test_a_held_fault_is_renewed_until_it_is_told_to_end_and_healed_then(
    ask: Ask, target: Any, end: Callable[[], None]
) -> None:
    target.fake.renewals = [lambda: None, lambda: None, end]

    ended = ask("fault", "demo", "add", "loss", "20%")

    assert ended.code == 0, ended.err
    assert ordered(target) == [({"loss": "20%"}, 60.0)]
    assert [one for one in target.fake.asked if one[0] == "renew"] == [("renew", "fault-1", 60.0)] * 3
    assert target.fake.asked[-1] == ("clear", "fault-1")
    assert target.fake.faulty == {}
    assert "fault-1 is held by this command: Ctrl-C heals; killed, within 60 s" in ended.err
    assert "fault-1 is healed" in ended.err
    assert "fault-1" in ended.out


def test_the_document_of_a_held_fault_is_printed_as_soon_as_it_is_in_force(ask: Ask, target: Any) -> None:
    shown: list[str] = []
    target.fake.renewals = [lambda: shown.append(sys.stdout.getvalue()), interrupt]
    stream = io.StringIO()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "stdout", stream)
        code = app.main(["fault", "demo", "add", "loss", "20%", "-o", "json", "-q"])

    assert code == 0
    value = json.loads(shown[0])
    assert (value["schema"], value["subnet"]) == ("p2pnet.io/faults/v1", "demo")
    assert stream.getvalue() == shown[0]


def test_a_renewal_that_fails_is_tried_again_while_the_lease_lasts(ask: Ask, target: Any) -> None:
    def away() -> None:
        raise TargetError("the lab does not answer")

    target.fake.renewals = [away, away, lambda: None, interrupt]

    assert ask("fault", "demo", "add", "loss", "20%").code == 0


def test_a_lab_that_is_dead_ends_the_command_with_3(ask: Ask, target: Any) -> None:
    def die() -> None:
        target.seen = "dead"
        raise TargetError("the lab of demo is dead", exit_code=3)

    target.fake.renewals = [die]

    ended = ask("fault", "demo", "add", "loss", "20%")

    assert ended.code == 3
    assert "the lab of demo is dead" in ended.err


def test_a_fault_that_somebody_else_ended_ends_the_command_with_5(ask: Ask, target: Any) -> None:
    target.fake.renewals = [target.fake.faulty.clear]

    ended = ask("fault", "demo", "add", "loss", "20%")

    assert ended.code == 5
    assert "fault-1 ended before this command did: there is no fault fault-1" in ended.err


def test_a_fault_that_cannot_be_healed_says_when_it_heals_by_itself(ask: Ask, target: Any) -> None:
    target.fake.renewals = [interrupt]
    target.fake.healing = TargetError("the lab does not answer")

    ended = ask("fault", "demo", "add", "loss", "20%")

    assert ended.code == 3
    assert "could not be healed: fault-1" in ended.err
    assert "within 60 s" in ended.err


def test_a_fault_that_does_not_come_into_force_is_invalid_and_taken_back(ask: Ask, target: Any) -> None:
    target.fake.stand = {"state": "failed", "detail": "node-3 has no agent"}

    ended = ask("fault", "demo", "add", "pause", "node-3")

    assert ended.code == 5
    assert "fault-1 is not in force: node-3 has no agent" in ended.err
    assert target.fake.faulty == {}


def test_a_fault_that_waits_though_its_time_has_come_is_waited_for_and_no_longer(ask: Ask, target: Any) -> None:
    target.fake.stand = {"state": "waiting"}

    ended = ask("fault", "demo", "add", "loss", "20%", "--for", "30s")

    assert ended.code == 5
    assert "is not in force: nothing of it after" in ended.err
    assert target.fake.faulty == {}


def test_a_fault_whose_time_comes_later_is_not_waited_for(ask: Ask, target: Any) -> None:
    target.fake.stand = {"state": "waiting", "since": None, "until": "2026-11-21T20:14:00Z", "detail": "begins in 10 s"}

    ended = ask("fault", "demo", "add", "loss", "20%", "--after", "10s", "--for", "30s")

    assert ended.code == 0, ended.err
    assert "fault-1 waits (begins in 10 s), ends at 2026-11-21T20:14:00Z" in ended.err


def test_what_the_lab_refuses_is_2_in_its_own_words(ask: Ask, target: Any) -> None:
    ended = ask("fault", "demo", "add", "loss", "20%", "--from", "lossy")

    assert ended.code == 2
    assert "fault.from: 'lossy' selects no node" in ended.err


# --- files ---


def test_a_file_of_several_faults_is_ordered_whole_and_held_where_nothing_else_ends_it(
    ask: Ask, target: Any, tmp_path: Path
) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text("- {name: cut, from: node-0, block: true}\n- {kill: true, from: node-1}\n- {loss: 5%, for: 10s}\n")
    target.fake.renewals = [interrupt]

    ended = ask("fault", "demo", "add", "-f", str(path))

    assert ended.code == 0, ended.err
    assert [lease_s for _, lease_s in ordered(target)] == [60.0, None, None]
    assert [one for one in target.fake.asked if one[0] in ("renew", "clear")] == [
        ("renew", "cut", 60.0),
        ("clear", "cut"),
    ]


def test_of_several_faults_none_stays_when_one_is_refused(ask: Ask, target: Any, tmp_path: Path) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text("- {name: cut, from: node-0, block: true}\n- {name: wet, from: lossy, loss: 5%}\n")

    ended = ask("fault", "demo", "add", "-f", str(path), "--for", "1m")

    assert ended.code == 2
    assert target.fake.faulty == {}


def test_a_fault_is_read_from_stdin(ask: Ask, target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given = io.TextIOWrapper(io.BytesIO(b'{"loss": "5%", "for": "10s"}'))
    monkeypatch.setattr(sys, "stdin", given)

    assert ask("fault", "demo", "add", "-f", "-").code == 0
    assert ordered(target) == [({"loss": "5%", "for": "10s"}, None)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there is no fault in it"), ("nonsense", "a fault is a mapping, not 'nonsense'"), ("a: [", "not YAML"),
        ("[]", "there is no fault in it"), ("- {loss: 5%}\n- 7", "[1]: a fault is a mapping"),
        ("{loss: 5%, loss: 6%}", "stands here twice"), ("- {name: a}\n- {name: a}", "two faults are named a"),
        ("{kind: Subnet, spec: {}}", "a whole document, not a fault"), ("- {}\n" * 65, "65 faults are more than"),
    ],
)  # fmt: skip
def test_a_file_that_holds_no_faults_is_refused_and_named(ask: Ask, tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text(text)

    ended = ask("fault", "demo", "add", "-f", str(path))

    assert ended.code == 2
    assert said in ended.err
    assert str(path) in ended.err


# --- the document ---


def test_keep_writes_the_fault_into_the_document_beside_others_under_a_free_name(ask: Ask, target: Any) -> None:
    target.fake.faulty = {"loss-1": leased("loss-1")}
    target.fake.take_faults([{"name": "cut", "from": "node-0", "block": True}])

    ended = ask("fault", "demo", "add", "loss", "5%", "--keep", "-o", "json")

    assert ended.code == 0, ended.err
    assert to_document(target.fake.subnet)["spec"]["faults"] == [
        {"name": "cut", "from": "node-0", "block": True}, {"name": "loss-2", "loss": "5%"},
    ]  # fmt: skip
    assert [(fault["name"], fault["origin"]) for fault in json.loads(ended.out)["faults"]] == [("loss-2", "spec")]
    assert ordered(target) == []
    assert "Next: p2pnet fault demo clear loss-2" in ended.err


def test_a_name_that_is_taken_is_not_kept_twice(ask: Ask, target: Any) -> None:
    target.fake.take_faults([{"name": "cut", "from": "node-0", "block": True}])

    ended = ask("fault", "demo", "add", "loss", "5%", "--keep", "--name", "cut")

    assert ended.code == 2
    assert "demo has a fault cut already" in ended.err


def test_an_edit_that_the_lab_has_not_taken_yet_is_said(ask: Ask, target: Any) -> None:
    def slow() -> None:
        target.fake.faulty = {}

    target.fake.on_faults = [slow] * 10_000

    ended = ask("fault", "demo", "add", "loss", "5%", "--keep")

    assert ended.code == 0
    assert "note: written, but not yet taken by the lab: loss-1" in ended.err


# --- list and clear ---


def test_a_list_has_every_fault_with_state_nodes_and_times(ask: Ask, target: Any) -> None:
    target.fake.faulty = {
        "wet": leased("wet", since="2026-11-21T20:13:00Z", until="2026-11-21T20:14:00Z"),
        "cut": FaultStatus("cut", "block from node-0 to *", "spec", "active", ["node-0"], since="2026-11-21T20:00:00Z"),
    }

    as_json, lines = ask("fault", "demo", "list", "-o", "json"), ask("fault", "demo", "list", "-o", "ndjson")

    value = json.loads(as_json.out)
    jsonschema.validate(value, schema_of("faults"))
    assert [fault["name"] for fault in value["faults"]] == ["wet", "cut"]
    assert [json.loads(line) for line in lines.out.splitlines()] == value["faults"]
    jsonschema.validate(value["faults"][0], schema_of("fault"))
    assert yaml.safe_load(ask("fault", "demo", "list", "-o", "yaml").out) == value


def test_an_empty_list_says_so_and_how_to_begin(ask: Ask) -> None:
    ended = ask("fault", "demo", "list")

    assert ended.out == "no fault is in force\n"
    assert "Next: p2pnet fault demo add loss 20% --for 30s" in ended.err


def test_leased_faults_are_cleared_by_the_lab_and_those_of_the_document_by_an_edit(ask: Ask, target: Any) -> None:
    target.fake.faulty = {"wet": leased("wet")}
    target.fake.take_faults([{"name": "cut", "from": "node-0", "block": True}, {"name": "dry", "loss": "1%"}])

    ended = ask("fault", "demo", "clear", "wet", "cut", "-o", "json")

    assert ended.code == 0, ended.err
    value = json.loads(ended.out)
    assert sorted(value["cleared"]) == ["cut", "wet"]
    assert [fault["name"] for fault in value["faults"]] == ["dry"]
    assert [fault["name"] for fault in to_document(target.fake.subnet)["spec"]["faults"]] == ["dry"]
    assert ("clear", "wet") in target.fake.asked
    assert ("clear", "cut") not in target.fake.asked


def test_all_faults_are_cleared_at_once_and_where_there_is_none_that_is_well(ask: Ask, target: Any) -> None:
    target.fake.faulty = {"wet": leased("wet"), "dry": leased("dry")}

    assert "wet cleared\ndry cleared\n" in ask("fault", "demo", "clear", "--all").out
    assert target.fake.faulty == {}
    for words in (("--all",), ()):
        assert ask("fault", "demo", "clear", *words).code == 0


def test_a_clear_without_a_name_ends_the_only_fault_and_asks_which_of_several(ask: Ask, target: Any) -> None:
    target.fake.faulty = {"wet": leased("wet"), "dry": leased("dry")}

    ended = ask("fault", "demo", "clear")
    assert (ended.code, "which fault? There are wet, dry" in ended.err) == (2, True)

    del target.fake.faulty["dry"]
    assert ask("fault", "demo", "clear").code == 0
    assert target.fake.faulty == {}


def test_a_leased_fault_that_is_over_is_nothing_to_clear_and_one_of_the_document_is(ask: Ask, target: Any) -> None:
    target.fake.take_faults([{"name": "cut", "from": "node-0", "block": True, "for": "1s"}])
    over = msgspec.structs.replace(target.fake.faulty["cut"], state="ended")
    target.fake.faulty = {"cut": over, "wet": msgspec.structs.replace(leased("wet"), state="ended")}

    ended = ask("fault", "demo", "clear", "wet")
    assert (ended.code, "note: over already: wet" in ended.err) == (0, True)
    assert json.loads(ask("fault", "demo", "clear", "-o", "json").out)["cleared"] == ["cut"]
    assert not [one for one in target.fake.asked if one[0] == "clear"]


def test_a_fault_that_ends_by_itself_while_it_is_cleared_is_cleared(ask: Ask, target: Any) -> None:
    target.fake.faulty = {"wet": leased("wet")}
    target.fake.healing = ProblemError(Problem("fault wet has ended already", exit_code=2), status=404)

    assert ask("fault", "demo", "clear", "wet").code == 0


def test_an_unknown_name_is_refused_with_the_known_ones(ask: Ask, target: Any) -> None:
    target.fake.faulty = {"wet": leased("wet")}

    ended = ask("fault", "demo", "clear", "wet", "cut")

    assert ended.code == 2
    assert "demo has no fault cut" in ended.err
    assert "one of wet" in ended.err
    assert "wet" in target.fake.faulty


def test_a_line_of_a_list_has_all_that_the_lab_tells_of_a_fault() -> None:
    told = {field.name for field in msgspec.structs.fields(FaultStatus)}

    assert {field.name for field in msgspec.structs.fields(FaultLine)} == {"schema", *told}


def test_a_fault_that_is_kept_is_one_that_a_document_holds(target: Any) -> None:
    document = to_document(target.fake.subnet)
    document["spec"]["faults"] = [{"name": "wet", **fault_of(["loss", "5%"], {})}]

    assert load_subnet(document).spec.faults[0].loss == "5%"


def test_an_error_names_the_kinds_there_are() -> None:
    with pytest.raises(CommandError) as caught:
        fault_of(["flood"], {})

    assert all(kind in caught.value.next_step for kind in KINDS)


def test_a_problem_of_the_lab_keeps_its_exit_code(ask: Ask, target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(_request: Any) -> Any:
        raise ProblemError(Problem("64 faults are enough", hint="clear some", exit_code=2), status=409)

    monkeypatch.setattr(target.fake, "add_fault", full)

    ended = ask("fault", "demo", "add", "loss", "5%", "--for", "10s")

    assert (ended.code, "next: clear some" in ended.err) == (2, True)
