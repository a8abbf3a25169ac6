"""What a document does to the network, in a line: said by `up` and `inject`, and only where there is something to say."""

from typing import Any

import pytest

from p2pnet.cli.session import Session
from p2pnet.cli.shaping import in_force, shaping, written
from p2pnet.cli.verbs import inject, up
from p2pnet.model.report import FaultStatus
from p2pnet.subnet.document import load_subnet, to_document

SHAPED = {
    "preset": "aws", "default": {"jitter": "1ms", "loss": "0.1%"}, "access": {"groups": {"home": {"up": "10Mbit"}}},
    "rules": [{"from": "node-0", "latency": "5ms"}, {"to": "node-0", "latency": "6ms"}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (None, []), ({}, []), ({"preset": "none", "default": {}, "rules": [], "access": {}}, []),
        ({"preset": "ic-io67"}, ["preset ic-io67"]), ({"rules": [{"loss": "1%"}]}, ["1 rule"]),
        ({"access": {"up": "1Mbit"}}, ["access links"]), ({"default": {"latency": "5ms"}}, ["default latency 5ms"]),
        (SHAPED, ["preset aws", "default jitter 1ms, loss 0.1%", "2 rules", "access links"]),
    ],
)  # fmt: skip
def test_the_parts_of_a_network_are_counted(network: dict[str, Any] | None, said: list[str]) -> None:
    assert shaping({} if network is None else {"network": network}) == said


def test_faults_that_act_now_are_named_and_the_document_s_are_counted() -> None:
    faults = [FaultStatus(f"loss-{index}", "loss 5% from * to *", "lease", "active") for index in range(5)]
    over = FaultStatus("cut", "block from node-0 to *", "spec", "ended")

    assert in_force({"network": SHAPED}, [over]).endswith("2 rules, access links")
    assert in_force({}, [over, faults[0]]) == "fault loss-0 (loss 5% from * to *)"
    assert in_force({}, faults).endswith("loss-2 (loss 5% from * to *) and 2 more")
    assert in_force({}, [over]) == ""
    assert written({"faults": [{"name": "cut"}, {"name": "wet"}], "network": {"preset": "aws"}}) == (
        "preset aws; 2 faults: cut, wet"
    )


async def test_up_and_inject_say_what_is_in_force_and_nothing_where_nothing_is(target: Any, session: Session) -> None:
    await up.run(up.UpOptions(name="demo", nodes=3), session)
    await inject.run(inject.InjectOptions("demo"), session)
    said = session.stderr.getvalue()  # type: ignore[attr-defined]
    assert "shapes the network" not in said
    assert "in force" not in said

    document = to_document(target.fake.subnet)
    document["spec"]["network"] = {"rules": [{"from": "node-0", "latency": "5ms"}]}
    target.fake.subnet = load_subnet(document)
    target.fake.faulty = {"wet": FaultStatus("wet", "loss 5% from * to *", "lease", "active")}
    await up.run(up.UpOptions(name="demo", ignore_unsupported=True), session)
    await inject.run(inject.InjectOptions("demo"), session)

    said = session.stderr.getvalue()  # type: ignore[attr-defined]
    assert "in force: 1 rule; fault wet (loss 5% from * to *)" in said
