"""The target `kind`: a Kubernetes cluster in containers of this machine, made when first needed, and then as any other."""

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.targets.cluster import installation
from p2pnet.cli.targets.cluster.containers import CommandRunner, ContainerEngine, ShellRunner, Tell, choose_program
from p2pnet.cli.targets.cluster.kind_cluster import NAME_VARIABLE, KindCluster, LoadedImages, cluster_name
from p2pnet.cli.targets.cluster.status import Object, name_of
from p2pnet.cli.targets.cluster.target import ClusterTarget
from p2pnet.cli.targets.target import Change, Presence, TargetProgress
from p2pnet.lab_client.kube import Kube
from p2pnet.model.errors import TargetError
from p2pnet.store import State
from p2pnet.store.files import write_atomic
from p2pnet.subnet.spec import Subnet

REPOSITORY = Path(__file__).parents[5]
STAGES = ("operator", "node")
"""Stages of the Dockerfile, in the order of `installation.images`."""
LOCK_S = 3600.0  # for another command that makes the cluster, pulls images and builds them
LOCK_POLL_S = 0.3
BUILT = "kind-images.json"
"""In the state directory: image -> digest of the files it was built of, and the id that it got."""
CONTEXT = (".dockerignore", "Dockerfile", "LICENSE", "README.md", "cli", "node", "operator", "pyproject.toml")
"""What the Dockerfile gets to see of a repository (.dockerignore)."""
MANAGED_BY = "app.kubernetes.io/managed-by"


