"""The operator in a cluster: install.yaml applied, waited for, and taken away again. Blocks: call it from a thread."""

import re
import time
from collections.abc import Callable, Iterator
from importlib import metadata, resources
from typing import Any

import yaml

from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.targets.cluster.status import Object, name_of
from p2pnet.lab_client.kube import Kube, KubeError
from p2pnet.model.errors import TargetError
from p2pnet.model.images import UNRELEASED, image_tag
from p2pnet.subnet.pods import why_not_up

CRD = "CustomResourceDefinition"
GROUP_PATH = "/apis/p2pnet.io/v1alpha1"
KINDS = {"Subnet": "subnets", "Injection": "injections"}
"""Ours, and their names in paths."""
DEPLOYMENTS = "/apis/apps/v1/deployments"
COMPONENT_LABEL = "p2pnet.io/component"
"""Label of the operator's Deployment and pods, `operator`, whatever the chart's values call them."""
OPERATOR_SELECTORS = (
    f"{COMPONENT_LABEL}=operator",
    "app.kubernetes.io/name=p2pnet,app.kubernetes.io/component=operator",
)
"""They select the operator's Deployment and pods: as they are made now, and as they were before there was a label of ours."""
IMAGE_ID = "p2pnet.io/image-id"
"""Annotation of the operator's pods: another image by the same name makes other pods."""
NODE_IMAGE = "P2PNET_NODE_IMAGE"
ESTABLISHED_S = 60.0
READY_S = 180.0  # for an image to be pulled, and the old pod to be gone first
GONE_S = 120.0
POLL_S = 0.3

# Kind -> (plural, whether it is in a namespace): what install.yaml is made of.
PLURALS = {
    "Namespace": ("namespaces", False), CRD: ("customresourcedefinitions", False),
    "ClusterRole": ("clusterroles", False), "ClusterRoleBinding": ("clusterrolebindings", False),
    "Role": ("roles", True), "RoleBinding": ("rolebindings", True), "ServiceAccount": ("serviceaccounts", True),
    "NetworkPolicy": ("networkpolicies", True), "Deployment": ("deployments", True), "Service": ("services", True),
    "PodDisruptionBudget": ("poddisruptionbudgets", True), "ConfigMap": ("configmaps", True),
}  # fmt: skip
VERSIONS = re.compile(rf'((?:image|value): p2pnet/[\w-]+:|app\.kubernetes\.io/version: "?){UNRELEASED}\b')
"""Where install.yaml names a version: it is rendered from the working tree, and released with it as it is."""
FIRST = ("Namespace", CRD)
"""What the others need."""


def manifest(operator_image: str | None = None, node_image: str | None = None) -> list[Object]:
    """The objects of install.yaml, in the order in which to apply them, with these images instead of its own."""
    text = resources.files("p2pnet.cli").joinpath("install.yaml").read_text(encoding="utf-8")
    text = VERSIONS.sub(rf"\g<1>{image_tag(metadata.version('p2pnet'))}", text)
    found = [one for one in yaml.safe_load_all(text) if one]
    for container in _containers(found):
        container["image"] = operator_image or container["image"]
        for variable in container.get("env") or []:
            if variable["name"] == NODE_IMAGE and node_image:
                variable["value"] = node_image
    return sorted(found, key=lambda one: FIRST.index(one["kind"]) if one["kind"] in FIRST else len(FIRST))


def images(objects: list[Object]) -> tuple[str, str]:
    """The operator's image and the nodes'."""
    container = next(_containers(objects))
    node = next((str(one.get("value")) for one in container.get("env") or [] if one["name"] == NODE_IMAGE), "")
    return str(container["image"]), node


def install(kube: Kube, objects: list[Object], tell: Callable[[str], None], *, timeout_s: float) -> list[str]:
    """Apply them all; wait until our kinds are known before the rest. What was applied. TargetError (exit 4), KubeError."""
    done = []
    for one in objects:
        tell(label(one))
        if one["kind"] == "Namespace" and _is_ending(kube.get(path_of(one))):
            _wait_gone(kube, [one], tell)
        kube.apply(path_of(one), one)
        done.append(label(one))
        if one["kind"] == CRD:
            _wait_established(kube, one, tell, timeout_s)
    return done


