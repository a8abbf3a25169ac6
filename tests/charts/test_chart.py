"""The chart: what it renders is valid, minimal and safe, and what it was made from has not moved on."""

import base64
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from tests.charts.conftest import CHART, ROOT, Render
from tests.commands import parse
from tests.operator.kit import subnet_context

from p2pnet.operator.rbac import CERT_MANAGER_RIGHTS, CLAIM_RIGHTS, CLUSTER_RIGHTS, LEASE_RIGHTS, RIGHTS
from p2pnet.operator.settings import OperatorSettings
from p2pnet.operator.subnet.context import HEALTH_PORT, LAB_PORT
from p2pnet.operator.subnet.plan import wanted_pods
from p2pnet.operator.subnet.plan.pods import lab_pod

EVERYTHING = (
    "podMonitor.enabled=true", "prometheusRule.enabled=true", "dashboard.enabled=true", "replicas=2",
    "imagePullSecrets[0].name=pull", "priorityClassName=system-cluster-critical", "podLabels.team=p2p",
    "podAnnotations.note=x", "nodeSelector.disk=ssd", "extraEnv[0].name=A", "extraEnv[0].value=b",
    "serviceAccount.annotations.who=me", "podMonitor.labels.release=prometheus", "extraArgs={run}",
)  # fmt: skip
VARIANTS = {
    "defaults": (),
    "everything": EVERYTHING,
    "own namespace": ("scope=namespace",),
    "two namespaces": (*EVERYTHING, "scope=namespace", "watchNamespaces={blue,green}"),
    "bare": (
        "crds.install=false", "rbac.create=false", "serviceAccount.create=false", "networkPolicy.enabled=false",
        "test.enabled=false",
    ),
}  # fmt: skip
VERSIONS = [f"1.{minor}" for minor in range(31, 37)]


