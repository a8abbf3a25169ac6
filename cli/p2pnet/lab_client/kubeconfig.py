"""The kubeconfig: all its files merged as kubectl does, where the first entry of a name counts."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2pnet.model.errors import TargetError

HINT = "correct it (kubectl config view shows what kubectl reads), set KUBECONFIG, or use another --context"
_KINDS = ("clusters", "users", "contexts")


class KubeconfigError(TargetError):
    """A kubeconfig file that cannot be read; the text names it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, hint=HINT)


@dataclass(frozen=True)
class Kubeconfig:
    """Entries by name, each with the folder that its relative paths start from."""

    files: tuple[Path, ...]
    current: str = ""
    clusters: dict[str, tuple[Mapping[str, Any], Path]] = field(default_factory=dict)
    users: dict[str, tuple[Mapping[str, Any], Path]] = field(default_factory=dict)
    contexts: dict[str, tuple[Mapping[str, Any], Path]] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The paths as the variable KUBECONFIG lists them."""
        return os.pathsep.join(map(str, self.files))


def files_of(environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Paths of the kubeconfig files, existing or not; none for a user without a home directory."""
    listed = environment.get("KUBECONFIG")
    if listed:
        return tuple(Path(file).expanduser() for file in listed.split(os.pathsep) if file)
    try:
        return (Path.home() / ".kube" / "config",)
    except RuntimeError:
        return ()


def read(environment: Mapping[str, str]) -> Kubeconfig:
    """All existing files, merged. Raises KubeconfigError."""
    files = files_of(environment)
    merged = Kubeconfig(files)
    current = ""
    for file in files:
        found = _mapping(file)
        current = current or str(found.get("current-context") or "")
        for kind in _KINDS:
            listed = found.get(kind) or []
            if not isinstance(listed, list):
                raise KubeconfigError(f"the kubeconfig {file} is not as kubectl writes it: {kind} is no list")
            for one in listed:
                if isinstance(one, Mapping) and isinstance(inner := one.get(kind[:-1]), Mapping):
                    getattr(merged, kind).setdefault(str(one.get("name")), (inner, file.parent))
    return Kubeconfig(files, current, merged.clusters, merged.users, merged.contexts)


def _mapping(file: Path) -> Mapping[str, Any]:
    """The content of one file; empty when it does not exist."""
    import yaml

    try:
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        found = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - safe, and quick
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:  # ValueError: no UTF-8, a 13th month
        words = (error.strerror or "") if isinstance(error, OSError) else " ".join(str(error).split())
        raise KubeconfigError(f"the kubeconfig {file} cannot be read: {words}") from error
    if found is not None and not isinstance(found, Mapping):
        raise KubeconfigError(f"the kubeconfig {file} is not as kubectl writes it: it holds no mapping")
    return found or {}
