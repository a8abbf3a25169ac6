"""The target `kind`: a Kubernetes cluster in docker on this machine, made when first needed, and then as any other."""

import asyncio
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.targets.cluster import installation
from p2pnet.cli.targets.cluster.target import ClusterTarget
from p2pnet.cli.targets.target import Presence, TargetProgress
from p2pnet.lab_client.kube import Kube
from p2pnet.model.errors import TargetError
from p2pnet.store import State
from p2pnet.subnet.spec import Subnet

NAME = "p2pnet"
CONTEXT = f"kind-{NAME}"
TOOLS = ("docker", "kind")
REPOSITORY = Path(__file__).parents[4]
TAIL_LINES = 3


class CommandRunner(Protocol):
    """How commands are run: the seam for tests."""

    def has(self, program: str) -> bool:
        """Whether the program is there."""

    def run(self, words: Sequence[str]) -> str:
        """What a command says on stdout. TargetError (exit 3) when it fails."""


class ShellRunner:
    """A `CommandRunner` on this machine."""

    def has(self, program: str) -> bool:
        """By PATH."""
        return shutil.which(program) is not None

    def run(self, words: Sequence[str]) -> str:
        """As `CommandRunner.run`."""
        done = subprocess.run(list(words), capture_output=True, text=True, check=False)  # noqa: S603 words of ours
        if done.returncode:
            said = "; ".join((done.stderr or done.stdout).strip().splitlines()[-TAIL_LINES:])
            raise TargetError(
                f"{words[0]} failed: {said or f'exit code {done.returncode}'}",
                where=" ".join(words),
                hint=f"run it by hand; is {'docker running' if words[0] == 'docker' else 'the cluster healthy'}?",
                exit_code=ExitCode.NOT_FOUND,
            )
        return done.stdout


class KindTarget(ClusterTarget):
    """A `ClusterTarget` in the kind cluster `p2pnet`."""

    kind = "kind"

    def __init__(
        self,
        state: State,
        *,
        namespace: str | None = None,
        runner: CommandRunner | None = None,
        source: Path = REPOSITORY,
    ) -> None:
        """`source`: the repository to build images from, where it is one. TargetError (exit 3) without docker or kind."""
        self.state = state
        self._namespace = namespace
        self._namespace_given = namespace is not None
        self._opened: Kube | None = None
        self._runner = runner or ShellRunner()
        self._source = source
        missing = [tool for tool in TOOLS if not self._runner.has(tool)]
        if missing:
            raise TargetError(
                f"missing on this machine: {' and '.join(missing)}",
                where="--on kind",
                hint="install it (https://kind.sigs.k8s.io), or use --on local or --on cluster",
                exit_code=ExitCode.NOT_FOUND,
            )

    @property
    def kube(self) -> Kube:
        """The kind cluster's API server. TargetError (exit 3) while there is no such cluster."""
        if self._opened is None:
            if not self._exists():
                raise TargetError(
                    f"there is no kind cluster {NAME}",
                    where="--on kind",
                    hint="p2pnet up demo --on kind makes it",
                    exit_code=ExitCode.NOT_FOUND,
                )
            self._opened = Kube.open(CONTEXT, self._namespace)
        return self._opened

    @property
    def where(self) -> str:
        """In words, whether it is there or not."""
        return f"context {CONTEXT}, namespace {self._namespace or 'default'}"

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

    async def start(self, subnet: Subnet, progress: TargetProgress, *, timeout_s: float) -> None:
        """Make the cluster, build and load the images, install the operator: what is not there yet. Then apply."""
        await self._prepare(progress)
        await super().start(subnet, progress, timeout_s=timeout_s)

    async def remove(self, name: str, progress: TargetProgress) -> bool:
        """The subnet alone: the cluster stays for the next one."""
        return await super().remove(name, progress) if self._ready() else False

    async def collect(self, name: str) -> None:
        """As in any cluster."""
        if self._ready():
            await super().collect(name)

    async def _prepare(self, progress: TargetProgress) -> None:
        if not self._exists():
            progress.waiting(f"kind cluster {NAME}")
            await self._run("kind", "create", "cluster", "--name", NAME, "--wait", "120s")
            progress.milestone(f"kind cluster {NAME}")
        if await asyncio.to_thread(installation.is_installed, self.kube):
            return
        objects = installation.manifest()
        for stage, image in zip(("operator", "node"), installation.images(objects), strict=True):
            progress.waiting(f"image {image}")
            if (self._source / "Dockerfile").is_file():
                await self._run("docker", "build", "--target", stage, "--tag", image, str(self._source))
            else:
                await self._run("docker", "pull", image)
            await self._run("kind", "load", "docker-image", "--name", NAME, image)
        progress.milestone("images")
        await asyncio.to_thread(
            installation.install, self.kube, objects, progress.waiting, timeout_s=installation.ESTABLISHED_S
        )
        progress.milestone("operator")

    async def _run(self, *words: str) -> None:
        await asyncio.to_thread(self._runner.run, words)

    def _exists(self) -> bool:
        return NAME in self._runner.run(["kind", "get", "clusters"]).split()

    def _ready(self) -> bool:
        return self._opened is not None or (self._exists() and installation.is_installed(self.kube))
