"""What `kind`, and `docker` or `podman` for it, would do, done with a cluster of `cluster.sh` and with buildah.

A test has them first in its PATH. The kind cluster NAME is the cluster $CLUSTER_NAME of `cluster.sh` with one machine, for
which the container NAME-control-plane stands; a forwarder on loopback leads to its API server, as a port that docker
publishes. $P2PNET_STAND_INS is a folder for what there is; its file `said` has a line for every command.
"""

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

HERE = Path(__file__).parent
SCRIPT = HERE.parent / "cluster.sh"
REPOSITORY = HERE.parents[2].resolve()
FOLDER = Path(os.environ["P2PNET_STAND_INS"])
HOME = Path(
    os.environ.get("CLUSTER_HOME")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "p2pnet-cluster"
)
CLUSTER = os.environ["CLUSTER_NAME"]
RUN = HOME / "run" / CLUSTER
SOCKET = RUN / "node0" / "containerd.sock"
STEPS = (
    "Ensuring node image (kindest/node:v1.36.3) 🖼",
    "Preparing nodes 📦",
    "Writing configuration 📜",
    "Starting control-plane 🕹️",
)
SUFFIX = "-control-plane"


def main(program: str, words: list[str]) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "said").open("a") as said:
        said.write(shlex.join([program, *words]) + "\n")
    known = KIND if program == "kind" else ENGINE
    for length in (2, 1):
        if do := known.get(" ".join(words[:length])):
            do(words[length:])
            return
    fail(f"unknown command {' '.join(words)} for {program!r}")


# --- kind ---


def clusters() -> list[str]:
    return sorted(file.stem for file in FOLDER.glob("*.cluster"))


def get_clusters(words: list[str]) -> None:
    options(words)
    print("\n".join(clusters())) if clusters() else tell("No kind clusters found.")


