"""The pods: nodes and the lab. Bare, restricted, each with Secrets of its own. Pure."""

from p2pnet.operator.kube.api import POD, Object
from p2pnet.operator.kube.desired import digest, stamped
from p2pnet.operator.subnet.context import (
    AGENT_PORT,
    EVERYWHERE,
    HEALTH_PORT,
    LAB_PORT,
    PORT_BASE,
    ROLE_LABEL,
    SUBNET_LABEL,
    Placed,
    SubnetContext,
)
from p2pnet.operator.subnet.plan import certmanager
from p2pnet.operator.subnet.plan.configmaps import DENIED_KEY, MEMBERS_KEY
from p2pnet.subnet.spec import ContainerSecurity, PodSecurity, PodSpec

USER = 65532  # nonroot, of the image
CONFIG_HASH = "p2pnet.io/config-hash"
STOP_S = 30  # nodes are gone after 10
NODE_CPU_MILLI = 20  # requested per node when nothing is said; a node at rest takes less
NODE_MEMORY_MI = 64
LAB_STATE = "/var/lib/p2pnet"
NODE_STATE = "/run/p2pnet"
CODE = "/etc/p2pnet/code"
POD_SECURITY: Object = {
    "runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}  # fmt: skip
CONTAINER_SECURITY: Object = {
    "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
}  # fmt: skip
"""What a namespace that enforces the restricted profile asks for."""


def node_pod(site: SubnetContext, placed: Placed, config_hash: str) -> Object:
    """The pod of some members, with the hash that tells an outdated one; `config_hash` is the `rolling_hash` of the site."""
    group = next((one for one in site.subnet.spec.groups if one.name == placed.group), None)
    settings = (group.pod if group else None) or site.subnet.spec.pod
    image = (group.image if group else None) or site.subnet.spec.image or site.image
    ours = {
        "P2PNET_MEMBERS": ",".join(placed.members), "P2PNET_GROUP": placed.group, "P2PNET_HOST": EVERYWHERE,
        "TMPDIR": NODE_STATE,
    }  # fmt: skip
    container = {
        "name": "node", "image": image, "command": ["python", "-m", "p2pnet.supervisor.pod"],
        "env": _env({**(group.env if group else {}), **ours}),
        "ports": [
            *({"name": f"quic-{i}", "containerPort": PORT_BASE + i, "protocol": "UDP"}
              for i in range(min(site.subnet.spec.nodes_per_pod, len(placed.members)))),
            {"name": "agent", "containerPort": AGENT_PORT, "protocol": "UDP"},
            {"name": "health", "containerPort": HEALTH_PORT, "protocol": "TCP"},
        ],
        **_probes(HEALTH_PORT, ready="/readyz"),
        "volumeMounts": _mounts(
            {"config": "/etc/p2pnet/config", "members": "/etc/p2pnet/members", "identity": "/etc/p2pnet/identity"},
            {"run": NODE_STATE},
        ),
    }  # fmt: skip
    volumes = [
        _config_map("config", site.config_map), _members(site),
        _identity(site, placed), {"name": "run", "emptyDir": {}},
    ]  # fmt: skip
    if settings.code is not None:
        volumes.append(_config_map("code", settings.code.config_map))
        container["volumeMounts"] = [*container["volumeMounts"], *_mounts({"code": CODE}, {})]
    extra = {"hostname": placed.pod, "subdomain": site.nodes_service, "topologySpreadConstraints": _spread(site)}
    spec = _spec(settings, container, volumes, len(placed.members)) | extra
    annotations = {CONFIG_HASH: config_hash}
    pod = site.object(POD, placed.pod, spec=spec, annotations=annotations, role="node", group=placed.group)
    return stamped(_with_metadata(pod, settings))


def lab_pod(site: SubnetContext) -> Object:
    """The lab's pod."""
    spec = site.subnet.spec
    settings = spec.pod.model_copy(update={"resources": spec.lab.resources})
    env = {
        "P2PNET_STATE": LAB_STATE,
        "P2PNET_NAMESPACE": site.namespace,
        "P2PNET_SUBNET": site.name,
        "TMPDIR": LAB_STATE,
    }
    container = {
        "name": "lab", "image": spec.image or site.image, "command": ["python", "-m", "p2pnet.lab", "--pod"],
        "env": _env(env), "ports": [{"name": "http", "containerPort": LAB_PORT, "protocol": "TCP"}],
        **_probes(LAB_PORT, ready="/healthz"),
        "volumeMounts": _mounts(
            {"identity": "/etc/p2pnet/lab", "token": "/etc/p2pnet/token", "members": "/etc/p2pnet/members",
             "spec": "/etc/p2pnet/spec"},
            {"state": LAB_STATE},
        ),
    }  # fmt: skip
    claimed: Object = {"persistentVolumeClaim": {"claimName": site.lab}}
    state = {"name": "state", **({"emptyDir": {}} if spec.lab.storage == "emptyDir" else claimed)}
    volumes = [
        _secret("identity", site.lab), _secret("token", site.token), _config_map("members", site.members_map),
        _config_map("spec", site.config_map), state,
    ]  # fmt: skip
    annotations = {CONFIG_HASH: digest([site.subnet.spec.identity.trust_domain])}
    pod = site.object(POD, site.lab, spec=_spec(settings, container, volumes, 1), annotations=annotations, role="lab")
    return stamped(_with_metadata(pod, settings))


def _with_metadata(pod: Object, settings: PodSpec) -> Object:
    """The pod with the user's labels and annotations below ours."""
    metadata = pod["metadata"]
    extra = {key: {**getattr(settings, key), **metadata[key]} for key in ("labels", "annotations")}
    return {**pod, "metadata": {**metadata, **extra}}


def _spec(settings: PodSpec, container: Object, volumes: list[Object], nodes: int) -> Object:
    container |= {
        "imagePullPolicy": settings.image_pull_policy,
        "terminationMessagePolicy": "FallbackToLogsOnError",  # what a pod says at its end, its status can say too
        "resources": _resources(settings, nodes),
        "securityContext": _written(settings.container_security_context, CONTAINER_SECURITY),
    }  # fmt: skip
    spec: Object = {
        "automountServiceAccountToken": False, "enableServiceLinks": False, "restartPolicy": "Always",
        "terminationGracePeriodSeconds": STOP_S, "containers": [container], "volumes": volumes,
        "securityContext": _written(settings.security_context, POD_SECURITY),
    }  # fmt: skip
    if settings.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": one.name} for one in settings.image_pull_secrets]
    if settings.node_selector:
        spec["nodeSelector"] = dict(settings.node_selector)
    if settings.tolerations:
        spec["tolerations"] = [one.model_dump(by_alias=True, exclude_unset=True) for one in settings.tolerations]
    classes = {
        "priorityClassName": settings.priority_class_name, "serviceAccountName": settings.service_account_name,
        "runtimeClassName": settings.runtime_class_name,
    }  # fmt: skip
    return spec | {key: name for key, name in classes.items() if name}


def _written(context: PodSecurity | ContainerSecurity | None, ours: Object) -> Object:
    """A security context as the user wrote it, an empty one too; without any, ours."""
    return dict(ours) if context is None else context.model_dump(by_alias=True, exclude_unset=True)


def _resources(settings: PodSpec, nodes: int) -> Object:
    """Requests always: without any, the first pods to be evicted."""
    requests = {"cpu": f"{NODE_CPU_MILLI * nodes}m", "memory": f"{NODE_MEMORY_MI * nodes}Mi"}
    written: Object = {"requests": {**requests, **settings.resources.requests}}
    for key, limit in settings.resources.limits.items():
        written.setdefault("limits", {})[key] = limit
        if key in requests and key not in settings.resources.requests:
            written["requests"][key] = limit  # a default request above the limit would be refused
    return written


def _probes(port: int, ready: str) -> Object:
    def probe(path: str, **timing: int) -> Object:
        return {"httpGet": {"path": path, "port": port, "scheme": "HTTP"}, "timeoutSeconds": 5, **timing}

    # Liveness is a heartbeat of the process alone: a subnet that lost its peers must not be restarted as a whole.
    return {
        "startupProbe": probe("/healthz", periodSeconds=1, failureThreshold=120),
        "livenessProbe": probe("/healthz", periodSeconds=10, failureThreshold=6),
        "readinessProbe": probe(ready, periodSeconds=2, failureThreshold=3),
    }


def _spread(site: SubnetContext) -> list[Object]:
    selector = {"matchLabels": {SUBNET_LABEL: site.name, ROLE_LABEL: "node"}}
    return [
        {
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


def _members(site: SubnetContext) -> Object:
    """What nodes may know of the member list: under discovery by seeds no addresses."""
    volume = _config_map("members", site.members_map)
    if site.subnet.spec.discovery.mode == "seeds":
        volume["configMap"]["items"] = [{"key": DENIED_KEY, "path": MEMBERS_KEY}]
    return volume


def _identity(site: SubnetContext, placed: Placed) -> Object:
    """`<node>.crt` and `<node>.key` per member, and whom to trust: one Secret of ours, or several of cert-manager's."""
    if not site.cert_manager:
        return _secret("identity", placed.pod)
    projected = {"sources": certmanager.volume_sources(site, placed), "defaultMode": 0o440}
    return {"name": "identity", "projected": projected}


def _secret(volume: str, name: str) -> Object:
    # Whole, without subPath: only so does a renewed leaf reach a running pod.
    return {"name": volume, "secret": {"secretName": name, "defaultMode": 0o440}}
