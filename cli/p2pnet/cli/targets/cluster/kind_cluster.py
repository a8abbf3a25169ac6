"""One kind cluster by its name: whether it is there, how to speak to it, making it, and which images its nodes have."""

import asyncio
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.targets.cluster.containers import (
    LOAD_S,
    CommandRunner,
    ContainerEngine,
    ProgramFailedError,
    Tell,
    full_name,
)
from p2pnet.cli.targets.target import TargetProgress
from p2pnet.lab_client import kubeconfig
from p2pnet.lab_client.kube import Kube, KubeError
from p2pnet.model.errors import TargetError

DEFAULT_NAME = "p2pnet"
NAME_VARIABLE = "KIND_CLUSTER_NAME"
"""kind's own variable for the name of a cluster."""
CONFIG_VARIABLE = "P2PNET_KIND_CONFIG"
"""A file of kind's own form with which a cluster is made: machines, node image, ports."""
PREFIX = "kind-"
"""What kind puts before a cluster's name to call its context."""
NAME = re.compile(r"[a-z0-9.-]{1,50}")
"""What kind takes; its nodes' host names, which it makes of it, have an end."""
CREATE_S = 900.0  # with the download of its node image, some 400 MB
SETTLE = "120s"  # for its machine to be Ready; the operator waits for one anyway
DELETE_S = 60.0
EXISTS = "already exist"
"""In what kind says of a name that is taken."""
LOAD_TRIES = 3
LAYERS_WENT = "does not exist: not found"
"""What containerd says where it was just about to take layers away, of an image that was replaced, that it found there."""
BALANCER = "-external-load-balancer"
"""What kind puts before several control planes: no machine for pods."""


def cluster_name(context: str | None, given: str | None) -> str:
    """The name of the kind cluster meant by `--context` (kind-NAME), else by $KIND_CLUSTER_NAME. TargetError (exit 2)."""
    name = context.removeprefix(PREFIX) if context else given or DEFAULT_NAME
    if context and not context.startswith(PREFIX):
        raise TargetError(
            f"no kind cluster has the context {context}: kind calls that of its cluster NAME {PREFIX}NAME",
            where=f"--on kind --context {context}",
            hint=f"--context {PREFIX}{DEFAULT_NAME} say, or --on cluster",
            exit_code=ExitCode.USAGE,
        )
    if not NAME.fullmatch(name):
        raise TargetError(
            f"a kind cluster cannot be called {name!r}: 1 to 50 of the characters a-z, 0-9, dot and dash",
            where=f"--context {context}" if context else NAME_VARIABLE,
            hint="choose another name",
            exit_code=ExitCode.USAGE,
        )
    return name


class LoadedImages(NamedTuple):
    """What was done to give a cluster its images."""

    ids: dict[str, str]
    """Image -> its id, empty where neither this machine nor the cluster has it."""
    loaded: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    """Those of `loaded` of which the cluster had others by that name."""


