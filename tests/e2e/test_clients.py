"""A client that somebody brings: started from their own package, injected into, reported; or refused before anything starts."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

EXAMPLES = Path(__file__).parents[2] / "examples" / "clients"
BROKEN = {
    "not-there": ({"class": "nowhere.chat:Chat"}, "spec.clients[1].class: nowhere.chat cannot be imported", "PYTHONPATH"),
    "misspelt": ({"class": "mypkg.chat:Cat"}, "spec.clients[1].class: mypkg.chat has no class Cat, did you mean Chat?", ""),
    "no-client": ({"class": "mypkg.chat:Path"}, "spec.clients[1].class: mypkg.chat has no class Path", ""),
    "unknown-key": ({"settings": {"room": ["a"]}}, "unexpected keyword argument 'room'", "keyword arguments"),
    "bad-value": ({"settings": {"rooms": ["a"], "keep": 0}}, "spec.clients[1].settings: keep 0: at least 1", "keyword"),
    "no-entry-point": ({"class": None}, "spec.clients[1].name: no entry point 'chat' in the group p2pnet.clients", ""),
}  # fmt: skip


@pytest.fixture
def package(person: Any) -> Path:
    """`mypkg.chat`, in a folder that is named in PYTHONPATH as people do it: from where they are."""
    folder = person.folder / "code" / "mypkg"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    shutil.copy(EXAMPLES / "chat.py", folder)
    person.environment["PYTHONPATH"] = "code"
    return folder


def document(**chat: Any) -> str:
    client = {"name": "chat", "class": "mypkg.chat:Chat", "settings": {"rooms": ["general", "random"]}, **chat}
    client = {key: value for key, value in client.items() if value is not None}
    spec = {"nodes": 3, "clients": [{"name": "blob"}, client]}
    head = {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "talk"}}
    return yaml.safe_dump({**head, "spec": spec})


def test_a_client_of_ones_own_is_started_injected_into_and_reported(person: Any, package: Path) -> None:
    file = person.folder / "talk.yaml"
    file.write_text(document())
    message = person.folder / "random.txt"
    message.write_bytes(os.urandom(5000))

    person.run("up", "-f", str(file))
    report = person.document("inject", "talk", str(message), "--client", "chat", "--from", "node-0")

    assert (report["client"], report["verdict"], report["reach"]["delivered"]) == ("chat", "pass", 2)
    assert report["bytes"]["payload"] == 2 * 5000
    [artifact] = report["artifact_ids"]
    person.run("get", "talk", artifact[:12], "-O", "copy", inside=True)
    assert (person.folder / "copy").read_bytes() == message.read_bytes()
    trace = person.document("trace", "talk", artifact[:12])
    assert (trace["client"], trace["publisher"], trace["reached"]) == ("chat", "node-0", 2)
    assert "client chat" in person.run("report", "talk", inside=True).out
    assert person.document("withdraw", "talk", artifact)["held"] == 3

    by_default = person.document("inject", "talk", "--size", "1KiB")
    assert (by_default["client"], by_default["verdict"]) == ("blob", "pass")
    ended = person.run("inject", "talk", "--size", "1KiB", "--client", "chap", code=2, inside=True)
    assert ended.error[:2] == ["there is no client 'chap': the subnet has blob, chat", "--client chap"]


@pytest.mark.parametrize("kind", BROKEN)
def test_a_client_that_will_not_do_is_refused_by_its_place_before_anything_starts(
    person: Any, package: Path, kind: str
) -> None:
    chat, words, todo = BROKEN[kind]
    file = person.folder / "talk.yaml"
    file.write_text(document(**chat))

    ended = person.run("up", "-f", str(file), code=2)

    what, where, advice = ended.error
    assert words in what
    assert what.startswith("spec.clients[1].")
    assert where.startswith("Subnet talk, with ")
    assert todo in advice
    assert not person.processes()
    assert not person.subnet("talk").exists()


def test_a_module_that_hangs_or_ends_the_process_is_refused_too(person: Any, package: Path) -> None:
    file = person.folder / "talk.yaml"
    file.write_text(document())
    (package / "chat.py").write_text("import os; os._exit(7)")
    assert "loading it ends the process, with code 7" in person.run("up", "-f", str(file), code=2).error[0]


def test_the_example_does_what_it_says(person: Any) -> None:
    person.environment["PYTHONPATH"] = str(EXAMPLES)
    person.run("up", "-f", str(EXAMPLES / "subnet.yaml"))
    report = person.document("inject", "talk", "--client", "chat", "--size", "300B", "--count", "20")
    assert (report["verdict"], report["reach"]["delivered"]) == ("pass", 60)
