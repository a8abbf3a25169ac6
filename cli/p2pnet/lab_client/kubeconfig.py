"""The kubeconfig: all its files merged as kubectl does, where the first entry of a name counts."""

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2pnet.model.errors import TargetError

HINT = "correct it (kubectl config view shows what kubectl reads), set KUBECONFIG, or use another --context"
_KINDS = ("clusters", "users", "contexts")
LOCK_S = 10.0  # for another program that writes the same file; each takes milliseconds
LOCK_POLL_S = 0.05


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


def add(environment: Mapping[str, str], context: str, text: str) -> bool:
    """Put one context of another kubeconfig, with its cluster and user, where kubectl would put it; whether that changed a file.

    The current context stays; where there is none yet, it becomes this one. A namespace that the context had here stays, too.
    Raises KubeconfigError.
    """
    import yaml

    files = files_of(environment)
    if not files:
        raise KubeconfigError("there is no place for a kubeconfig: this user has no home directory")
    file = next((one for one in files if one.is_file()), files[-1]).resolve()
    with _locked(file):
        wanted, merged = _parsed(text, f"of {context}"), read(environment)
        changed, found = False, dict(_mapping(file))
        for kind in _KINDS:
            changed |= _put(found, kind, [one for one in wanted.get(kind) or [] if isinstance(one, Mapping)], merged)
        if not merged.current:
            found["current-context"], changed = context, True
        if changed:
            _write(file, yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **found}, sort_keys=False))
    return changed


def _put(found: dict[str, Any], kind: str, entries: list[Mapping[str, Any]], merged: Kubeconfig) -> bool:
    """Entries of one kind into the content of a file; whether it is another now."""
    changed = False
    for entry in entries:
        name, inner = entry.get("name"), dict(entry.get(kind[:-1]) or {})
        known = getattr(merged, kind).get(str(name), ({}, None))[0]
        if kind == "contexts" and known.get("namespace"):
            inner.setdefault("namespace", known["namespace"])
        if dict(known) == inner:
            continue
        others = [one for one in found.get(kind) or [] if not (isinstance(one, Mapping) and one.get("name") == name)]
        found[kind], changed = [*others, {"name": name, kind[:-1]: inner}], True
    return changed


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    """As kubectl and kind keep each other from writing a kubeconfig at the same time."""
    lock, deadline = file.with_name(file.name + ".lock"), time.monotonic() + LOCK_S
    while True:
        try:
            file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL, 0o600))
            break
        except FileExistsError:
            if time.monotonic() > deadline:
                raise KubeconfigError(
                    f"another program writes the kubeconfig {file}; if none does: rm {lock}"
                ) from None
            time.sleep(LOCK_POLL_S)
        except OSError as error:
            raise KubeconfigError(f"the kubeconfig {file} cannot be written: {error.strerror}") from error
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _write(file: Path, text: str) -> None:
    """Whole or not at all; for its owner's eyes, unless others could read it before."""
    try:
        mode = file.stat().st_mode & 0o777 if file.exists() else 0o600
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        new = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                out.write(text)
            new.chmod(mode)
            new.replace(file)
        except BaseException:
            new.unlink()
            raise
    except OSError as error:
        raise KubeconfigError(f"the kubeconfig {file} cannot be written: {error.strerror}") from error


def _mapping(file: Path) -> Mapping[str, Any]:
    """The content of one file; empty when it does not exist."""
    try:
        text = file.read_text(encoding="utf-8") if file.exists() else ""
    except (OSError, ValueError) as error:  # ValueError: no UTF-8
        words = (error.strerror or "") if isinstance(error, OSError) else " ".join(str(error).split())
        raise KubeconfigError(f"the kubeconfig {file} cannot be read: {words}") from error
    return _parsed(text, str(file))


def _parsed(text: str, of: str) -> Mapping[str, Any]:
    import yaml

    try:
        found = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - safe, and quick
    except (ValueError, yaml.YAMLError, RecursionError) as error:  # ValueError: a 13th month
        raise KubeconfigError(f"the kubeconfig {of} cannot be read: {' '.join(str(error).split())}") from error
    if found is not None and not isinstance(found, Mapping):
        raise KubeconfigError(f"the kubeconfig {of} is not as kubectl writes it: it holds no mapping")
    return found or {}
