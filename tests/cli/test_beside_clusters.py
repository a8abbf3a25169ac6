"""What a cluster does, or a kubeconfig says, neither delays nor colours work on this machine."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.patience import PATIENCE_S
from tests.running import is_running

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.cli.fake_kube import BEARER, FakeKube

from p2pnet.lab_client import kube_lookup
from p2pnet.store import State
from p2pnet.subnet.document import default_subnet, to_document


@pytest.fixture
def kubeconfig(tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "kube" / "config"
    path.parent.mkdir()
    monkeypatch.setenv("KUBECONFIG", str(path))
    for name in ("https_proxy", "http_proxy", "all_proxy", "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return path


@pytest.fixture
def here(state: State) -> None:
    """A subnet `demo` on this machine."""
    state.subnet("demo").make().document.write_text(json.dumps(to_document(default_subnet("demo", 3))))


def write(path: Path, *, server: str = "http://127.0.0.1:9", user: dict[str, Any] | None = None, **more: Any) -> None:
    document = {
        "apiVersion": "v1", "kind": "Config", "current-context": "work",
        "contexts": [{"name": "work", "context": {"cluster": "c", "user": "me"}}],
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "me", "user": user or {"token": "x"}}],
    }  # fmt: skip
    path.write_text(yaml.safe_dump({**document, **more}))


def plugin(tmp_path: Path, script: str) -> dict[str, Any]:
    """A user whose credentials come from a script."""
    file = tmp_path / "plugin.sh"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    api = "client.authentication.k8s.io/v1"
    return {"exec": {"apiVersion": api, "command": str(file), "interactiveMode": "Never"}}


@pytest.fixture
def silent() -> Iterator[str]:
    """An API server that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_plugin_is_not_even_started_while_the_subnet_is_on_this_machine(
    kubeconfig: Path, here: None, p2pnet, tmp_path: Path
) -> None:
    marker = tmp_path / "started"
    write(kubeconfig, user=plugin(tmp_path, f"touch {marker}; echo login please >&2; sleep 20"))
    ended = p2pnet("status", "demo")
    assert "target local" in ended.err or "on this machine" in ended.err or "demo" in ended.err
    assert "login please" not in ended.err
    assert "context" not in ended.err
    assert not marker.exists()


