"""The page about Kubernetes: every reason and event of the code stands on it and no other, its Role and documents are right."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from p2pnet.operator import rbac
from p2pnet.operator.kube.status import INTERNAL_ERROR
from p2pnet.operator.subnet import annotations, status
from p2pnet.operator.subnet.crd import crd
from p2pnet.subnet.document import load_subnet
from p2pnet.subnet.pods import CONDITION_REASONS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "kubernetes.md").read_text()
BLOCKS = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)]
OPERATOR = ROOT / "operator" / "p2pnet" / "operator"
TELLERS = [
    OPERATOR / "kube" / "status.py",
    OPERATOR / "kube" / "claims.py",
    *sorted((OPERATOR / "subnet").rglob("*.py")),
]
"""Files that make conditions and events of Subnets."""
CODE = [
    *(path for part in ("cli", "node", "operator") for path in (ROOT / part / "p2pnet").rglob("*.py")),
    *(path for path in (ROOT / "charts" / "p2pnet").rglob("*") if path.suffix in (".yaml", ".tpl")),
]
OURS = re.compile(r"\bp2pnet\.io/(?!v1alpha1\b|docs\b|schemas\b)[a-z]+(?:-[a-z]+)*\b")
"""Names of annotations and labels, and not of the documents' version or of pages of the site."""
WORD = re.compile(r"[A-Z][a-z]+(?:[A-Z][A-Za-z]*)?")

NO_REASONS = {
    # of Kubernetes: kinds and values of fields, phases and conditions of pods
    "Always", "AlwaysAllow", "ClusterIP", "ContainersReady", "DeletionByPodGC", "DeletionByTaintManager", "DisruptionTarget",
    "EvictionByEvictionAPI", "Exists", "Failed", "FallbackToLogsOnError", "False", "Ingress", "Issuer", "Mi", "NoExecute", "None",
    "Opaque", "PreferDualStack", "ReadWriteOnce", "Running", "RuntimeDefault",
    "ScheduleAnyway", "Subnet", "Succeeded", "True", "Unknown",
    # of Python, and phases of an authority's replacement
    "HeldCertificates", "Plan", "Steady", "Trusting",
    # what the operator gets over by itself
    "Relabelled", "ClaimsUnknown",
    # conditions
    *status.CONDITIONS,
}  # fmt: skip
"""Words in those files that look like reasons and are none, but for those that are both."""
BOTH = {"Connected", "Paused"}
"""Conditions that are reasons or events, too."""


