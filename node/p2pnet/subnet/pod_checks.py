"""Contradictions in what the document says of pods, which an API server would refuse in the pods themselves. Pure."""

from collections.abc import Iterator
from itertools import chain

from p2pnet.subnet.mistakes import Mistake
from p2pnet.subnet.names import SHARED_RESOURCES, amount_of
from p2pnet.subnet.pod_spec import ContainerSecurity, PodSpec, ResourcesSpec, SeccompProfile, Toleration
from p2pnet.subnet.spec import Spec

WITHOUT_KEY = "is Exists where no key is given"
BESIDE_EXISTS = "belongs to operator Equal, not to Exists"
SECONDS = "is NoExecute where tolerationSeconds are given"
PROFILE_OF = "belongs to type Localhost, and Localhost needs it"
PRIVILEGED = "cannot be false for a privileged container"
SYS_ADMIN = "cannot be false beside the capability CAP_SYS_ADMIN"
ABOVE = "requested, but the limit is"
NOT_SHARED = "is not shared: request as much as the limit says, and say both"


def pod_mistakes(spec: Spec) -> Iterator[Mistake]:
    """Mistakes in `spec.pod`, in the groups' pods, and in the lab's resources."""
    yield from _pod("spec.pod", spec.pod)
    for index, group in enumerate(spec.groups):
        if group.pod is not None:
            yield from _pod(f"spec.groups[{index}].pod", group.pod)
    yield from _resources("spec.lab.resources", spec.lab.resources)


def _pod(path: str, pod: PodSpec) -> Iterator[Mistake]:
    yield from _resources(f"{path}.resources", pod.resources)
    for index, toleration in enumerate(pod.tolerations):
        yield from _toleration(f"{path}.tolerations[{index}]", toleration)
    contexts = {"securityContext": pod.security_context, "containerSecurityContext": pod.container_security_context}
    for key, context in contexts.items():
        if context is not None and context.seccomp_profile is not None:
            yield from _seccomp(f"{path}.{key}.seccompProfile", context.seccomp_profile)
    if pod.container_security_context is not None:
        yield from _container(f"{path}.containerSecurityContext", pod.container_security_context)


def _resources(path: str, resources: ResourcesSpec) -> Iterator[Mistake]:
    requests, limits = resources.requests, resources.limits
    for key, amount in requests.items():
        if key in limits and amount_of(amount) > amount_of(limits[key]):
            yield f"{path}.requests", f"{key}: {amount} {ABOVE} {limits[key]}"
    for key in dict.fromkeys(chain(requests, limits)):
        if key in SHARED_RESOURCES:
            continue
        if key not in requests or key not in limits or amount_of(requests[key]) < amount_of(limits[key]):
            yield f"{path}.requests", f"{key} {NOT_SHARED}"


def _toleration(path: str, toleration: Toleration) -> Iterator[Mistake]:
    exists = toleration.operator == "Exists"
    if toleration.key is None and not exists:
        yield f"{path}.operator", WITHOUT_KEY
    if toleration.value and exists:
        yield f"{path}.value", BESIDE_EXISTS
    if toleration.toleration_seconds is not None and toleration.effect != "NoExecute":
        yield f"{path}.effect", SECONDS


def _seccomp(path: str, profile: SeccompProfile) -> Iterator[Mistake]:
    if (profile.type == "Localhost") != (profile.localhost_profile is not None):
        yield f"{path}.localhostProfile", PROFILE_OF


def _container(path: str, context: ContainerSecurity) -> Iterator[Mistake]:
    if context.allow_privilege_escalation is not False:
        return
    if context.privileged:
        yield f"{path}.allowPrivilegeEscalation", PRIVILEGED
    if context.capabilities is not None and "CAP_SYS_ADMIN" in context.capabilities.add:
        yield f"{path}.allowPrivilegeEscalation", SYS_ADMIN
