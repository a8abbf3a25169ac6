# ruff: noqa: RUF012 - pydantic copies mutable defaults for every instance
"""The shapes of `spec.pod`, `spec.groups[].pod` and `resources`: what of a pod is the user's. `spec` has the rest."""

from typing import Annotated, Literal

from pydantic import Field

from p2pnet.subnet.names import (
    KEY,
    LABEL_VALUE,
    PROFILE,
    Amounts,
    Identifier,
    Labels,
    ObjectName,
    PodAnnotations,
    PodLabels,
)
from p2pnet.subnet.quantities import Document, Text


class ResourcesSpec(Document):
    """Kubernetes resource requests and limits."""

    requests: Amounts = {}
    """What is set aside for the container, e.g. {cpu: 500m, memory: 256Mi}. Default: 20m and 64Mi for each node in the pod."""
    limits: Amounts = {}
    """What the container may use at most, e.g. {memory: 1Gi}. Default: no limit."""


class LocalReference(Document):
    """The name of an object in the subnet's own namespace."""

    name: ObjectName
    """The object's name, e.g. registry-login. Required."""


class ConfigMapReference(Document):
    """The name of a ConfigMap in the subnet's own namespace."""

    config_map: ObjectName
    """The ConfigMap's name, e.g. my-clients. Required."""


class SeccompProfile(Document):
    """Which system calls are let through."""

    type: Literal["RuntimeDefault", "Localhost", "Unconfined"]
    """RuntimeDefault, Localhost or Unconfined, e.g. RuntimeDefault. Required."""
    localhost_profile: Annotated[Text, PROFILE] | None = None
    """With Localhost: the profile's file on the machine, e.g. profiles/p2pnet.json. Default: none."""


class SeLinuxOptions(Document):
    """The SELinux label of processes."""

    user: Text | None = None
    """SELinux user, e.g. system_u. Default: the runtime's choice."""
    role: Text | None = None
    """SELinux role, e.g. system_r. Default: the runtime's choice."""
    type: Text | None = None
    """SELinux type, e.g. container_t. Default: the runtime's choice."""
    level: Text | None = None
    """SELinux level, e.g. s0:c123,c456. Default: the runtime's choice."""


class _Security(Document):
    """What security contexts of pods and of containers have in common."""

    run_as_user: Identifier | None = None
    """Numeric user id of the processes, e.g. 1000650000. Default where this object is written: the image's or the cluster's."""
    run_as_group: Identifier | None = None
    """Numeric group id of the processes, e.g. 65532. Default where this object is written: the image's or the cluster's."""
    run_as_non_root: bool | None = None
    """Whether Kubernetes refuses to start processes of user 0, e.g. true. Default where this object is written: false."""
    seccomp_profile: SeccompProfile | None = None
    """Which system calls are let through, e.g. {type: RuntimeDefault}. Default where this object is written: the runtime's."""
    se_linux_options: SeLinuxOptions | None = None
    """The SELinux label, e.g. {level: "s0:c123,c456"}. Default: the runtime's choice."""


class PodSecurity(_Security):
    """The security context of a pod. Written, it takes the place of ours as a whole."""

    fs_group: Identifier | None = None
    """Numeric group that owns volumes, by which nodes read their keys, e.g. 65532. Default where this object is written:
    none."""
    fs_group_change_policy: Literal["Always", "OnRootMismatch"] | None = None
    """When the owner of volumes is changed, Always or OnRootMismatch. Default: Always."""
    supplemental_groups: Annotated[list[Identifier], Field(max_length=16)] = []
    """More numeric groups of the processes, e.g. [2000]. Default: none."""


class Capabilities(Document):
    """Capabilities beside or without those of the runtime."""

    add: Annotated[list[Text], Field(max_length=32)] = []
    """Capabilities to add, e.g. [NET_ADMIN]. Default: none."""
    drop: Annotated[list[Text], Field(max_length=32)] = []
    """Capabilities to drop, e.g. [ALL]. Default where this object is written: none."""