def of(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [one for one in objects if one["kind"] == kind]


def pod_specs(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one["spec"]["template"]["spec"] for one in objects if "template" in one.get("spec", {})]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_rendering_is_valid_on_every_supported_kubernetes(render: Render, variant: str, version: str) -> None:
    for thing in render(*VARIANTS[variant]):
        if not thing["apiVersion"].startswith("monitoring.coreos.com"):
            kubernetes_validate.validate(thing, version, strict=True)


WRONG = {
    "one": (
        "colour=red", "replicas=3", "scope=galaxy", "image.repository=", "crds.instal=false", "image.digest=abc",
        "watchNamespaces={UPPER}", "test.nodes=many", "podMonitor.interval=often", "resources.requests.cpu=abc",
        "resources.limits.cpus=1", "fullnameOverride=UPPER", "nameOverride=a_b", "image.tag=a b", "nodeImage.tag=-x",
        "imagePullSecrets[0].name=A_b", "global.imageRegistry=https://registry.example", "serviceAccount.name=Me",
        "runtimeClassName=g visor", "priorityClassName=Top", "podLabels.a=b c", "nodeSelector.disk=/",
        "tolerations[0].effect=NoWay", "tolerations[0].key=a b", "extraEnv[0].name=1=2", "podSecurityContext.runAsRoot=true",
        "containerSecurityContext.runAsUser=-1", "affinity.podAfinity=x", "topologySpreadConstraints[0].maxSkew=0",
        "podMonitor.labels.a=?", "serviceAccount.annotations.a b=c", "test.timeoutSeconds=9",
    ),
    "another": (
        "nameOverride=-a", "image.repository=a//b", "resources.requests.cpu=-1", "resources.limits.memory=1gb",
        "podLabels.-a=b", "global.imagePullSecrets={UPPER}", "nodeImage.repository=a b", "extraEnv[0].valu=x",
        "containerSecurityContext.capabilities=ALL",
    ),
}  # fmt: skip


@pytest.mark.parametrize("some", WRONG)
def test_values_nobody_knows_or_that_cannot_be_are_refused_each_with_its_path(render: Render, some: str) -> None:
    with pytest.raises(ValueError, match="values don't meet the specifications") as caught:
        render(*WRONG[some])
    for wrong in WRONG[some]:
        *above, last = re.split(r"[.\[]", wrong.partition("=")[0].replace("]", ""))
        path, refusal = "/".join(["", *above]), "additional properties"
        at_itself = rf"at '{path}/{last}[^']*': "
        assert re.search(rf"{at_itself}|at '{path}': {refusal} .*'{last}'", str(caught.value)), wrong


def test_what_kubernetes_takes_is_taken(render: Render) -> None:
    [deployment] = of(
        render(
            "resources.requests.cpu=1", "resources.limits.cpu=1.5", "resources.limits.memory=1e9",
            "resources.limits.nvidia\\.com/gpu=1", "fullnameOverride=p2pnet-2", "serviceAccount.name=a.b",
            "image.repository=registry.example:5000/a/b_c", "podLabels.example\\.com/team=P2P",
            "podAnnotations.note=any thing", "global.other=x", "nodeImage.tag=1.0.0",
        ),
        "Deployment",
    )  # fmt: skip
    assert deployment["metadata"]["name"] == "p2pnet-2"


def test_every_text_among_the_values_has_a_form_and_every_group_an_end() -> None:
    """What is free text says so by its name; `global` is shared with other charts."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    free, open_ended = [], []

    def walk(node: Any, path: str) -> None:
        if isinstance(node, dict):
            kinds = node.get("type", ())
            if "string" in ([kinds] if isinstance(kinds, str) else kinds) and not {"pattern", "enum"} & node.keys():
                free.append(path)
            if "properties" in node and node.get("additionalProperties") is not False and path != "/properties":
                open_ended.append(path)
        for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
            walk(value, f"{path}/{key}")

    walk(schema, "")
    assert free == ["/$defs/anyText"]
    assert open_ended == ["/properties/global"]


@pytest.mark.parametrize(
    ("repository", "image"),
    [
        ("p2pnet/p2pnet-operator", "mirror.example:5000/all/p2pnet/p2pnet-operator:v1"),
        ("quay.io/p2pnet/operator", "mirror.example:5000/all/p2pnet/operator:v1"),
        ("localhost/operator", "mirror.example:5000/all/operator:v1"),
        ("operator", "mirror.example:5000/all/operator:v1"),
    ],
)
def test_a_registry_for_all_charts_is_that_of_every_image(render: Render, repository: str, image: str) -> None:
    objects = render(
        "global.imageRegistry=mirror.example:5000/all",
        f"image.repository={repository}",
        "image.tag=v1",
        "nodeImage.tag=v1",
    )
    assert {box["image"] for spec in pod_specs(objects) for box in spec["containers"]} == {image}
    assert operator_environment(objects)["P2PNET_NODE_IMAGE"] == "mirror.example:5000/all/p2pnet/p2pnet-node:v1"


def test_secrets_to_pull_with_are_the_operators_the_self_tests_and_every_subnets(render: Render) -> None:
    objects = render(
        "imagePullSecrets[0].name=login", "global.imagePullSecrets[0].name=all", "global.imagePullSecrets[1]=login"
    )
    assert [spec["imagePullSecrets"] for spec in pod_specs(objects)] == [[{"name": "login"}, {"name": "all"}]] * 2
    assert OperatorSettings.read(operator_environment(objects)).pull_secrets == ("login", "all")
    assert "P2PNET_IMAGE_PULL_SECRETS" not in operator_environment(render())


def test_a_variable_that_the_chart_sets_is_set_by_its_value_alone(render: Render) -> None:
    with pytest.raises(ValueError, match="P2PNET_LOG_LEVEL is set by the chart, from logLevel"):
        render("extraEnv[0].name=P2PNET_LOG_LEVEL", "extraEnv[0].value=x")
    helpers = (CHART / "templates" / "_helpers.tpl").read_text()
    ours = set(operator_environment(render("imagePullSecrets[0].name=a")))
    assert ours == set(re.findall(r'"(P2PNET_\w+)"', helpers))


def test_operator_nodes_and_labs_are_scraped_where_they_serve_metrics(render: Render) -> None:
    """By the labels and the ports of the pods that the operator makes."""
    operator, subnets = of(render("podMonitor.enabled=true"), "PodMonitor")
    [deployment] = of(render(), "Deployment")
    template = deployment["spec"]["template"]
    assert operator["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert [one["port"] for one in operator["spec"]["podMetricsEndpoints"]] == ["metrics"]
    assert operator["spec"]["podMetricsEndpoints"][0]["honorLabels"], "namespace is that of a Subnet"
    context = subnet_context(nodes=1)
    node, lab = wanted_pods(context)["demo-node-0"], lab_pod(context)
    for pod, port in ((node, HEALTH_PORT), (lab, LAB_PORT)):
        labels = pod["metadata"]["labels"]
        assert subnets["spec"]["selector"]["matchLabels"].items() <= labels.items()
        [role] = subnets["spec"]["selector"]["matchExpressions"]
        assert labels[role["key"]] in role["values"]
        [served] = [
            one["containerPort"]
            for one in pod["spec"]["containers"][0]["ports"]
            if one["name"] in {endpoint["port"] for endpoint in subnets["spec"]["podMetricsEndpoints"]}
        ]
        assert served == port
    assert {one["path"] for one in subnets["spec"]["podMetricsEndpoints"]} == {"/metrics"}


def test_namespaces_under_cluster_scope_are_a_contradiction(render: Render) -> None:
    with pytest.raises(ValueError, match="watchNamespaces needs scope: namespace"):
        render("watchNamespaces={blue}")


def test_every_value_is_in_the_schema_and_lint_finds_nothing(helm: str) -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(values) <= set(schema["properties"])
    done = subprocess.run([helm, "lint", "--strict", str(CHART)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_definitions_are_kept_when_the_release_goes_unless_told_otherwise(render: Render) -> None:
    kept = of(render(), "CustomResourceDefinition")
    assert [one["metadata"]["name"] for one in kept] == ["subnets.p2pnet.io", "injections.p2pnet.io"]
    assert {one["metadata"]["annotations"]["helm.sh/resource-policy"] for one in kept} == {"keep"}
    for given_up in of(render("crds.keep=false"), "CustomResourceDefinition"):
        assert "helm.sh/resource-policy" not in given_up["metadata"].get("annotations", {})
    assert not of(render("crds.install=false"), "CustomResourceDefinition")


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_pod_fits_the_restricted_profile_and_asks_for_memory(render: Render, variant: str) -> None:
    specs = pod_specs(render(*VARIANTS[variant]))
    assert specs
    for spec in specs:
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert security["readOnlyRootFilesystem"]
            assert not security["allowPrivilegeEscalation"]
            assert container["resources"]["requests"]["memory"]


def test_rights_are_the_operators_own_list_and_no_more(render: Render) -> None:
    [role] = [one for one in of(render(), "ClusterRole") if one["metadata"]["name"] == "p2pnet"]
    assert role["rules"] == [right.rule for right in (*RIGHTS, *CERT_MANAGER_RIGHTS, *CLUSTER_RIGHTS)]
    [without] = [
        one for one in of(render("certManager.enabled=false"), "ClusterRole") if one["metadata"]["name"] == "p2pnet"
    ]
    assert without["rules"] == [right.rule for right in (*RIGHTS, *CLUSTER_RIGHTS)]
    assert "*" not in json.dumps(role["rules"])
    for replicas in (1, 2):
        [lease] = of(render(f"replicas={replicas}", hooks=False), "Role")
        assert lease["rules"] == [right.rule for right in LEASE_RIGHTS]


def test_in_namespace_scope_no_right_reaches_beyond_the_served_namespaces(render: Render) -> None:
    objects = render("scope=namespace", "watchNamespaces={blue,green}", "rbac.userRoles=false", hooks=False)
    assert not of(objects, "ClusterRole")
    assert not of(objects, "ClusterRoleBinding")
    assert [one["metadata"]["namespace"] for one in of(objects, "Role")] == ["blue", "green"]
    rules = [right.rule for right in (*RIGHTS, *CERT_MANAGER_RIGHTS, *CLAIM_RIGHTS)]
    assert all(one["rules"] == rules for one in of(objects, "Role"))
    environment = operator_environment(objects)
    assert OperatorSettings.read(environment).namespaces == ("blue", "green")
    alone = render("scope=namespace", hooks=False, namespace="here")
    assert [one["metadata"]["namespace"] for one in of(alone, "Role")] == ["here"]


def operator_environment(objects: list[dict[str, Any]]) -> dict[str, str]:
    [deployment] = of(objects, "Deployment")
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    return {one["name"]: one.get("value", "x") for one in container["env"]}


def test_every_variable_the_chart_sets_is_one_the_operator_reads(render: Render) -> None:
    known = set(re.findall(r"P2PNET_\w+", Path(sys.modules[OperatorSettings.__module__].__file__ or "").read_text()))
    environment = operator_environment(render("replicas=2"))
    assert set(environment) <= known
    settings = OperatorSettings.read(environment)
    assert settings.leader_election
    assert settings.node_image == OperatorSettings.read({}).node_image, "with and without the chart the same"
    assert not OperatorSettings.read(operator_environment(render())).leader_election


def test_releases_in_namespaces_of_their_own_share_no_name_of_the_cluster(render: Render) -> None:
    def wide(namespace: str) -> set[tuple[str, str]]:
        objects = render("scope=namespace", "crds.install=false", namespace=namespace)
        return {(one["kind"], one["metadata"]["name"]) for one in objects if "namespace" not in one["metadata"]}

    assert {kind for kind, _ in wide("blue")} == {"ClusterRole"}
    assert not wide("blue") & wide("green")


def test_security_contexts_are_changed_key_by_key_and_null_leaves_one_to_the_cluster(
    render: Render, helm: str, tmp_path: Path
) -> None:
    [deployment] = of(
        render("podSecurityContext.fsGroup=7", "containerSecurityContext.readOnlyRootFilesystem=false"), "Deployment"
    )
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["fsGroup"] == 7
    assert pod["securityContext"]["runAsUser"] == 65532
    assert pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is False
    assert pod["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    values = tmp_path / "openshift.yaml"
    values.write_text("podSecurityContext: {runAsUser: null, runAsGroup: null}\n")
    command = [helm, "template", "p2pnet", str(CHART), "--values", str(values)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for spec in pod_specs([one for one in yaml.safe_load_all(text) if one]):
        assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        ([], False), (["--api-versions", "security.openshift.io/v1"], True), (["--set", "openshift=true"], True),
        (["--api-versions", "security.openshift.io/v1", "--set", "openshift=false"], False),
    ],
)  # fmt: skip
def test_on_openshift_users_and_groups_are_left_to_the_cluster(helm: str, words: list[str], chosen: bool) -> None:
    command = [helm, "template", "p2pnet", str(CHART), *words]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    objects = [one for one in yaml.safe_load_all(text) if one]
    users = {} if chosen else {"runAsUser": 65532, "runAsGroup": 65532}
    for spec in pod_specs(objects):
        assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}, **users}
    assert OperatorSettings.read(operator_environment(objects)).any_user is chosen


def test_labels_of_the_values_do_not_take_the_place_of_those_the_operator_is_found_by(render: Render) -> None:
    [deployment] = of(render("podLabels.app\\.kubernetes\\.io/name=other", "podLabels.team=p2p"), "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels["team"] == "p2p"
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize("sets", [(), ("scope=namespace", "watchNamespaces={blue,green}")])
def test_every_command_in_the_notes_is_one_that_exists_and_names_a_namespace(helm: str, sets: tuple[str, ...]) -> None:
    command = [helm, "install", "p2pnet", str(CHART), "--namespace", "here", "--dry-run=client"]
    words = [*command, *(word for one in sets for word in ("--set", one))]
    text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    notes = text.partition("NOTES:")[2]
    shown = [
        shlex.split(line)
        for line in notes.splitlines()
        if line.startswith("  ") and ("kubectl" in line or "p2pnet " in line)
    ]
    assert {"kubectl", "p2pnet"} == {words[0] for words in shown}
    for words in shown:
        if words[0] == "p2pnet":
            parse(words[1:])
        if words[1] != "delete":
            assert words[words.index("-n") + 1] == ("blue" if sets else "default")


def test_a_digest_wins_over_a_tag(render: Render) -> None:
    digest = "sha256:" + "0" * 64
    [deployment] = of(render(f"image.digest={digest}", "image.tag=x"), "Deployment")
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == f"p2pnet/p2pnet-operator@{digest}"


def test_one_operator_is_replaced_and_two_agree(render: Render) -> None:
    objects = render()
    [deployment] = of(objects, "Deployment")
    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]) == (1, {"type": "Recreate"})
    assert not of(objects, "PodDisruptionBudget")  # of a single one it would block every drain
    assert of(render("replicas=2"), "PodDisruptionBudget")


def test_people_get_subnets_through_the_clusters_own_roles(render: Render) -> None:
    roles = {
        one["metadata"]["name"]: one
        for one in of(render(), "ClusterRole")
        if one["metadata"]["name"].startswith("subnet-")
    }
    assert set(roles) == {"subnet-view", "subnet-edit", "subnet-admin"}
    for name, role in roles.items():
        word = name.removeprefix("subnet-")
        assert role["metadata"]["labels"][f"rbac.authorization.k8s.io/aggregate-to-{word}"] == "true"
        assert {group for rule in role["rules"] for group in rule["apiGroups"]} == {"p2pnet.io"}
    verbs = {verb for rule in roles["subnet-view"]["rules"] for verb in rule["verbs"]}
    assert verbs == {"get", "list", "watch"}


def test_generated_files_are_what_the_generator_makes(helm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELM", helm)
    command = [sys.executable, str(ROOT / "charts" / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}run charts/generate.py"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_wheels_install_yaml_is_valid(version: str) -> None:
    objects = list(yaml.safe_load_all((ROOT / "cli" / "p2pnet" / "cli" / "install.yaml").read_text()))
    for thing in objects:
        kubernetes_validate.validate(thing, version, strict=True)
    assert objects[0]["kind"] == "Namespace"


@pytest.mark.parametrize(("version", "semver"), [("1.2.0", "1.2.0"), ("1.3.0rc1", "1.3.0-rc.1")])
def test_the_chart_of_a_release_names_its_images(helm: str, tmp_path: Path, version: str, semver: str) -> None:
    command = [str(ROOT / "charts" / "package.sh"), version, str(tmp_path)]
    subprocess.run(command, env={**os.environ, "HELM": helm}, capture_output=True, check=True)
    packed = str(tmp_path / f"p2pnet-{semver}.tgz")
    text = subprocess.run([helm, "template", "p2pnet", packed], capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"p2pnet/p2pnet-(?:operator|node):(\S+)", text)) == {version}
    shown = subprocess.run([helm, "show", "chart", packed], capture_output=True, text=True, check=True).stdout
    chart = yaml.safe_load(shown)
    assert (chart["version"], chart["appVersion"]) == (semver, version)
    assert re.findall(r"image: \S+:(\S+)", shown) == [version, version]
    assert ("artifacthub.io/prerelease" in shown) == (version != semver)


def test_the_chart_of_a_release_says_what_is_new_in_it(helm: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "charts", tmp_path / "charts", ignore=shutil.ignore_patterns("__pycache__"))
    words = r""""Quoted": it's a \d+ & `code` # all of it"""
    news = (
        f"## [1.2.0] - 2027-01-01\n\n### Added\n\n- {words}\n- More.\n\n### Fixed\n\n- Less.\n\n## [1.1.0]\n\n- Old.\n"
    )
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n## [1.2.0rc1]\n\n### Added\n- Early.\n\n{news}")
    command = [str(tmp_path / "charts" / "package.sh"), "1.2.0", str(tmp_path)]
    subprocess.run(command, env={**os.environ, "HELM": helm}, capture_output=True, check=True)
    shown = subprocess.run(
        [helm, "show", "chart", str(tmp_path / "p2pnet-1.2.0.tgz")], capture_output=True, text=True, check=True
    )
    changes = yaml.safe_load(yaml.safe_load(shown.stdout)["annotations"]["artifacthub.io/changes"])
    assert changes == [
        {"kind": "added", "description": words},
        {"kind": "added", "description": "More."},
        {"kind": "fixed", "description": "Less."},
    ]


def test_every_value_is_explained_in_the_readme_and_known_to_the_schema() -> None:
    rows = re.findall(r"^\| `(\S+)` \| (\w+) \| `.*` \| (.*) \|$", (CHART / "README.md").read_text(), re.MULTILINE)
    assert not [name for name, _, meaning in rows if not meaning]
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert {name.split(".")[0] for name, _, _ in rows} == set(schema["properties"])


def test_the_chart_says_who_made_it_what_it_defines_and_how_it_looks() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert {"home", "icon", "keywords", "kubeVersion", "maintainers", "description"} <= set(chart)
    kind, _, icon = chart["icon"].partition(",")
    assert (kind, base64.b64decode(icon)) == ("data:image/svg+xml;base64", (CHART / "icon.svg").read_bytes().strip())
    notes = {key.partition("/")[2]: yaml.safe_load(text) for key, text in chart["annotations"].items()}
    defined = [yaml.safe_load(path.read_text()) for path in sorted((CHART / "files" / "crds").iterdir(), reverse=True)]
    assert [(one["kind"], one["name"]) for one in notes["crds"]] == [
        (one["spec"]["names"]["kind"], one["metadata"]["name"]) for one in defined
    ]
    for example, definition in zip(notes["crdsExamples"], defined, strict=True):
        schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        jsonschema.validate(example, schema)


def test_the_self_test_runs_with_the_rights_it_is_given(render: Render) -> None:
    objects = render()
    [role] = [one for one in of(objects, "Role") if one["metadata"]["name"] == "p2pnet-test"]
    assert role["rules"] == [
        {"apiGroups": ["p2pnet.io"], "resources": ["subnets"], "verbs": ["create", "get", "delete"]}
    ]
    [job] = of(objects, "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "test"
    script, namespace, name, nodes, timeout = job["spec"]["template"]["spec"]["containers"][0]["args"]
    compile(script, "selftest.py", "exec")
    assert (namespace, name, nodes, timeout) == ("p2pnet-system", "p2pnet-test", "3", "240")