class KindTarget(ClusterTarget):
    """A `ClusterTarget` in a kind cluster: `p2pnet`, or the one that `--context` or $KIND_CLUSTER_NAME names."""

    kind = "kind"

    def __init__(
        self, state: State, *, namespace: str | None = None, context: str | None = None,
        runner: CommandRunner | None = None, source: Path = REPOSITORY,
    ) -> None:  # fmt: skip
        """`source`: the repository to build images from, where it is one.

        TargetError: without kind, or docker or its like (exit 3), for a context or name that no kind cluster has (exit 2).
        """
        self.state = state
        self._namespace = namespace
        self._namespace_given = namespace is not None
        self._opened: Kube | None = None
        runner = runner or ShellRunner()
        name = cluster_name(context, os.environ.get(NAME_VARIABLE))
        self.cluster = KindCluster(name, runner, ContainerEngine(runner, choose_program(runner)))
        self._source = source
        self._seen = False
        self._prepared: set[str] | None = None
        """Images of the documents for which all was made ready; None: not even the operator."""

    @property
    def kube(self) -> Kube:
        """The kind cluster's API server. TargetError (exit 3) while there is no such cluster."""
        if self._opened is None:
            if not self._exists():
                raise TargetError(
                    f"there is no kind cluster {self.cluster.name}",
                    where=f"--on kind, {self.cluster.engine.program}",
                    hint=f"p2pnet up demo --on kind --context {self.cluster.context} makes it",
                    exit_code=ExitCode.NOT_FOUND,
                )
            self._opened = self.cluster.open(self._namespace)
        return self._opened

    @property
    def where(self) -> str:
        """In words, whether it is there or not."""
        namespace = self._opened.namespace if self._opened else self._namespace or "default"
        return f"context {self.cluster.context}, namespace {namespace}"

    @property
    def install_command(self) -> str:
        """With --on kind, which loads the images."""
        return f"p2pnet install --on kind --context {self.cluster.context}"

    def names(self) -> list[str]:
        """None while there is no cluster, or no p2pnet in it."""
        return super().names() if self._ready() else []

    def presence(self, name: str) -> Presence:
        """Absent while there is no cluster."""
        return super().presence(name) if self._ready() else "absent"

    def use_namespace(self, subnet: Subnet) -> None:
        """As in any cluster; before it is made, the namespace is remembered."""
        if self._exists():
            super().use_namespace(subnet)
        else:
            self._namespace = self._namespace or subnet.metadata.namespace

    # --- what it is made of ---

    async def prepare(self, subnet: Subnet, progress: TargetProgress) -> None:
        """Make the cluster, load the images that changed, install the operator, wait until it works: what is not so yet.

        TargetError: 3 where a program or the cluster fails, 4 where the operator does not come up. KubeError.
        """
        images = images_of(subnet)
        if self._prepared is None:
            async with self._lock(progress):
                await self._make_cluster(progress)
                await self._install(images, progress)
        else:
            await self._load([image for image in images if image not in self._prepared], progress)
        self._prepared = (self._prepared or set()) | set(images)

    @contextlib.asynccontextmanager
    async def _lock(self, progress: TargetProgress) -> AsyncIterator[None]:
        """Keep other commands of this user from making the same cluster. TargetError (exit 2)."""
        file = self.state.root / f"kind-{self.cluster.name}.lock"
        file.parent.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + LOCK_S
        with file.open("a") as held:
            while True:
                try:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() > deadline:
                        raise TargetError(
                            f"another p2pnet command has been making {self.cluster.name} ready for {LOCK_S:.0f} s",
                            where=str(file),
                            hint="wait for it to end, then try again",
                            exit_code=ExitCode.USAGE,
                        ) from error
                    progress.waiting(f"another p2pnet command that makes kind cluster {self.cluster.name} ready")
                    await asyncio.sleep(LOCK_POLL_S)
            yield

    async def _make_cluster(self, progress: TargetProgress) -> None:
        """The cluster, known to the user's kubeconfig. TargetError (exit 3)."""
        if not await asyncio.to_thread(self._exists):
            progress.waiting(f"kind cluster {self.cluster.name}")
            await self.cluster.create(progress)
            self._seen = True
            progress.milestone(f"kind cluster {self.cluster.name}")
        progress.waiting(f"kind cluster {self.cluster.name} to answer")
        await asyncio.to_thread(self.cluster.introduce)

    async def install(
        self, objects: list[Object], progress: TargetProgress, *, established_s: float = installation.ESTABLISHED_S
    ) -> list[str]:
        """Make the cluster, load install.yaml's images and apply it, whatever is there; labels of what was.

        TargetError, KubeError.
        """
        async with self._lock(progress):
            await self._make_cluster(progress)
            return await self._apply_operator(objects, progress, established_s)

    async def _apply_operator(self, objects: list[Object], progress: TargetProgress, established_s: float) -> list[str]:
        wanted = installation.images(objects)
        await self._provide(wanted, progress)
        loaded = await self._load(wanted, progress)
        objects = installation.of_image(objects, loaded.ids.get(wanted[0], ""))
        done = await asyncio.to_thread(
            installation.install, self.kube, objects, progress.waiting, timeout_s=established_s
        )
        [deployment] = [one for one in objects if one["kind"] == "Deployment"]
        await self._until_ready(deployment, progress)
        return done

    async def _install(self, images: list[str], progress: TargetProgress) -> None:
        """The operator and the images of a document. One that others installed, or of another version, stays as it is."""
        objects, found = installation.manifest(), await asyncio.to_thread(installation.operators, self.kube)
        theirs = next((one for one in found if not _is_ours(one, objects)), None)
        if theirs is None:
            await self._apply_operator(objects, progress, installation.ESTABLISHED_S)
            await self._load(images, progress)
            return
        wanted = installation.images([theirs])
        await self._provide([image for image in wanted if image in installation.images(objects)], progress)
        loaded = await self._load([*filter(None, wanted), *images], progress)
        if wanted[0] in loaded.replaced:
            await asyncio.to_thread(installation.restart, self.kube, theirs, loaded.ids[wanted[0]])
        await self._until_ready(theirs, progress)

    async def _until_ready(self, deployment: Object, progress: TargetProgress) -> None:
        await asyncio.to_thread(
            installation.wait_ready, self.kube, deployment, progress.waiting, timeout_s=installation.READY_S
        )
        progress.milestone(f"operator {installation.images([deployment])[0]}")

    async def _provide(self, images: Iterable[str], progress: TargetProgress) -> None:
        """Images of this version that this machine lacks, or may have as they were: built where its files are, else pulled."""
        engine, own = self.cluster.engine, installation.images(installation.manifest())
        for image in images:
            if image not in own:
                continue
            progress.waiting(f"image {image}")
            tell = _after(f"image {image}", progress)
            if (self._source / "Dockerfile").is_file() and (self._source / "charts").is_dir():
                await self._build(image, STAGES[own.index(image)], tell)
            elif await asyncio.to_thread(engine.image_id, image) is None and await self.cluster.lacks(image):
                await engine.pull(image, tell)

    async def _build(self, image: str, stage: str, tell: Tell) -> None:
        """Build it, unless this machine has it of these very files: a builder takes seconds to find that out."""
        engine, record = self.cluster.engine, self.state.root / BUILT
        files = await asyncio.to_thread(digest_of, self._source)
        made = _read_record(record)
        key = f"{engine.program} {image}"
        if made.get(key) == [files, await asyncio.to_thread(engine.image_id, image)]:
            return
        await engine.build(image, stage=stage, source=self._source, tell=tell)
        made[key] = [files, await asyncio.to_thread(engine.image_id, image)]
        write_atomic(record, json.dumps(made).encode())

    async def _load(self, images: Iterable[str], progress: TargetProgress) -> LoadedImages:
        progress.waiting("images")
        done = await self.cluster.load_changed(images, progress)
        if done.loaded:
            progress.milestone(f"images {', '.join(done.loaded)}")
        return done

    # --- what is done ---

    async def start(self, subnet: Subnet, progress: TargetProgress, *, timeout_s: float) -> None:
        """As in any cluster, once it is there and works."""
        await self.prepare(subnet, progress)
        await super().start(subnet, progress, timeout_s=timeout_s)

    async def edit(self, name: str, change: Change, progress: TargetProgress) -> None:
        """As in any cluster; images that the edit names are loaded before it."""
        document = await asyncio.to_thread(self._object, name)
        if document is not None:
            patch = change({key: document.get(key) for key in ("apiVersion", "kind", "metadata", "spec")})
            await self._load(_images_in(patch.get("spec") or {}), progress)
        await super().edit(name, change, progress)

    async def remove(self, name: str, progress: TargetProgress) -> bool:
        """The subnet alone: the cluster stays for the next one."""
        return await super().remove(name, progress) if self._ready() else False

    async def collect(self, name: str) -> None:
        """As in any cluster."""
        if self._ready():
            await super().collect(name)

    def _exists(self) -> bool:
        self._seen = self._seen or self.cluster.exists()
        return self._seen

    def _ready(self) -> bool:
        return self._exists() and installation.is_installed(self.kube)