class ContainerSecurity(_Security):
    """The security context of the container. Written, it takes the place of ours as a whole."""

    allow_privilege_escalation: bool | None = None
    """Whether a process may gain more rights than its parent, e.g. false. Default where this object is written: true."""
    privileged: bool | None = None
    """Whether the container may do what the machine may, e.g. false. Default: false."""
    read_only_root_filesystem: bool | None = None
    """Whether the image's files cannot be written, e.g. true. Default where this object is written: false."""
    capabilities: Capabilities | None = None
    """Capabilities of the processes, e.g. {drop: [ALL]}. Default where this object is written: the runtime's."""


class Toleration(Document):
    """A taint of machines that pods put up with."""

    key: Annotated[Text, KEY] | None = None
    """The taint's key, e.g. dedicated. Default: every key."""
    operator: Literal["Exists", "Equal"] | None = None
    """How the value is compared, Exists or Equal. Default: Equal."""
    value: Annotated[Text, LABEL_VALUE] | None = None
    """The taint's value, e.g. p2pnet. Default: none."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """The taint's effect, e.g. NoSchedule. Default: every effect."""
    toleration_seconds: int | None = None
    """Seconds for which NoExecute is tolerated, e.g. 60. Default: for ever."""


class PodSpec(Document):
    """What of a pod is the user's business; the cluster targets only. An edit replaces the pods one after the other."""

    resources: ResourcesSpec = ResourcesSpec()
    """Requests and limits of each node pod, e.g. {limits: {memory: 1Gi}}. Default: 20m and 64Mi for each node in the pod."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    """When the image is pulled: Always, IfNotPresent or Never. Default: IfNotPresent."""
    image_pull_secrets: Annotated[list[LocalReference], Field(max_length=16)] = []
    """Secrets with logins of registries, e.g. [{name: registry-login}]. Default: those of the operator's installation, if any."""
    code: ConfigMapReference | None = None
    """Python modules and wheels that nodes can import beside those of their image: the classes of clients, e.g.
    {configMap: my-clients}. Default: none."""
    node_selector: Labels = {}
    """Labels of the machines that may run the pods, e.g. {disk: ssd}. Default: any machine."""
    tolerations: Annotated[list[Toleration], Field(max_length=16)] = []
    """Taints of machines that the pods put up with, e.g. [{key: dedicated, operator: Exists}]. Default: none."""
    annotations: PodAnnotations = {}
    """Annotations of the pods, e.g. {sidecar.istio.io/inject: "false"}; none of p2pnet.io, k8s.io, kubernetes.io itself, and app.
    or controller.kubernetes.io. Default: none."""
    labels: PodLabels = {}
    """Labels of the pods beside ours, e.g. {team: p2p}; none of p2pnet.io, k8s.io, kubernetes.io itself, and app. or
    controller.kubernetes.io. Default: none."""
    priority_class_name: ObjectName | None = None
    """The PriorityClass of the pods, e.g. low. Default: the cluster's."""
    service_account_name: ObjectName | None = None
    """The ServiceAccount of the pods, whose token is not mounted, e.g. p2pnet-nodes. Default: default."""
    runtime_class_name: ObjectName | None = None
    """The RuntimeClass that runs the pods, e.g. gvisor. Default: the cluster's."""
    security_context: PodSecurity | None = None
    """The pod's security context, in the place of ours, e.g. {runAsNonRoot: true} on OpenShift, which chooses users itself.
    Default: not root, user, group and fsGroup 65532, seccomp RuntimeDefault."""
    container_security_context: ContainerSecurity | None = None
    """The container's security context, in the place of ours, e.g. {capabilities: {drop: [ALL], add: [NET_ADMIN]}}. Default: no
    privilege escalation, a root file system that cannot be written, no capability."""