def create(words: list[str]) -> None:
    given = options(words, "--name", "--wait", "--kubeconfig")
    name = given.get("--name", "kind")
    if name in clusters():
        fail(f'ERROR: failed to create cluster: node(s) already exist for a cluster with the name "{name}"')
    place(name).write_text("0")
    tell(f'Creating cluster "{name}" ...')
    for step in STEPS:
        tell(f" • {step}  ...\n ✓ {step}")
    if (FOLDER / "slow").exists():  # a test interrupts it here
        time.sleep(60)
    if not Path(f"/run/netns/{CLUSTER}").exists():
        script("up", "1")
    port = forward(name)
    place(name).write_text(str(port))
    own = Path(given.get("--kubeconfig") or os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text(kubeconfig(name))  # kind would merge it into what is there
    tell(f'Set kubectl context to "kind-{name}"')


def delete(words: list[str]) -> None:
    name = options(words, "--name", "--kubeconfig").get("--name", "kind")
    tell(f'Deleting cluster "{name}" ...')
    place(name).unlink(missing_ok=True)
    if pid := FOLDER / f"{name}.pid":
        subprocess.run(["kill", pid.read_text()], check=False) if pid.exists() else None
        pid.unlink(missing_ok=True)
    if not clusters() and RUN.exists():
        script("down")


def get_nodes(words: list[str]) -> None:
    name = options(words, "--name").get("--name", "kind")
    print(f"{name}{SUFFIX}") if name in clusters() else tell(f'No kind nodes found for cluster "{name}".')


def get_kubeconfig(words: list[str]) -> None:
    print(kubeconfig(there(options(words, "--name").get("--name", "kind"))))


def load_image(words: list[str]) -> None:
    name, images = there(words[words.index("--name") + 1]), [word for word in words if not word.startswith("-")][1:]
    for image in images:
        if image_id(image) is None:
            fail(f'ERROR: image: "{image}" not present locally')
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / "image.tar"
            save(image, archive, full_name(image))
            load(archive)
        tell(
            f'Image: "{image}" with ID "sha256:{image_id(image)}" not yet present on node "{name}{SUFFIX}", loading...'
        )


def load_archive(words: list[str]) -> None:
    there(words[words.index("--name") + 1])
    load(Path(words[-1]))


def export_logs(words: list[str]) -> None:
    folder = Path(words[0])
    folder.mkdir(parents=True)
    (folder / "kind-version.txt").write_text(f"logs of {there(words[words.index('--name') + 1])}")


def place(name: str) -> Path:
    return FOLDER / f"{name}.cluster"


def there(name: str) -> str:
    if name not in clusters():
        fail(
            f"ERROR: could not locate any control plane nodes for cluster named '{name}'."
            " Use the --name option to select a different cluster"
        )
    return name


def kubeconfig(name: str) -> str:
    """As kind writes it, to where the forwarder listens; JSON is YAML."""
    token, context = (RUN / "pki" / "tokens.csv").read_text().split(",")[0], f"kind-{name}"
    cluster = {"server": f"https://127.0.0.1:{place(name).read_text()}", "insecure-skip-tls-verify": True}
    found: dict[str, Any] = {
        "apiVersion": "v1", "kind": "Config", "current-context": context, "preferences": {},
        "clusters": [{"name": context, "cluster": cluster}], "users": [{"name": context, "user": {"token": token}}],
        "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
    }  # fmt: skip
    return json.dumps(found)


def forward(name: str) -> int:
    """A process that lets this machine's loopback into the cluster's network."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    words = [sys.executable, str(HERE / "forwarder.py"), CLUSTER, str(port)]
    null = subprocess.DEVNULL
    process = subprocess.Popen(words, start_new_session=True, stdin=null, stdout=null, stderr=null)
    (FOLDER / f"{name}.pid").write_text(str(process.pid))
    return port


# --- docker, podman ---


def inspect(words: list[str]) -> None:
    given = options(words, "--format")
    assert given["--format"] == "{{.Id}}", "no more is asked"
    found = image_id(words[-1])
    if found is None:
        fail(f"Error response from daemon: No such image: {words[-1]}")
    print(f"sha256:{found}")


def build(words: list[str]) -> None:
    given = options(words, "--target", "--tag")
    if Path(words[-1]).resolve() != REPOSITORY:
        fail(f"ERROR: {words[-1]} is not {REPOSITORY}")
    built = FOLDER / f"{given['--target']}.built"
    if not built.exists():  # its files stay as they are while a test runs
        script("image", given["--target"], full_name(given["--tag"]))
        built.touch()
    label = FOLDER / "label"
    # Another image of the same files: what labels alone change, buildah would take from its cache.
    if label.exists() and given["--target"] == "operator":
        container = run("buildah", "from", "--pull-never", full_name(given["--tag"])).strip()
        run("buildah", "config", "--label", f"test={label.read_text()}", container)
        run("buildah", "commit", "-q", "--rm", "--timestamp", "0", container, full_name(given["--tag"]))


def save_images(words: list[str]) -> None:
    given = options(words, "--format", "--output")
    names = [word for word in words if not word.startswith("-") and word not in given.values()]
    save(names[0], Path(given["--output"]), full_name(names[-1]))


def execute(words: list[str]) -> None:
    """In the container of a machine: nothing but `crictl images` is asked of it."""
    assert words[0].removesuffix(SUFFIX) in clusters(), f"Error: No such container: {words[0]}"
    assert words[1:] == ["crictl", "images", "--output", "json"]
    images = []
    for line in containerd("images", "ls").splitlines()[1:]:
        name, _, digest = line.split()[:3]
        manifest = json.loads(containerd("content", "get", digest))
        images.append({"id": manifest["config"]["digest"], "repoTags": [name], "repoDigests": []})
    print(json.dumps({"images": images}))


def image_id(image: str) -> str | None:
    words = ["buildah", "inspect", "--type", "image", "--format", "{{.FromImageID}}", full_name(image)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def save(image: str, archive: Path, name: str) -> None:
    run("buildah", "push", "-q", full_name(image), f"docker-archive:{archive}:{name}")


def load(archive: Path) -> None:
    containerd("images", "import", str(archive))


def containerd(*words: str) -> str:
    return run("ctr", "-a", str(SOCKET), "-n", "k8s.io", *words)


def full_name(image: str) -> str:
    name = image if "/" in image else f"library/{image}"
    first = name.partition("/")[0]
    return name if "." in first or ":" in first or first == "localhost" else f"docker.io/{name}"


# --- both ---


def options(words: list[str], *known: str) -> dict[str, str]:
    """Options with their values; exits on one that the real program does not know."""
    given, rest = {}, list(words)
    while rest:
        word = rest.pop(0)
        if word.startswith("-"):
            if word not in known:
                fail(f"ERROR: unknown flag: {word}")
            given[word] = rest.pop(0)
    return given


def script(*words: str) -> None:
    # What it starts outlives this process, and must not hold the pipes of whoever waits for this process to end.
    with (FOLDER / "cluster.log").open("a") as log:
        subprocess.run(["bash", str(SCRIPT), *words], check=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        fail(f"ERROR: {shlex.join(words)}: {done.stderr}")
    return done.stdout


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def fail(text: str) -> NoReturn:
    tell(text)
    sys.exit(1)


KIND: dict[str, Callable[[list[str]], None]] = {
    "get clusters": get_clusters, "get nodes": get_nodes, "get kubeconfig": get_kubeconfig, "create cluster": create,
    "delete cluster": delete, "load docker-image": load_image, "export logs": export_logs, "load image-archive": load_archive,
}  # fmt: skip
ENGINE: dict[str, Callable[[list[str]], None]] = {
    "image inspect": inspect, "build": build, "save": save_images, "exec": execute,
}  # fmt: skip

if __name__ == "__main__":
    shutil.which("buildah") or fail("buildah is missing: cluster.sh build installs it")
    os.environ["BUILDAH_RUNTIME"] = "runc"  # as in cluster.sh
    main(sys.argv[1], sys.argv[2:])
