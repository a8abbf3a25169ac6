"""Dashboard and alert rules: what they ask for is what nodes, labs and operators say, and a real Prometheus answers it."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from tests.charts.conftest import CHART, ROOT, Render
from tests.charts.prometheus import Prometheus, PrometheusTools, serving, tools
from tests.charts.promql import alert_queries, asked, dashboard_queries, grouped, substituted
from tests.charts.testnet import Testnet, exported
from tests.patience import PATIENCE_S

RULES, DASHBOARD = CHART / "files" / "rules.yaml", CHART / "files" / "dashboard.json"
PANELS, ALERTS = dashboard_queries(DASHBOARD), alert_queries(RULES)
OBSERVE = ROOT / "docs" / "how-to" / "observe.md"
TARGET_LABELS = {
    "namespace", "pod", "container", "endpoint", "job", "instance", "p2pnet_io_subnet", "p2pnet_io_group", "p2pnet_io_role",
}  # fmt: skip
"""What scraping adds: the PodMonitors' labels."""
FREE = {"namespace", "subnet", "p2pnet_io_subnet", "reason"}
"""Labels whose values are not the code's, or too many to be met at once."""
ANSWERS_S = 2 * PATIENCE_S


@pytest.fixture(scope="module")
def testnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testnet]:
    made = Testnet(tmp_path_factory.mktemp("testnet"))
    try:
        made.start()
        yield made
    finally:
        made.pods.end()


@pytest.fixture(scope="module")
def prometheus_tools() -> PrometheusTools:
    return tools()


def mistakes(queries: dict[str, str], there: dict[str, dict[str, set[str]]]) -> list[str]:
    """What expressions name and nobody exports: metrics, labels, and values of labels."""
    wrong = []
    for where, expression in queries.items():
        labels: set[str] = set()
        for metric, matchers in asked(substituted(expression)):
            if metric not in there:
                wrong.append(f"{where}: nobody exports {metric}")
                continue
            its = there[metric].keys() | TARGET_LABELS
            labels |= its
            wrong += [f"{where}: {metric} has no label {label}" for label in matchers if label not in its]
            for label in (matchers.keys() & there[metric].keys()) - FREE:
                unknown = [value for value in matchers[label] if value not in there[metric][label]]
                wrong += [f"{where}: no {metric} with {label}={value}" for value in unknown]
        wrong += [
            f"{where}: nothing has the label {label}" for label in sorted(grouped(substituted(expression)) - labels)
        ]
    return wrong


def test_what_dashboard_and_rules_ask_for_is_exported_by_a_node_a_lab_or_an_operator(testnet: Testnet) -> None:
    assert mistakes({**PANELS, **ALERTS}, exported(testnet.pages)) == []


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        ("sum(p2pnet_node_peer)", "nobody exports p2pnet_node_peer"),
        ("rate(p2pnet_node_events[5m])", "nobody exports p2pnet_node_events"),
        ("p2pnet_node_peers and p2pnet_lab_nodes{kind='x'}", "p2pnet_lab_nodes has no label kind"),
        ("p2pnet_lab_nodes{state=~'ready|up'}", "no p2pnet_lab_nodes with state=up"),
        ("sum by (verdict) (p2pnet_lab_nodes)", "nothing has the label verdict"),
        ("p2pnet_lab_nodes * on (node) group_left (what) p2pnet_node_ready", "nothing has the label what"),
    ],
)
def test_what_nobody_exports_is_found(testnet: Testnet, planted: str, found: str) -> None:
    assert mistakes({"here": planted}, exported(testnet.pages)) == [f"here: {found}"]


def test_variables_of_the_dashboard_are_filled_from_labels_that_there_are(testnet: Testnet) -> None:
    there = exported(testnet.pages)
    for variable in json.loads(DASHBOARD.read_text())["templating"]["list"][1:]:
        query = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"])
        assert query is not None
        [(metric, matchers)] = asked(substituted(query[1]))
        assert {query[2], *matchers} <= there[metric].keys()