def operators(kube: Kube) -> list[Object]:
    """The Deployments of operators in all namespaces, those of the chart too, without those that are ending. KubeError."""
    found = [{**one, "kind": "Deployment", "apiVersion": "apps/v1"} for one in of_operators(kube, DEPLOYMENTS)]
    return [one for one in found if not _is_ending(one)]


def of_operators(kube: Kube, path: str) -> list[Object]:
    """The objects of a collection that belong to operators, of any version and by any name. KubeError."""
    found = [one for selector in OPERATOR_SELECTORS for one in kube.find(path, selector)]
    return list({(one["metadata"].get("namespace"), name_of(one)): one for one in found}.values())


def selector_of(objects: list[Object]) -> str:
    """The label selector by which a person finds what belongs to these operators."""
    labelled = [COMPONENT_LABEL in (one["metadata"].get("labels") or {}) for one in objects]
    return OPERATOR_SELECTORS[0] if any(labelled) or not objects else OPERATOR_SELECTORS[1]


def of_image(objects: list[Object], image_id: str) -> list[Object]:
    """The same objects, whose operator is started anew when the image behind its tag is another one."""
    for one in objects:
        if one["kind"] == "Deployment" and image_id:
            one["spec"]["template"]["metadata"].setdefault("annotations", {})[IMAGE_ID] = image_id
    return objects


def restart(kube: Kube, deployment: Object, image_id: str) -> None:
    """Start an operator that others installed anew, with the image that is behind its tag now. KubeError."""
    template = {"metadata": {"annotations": {IMAGE_ID: image_id}}}
    kube.merge(path_of(deployment), {"spec": {"template": template}})


def wait_ready(kube: Kube, deployment: Object, tell: Callable[[str], None], *, timeout_s: float) -> None:
    """Until the operator works, as it was applied last. TargetError (exit 4) with what keeps it from that, KubeError."""
    deadline, path = time.monotonic() + timeout_s, path_of(deployment)
    while not _is_ready(kube.get(path) or {}):
        namespace = deployment["metadata"]["namespace"]
        pods = of_operators(kube, f"/api/v1/namespaces/{namespace}/pods")
        why = next(filter(None, map(why_not_up, pods)), "" if pods else "it has no pod yet")
        if time.monotonic() > deadline:
            raise TargetError(
                f"the operator is not ready after {timeout_s:.0f} s: {why or 'its pod runs, but does not say that it is'}",
                where=f"{label(deployment)}, context {kube.context}",
                hint=f"kubectl describe pods --context {kube.context} -n {namespace} -l {selector_of(pods)}",
                exit_code=ExitCode.NOT_READY,
            )
        tell(f"the operator to be ready{f': {why}' if why else ''}")
        time.sleep(POLL_S)