def _read_record(file: Path) -> dict[str, Any]:
    """What was built of what; nothing where it is not known."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def digest_of(source: Path) -> str:
    """A digest of all files that images are built of, names and contents."""
    digest = hashlib.blake2b(digest_size=16)
    for name in CONTEXT:
        top = source / name
        for file in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if file.is_file() and "__pycache__" not in file.parts:
                content = file.read_bytes()
                digest.update(f"{file.relative_to(source)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def images_of(subnet: Subnet) -> list[str]:
    """The images that a document names, each once; without those by digest, which a node has from a registry alone."""
    named = [subnet.spec.image, *(group.image for group in subnet.spec.groups)]
    return list(dict.fromkeys(image for image in named if image and "@" not in image))


def _images_in(spec: dict[str, Any]) -> list[str]:
    groups = spec.get("groups") or []
    named = [spec.get("image"), *(one.get("image") for one in groups if isinstance(one, dict))]
    return [image for image in named if isinstance(image, str) and image and "@" not in image]


def _is_ours(deployment: Object, objects: list[Object]) -> bool:
    """Whether an operator is the one that install.yaml, and no chart, made for this very version."""
    [wanted] = [one for one in objects if one["kind"] == "Deployment"]
    labels, made = deployment["metadata"].get("labels") or {}, wanted["metadata"]
    same = (name_of(deployment), deployment["metadata"].get("namespace")) == (made["name"], made["namespace"])
    chart = labels.get(MANAGED_BY, made["labels"][MANAGED_BY]) != made["labels"][MANAGED_BY]
    return same and not chart and installation.images([deployment]) == installation.images([wanted])


def _after(what: str, progress: TargetProgress) -> Tell:
    return lambda line: progress.waiting(f"{what}: {line}")
