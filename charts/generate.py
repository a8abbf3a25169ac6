"""Writes what is made of other files: rights, definitions, dashboard, icon and table of values of the chart, and install.yaml.

`python charts/generate.py` writes, `--check` only says what differs. install.yaml needs helm.
"""

import argparse
import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import yaml

from p2pnet.model.images import UNRELEASED
from p2pnet.operator.injection.crd import crd as injection_crd
from p2pnet.operator.rbac import CERT_MANAGER_RIGHTS, CLAIM_RIGHTS, CLUSTER_RIGHTS, LEASE_RIGHTS, RIGHTS, PolicyRule
from p2pnet.operator.subnet.crd import crd as subnet_crd

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from charts.dashboard import dashboard  # noqa: E402 - run as a script it finds its own folder alone

CHART = ROOT / "charts" / "p2pnet"
INSTALL = ROOT / "cli" / "p2pnet" / "cli" / "install.yaml"
NAMESPACE = "p2pnet-system"
VALUES = ("<!-- values: made by charts/generate.py -->\n", "<!-- end of values -->\n")
"""What stands before and after the table in README.md."""
KINDS = {
    "tag:yaml.org,2002:str": "string", "tag:yaml.org,2002:int": "int", "tag:yaml.org,2002:float": "float",
    "tag:yaml.org,2002:bool": "bool", "tag:yaml.org,2002:seq": "list", "tag:yaml.org,2002:map": "object",
}  # fmt: skip
"""What helm-docs calls the kinds of values."""
LEFT_OUT = ("# Source: ", "helm.sh/chart: ")
MADE = "# Made by charts/generate.py; do not edit.\n"


def find_helm() -> str | None:
    """$HELM, the one on PATH, or the one the cluster's tests have built."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = os.environ.get("CLUSTER_HOME") or cache / "p2pnet-cluster"
    return os.environ.get("HELM") or shutil.which("helm") or shutil.which("helm", path=f"{home}/bin")


def made(helm_path: str | None) -> Iterator[tuple[Path, str]]:
    """Every file and its text; install.yaml last, for it is rendered from the others, and only with helm."""
    for crd in (subnet_crd(), injection_crd()):
        path = CHART / "files" / "crds" / f"{crd['spec']['names']['plural']}.yaml"
        yield path, MADE + yaml.safe_dump(crd, sort_keys=False, width=120)
    rights = {
        "served": RIGHTS,
        "cluster": CLUSTER_RIGHTS,
        "claim": CLAIM_RIGHTS,
        "certManager": CERT_MANAGER_RIGHTS,
        "lease": LEASE_RIGHTS,
    }
    yield CHART / "files" / "rbac.yaml", MADE + "".join(_rights(key, some) for key, some in rights.items())
    yield CHART / "files" / "dashboard.json", dashboard()
    yield CHART / "Chart.yaml", chart()
    yield CHART / "README.md", readme()
    if helm_path is not None:
        yield INSTALL, install(helm_path)


def chart() -> str:
    """Chart.yaml with icon.svg in it: a chart is shown in places that may fetch nothing, and a packed one is whole."""
    icon = base64.b64encode((CHART / "icon.svg").read_bytes().strip()).decode()
    text = (CHART / "Chart.yaml").read_text()
    return re.sub(r"^icon: .*$", f"icon: data:image/svg+xml;base64,{icon}", text, flags=re.MULTILINE)


def readme() -> str:
    """README.md with a row for each value: name, type, default, and the comment above it in values.yaml."""
    text = (CHART / "README.md").read_text()
    values = (CHART / "values.yaml").read_text()
    (head, _), (_, tail) = text.split(VALUES[0]), text.split(VALUES[1])
    tree = cast("yaml.MappingNode", yaml.compose(values))
    rows = ["| Key | Type | Default | Description |\n", "| --- | --- | --- | --- |\n"]
    rows += [
        f"| `{name}` | {kind} | `{default}` | {comment} |\n" for name, kind, default, comment in _values(tree, values)
    ]
    return "".join((head, VALUES[0], *rows, VALUES[1], tail))


def _values(tree: yaml.MappingNode, text: str, above: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Name, type, default and meaning; a group over several lines is its parts, unless it has a comment of its own."""
    lines = text.splitlines()
    for key, value in tree.value:
        first = last = key.start_mark.line
        while first and lines[first - 1].strip().startswith("#"):
            first -= 1
        comment = " ".join(line.strip().removeprefix("#").strip() for line in lines[first:last])
        if comment or not isinstance(value, yaml.MappingNode):
            default = json.dumps(yaml.SafeLoader("").construct_object(value, deep=True))
            yield above + key.value, KINDS[value.tag], default, comment.replace("|", "\\|")
        else:
            yield from _values(value, text, f"{above}{key.value}.")


def install(helm_path: str) -> str:
    """The chart's default rendering and its namespace, for `kubectl apply` without helm."""
    rendered = subprocess.run(  # noqa: S603 - our own helm and chart
        [helm_path, "template", "p2pnet", str(CHART), "--namespace", NAMESPACE, "--no-hooks"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    labels = {
        "app.kubernetes.io/name": "p2pnet",
        "app.kubernetes.io/version": UNRELEASED,
        "pod-security.kubernetes.io/enforce": "restricted",
    }
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    kept = "\n".join(line.rstrip() for line in rendered.splitlines() if not line.strip().startswith(LEFT_OUT))
    # helm signs what it manages; what kubectl applies is no release of a chart
    return (
        MADE
        + yaml.safe_dump(namespace, sort_keys=False)
        + kept.replace("managed-by: Helm", "managed-by: p2pnet").strip()
        + "\n"
    )


def _rights(key: str, rights: Sequence[PolicyRule]) -> str:
    lines = [f"{key}:\n"]
    for right in rights:
        lines.append(f"  # {right.why}\n")
        lines.append(f"  - {yaml.safe_dump(right.rule, default_flow_style=True, sort_keys=False, width=200)}")
    return "".join(lines)


def main() -> int:
    """0 when all files are as they should be (or have just been written), else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    path = find_helm()
    if path is None:
        sys.stderr.write("no helm: install.yaml is left out\n")
    different = []
    for file, text in made(path):
        if not file.exists() or file.read_text() != text:
            different.append(str(file.relative_to(ROOT)))
            if not options.check:
                file.write_text(text)
    sys.stdout.writelines(f"{'differs' if options.check else 'written'}: {name}\n" for name in different)
    return 1 if different and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
