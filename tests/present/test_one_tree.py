"""The page and `trace` say the same of who passed an artifact on to whom, whatever the receipts are."""

import json
import shutil
import subprocess
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.patience import PATIENCE_S

from p2pnet.measure import hop_tree
from p2pnet.model.events import Collected, EventKind

PAGE = Path(__file__).parents[2] / "cli" / "page"
A = "aa" * 32
MS = 10**6
NODES = [f"node-{number}" for number in range(8)]
SCRIPT = """
import { Journey } from %s;
const cases = JSON.parse(process.argv[1]);
const told = cases.map(({ publisher, node, after_us, hop, from }) => {
  const journey = new Journey(8, publisher, 0);
  journey.append({ node, after_us, hop, from });
  const last = journey.order.at(-1);
  return { parents: journey.order.map((one) => [one, journey.parent(one)]), path: last === undefined ? [] : journey.path(last) };
});
console.log(JSON.stringify(told));
"""


def case_of(chance: Random) -> dict[str, Any]:
    """Receipts of some nodes: most hops as they should be, some not, all at different times."""
    publisher = chance.choice([0, 0, 0, -1])
    nodes = [node for node in range(8) if node != publisher and chance.random() < 0.9]
    times = chance.sample(range(1, 60), len(nodes))
    return {
        "publisher": publisher, "node": nodes, "after_us": [1000 * ms for ms in times],
        "hop": [chance.randint(1, 5) for _ in nodes], "from": [chance.choice([-1, *range(8)]) for _ in nodes],
    }  # fmt: skip


def tree_of(case: dict[str, Any]) -> dict[str, Any]:
    """As the page tells it, from the events of the same receipts."""
    events = [
        Collected(
            NODES[node], "i", 0, us * 1000, EventKind.VALIDATED, "blob", A, NODES[sender] if sender >= 0 else "", hop
        )
        for node, us, hop, sender in zip(case["node"], case["after_us"], case["hop"], case["from"], strict=True)
    ]
    if case["publisher"] >= 0:
        events.append(Collected(NODES[case["publisher"]], "i", 0, 0, EventKind.PUBLISHED, "blob", A))
    drawn = hop_tree(A, events, NODES)
    numbers = {name: number for number, name in enumerate(NODES)}
    return {
        "parents": [[numbers[one.node], None if one.orphan else numbers[one.parent]] for one in drawn.nodes],
        "path": [numbers[node] for node in drawn.critical_path],
    }


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
def test_the_page_and_the_tree_agree_on_who_passed_it_on() -> None:
    chance = Random(5)
    cases = [case_of(chance) for _ in range(400)]
    script = SCRIPT % json.dumps((PAGE / "src" / "model.js").as_uri())
    done = subprocess.run(
        ["node", "--input-type=module", "-e", script, json.dumps(cases)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    told = json.loads(done.stdout)
    expected = [tree_of(case) for case in cases]
    assert told == expected
    orphans = sum(parent is None for one in expected for _, parent in one["parents"])
    assert 0 < orphans < sum(len(one["parents"]) for one in expected)