class KindCluster:
    """The cluster; `engine` holds its containers. Questions block."""

    def __init__(self, name: str, runner: CommandRunner, engine: ContainerEngine) -> None:
        self.name = name
        self.context = PREFIX + name
        self.engine = engine
        self._runner = runner

    def exists(self) -> bool:
        """Whether kind lists it, working or not. ProgramFailedError."""
        return self.name in self._runner.ask(["kind", "get", "clusters"]).split()

    async def create(self, progress: TargetProgress) -> None:
        """Make it. One that is not whole, for it failed or was interrupted, is taken away again. ProgramFailedError."""
        with tempfile.TemporaryDirectory() as folder:
            # A kubeconfig of its own: kind would make it the user's current context.
            own = str(Path(folder) / "kubeconfig")
            words = ["kind", "create", "cluster", "--name", self.name, "--wait", SETTLE, "--kubeconfig", own]
            if config := os.environ.get(CONFIG_VARIABLE):
                words += ["--config", config]
            try:
                await self._runner.run(words, _after(f"kind cluster {self.name}", progress), timeout_s=CREATE_S)
            except BaseException as error:
                if isinstance(error, ProgramFailedError) and EXISTS in error.said:
                    raise  # somebody else's
                progress.waiting(f"what there is of kind cluster {self.name} to go")
                await self._discard(own)
                raise

    async def _discard(self, own: str) -> None:
        words = ["kind", "delete", "cluster", "--name", self.name, "--kubeconfig", own]
        try:
            await self._runner.run(words, lambda _line: None, timeout_s=DELETE_S)
        except ProgramFailedError:
            return  # what failed before is what the user is told

    def open(self, namespace: str | None) -> Kube:
        """Its API server, as a kubeconfig of the user knows it, else as kind does. TargetError (exit 3)."""
        if self.context in kubeconfig.read(os.environ).contexts:
            return Kube.open(self.context, namespace)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "kubeconfig"
            file.write_text(self._kubeconfig(), encoding="utf-8")
            return Kube.open(self.context, namespace, environment={"KUBECONFIG": str(file)})

    def introduce(self) -> None:
        """Write it into the user's kubeconfig, whose current context stays. TargetError (exit 3) while it does not answer."""
        kubeconfig.add(os.environ, self.context, self._kubeconfig())
        kube = Kube.open(self.context)
        try:
            kube.ask("GET", "/readyz")
        except KubeError as error:
            raise self._unwell(str(error)) from error

    def _kubeconfig(self) -> str:
        try:
            return self._runner.ask(["kind", "get", "kubeconfig", "--name", self.name])
        except ProgramFailedError as error:
            raise self._unwell(error.said) from error

    def _unwell(self, said: str) -> TargetError:
        return TargetError(
            f"the kind cluster {self.name} is there, but does not answer: {said}",
            where=f"kind cluster {self.name}",
            hint=f"start its container: {self.engine.program} start {self.name}-control-plane;"
            f" or away with it and all that is in it: kind delete cluster --name {self.name}",
            exit_code=ExitCode.NOT_FOUND,
        )

    # --- its images ---

    def images(self) -> list[dict[str, set[str]]]:
        """Each machine: full name of an image -> ids and digests. ProgramFailedError."""
        names = self._runner.ask(["kind", "get", "nodes", "--name", self.name]).split()
        return [self.engine.images_in(name) for name in names if not name.endswith(BALANCER)]

    async def load(self, image: str, progress: TargetProgress) -> None:
        """Give an image of this machine to every machine of the cluster. ProgramFailedError."""
        tell = _after(f"image {image} into kind cluster {self.name}", progress)
        progress.waiting(f"image {image} into kind cluster {self.name}")
        if self.engine.program == "docker":
            await self._load("docker-image", image, tell)
            return
        with tempfile.TemporaryDirectory() as folder:  # kind asks docker alone for images: others write an archive
            archive = Path(folder) / "image.tar"
            await self.engine.save(image, archive, tell)
            await self._load("image-archive", str(archive), tell)

    async def _load(self, kind: str, what: str, tell: Tell) -> None:
        words = ["kind", "load", kind, "--name", self.name, what]
        for left in reversed(range(LOAD_TRIES)):
            try:
                await self._runner.run(words, tell, timeout_s=LOAD_S)
            except ProgramFailedError as error:
                if not left or LAYERS_WENT not in error.said:
                    raise
            else:
                break

    async def load_changed(self, images: Iterable[str], progress: TargetProgress) -> LoadedImages:
        """Load those that this machine has and a machine of the cluster has not, or not as they are now. ProgramFailedError."""
        wanted = list(dict.fromkeys(images))
        here = {image: await asyncio.to_thread(self.engine.image_id, image) for image in wanted}
        there = await asyncio.to_thread(self.images)
        known = {image: [machine.get(full_name(image), set()) for machine in there] for image in wanted}
        stale = [image for image in wanted if here[image] and not all(here[image] in ids for ids in known[image])]
        for image in stale:
            await self.load(image, progress)
        ids = {image: here[image] or next(iter(sorted(known[image][0])), "") for image in wanted if known[image]}
        return LoadedImages(ids, tuple(stale), tuple(image for image in stale if any(known[image])))

    async def lacks(self, image: str) -> bool:
        """Whether a machine of the cluster has no image of that name. ProgramFailedError."""
        return any(full_name(image) not in machine for machine in await asyncio.to_thread(self.images))


def _after(what: str, progress: TargetProgress) -> Tell:
    return lambda line: progress.waiting(f"{what}: {line}")
