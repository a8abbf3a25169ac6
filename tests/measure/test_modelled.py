"""What a simulated network is asked to do, rule by rule."""

from collections import Counter

from p2pnet.measure import network_wording as wording
from p2pnet.measure.modelled import ModelledLine, ModelledPath, modelled_rows
from p2pnet.model.network import CLEAR, AccessShape, LinkShape
from p2pnet.model.report import LinkFigures, NetworkRow

MS = 1_000_000
PATHS = Counter({
    ModelledPath("default", LinkShape(delay_ns=10 * MS, loss=0.01)): 3,
    ModelledPath("default", LinkShape(delay_ns=30 * MS)): 1,
    ModelledPath("rules[0] + fault cut", LinkShape(delay_ns=5 * MS, blocked=True)): 2,
    ModelledPath("", CLEAR): 40,
})  # fmt: skip
LINES = Counter({ModelledLine("access", AccessShape(1e6)): 4, ModelledLine("access", AccessShape(4e6)): 2})


def rows() -> list[NetworkRow]:
    return modelled_rows(PATHS, LINES, lambda rule: (f"from {rule}", "*"))


def test_each_rule_has_a_row_with_the_means_over_its_links() -> None:
    default, cut, access = rows()
    assert (default.rule, default.source, default.links, default.links_total) == ("default", "from default", 4, 4)
    assert default.asked == LinkFigures(delay_ms=15.0, loss=0.01)
    assert cut.asked == LinkFigures(loss=1)  # nothing arrives, so nothing has a delay
    assert (access.asked, access.links) == (LinkFigures(bandwidth_bps=2e6), 6)


def test_links_that_do_nothing_have_no_row() -> None:
    assert modelled_rows(Counter({ModelledPath("", CLEAR): 9}), Counter(), lambda _: ("*", "*")) == []


def test_a_modelled_row_is_in_force_and_never_called_measured() -> None:
    assert all(row.ok and row.modelled and row.seen.samples == 0 for row in rows())
    assert [wording.result_of(row) for row in rows()] == ["modelled"] * 3
    assert wording.summary(rows()) == ["modelled: 3 rules"]
    assert wording.seen_of(rows()[0]) == "modelled"
    assert wording.asked_of(rows()[0]) == "15 ms, loss 1%"
    assert wording.probed(rows()[0]) == "4 links"
