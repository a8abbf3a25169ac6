"""A real Kubernetes for tests, through `cluster.sh`: its network is its own, so every word with it is a process inside."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
from tests.cluster.inside import Inside
from tests.cluster.server import Server, Thing
from tests.cluster.shell import Shell

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("cluster.sh")
REQUIRED = "P2PNET_REQUIRE_CLUSTER"
"""Set to 1 where a cluster must be had, as in CI: what would be a skip is a failure."""
KEEP = "P2PNET_KEEP_CLUSTER"
"""Set to 1 while working on tests: a running cluster is used, and left running."""
NODE_IMAGE = "localhost/p2pnet-node:test"
OPERATOR_IMAGE = "localhost/p2pnet-operator:test"
PODS_S = 300.0
"""For pods to do what they should: far above what it takes, for the machine may be busy."""
NOT_YET = (AssertionError, LookupError, ValueError, TypeError, StopIteration, OSError, aiohttp.ClientError)
"""What a question raises while what it asks about is not there, or whoever is asked has no time for it: it is asked again."""

HELM_WITHIN = "8m"
"""For what helm does to come about, as it is told: two ends of the operator and two starts, on a busy machine."""

T = TypeVar("T")


def why_none() -> str:
    """Why this machine cannot have a cluster; empty when it can."""
    if not sys.platform.startswith("linux"):
        return "a cluster needs Linux"
    if os.geteuid() != 0:
        return "a cluster needs root: namespaces, mounts and cgroups"
    if shutil.which("apt-get") is None:
        return "a cluster needs Debian's packages"
    return "" if shutil.which("go") else "Go is needed to build Kubernetes"


class Cluster:
    """One cluster by its name."""

    def __init__(self, name: str = "") -> None:
        self.name = name or os.environ.get("CLUSTER_NAME") or "p2pnet-cluster"
        self._open = ExitStack()
        self._inside: Inside | None = None
        self._server: Server
        self._shell: Shell | None = None

    def script(self, *words: str, text: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`cluster.sh WORDS`; raises AssertionError with its words when it fails."""
        if words[0] == "down":
            self.close()
        # Ctrl-C ends a worker soon: a `down` that it has begun goes on, as neither a signal nor a pipe without reader ends it.
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            done = subprocess.run(
                ["bash", str(SCRIPT), *words],
                input=text,
                stdout=out,
                stderr=err,
                text=True,
                check=False,
                env=self._environment,
                start_new_session=words[0] == "down",
            )
            for stream in (out, err):
                stream.seek(0)
            done.stdout, done.stderr = out.read(), err.read()
        if check and done.returncode:
            raise AssertionError(f"{' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def run(self, *command: str, text: str | None = None) -> str:
        """What a command says inside; raises when it fails."""
        return self.script("exec", *command, text=text).stdout

    def kubectl(self, *words: str, text: str | None = None) -> str:
        """What kubectl says; raises when it fails."""
        return self.run("kubectl", *words, text=text)

    def refused(self, *words: str, text: str | None = None) -> str:
        """Why kubectl fails; raises when it does not."""
        done = self.script("exec", "kubectl", *words, text=text, check=False)
        assert done.returncode, f"kubectl {' '.join(words)}: not refused\n{done.stdout}"
        return done.stderr

    def get(self, *words: str) -> Any:
        """An object, or a list's items."""
        found = json.loads(self.kubectl("get", *words, "-o", "json"))
        return found["items"] if found.get("kind") == "List" else found

    def object(self, plural: str, namespace: str, name: str) -> Thing:
        """An object, without a process for it: a question that is asked again and again costs little."""
        found = self._ask(lambda server: server.get(plural, namespace, name))
        assert found is not None, f"no {plural}/{name} in {namespace}"
        return found

    def objects(self, plural: str, namespace: str, selector: str = "") -> list[Thing]:
        """All with these labels, as cheaply."""
        return self._ask(lambda server: server.find(plural, namespace, selector))

    def do(self, work: Coroutine[Any, Any, T], within_s: float) -> T:
        """The result of a coroutine in the cluster's network."""
        return self._entered().do(work, within_s)

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """A command inside that goes on, its output in pipes; the first line of that is the id of its process."""
        return subprocess.Popen(
            ["bash", str(SCRIPT), "exec", "sh", "-c", 'echo $$; exec "$@"', "sh", *words],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self._environment, start_new_session=True,
        )  # fmt: skip

    def _ask(self, question: Callable[[Server], Coroutine[Any, Any, T]]) -> T:
        inside = self._entered()
        return inside.do(question(self._server))

    def _entered(self) -> Inside:
        if self._inside is None:
            kubeconfig = Path(self.run("sh", "-c", "echo $KUBECONFIG").strip())
            self._inside = self._open.enter_context(Inside(self.name))
            self._server = self._inside.do(self._connect(kubeconfig))
            self._open.callback(lambda: self._inside.do(self._server.__aexit__(None, None, None)))
        return self._inside

    @staticmethod
    async def _connect(kubeconfig: Path) -> Server:
        return await Server(kubeconfig).__aenter__()

    @property
    def _environment(self) -> dict[str, str]:
        return os.environ | {"CLUSTER_NAME": self.name}

    def p2pnet(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`p2pnet WORDS` inside, with a state of its own; raises AssertionError with its words when it fails."""
        if self._shell is None:
            self._shell = Shell(["bash", str(SCRIPT), "exec"], self._environment)
            self._open.callback(self._shell.close)
        done = self._shell.run(*words)
        if check and done.returncode:
            raise AssertionError(f"p2pnet {' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def close(self) -> None:
        """Let go of the connections to it. Idempotent."""
        self._open.close()
        self._inside = self._shell = None

    def apply(self, document: str | dict[str, Any] | Iterable[dict[str, Any]], namespace: str = "default") -> str:
        """Apply YAML text or objects."""
        if isinstance(document, dict):
            document = json.dumps(document)
        elif not isinstance(document, str):
            document = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(document)})
        return self.kubectl("apply", "--namespace", namespace, "--filename", "-", text=document)

    def namespace(self, name: str, *, restricted: bool = True) -> str:
        """Make a namespace, which takes only restricted pods unless told otherwise; pods may be made in it from now on."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"} if restricted else {}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        # No pod is let in before its account is there, which a controller makes in its own time.
        until(lambda: self.object("serviceaccounts", name, "default"), f"pods may be made in {name}", every_s=0.05)
        return name

    def wait(self, thing: str, what: str, namespace: str = "default") -> None:
        """`kubectl wait --for=WHAT THING`."""
        self.kubectl("wait", f"--for={what}", thing, "--namespace", namespace, f"--timeout={PODS_S:g}s")

    def established(self, definition: str) -> None:
        """Wait until the API server serves what a definition defines."""
        crd = f"crd/{definition}"
        # kubectl refuses to wait for an object that has no conditions at all yet, as on a busy machine.
        until(lambda: '"conditions"' in self.kubectl("get", crd, "-o", "json"), f"{crd} has conditions")
        self.wait(crd, "condition=Established")

    def install(self) -> None:
        """The operator, as a user would install it; new pods even where only the images behind the tags have changed."""
        self.run(
            "helm", "upgrade", "--install", "p2pnet", str(ROOT / "charts" / "p2pnet"), "--wait", "--timeout", HELM_WITHIN,
            "--namespace", "p2pnet-system", "--create-namespace",
            "--set", "image.repository=localhost/p2pnet-operator,image.tag=test",
            "--set", "nodeImage.repository=localhost/p2pnet-node,nodeImage.tag=test",
            "--set", f"podAnnotations.installed=at-{time.time():.0f}",
        )  # fmt: skip

    def uninstall(self) -> None:
        """The operator; Subnets stay."""
        self.run("helm", "uninstall", "p2pnet", "--namespace", "p2pnet-system", "--wait")

    def pids(self) -> list[int]:
        """Every process that belongs to the cluster: in its networks, or of its folder."""
        found = []
        for proc in Path("/proc").glob("[0-9]*"):
            try:
                words = (proc / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if f"/{self.name}/" in words:
                found.append(int(proc.name))
        return found

    def container_pids(self) -> list[int]:
        """Every process in a container of the cluster."""
        found = []
        for proc in Path("/proc").glob("[0-9]*"):
            try:
                if f"/{self.name}-node" in (proc / "cgroup").read_text():
                    found.append(int(proc.name))
            except OSError:
                continue
        return found


def until(condition: Callable[[], T | None], what: str, within_s: float = PODS_S, every_s: float = 0.5) -> T:
    """The first truthy answer. It is asked once more when the time is over: this very process may have stood still."""
    deadline = time.monotonic() + within_s
    while True:
        last, failed = time.monotonic() > deadline, None
        try:
            if answer := condition():
                return answer
        except NOT_YET as error:
            failed = error
        if last:
            raise AssertionError(f"not within {within_s:g} s: {what}") from failed
        time.sleep(every_s)


def conditions(thing: dict[str, Any]) -> dict[str, str]:
    """Type -> status of an object's conditions."""
    return {one["type"]: one["status"] for one in thing.get("status", {}).get("conditions", [])}
