"""The pods of nodes and lab, how they are found (Services) and who may speak to them (NetworkPolicy). Pure.

Pods are bare and fit the restricted profile; each mounts Secrets of its own.
"""

from p2pnet.model.behaviours import HONEST
from p2pnet.model.log_lines import FORMAT_ENV
from p2pnet.model.units import parse_size
from p2pnet.operator.kube.api import CLAIM, POD, POLICY, SERVICE, Object
from p2pnet.operator.kube.desired import digest, with_hash
from p2pnet.operator.subnet.context import (
    AGENT_PORT,
    EVERYWHERE,
    HEALTH_PORT,
    LAB_PORT,
    PORT_BASE,
    ROLE_LABEL,
    SUBNET_LABEL,
    PodPlacement,
    SubnetContext,
)
from p2pnet.operator.subnet.plan import certmanager
from p2pnet.operator.subnet.plan.configmaps import DENIED_KEY, MEMBERS_KEY
from p2pnet.subnet.pod_spec import ContainerSecurity, PodSecurity, PodSpec

USER = 65532  # "nonroot" in the image
CONFIG_HASH = "p2pnet.io/config-hash"
STOP_S = 30  # grace period; nodes end within 10 s
NODE_CPU_MILLI = 20  # request per node where the document has none; a node at rest uses less
NODE_MEMORY_MI = 64
LAB_CPU_MILLI = 100  # nodes wait for the lab before they dial: on a busy machine it must not start as slowly as they do
LAB_LEAVES_S = 30  # a machine that is not ready: nothing is measured without the lab
HELD_S = 10  # a pod that starts answers a probe when it is up, at the latest after 8 s
LAB_STATE = "/var/lib/p2pnet"
NODE_STATE = "/run/p2pnet"
CODE = "/etc/p2pnet/code"
POD_SECURITY: Object = {
    "runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}  # fmt: skip
ANY_USER_SECURITY: Object = {key: value for key, value in POD_SECURITY.items() if value != USER}
CONTAINER_SECURITY: Object = {
    "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
}  # fmt: skip
"""What the pod security standard `restricted` demands."""
BEHAVIOUR_ENV = "P2PNET_BEHAVIOUR"
BOTH_FAMILIES = "PreferDualStack"  # IPv4 and IPv6 where the cluster has both


def node_pod(context: SubnetContext, placed: PodPlacement, config_hash: str) -> Object:
    """The pod of some members. `config_hash` (see `rolling_hash`) is an annotation, so that a change makes pods outdated."""
    group = next((one for one in context.subnet.spec.groups if one.name == placed.group), None)
    settings = (group.pod if group else None) or context.subnet.spec.pod
    own_env = {
        "P2PNET_MEMBERS": ",".join(placed.members), "P2PNET_GROUP": placed.group, "P2PNET_HOST": EVERYWHERE,
        "TMPDIR": NODE_STATE,
    }  # fmt: skip
    # Only in the pods of adversaries: those of honest nodes are what they were before there were any.
    users_env = {name: value for name, value in (group.env if group else {}).items() if name != BEHAVIOUR_ENV}
    if group is not None and group.behaviour != HONEST:
        own_env[BEHAVIOUR_ENV] = group.behaviour
    container = {
        "name": "node", "image": context.image_of(placed.group), "command": ["python", "-m", "p2pnet.supervisor.pod"],
        "env": _env({FORMAT_ENV: "json", **users_env, **own_env}),
        "ports": [
            *({"name": f"quic-{i}", "containerPort": PORT_BASE + i, "protocol": "UDP"}
              for i in range(min(context.subnet.spec.nodes_per_pod, len(placed.members)))),
            {"name": "agent", "containerPort": AGENT_PORT, "protocol": "UDP"},
            {"name": "health", "containerPort": HEALTH_PORT, "protocol": "TCP"},
        ],
        "resources": _resources(settings, NODE_CPU_MILLI * len(placed.members), NODE_MEMORY_MI * len(placed.members)),
        **_probes(HEALTH_PORT, ready="/readyz"),
        "volumeMounts": _mounts(
            {"config": "/etc/p2pnet/config", "members": "/etc/p2pnet/members", "identity": "/etc/p2pnet/identity"},
            {"run": NODE_STATE},
        ),
    }  # fmt: skip
    volumes = [
        _config_map("config", context.config_map), _members(context),
        _identity(context, placed), {"name": "run", "emptyDir": {}},
    ]  # fmt: skip
    # User code of clients, importable in the nodes of this group alone.
    if settings.code is not None:
        volumes.append(_config_map("code", settings.code.config_map))
        container["volumeMounts"] = [*container["volumeMounts"], *_mounts({"code": CODE}, {})]
    extra = {"hostname": placed.pod, "subdomain": context.nodes_service, "topologySpreadConstraints": _spread(context)}
    spec = _spec(context, settings, container, volumes) | extra
    annotations = {CONFIG_HASH: config_hash}
    pod = context.object(POD, placed.pod, spec=spec, annotations=annotations, role="node", group=placed.group)
    return with_hash(_with_metadata(pod, settings))


def lab_pod(context: SubnetContext) -> Object:
    """The lab's pod."""
    spec = context.subnet.spec
    settings = spec.pod.model_copy(update={"resources": spec.lab.resources})
    env = {
        FORMAT_ENV: "json",
        "P2PNET_STATE": LAB_STATE,
        "P2PNET_NAMESPACE": context.namespace,
        "P2PNET_SUBNET": context.name,
        "TMPDIR": LAB_STATE,
    }
    container = {
        "name": "lab", "image": context.image_of(), "command": ["python", "-m", "p2pnet.lab", "--pod"],
        "env": _env(env), "ports": [{"name": "http", "containerPort": LAB_PORT, "protocol": "TCP"}],
        "resources": _resources(settings, LAB_CPU_MILLI, NODE_MEMORY_MI),
        **_probes(LAB_PORT, ready="/healthz"),
        "volumeMounts": _mounts(
            {"identity": "/etc/p2pnet/lab", "token": "/etc/p2pnet/token", "members": "/etc/p2pnet/members",
             "spec": "/etc/p2pnet/spec"},
            {"state": LAB_STATE},
        ),
    }  # fmt: skip
    claimed: Object = {"persistentVolumeClaim": {"claimName": context.lab}}
    state = {"name": "state", **({"emptyDir": {}} if spec.lab.storage == "emptyDir" else claimed)}
    volumes = [
        _secret("identity", context.lab), _secret("token", context.token), _config_map("members", context.members_map),
        _config_map("spec", context.config_map), state,
    ]  # fmt: skip
    annotations = {CONFIG_HASH: digest([context.subnet.spec.identity.trust_domain])}
    pod_spec = _spec(context, settings, container, volumes)
    pod_spec["tolerations"] = [*pod_spec.get("tolerations", []), *_lab_tolerations(settings)]
    pod = context.object(POD, context.lab, spec=pod_spec, annotations=annotations, role="lab")
    return with_hash(_with_metadata(pod, settings))


def _lab_tolerations(settings: PodSpec) -> list[Object]:
    """How long the lab stays on a machine that is not ready or does not answer: the cluster's own default is five minutes."""
    own = {one.key for one in settings.tolerations if one.effect in (None, "NoExecute")}
    return [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": LAB_LEAVES_S}
        for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable") if not own & {key, None}
    ]  # fmt: skip


def lab_claim(context: SubnetContext) -> Object | None:
    """The claim that keeps the lab's runs; None with `emptyDir`."""
    storage = context.subnet.spec.lab.storage
    if storage == "emptyDir":
        return None
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": str(parse_size(storage))}}}
    return context.object(CLAIM, context.lab, spec=spec, role="lab")


def nodes_service(context: SubnetContext) -> Object:
    """The headless Service that gives each node pod its DNS name.

    It publishes addresses that are not ready, too: a node becomes ready by peers that have found it.
    """
    ports = [
        {"name": "health", "port": HEALTH_PORT, "targetPort": HEALTH_PORT, "protocol": "TCP"},
        {"name": "quic", "port": PORT_BASE, "targetPort": PORT_BASE, "protocol": "UDP"},
        {"name": "agent", "port": AGENT_PORT, "targetPort": AGENT_PORT, "protocol": "UDP"},
    ]
    spec = {
        "clusterIP": "None", "publishNotReadyAddresses": True, "selector": context.labels("node"), "ports": ports,
        "type": "ClusterIP", "ipFamilyPolicy": BOTH_FAMILIES,
    }  # fmt: skip
    return context.object(SERVICE, context.nodes_service, spec=spec, role="node")


def lab_service(context: SubnetContext) -> Object:
    """The Service of the lab's `/v1`, for requests through the API server's proxy."""
    ports = [{"name": "http", "port": 80, "targetPort": LAB_PORT, "protocol": "TCP"}]
    spec = {"selector": context.labels("lab"), "ports": ports, "type": "ClusterIP", "ipFamilyPolicy": BOTH_FAMILIES}
    return context.object(SERVICE, context.lab, spec=spec, role="lab")


def policy(context: SubnetContext) -> Object:
    """The NetworkPolicy: who may open connections to pods of the subnet.

    The lab's HTTP port is open to all, guarded by its token: requests through the API server's proxy come from addresses
    that no selector matches. So is the health port, for kubelet and Prometheus; it tells nothing secret.
    """
    last = PORT_BASE + context.subnet.spec.nodes_per_pod - 1
    quic = {"protocol": "UDP", "port": PORT_BASE, **({"endPort": last} if last > PORT_BASE else {})}
    peers = [{"podSelector": {"matchLabels": context.labels()}}]
    # Only the lab may reach the agent, which kills and pauses nodes; the agent checks its leaf, too.
    lab = [{"podSelector": {"matchLabels": context.labels("lab")}}]
    agent = {"protocol": "UDP", "port": AGENT_PORT}
    open_ports = [{"protocol": "TCP", "port": LAB_PORT}, {"protocol": "TCP", "port": HEALTH_PORT}]
    spec = {
        "podSelector": {"matchLabels": context.labels()}, "policyTypes": ["Ingress"],
        "ingress": [{"from": peers, "ports": [quic]}, {"from": lab, "ports": [agent]}, {"ports": open_ports}],
    }  # fmt: skip
    return context.object(POLICY, context.name, spec=spec)


def _with_metadata(pod: Object, settings: PodSpec) -> Object:
    """The pod with the user's labels and annotations; ours win."""
    metadata = pod["metadata"]
    extra = {key: {**getattr(settings, key), **metadata[key]} for key in ("labels", "annotations")}
    return {**pod, "metadata": {**metadata, **extra}}


def _spec(context: SubnetContext, settings: PodSpec, container: Object, volumes: list[Object]) -> Object:
    container |= {
        "imagePullPolicy": settings.image_pull_policy,
        "terminationMessagePolicy": "FallbackToLogsOnError",  # the last line of its log explains a crash in the status
        "securityContext": _written(settings.container_security_context, CONTAINER_SECURITY),
    }  # fmt: skip
    spec: Object = {
        # Nodes never speak to the API server, and need no variable for each Service of the namespace.
        "automountServiceAccountToken": False, "enableServiceLinks": False, "restartPolicy": "Always",
        "terminationGracePeriodSeconds": STOP_S, "containers": [container], "volumes": volumes,
        "securityContext": _written(settings.security_context, ANY_USER_SECURITY if context.any_user else POD_SECURITY),
    }  # fmt: skip
    pull_secrets = [one.name for one in settings.image_pull_secrets] or context.pull_secrets
    if pull_secrets:
        spec["imagePullSecrets"] = [{"name": one} for one in pull_secrets]
    if settings.node_selector:
        spec["nodeSelector"] = dict(settings.node_selector)
    if settings.tolerations:
        spec["tolerations"] = [one.model_dump(by_alias=True, exclude_unset=True) for one in settings.tolerations]
    classes = {
        "priorityClassName": settings.priority_class_name, "serviceAccountName": settings.service_account_name,
        "runtimeClassName": settings.runtime_class_name,
    }  # fmt: skip
    return spec | {key: name for key, name in classes.items() if name}


def _written(security: PodSecurity | ContainerSecurity | None, ours: Object) -> Object:
    """A security context as the user wrote it, an empty one included; without any, ours."""
    return dict(ours) if security is None else security.model_dump(by_alias=True, exclude_unset=True)


def _resources(settings: PodSpec, cpu_milli: int, memory_mi: int) -> Object:
    """Resources, always with requests: pods without are the first to be evicted."""
    requests = {"cpu": f"{cpu_milli}m", "memory": f"{memory_mi}Mi"}
    written: Object = {"requests": {**requests, **settings.resources.requests}}
    for key, limit in settings.resources.limits.items():
        written.setdefault("limits", {})[key] = limit
        if key in requests and key not in settings.resources.requests:
            written["requests"][key] = limit  # a default request above the limit would be refused
    return written


def _probes(port: int, ready: str) -> Object:
    def probe(path: str, **timing: int) -> Object:
        return {"httpGet": {"path": path, "port": port, "scheme": "HTTP"}, **timing}

    # Liveness means that the process answers, no more: when all peers are lost a restart of every pod would not help.
    return {
        # The port is open once Python runs, which the delay is for; then a probe waits for the answer, for up to ten minutes
        # in all: a packed pod on a busy machine takes long.
        "startupProbe": probe(
            "/healthz", initialDelaySeconds=1, periodSeconds=1, timeoutSeconds=HELD_S, failureThreshold=60
        ),
        "livenessProbe": probe("/healthz", periodSeconds=10, timeoutSeconds=5, failureThreshold=6),
        "readinessProbe": probe(ready, periodSeconds=2, timeoutSeconds=HELD_S, failureThreshold=3),
    }


def _spread(context: SubnetContext) -> list[Object]:
    selector = {"matchLabels": {SUBNET_LABEL: context.name, ROLE_LABEL: "node"}}
    return [
        {
            # Spread over machines where there are several; on a single one all share it.
            "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": selector,
        }
    ]  # fmt: skip


def _env(values: dict[str, str]) -> list[Object]:
    return [{"name": key, "value": value} for key, value in values.items()]


def _mounts(read: dict[str, str], written: dict[str, str]) -> list[Object]:
    return [
        *({"name": name, "mountPath": path, "readOnly": True} for name, path in read.items()),
        *({"name": name, "mountPath": path} for name, path in written.items()),
    ]


def _config_map(volume: str, name: str) -> Object:
    return {"name": volume, "configMap": {"name": name}}


def _members(context: SubnetContext) -> Object:
    """The member list for nodes; with discovery by seeds without addresses."""
    volume = _config_map("members", context.members_map)
    if context.subnet.spec.discovery.mode == "seeds":
        volume["configMap"]["items"] = [{"key": DENIED_KEY, "path": MEMBERS_KEY}]
    return volume


def _identity(context: SubnetContext, placed: PodPlacement) -> Object:
    """The identity folder: `<node>.crt` and `<node>.key` per member and the bundle, of our Secret or several of cert-manager."""
    if not context.cert_manager:
        return _secret("identity", placed.pod)
    projected = {"sources": certmanager.volume_sources(context, placed), "defaultMode": 0o440}
    return {"name": "identity", "projected": projected}


def _secret(volume: str, name: str) -> Object:
    # Without subPath: with it a renewed leaf would not reach a running pod.
    return {"name": volume, "secret": {"secretName": name, "defaultMode": 0o440}}