def test_a_plugin_that_hangs_is_ended_and_named_when_the_subnet_is_not_here(
    kubeconfig: Path, p2pnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "pid"
    write(kubeconfig, user=plugin(tmp_path, f"echo login please >&2; echo $$ > {marker}; exec sleep 1000"))
    monkeypatch.setattr(kube_lookup, "INSTEAD_S", 3.0)
    ended = p2pnet("status", "demo")
    assert ended.code == 3
    assert "there is no subnet demo" in ended.err
    assert "only this machine was looked at" in ended.err
    assert "--on cluster" in ended.err
    assert "login please" not in ended.err
    if marker.exists():  # a slow machine may not have come so far
        until(lambda: not is_running(int(marker.read_text())))


def test_a_server_that_never_answers_costs_local_work_half_a_second_and_no_word(
    kubeconfig: Path, here: None, p2pnet, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kube_lookup.BESIDE_S <= 0.5
    assert kube_lookup.INSTEAD_S <= 5
    write(kubeconfig, server=silent)
    before = p2pnet("status", "demo")
    assert "context" not in before.err
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    without = p2pnet("status", "demo")
    assert (before.code, before.out, before.err) == (without.code, without.out, without.err)


def test_a_server_that_never_answers_is_named_when_the_subnet_is_not_here(
    kubeconfig: Path, p2pnet, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube_lookup, "INSTEAD_S", 0.1)
    write(kubeconfig, server=silent)
    ended = p2pnet("status", "demo")
    assert ended.code == 3
    assert "context work did not answer within 0.1 s" in ended.err


def test_a_silent_server_is_told_of_alike_whichever_bound_comes_first() -> None:
    def silent() -> bool:
        raise TimeoutError("timed out")

    with pytest.raises(kube_lookup.UnknownError, match="context work did not answer within 5 s"):
        kube_lookup._bounded(silent, 5, "context work")


BROKEN: dict[str, Any] = {
    "broken YAML": "contexts: [a\n  b: {",
    "no mapping": "just words",
    "control characters": "a: \x00",
    "a month that is none": "apiVersion: v1\nkind: Config\npreferences: {since: 2024-13-01}\n",
    "a list where a mapping belongs": "apiVersion: v1\nkind: Config\ncurrent-context: x\ncontexts: {x: y}\n",
    "no current context": {"current-context": ""},
    "a current context that is not there": {"current-context": "gone"},
    "a removed auth provider": {"users": [{"name": "me", "user": {"auth-provider": {"name": "gcp"}}}]},
    "another auth provider": {"users": [{"name": "me", "user": {"auth-provider": {"name": "azure"}}}]},
    "missing certificates": {
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:9", "certificate-authority": "gone.pem"}}],
        "users": [{"name": "me", "user": {"client-certificate": "a.pem", "client-key": "b.pem"}}],
    },
    "certificates that are none": {
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:9", "certificate-authority-data": "!!"}}]
    },
    "a plugin that is not there": {
        "users": [{"name": "me", "user": {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "/gone"}}}]
    },
    "a server that is no URL": {"clusters": [{"name": "c", "cluster": {"server": "http://[::1"}}]},
    "no server": {"clusters": [{"name": "c", "cluster": {}}]},
    "no cluster": {"clusters": None},
    "a token of two lines": {"users": [{"name": "me", "user": {"token": "a\nb"}}]},
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_kubeconfig_that_cannot_be_used_is_no_matter_here_and_an_error_with_its_place_there(
    kind: str, kubeconfig: Path, state: State, p2pnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = BROKEN[kind]
    if isinstance(broken, str):
        kubeconfig.write_text(broken)
    else:
        write(kubeconfig, **broken)
    absent = p2pnet("status", "demo")
    assert absent.code == 3, absent.err
    assert "there is no subnet demo" in absent.err
    there = p2pnet("status", "demo", "--on", "cluster")
    assert there.code == 3, there.err
    assert "a bug" not in there.err
    assert str(kubeconfig) in there.err or "context work" in there.err
    state.subnet("demo").make().document.write_text(json.dumps(to_document(default_subnet("demo", 3))))
    local = p2pnet("status", "demo")
    assert (local.code, "bug" in local.err, "the kubeconfig" in local.err) == (3, False, False), "its lab is dead"


def test_a_removed_auth_provider_is_named_with_what_stands_in_for_it(kubeconfig: Path, p2pnet) -> None:
    write(kubeconfig, user={"auth-provider": {"name": "gcp"}})

    ended = p2pnet("status", "demo", "--on", "cluster")

    assert "auth-provider gcp, which is no longer supported: use an exec plugin" in ended.err
    assert "AttributeError" not in ended.err


def test_a_directory_as_kubeconfig_is_none(kubeconfig: Path, p2pnet) -> None:
    kubeconfig.mkdir()
    assert p2pnet("status", "demo").code == 3
    ended = p2pnet("status", "demo", "--on", "cluster")
    assert (ended.code, "a bug" in ended.err) == (3, False)


def test_several_files_are_one_kubeconfig_and_the_first_word_counts(
    kubeconfig: Path, here: None, p2pnet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeKube(namespace="blue")
    fake.start()
    try:
        fake.add("demo")
        second = kubeconfig.with_name("second")
        write(second, server=f"http://127.0.0.1:{fake.port}", user={"tokenFile": "token"}, contexts=[])
        (second.parent / "token").write_text(f"{BEARER}\n")
        context = {"cluster": "c", "user": "me", "namespace": "blue"}
        kubeconfig.write_text(
            yaml.safe_dump({"current-context": "blue", "contexts": [{"name": "blue", "context": context}]})
        )
        monkeypatch.setenv("KUBECONFIG", os.pathsep.join((str(kubeconfig), "/nowhere", str(second))))
        monkeypatch.setattr(kube_lookup, "BESIDE_S", 30.0)  # a test machine may be slow
        both = p2pnet("status", "demo")
        assert both.code == 2
        assert "demo is on this machine and in context blue, namespace blue" in both.err
    finally:
        fake.stop()


def test_a_context_that_needs_a_plugin_is_asked_when_the_subnet_is_not_here(
    kubeconfig: Path, p2pnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeKube()
    fake.start()
    try:
        fake.add("demo")
        credential = {
            "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": BEARER},
        }  # fmt: skip
        write(
            kubeconfig,
            server=f"http://127.0.0.1:{fake.port}",
            user=plugin(tmp_path, f"echo '{json.dumps(credential)}'"),
        )
        monkeypatch.setattr(kube_lookup, "INSTEAD_S", 60.0)
        found = p2pnet("status", "demo", "-o", "json")
        assert found.code == 0, found.err
        assert json.loads(found.out)["target"] == "cluster"
    finally:
        fake.stop()


def test_an_api_server_behind_tls_is_asked_with_what_the_kubeconfig_holds(
    kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.cli.tls import tls_server

    monkeypatch.setattr(kube_lookup, "BESIDE_S", 30.0)
    with tls_server(kubeconfig.parent) as (fake, cluster, user):
        fake.add("demo")
        write(kubeconfig, clusters=[{"name": "c", "cluster": cluster}], user=user)
        assert kube_lookup.is_there("demo", beside=True)
        assert not kube_lookup.is_there("other", beside=True)
        assert kube_lookup.is_there(None, beside=True)
        write(kubeconfig, clusters=[{"name": "c", "cluster": {"server": cluster["server"]}}], user=user)
        with pytest.raises(kube_lookup.UnknownError, match="certificate verify failed"):
            kube_lookup.is_there("demo", beside=True)


PATIENT = (
    "import sys; from p2pnet.cli import app; from p2pnet.cli.verbs import ls; ls.CLUSTER_S = 3600.0;"
    " sys.exit(app.main(sys.argv[1:]))"
)
"""The command line that would wait an hour for a cluster, and not 3 s."""


@pytest.mark.parametrize(
    "words", [("ls",), ("ls", "--on", "cluster"), ("status", "demo", "--on", "cluster")], ids=" ".join
)
def test_an_interrupt_ends_at_once_what_waits_for_a_silent_server(
    kubeconfig: Path, state: State, silent: str, words: tuple[str, ...]
) -> None:
    write(kubeconfig, server=silent)
    with subprocess.Popen(
        [sys.executable, "-c", PATIENT, *words], env=os.environ | {"P2PNET_STATE": str(state.root)},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as command:  # fmt: skip
        assert command.stderr is not None
        assert "context work" in command.stderr.readline()  # it asks now
        time.sleep(0.5)
        command.send_signal(signal.SIGINT)
        assert command.wait(timeout=PATIENCE_S) == 130


def test_subnets_here_are_listed_in_the_time_a_silent_cluster_is_given(
    kubeconfig: Path, here: None, state: State, silent: str
) -> None:
    write(kubeconfig, server=silent)
    since = time.monotonic()

    ended = subprocess.run(
        [sys.executable, "-m", "p2pnet.cli", "ls"], env=os.environ | {"P2PNET_STATE": str(state.root)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert ended.returncode == 0, ended.stderr
    assert "has not answered within 3 s" in ended.stderr
    # 3 s are given; the rest is Python's start on a machine that others use. A client that waits by itself takes a minute.
    assert time.monotonic() - since < 50