def _is_ready(deployment: Object) -> bool:
    status, wanted = deployment.get("status") or {}, (deployment.get("spec") or {}).get("replicas", 1)
    seen = status.get("observedGeneration", 0) >= (deployment.get("metadata") or {}).get("generation", 0)
    counts = [status.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")]
    return seen and counts == [wanted] * len(counts)


def is_installed(kube: Kube) -> bool:
    """Whether the cluster knows Subnets."""
    return kube.get(GROUP_PATH) is not None


def unknown_kinds(kube: Kube) -> list[str]:
    """Our kinds that the cluster does not know, where it says which it knows."""
    served = {one.get("kind") for one in (kube.get(GROUP_PATH) or {}).get("resources") or []}
    return [kind for kind in KINDS if kind not in served] if served else []


def left(kube: Kube, kind: str = "Subnet") -> list[str]:
    """`namespace/name` of every Subnet, or object of another of our kinds, in the cluster."""
    try:
        found = kube.find(f"{GROUP_PATH}/{KINDS[kind]}")
    except KubeError as error:
        if error.status == 404:
            return []
        raise
    return sorted(f"{one['metadata'].get('namespace')}/{name_of(one)}" for one in found)


def uninstall(
    kube: Kube, objects: list[Object], tell: Callable[[str], None], *, orphan: bool
) -> tuple[list[str], list[str]]:
    """Delete them all, last first; what was there and what was gone already.

    `orphan`: Subnets and Injections, their definitions and so pods and results stay, and the namespace when Subnets live in it.
    """
    removed: list[str] = []
    absent: list[str] = []
    inhabited = {one.partition("/")[0] for one in left(kube)} if orphan else set()
    for one in reversed(objects):
        if orphan and (one["kind"] == CRD or (one["kind"] == "Namespace" and name_of(one) in inhabited)):
            continue
        tell(label(one))
        (removed if kube.delete(path_of(one)) else absent).append(label(one))
    _wait_gone(kube, [one for one in objects if one["kind"] in FIRST and label(one) in removed], tell)
    return removed, absent


def path_of(thing: Object) -> str:
    """Where an object of install.yaml is. TargetError for a kind that is not in the table."""
    if thing["kind"] not in PLURALS:
        raise TargetError(
            f"install.yaml holds a {thing['kind']}, which this version does not know",
            where="p2pnet.cli/install.yaml",
            hint="this is a bug: please report it",
            exit_code=ExitCode.BUG,
        )
    plural, namespaced = PLURALS[thing["kind"]]
    parts = ["/apis" if "/" in thing["apiVersion"] else "/api", thing["apiVersion"]]
    if namespaced:
        parts += ["namespaces", thing["metadata"]["namespace"]]
    return "/".join([*parts, plural, name_of(thing)])


def label(thing: Object) -> str:
    """`Deployment p2pnet-system/p2pnet`."""
    namespace = thing["metadata"].get("namespace")
    return f"{thing['kind']} {f'{namespace}/' if namespace else ''}{name_of(thing)}"


def _wait_established(kube: Kube, crd: Object, tell: Callable[[str], None], timeout_s: float) -> None:
    kinds = f"{crd['spec']['names']['kind']}s"
    deadline = time.monotonic() + timeout_s
    while True:
        found = kube.get(path_of(crd)) or {}
        conditions = {one["type"]: one for one in (found.get("status") or {}).get("conditions") or []}
        if conditions.get("Established", {}).get("status") == "True":
            return
        if time.monotonic() > deadline:
            why = "; ".join(f"{one['type']}: {one.get('message')}" for one in conditions.values()) or "it says nothing"
            raise TargetError(
                f"the definition of {kinds} is not established after {timeout_s:.0f} s: {why}",
                where=f"context {kube.context}",
                hint=f"kubectl describe crd {name_of(crd)}",
                exit_code=ExitCode.NOT_READY,
            )
        tell(f"the definition of {kinds} to be established")
        time.sleep(POLL_S)


def _is_ending(thing: Object | None) -> bool:
    return thing is not None and bool((thing.get("metadata") or {}).get("deletionTimestamp"))


def _wait_gone(kube: Kube, objects: list[Object], tell: Callable[[str], None]) -> None:
    """Namespace and definition end after what is in them: until then nothing can be installed again."""
    deadline = time.monotonic() + GONE_S
    for one in objects:
        while kube.get(path_of(one)) is not None:
            if time.monotonic() > deadline:
                raise TargetError(
                    f"{label(one)} is deleted, but still there after {GONE_S:.0f} s",
                    where=f"context {kube.context}",
                    hint=f"kubectl describe {one['kind'].lower()} {name_of(one)}",
                    exit_code=ExitCode.NOT_READY,
                )
            tell(f"{label(one)} to end")
            time.sleep(POLL_S)


def _containers(objects: list[Object]) -> Iterator[dict[str, Any]]:
    for one in objects:
        if one["kind"] == "Deployment":
            yield from one["spec"]["template"]["spec"]["containers"]