def words_in(path: Path) -> Iterator[str]:
    """Every text in the code that is one word in CamelCase."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and WORD.fullmatch(node.value):
            yield node.value


def columns_of(name: str) -> list[tuple[str, str]]:
    """Each name in the first column of a table between two marks, with what stands in the second."""
    part = PAGE.partition(f"<!-- {name}:")[2].partition(f"<!-- end of {name} -->")[0]
    rows = [line.split("|") for line in part.splitlines() if line.startswith("| `")]
    return [(word, cells[2].strip()) for cells in rows for word in re.findall(r"`(\w+)`", cells[1])]


def table(name: str) -> set[str]:
    """The names in the first column of a table between two marks."""
    return {word for word, _ in columns_of(name)}


def constants_of(source: str, name: str) -> set[str]:
    """The texts in the set of this name."""
    [found] = [
        one.value
        for one in ast.parse(source).body
        if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == name
    ]
    return set(ast.literal_eval(found))


def test_every_reason_and_event_of_the_code_stands_on_the_page_and_no_other_does() -> None:
    made = {word for path in TELLERS if "crd" not in path.name for word in words_in(path)} - (NO_REASONS - BOTH)
    assert made | set(CONDITION_REASONS.values()) == table("reasons") | table("events")


def constants(source: str, function: str) -> set[str]:
    """The reasons that a function of the status gives."""
    [found] = [one for one in ast.walk(ast.parse(source)) if isinstance(one, ast.FunctionDef) and one.name == function]
    return {
        str(one.value) for one in ast.walk(found) if isinstance(one, ast.Constant) and WORD.fullmatch(str(one.value))
    }


def problems(source: str) -> set[str]:
    """The reasons of the problems that a module makes."""
    calls = [one for one in ast.walk(ast.parse(source)) if isinstance(one, ast.Call)]
    return {
        str(one.args[0].value)
        for one in calls
        if isinstance(one.func, ast.Name) and one.func.id == "SubnetProblem" and isinstance(one.args[0], ast.Constant)
    }


def test_every_reason_is_of_the_conditions_that_may_give_it() -> None:
    source = (OPERATOR / "subnet" / "status.py").read_text()
    connected, pending, issued = (constants(source, f"_{name}") for name in ("connected", "pending", "certificates"))
    unready = constants_of(source, "_UNREADY")
    assert connected > {"LabUnreachable"}
    assert pending > unready > {"RollingUpdate"}
    uncertain = {
        reason
        for name in ("observe.py", "plan/authority.py", "plan/certmanager.py")
        for reason in problems((OPERATOR / "subnet" / name).read_text())
    }
    assert uncertain > {"AuthorityLost", "CertManagerMissing", "LeafUnfit"}
    undone = {"InvalidSpec", "Unsupported", INTERNAL_ERROR}
    givers = {
        "Connected": connected,
        "CertificatesReady": issued | uncertain,
        "Progressing": pending | undone | {"AsWanted", "RolloutStalled"},
        "Ready": {"Connected"} | connected - {"LinksUp"} | unready | issued - {"Issued"} | uncertain | undone,
        "Paused": {"Annotated", "NotPaused"},
    }
    well = {"Connected", "AsWanted", "NotLookedYet"} | connected | pending | issued | givers["Paused"]
    givers["Degraded"] = table("reasons") - well
    said = {reason: set(cell.split(", ")) for reason, cell in columns_of("reasons")}
    assert said.pop("NotLookedYet") == {"any"}
    assert said == {reason: {name for name, its in givers.items() if reason in its} for reason in said}


def test_what_only_events_say_is_in_the_table_of_events() -> None:
    story = set(words_in(OPERATOR / "subnet" / "story.py"))
    others = {word for path in TELLERS if path.name not in ("story.py", "authority.py") for word in words_in(path)}
    assert story - others - NO_REASONS <= table("events")
    assert {"AuthorityReplacing", "AuthorityReplaced"} <= table("events")


def test_conditions_and_columns_are_those_of_the_code() -> None:
    for name in status.CONDITIONS:
        assert f"| `{name}` |" in PAGE
    columns = crd()["spec"]["versions"][0]["additionalPrinterColumns"]
    shown = [one["name"].upper() for one in columns if not one.get("priority")]
    assert re.search("NAME +" + " +".join(shown), PAGE)


def test_the_annotations_of_the_table_are_those_that_the_operator_reads() -> None:
    part = PAGE.partition("\n## Annotations\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([a-z0-9.-]+/[a-z-]+)", part, re.MULTILINE)) == annotations.CHECKS.keys()


def test_every_page_names_only_annotations_and_labels_that_are_in_the_code() -> None:
    known = {word for path in CODE for word in OURS.findall(path.read_text())}
    pages = [ROOT / "README.md", ROOT / "charts" / "p2pnet" / "README.md", *(ROOT / "docs").rglob("*.md")]
    named = {word: path.name for path in pages for word in OURS.findall(path.read_text())}
    assert named.keys() >= annotations.CHECKS.keys()
    assert {word: page for word, page in named.items() if word not in known} == {}


def test_the_testers_role_of_the_page_is_the_one_of_the_code() -> None:
    [role] = [block for block in BLOCKS if block["kind"] == "Role"]
    assert role == rbac.tester_role("default", "demo")


def test_the_document_for_openshift_leaves_user_and_group_to_it() -> None:
    [subnet] = [load_subnet(block) for block in BLOCKS if block["kind"] == "Subnet"]
    assert subnet.spec.pod.security_context is not None
    assert subnet.spec.pod.security_context.run_as_user is None
