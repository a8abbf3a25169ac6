"""Clients from the config: found, named, given their settings; or refused with their place in the document."""

import sys
from pathlib import Path
from typing import Any

import pytest
from tests.patience import PATIENCE_S

from p2pnet.broadcast import BlobClient
from p2pnet.broadcast.loading import load_client
from p2pnet.model.config import ClientConfig, NodeConfig
from p2pnet.model.errors import LimitError, SpecError
from p2pnet.node.clients import broadcast_rng, is_ours, load_clients, try_clients

HERE = "tests.node.test_clients"


class Tuned(BlobClient):
    """Takes settings, and is particular about them."""

    def __init__(self, topic: str, *, levels: list[dict[str, Any]] | None = None, quota: int = 1) -> None:
        if quota < 1:
            raise ValueError(f"quota {quota}: at least 1")
        if quota > 9:
            raise LimitError(f"quota {quota}: at most 9")
        if topic == "boom":
            raise ZeroDivisionError("no reason")
        self.topic, self.levels = topic, levels


class Half:
    """No client."""

    tick_s = None

    def make(self) -> None:
        """Something else."""


class Fast(BlobClient):
    tick_s = 0.0


class Nameless(BlobClient):
    @property
    def name(self) -> str:  # type: ignore[override]
        return "mine"


@pytest.mark.parametrize(
    "spec",
    [
        ClientConfig(),
        ClientConfig("files", "p2pnet.broadcast.blob:BlobClient"),
        ClientConfig("blob", "p2pnet.broadcast:BlobClient"),
    ],
)
def test_a_client_is_found_and_bears_the_name_it_was_given(spec: ClientConfig) -> None:
    client = load_client(spec)
    assert isinstance(client, BlobClient)
    assert client.name == spec.name
    assert BlobClient.name == "blob"
    assert is_ours(client)


def test_settings_reach_the_class_as_they_were_written() -> None:
    levels = [{"height": 3, "share": 0.5, "final": True, "next": None}]
    client = load_client(ClientConfig("tuned", f"{HERE}:Tuned", {"topic": "x", "levels": levels}))
    assert (client.topic, client.levels) == ("x", levels)  # type: ignore[attr-defined]
    assert not is_ours(client)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (ClientConfig("nobody"), r".name: no entry point 'nobody'"),
        (ClientConfig("Blob"), r".name: 'Blob': at most 12 lower-case"),
        (ClientConfig("a/b"), r".name: .*lower-case"),
        (
            ClientConfig("own", "no.such.module:Thing"),
            r".class: no.such.module cannot be imported: ModuleNotFoundError",
        ),
        (ClientConfig("own", "p2pnet.broadcast:Missing"), r".class: p2pnet.broadcast has no class Missing"),
        (ClientConfig("own", "p2pnet.broadcast:BlobClent"), r".class: .* did you mean BlobClient\?"),
        (ClientConfig("own", "p2pnet.broadcast"), r".class: 'p2pnet.broadcast' is not of the form module:Class"),
        (ClientConfig("own", f"{HERE}:HERE"), r".class: .* has no class HERE$"),
        (ClientConfig("own", f"{HERE}:Half"), r".class: .* is no client, it lacks inspect, on_state_change, bouncer"),
        (ClientConfig("own", f"{HERE}:Fast"), r".class: the tick_s of .* is 0.0: None, or seconds above zero"),
        (ClientConfig("own", f"{HERE}:Nameless"), r".class: .* takes no name"),
        (ClientConfig("own", f"{HERE}:Tuned", {"topic": "boom"}), r".class: .* cannot be made: ZeroDivisionError: no"),
        (ClientConfig("blob", settings={"colour": "red"}), r".settings: .*'?colour'?|takes no arguments"),
        (ClientConfig("own", f"{HERE}:Tuned"), r".settings: .* missing 1 required positional argument: 'topic'"),
        (ClientConfig("own", f"{HERE}:Tuned", {"topic": "x", "quota": 0}), r".settings: quota 0: at least 1"),
        (ClientConfig("own", f"{HERE}:Tuned", {"topic": "x", "quota": 10}), r".settings: quota 10: at most 9"),
    ],
)
def test_a_client_that_cannot_be_had_is_named_by_its_place_in_the_document(spec: ClientConfig, words: str) -> None:
    with pytest.raises(SpecError, match=rf"^spec\.clients\[1\]{words}"):
        load_clients([ClientConfig(), spec])


def test_no_two_starts_draw_the_same_numbers() -> None:
    config = NodeConfig(name="node-0", subnet="demo")
    one, again, other = (broadcast_rng(config, BlobClient(), start) for start in ("a", "a", "b"))
    assert one.random() == again.random() != other.random()


class Code:
    """Modules of a user, in a folder that Python looks into."""

    def __init__(self, folder: Path) -> None:
        self.environment = {"PYTHONPATH": str(folder)}
        self.folder = folder

    def __call__(self, text: str) -> list[ClientConfig]:
        (self.folder / "brought.py").write_text(text)
        return [ClientConfig(), ClientConfig("mine", "brought:Mine", {"a": 1})]


@pytest.fixture
def code(tmp_path: Path) -> Code:
    return Code(tmp_path)


MINE = "from p2pnet.broadcast import BlobClient\nclass Mine(BlobClient):\n    def __init__(self, a): print('noise')\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (MINE, ""),
        (MINE + "import threading, time; threading.Thread(target=time.sleep, args=(60,)).start()", ""),
        ("class Mine: pass", "spec.clients[1].settings: Mine() takes no arguments"),
        ("import sys; sys.exit(0)", "spec.clients[1].class: brought cannot be imported: SystemExit: 0"),
        ("import os; os._exit(0)", "spec.clients[1].class: loading it ends the process, with code 0: it says nothing"),
        ("import os; os._exit(2)", "spec.clients[1].class: loading it ends the process, with code 2: it says nothing"),
        ("import os; os.write(2, b'oh no'); os.kill(os.getpid(), 11)",
         "spec.clients[1].class: loading it ends the process, with code -11: oh no"),
    ],
)  # fmt: skip
def test_a_trial_tells_what_would_keep_nodes_from_running_a_client(code: Code, text: str, words: str) -> None:
    assert try_clients(code(text), environment=code.environment) == words


def test_a_trial_of_a_class_that_never_loads_ends_in_time(code: Code) -> None:
    specs = code("while True:\n    try:\n        import time; time.sleep(60)\n    except BaseException: pass")
    within_s = 2.0
    while (said := try_clients(specs, environment=code.environment, within_s=within_s)).startswith("spec.clients[0]"):
        within_s *= 2  # on a busy machine it had not come to the second one
        assert within_s < PATIENCE_S
    assert said == f"spec.clients[1].class: loading it takes longer than {within_s:g} s"


def test_what_is_ours_needs_no_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert try_clients([ClientConfig()]) == ""