def test_the_dashboard_is_one_by_grafanas_own_models_and_no_two_panels_overlap() -> None:
    """What the models do not know is lost on the way through them."""
    register_default_plugins()
    ours = json.loads(DASHBOARD.read_text())
    through = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(ours)))
    assert list(_lost(ours, through)) == []
    taken: set[tuple[int, int]] = set()
    for panel in ours["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert all(x < 24 for x, _ in cells)
        taken |= cells
        assert panel["type"] == "row" or panel["description"], panel["title"]
    assert len({panel["id"] for panel in ours["panels"]}) == len(ours["panels"])
    assert {"Injections by state", "Artifacts through the nodes", "Rules in force", "Acting replicas"} <= {
        panel["title"] for panel in ours["panels"]
    }


def _lost(ours: Any, through: Any, path: str = "") -> Iterator[str]:
    if isinstance(ours, dict) and isinstance(through, dict):
        for key, value in ours.items():
            if key not in through:
                yield f"{path}/{key}"
            else:
                yield from _lost(value, through[key], f"{path}/{key}")
    elif isinstance(ours, list) and isinstance(through, list) and len(ours) == len(through):
        for index, (one, other) in enumerate(zip(ours, through, strict=True)):
            yield from _lost(one, other, f"{path}/{index}")
    elif ours != through:
        yield f"{path}: {through!r} for {ours!r}"


def test_every_alert_says_what_it_means_and_leads_to_what_helps(render: Render) -> None:
    headings = set(re.findall(r"^### (\w+)$", OBSERVE.read_text(), re.MULTILINE))
    assert {name for name in headings if name.startswith("P2pnet")} == ALERTS.keys()
    [made] = [
        one
        for one in render("prometheusRule.enabled=true", "prometheusRule.runbookUrl=https://runbooks.example/p2pnet")
        if one["kind"] == "PrometheusRule"
    ]
    plain = yaml.safe_load(RULES.read_text())["groups"]
    for group, same in zip(made["spec"]["groups"], plain, strict=True):
        for rule, own in zip(group["rules"], same["rules"], strict=True):
            assert rule["labels"]["severity"] in {"critical", "warning"}
            assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
            assert rule["annotations"]["runbook_url"] == f"https://runbooks.example/p2pnet#{rule['alert'].lower()}"
            page, _, anchor = own["annotations"]["runbook_url"].partition("#")
            assert (page, anchor) == ("https://p2pnet.io/docs/how-to/observe.html", rule["alert"].lower())
            assert {**rule, "annotations": 0} == {**own, "annotations": 0}


def test_every_alert_fires_when_it_should_and_not_before(prometheus_tools: PrometheusTools) -> None:
    """By promtool: each alert has a time at which it fires in alerts.yaml, and one at which it does not."""
    file = Path(__file__).parent / "alerts.yaml"
    said: dict[str, set[bool]] = {}
    for test in yaml.safe_load(file.read_text())["tests"]:
        for one in test["alert_rule_test"]:
            said.setdefault(one["alertname"], set()).add(bool(one.get("exp_alerts")))
    assert said == {name: {True, False} for name in ALERTS}
    prometheus_tools.promtool_says("check", "rules", "--lint=all", str(RULES))
    prometheus_tools.promtool_says("test", "rules", str(file))


def test_a_real_prometheus_has_an_answer_for_every_panel_and_evaluates_every_rule(
    testnet: Testnet, render: Render, prometheus_tools: PrometheusTools, tmp_path: Path
) -> None:
    objects = render("podMonitor.enabled=true")
    monitors = [one for one in objects if one["kind"] == "PodMonitor"]
    [deployment] = [one for one in objects if one["kind"] == "Deployment"]
    with (
        testnet.targets(monitors, deployment) as targets,
        serving(prometheus_tools, tmp_path, targets, RULES) as prometheus,
    ):
        silent, deadline = dict(PANELS), time.monotonic() + ANSWERS_S
        while silent and time.monotonic() < deadline:
            testnet.run()
            silent = {where: expr for where, expr in silent.items() if not prometheus.query(substituted(expr))}
        assert not silent, (list(silent), prometheus.ask("targets", state="active"))
        check_answers(prometheus)


def check_answers(prometheus: Prometheus) -> None:
    """Targets, namespaces and rules, once everything has been scraped."""
    found = prometheus.ask("targets", state="active")["activeTargets"]
    assert {one["health"] for one in found} == {"up"}, found
    assert sorted(one["labels"]["container"] for one in found) == ["lab", "node", "node", "operator"]
    for expression in ("p2pnet_subnet_nodes", "p2pnet_lab_nodes", "p2pnet_node_ready"):
        [namespace] = {one["metric"]["namespace"] for one in prometheus.query(expression)}
        assert namespace == "lab-of-ada", "of the Subnet, whoever says it"
    groups = prometheus.ask("rules")["groups"]
    rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
    assert rules.keys() == ALERTS.keys()
    assert {name: rule["lastError"] for name, rule in rules.items() if rule.get("lastError")} == {}
    assert rules["P2pnetOperatorAbsent"]["state"] == "inactive"
