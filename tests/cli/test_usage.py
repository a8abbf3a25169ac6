"""What the command line takes and refuses, by table: exit codes and three lines of error."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

VERBS = (
    "up",
    "status",
    "down",
    "inject",
    "sim",
    "fault",
    "report",
    "trace",
    "get",
    "withdraw",
    "logs",
    "ping",
    "ui",
    "doctor",
    "schema",
    "install",
    "uninstall",
    "render",
)

REFUSED = [
    (("nonsense",), "No such command 'nonsense'"),
    (("injct", "demo"), "Did you mean 'inject'"),
    (("status", "--nonsense"), "No such option: --nonsense"),
    (("inject",), "Missing argument 'NAME'"),
    (("status", "-o", "xml"), "'xml'"),
    (("status", "Demo"), "subnet name 'Demo'"),
    (("up", "x" * 41), "at most 40 characters"),
    (("up", "--nodes", "0"), "greater than or equal to 1"),
    (("up", "--nodes", "three"), "three"),
    (("up", "--timeout", "120"), "write a number with its unit"),
    (("up", "--timeout", "0s"), "more than zero"),
    (("up", "--on", "mars"), "'mars'"),
    (("completion", "tcsh"), "Invalid value for 'SHELL': 'tcsh' is not one of"),
    (("up", "-f", "nowhere.yaml"), "there is no such file"),
    (("inject", "demo", "--size", "64"), "write a number with its unit"),
    (("inject", "demo", "--size", "0B"), "at least one byte"),
    (("inject", "demo", "--count", "0"), "greater than or equal to 1"),
    (("inject", "demo", "--rate", "2"), "is no rate"),
    (("inject", "demo", "--rate", "0/s"), "above zero"),
    (("inject", "demo", "--within", "5"), "write a number with its unit"),
    (("inject", "demo", "--seed", "-1"), "greater than or equal to 0"),
    (("inject", "demo", "--expect", "p95 < fast"), "p95 < fast"),
    (("inject", "demo", "--expect", "speed >= 3"), "a metric: p50"),
    (("inject", "demo", "nowhere.jpg"), "there is no such file"),
    (("inject", "demo", "."), "it is a directory"),
    (("inject", "demo", "--size", "1KiB", "nowhere.jpg"), "both files and --size"),
    (("trace", "demo", "xyz"), "no artifact id"),
    (("fault", "demo"), "Missing argument 'ACTION'"),
    (("fault", "demo", "add", "loss", "--loss", "20"), "write a percentage"),
    (("get", "demo", "1x"), "no artifact id"),
    (("withdraw", "demo", "g" * 64), "no artifact id"),
    (("down", "demo", "--all"), "both a name and --all"),
    (("logs", "demo", "--grep", "("), "no regular expression"),
    (("logs", "demo", "--follow", "-o", "json"), "use -o ndjson"),
    (("schema",), "Missing argument 'KIND'"),
    (("schema", "reprot"), "did you mean report?"),
    (("status", "--on", "local", "--context", "prod"), "belong to clusters"),
    (("status", "--on", "sim", "-n", "team"), "'sim' is not one of"),
    (("install", "--on", "local"), "'local' is not one of 'cluster', 'kind'"),
    (("render",), "Missing option '-f'"),
]


@pytest.mark.parametrize(("words", "said"), REFUSED, ids=[" ".join(words)[:40] for words, _ in REFUSED])
def test_a_wrong_command_line_ends_with_2_and_three_lines(
    p2pnet: Callable[..., Any], words: tuple[str, ...], said: str
) -> None:
    ended = p2pnet(*words)

    assert ended.code == 2, ended.err
    assert said in ended.err
    assert [line[:6] for line in ended.err.splitlines()] == ["error:", "where:", " next:"]
    assert ended.out == ""


@pytest.mark.parametrize("words", [("up",), ("status", "demo"), ("down", "demo", "-y"), ("doctor",), ("install",)])
@pytest.mark.parametrize("options", [("--on", "cluster"), ("--context", "prod"), ("-n", "team")])
def test_a_cluster_without_a_kubeconfig_is_a_target_not_found(
    p2pnet: Callable[..., Any], words: tuple[str, ...], options: tuple[str, ...]
) -> None:
    ended = p2pnet(*words, *options)

    assert ended.code == 3
    assert "no usable kubeconfig" in ended.err
    assert "set KUBECONFIG" in ended.err


@pytest.mark.parametrize("on", ["sim"])
@pytest.mark.parametrize("words", [("up",), ("status", "demo"), ("inject", "demo"), ("down", "demo", "-y")])
def test_a_target_not_offered_is_named_with_those_that_are(
    p2pnet: Callable[..., Any], words: tuple[str, ...], on: str
) -> None:
    ended = p2pnet(*words, "--on", on)

    assert ended.code == 2
    assert f"'{on}' is not one of 'local', 'cluster', 'kind'" in ended.err
    assert f"|{on}" not in p2pnet(words[0], "--help").out


@pytest.mark.parametrize(
    "words",
    [
        ("status",), ("status", "demo"), ("inject", "demo"), ("report", "demo"), ("trace", "demo", "abcdef"),
        ("get", "demo", "abcdef"), ("withdraw", "demo", "abcdef"), ("logs", "demo"), ("ui", "demo"), ("fault", "demo", "list"),
        ("fault", "demo", "add", "loss", "5%"), ("fault", "demo", "clear", "--all"),
        ("fault", "demo", "add", "loss", "5%", "--keep"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_subnet_that_is_not_there_ends_with_3_and_names_up(
    p2pnet: Callable[..., Any], words: tuple[str, ...]
) -> None:
    ended = p2pnet(*words)

    assert ended.code == 3, ended.err
    assert "next: p2pnet up demo" in ended.err
    assert len(ended.err.splitlines()) == 3


def test_down_of_a_subnet_that_is_not_there_ends_well(p2pnet: Callable[..., Any]) -> None:
    assert p2pnet("down", "demo").code == 0
    assert p2pnet("down", "--all", "--yes").code == 0
    assert p2pnet("down").code == 0
    assert json.loads(p2pnet("down", "demo", "-o", "json").out) == {
        "schema": "p2pnet.io/removal/v1",
        "removed": [],
        "absent": ["demo"],
    }


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb_ends_with_one_example_of_it(p2pnet: Callable[..., Any], verb: str) -> None:
    ended = p2pnet(verb, "--help")

    assert ended.code == 0
    assert ended.out.count("Example:") == 1
    assert ended.out.rstrip().splitlines()[-1].strip().startswith(f"p2pnet {verb}")


def _help(p2pnet: Callable[..., Any], verb: str) -> str:
    return " ".join(p2pnet(verb, "--help").out.split())


def test_only_what_waits_for_a_connected_subnet_says_so(p2pnet: Callable[..., Any]) -> None:
    assert [verb for verb in VERBS if "to be connected" in _help(p2pnet, verb)] == ["up"]
    assert "--timeout DURATION How long to wait until the cluster knows Subnets." in _help(p2pnet, "install")


def test_the_options_of_a_place_fit_what_a_verb_is_about(p2pnet: Callable[..., Any]) -> None:
    said = {verb: _help(p2pnet, verb) for verb in VERBS}
    placed = {verb for verb, text in said.items() if "--on <" in text}
    assert placed == set(VERBS) - {"schema", "render", "sim"}
    assert {verb for verb in VERBS if "lives" in said[verb]}.isdisjoint({"up", "doctor", "install", "uninstall"})
    assert {verb for verb in VERBS if "--namespace" not in said[verb]} == {"schema", "ping", "sim"}
    for verb in placed - {"ping"}:  # which reaches nodes of this machine alone
        assert f"[default: the current one] -h, --help Show this message and exit. {_example(said[verb])}" in said[verb]


@pytest.mark.parametrize(
    ("verb", "default"),
    [("up", "the document's, else demo"), ("status", "the only one, else a list of all"),
     ("down", "the only one there is"), ("runs", "all")],
)  # fmt: skip
def test_a_name_that_may_be_left_out_says_what_is_meant_then(
    p2pnet: Callable[..., Any], verb: str, default: str
) -> None:
    said = " ".join(p2pnet(verb, "--help").out.split())

    assert f"NAME <str> The subnet. [default: {default}]" in said


def _example(text: str) -> str:
    return text[text.index("Example: ") :]


def test_a_place_is_refused_where_it_would_be_passed_over(p2pnet: Callable[..., Any]) -> None:
    for words in (
        ("schema", "report", "--on", "local"),
        ("schema", "report", "-n", "team"),
        ("render", "--context", "prod"),
    ):
        assert p2pnet(*words).code == 2


def test_help_lists_every_verb_and_version_prints_one_line(p2pnet: Callable[..., Any]) -> None:
    ended = p2pnet("--help")

    assert ended.code == 0
    assert all(f"\n  {verb} " in ended.out for verb in VERBS)
    assert p2pnet("--version").out.startswith("p2pnet ")


def test_no_words_at_all_show_the_help_and_end_with_2(p2pnet: Callable[..., Any]) -> None:
    ended = p2pnet()

    assert ended.code == 2
    assert "Start here:" in ended.err


DOCUMENTS = [
    ("", "the Subnet document is empty"),
    ("nonsense", "a Subnet document is a mapping"),
    ("a: [", "not YAML"),
    ("apiVersion: p2pnet.io/v1alpha1\nkind: Subnet\nmetadata: {name: demo}\nspec: {nods: 3}", "spec.nods: unknown key"),
    ("apiVersion: p2pnet.io/v1alpha1\nkind: Subnet\nmetadata: {name: demo}\nspec: {nodes: -1}", "spec.nodes"),
    ("apiVersion: p2pnet.io/v1alpha1\nkind: Subnet\nmetadata: {name: demo}\nspec: {image: x}", "spec.image"),
    (
        "apiVersion: p2pnet.io/v1alpha1\nkind: Subnet\nmetadata: {name: other}\nspec: {nodes: 3}",
        "metadata.name says other",
    ),
]


@pytest.mark.parametrize(("text", "said"), DOCUMENTS, ids=[said for _, said in DOCUMENTS])
def test_a_document_that_cannot_be_used_ends_with_2_and_names_the_place(
    p2pnet: Callable[..., Any], tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "subnet.yaml"
    path.write_text(text)

    ended = p2pnet("up", "demo", "-f", str(path))

    assert ended.code == 2
    assert said in ended.err
    assert len(ended.err.splitlines()) == 3


def test_a_directory_as_document_ends_with_2(p2pnet: Callable[..., Any], tmp_path: Path) -> None:
    ended = p2pnet("up", "-f", str(tmp_path))

    assert ended.code == 2
    assert "it is a directory" in ended.err


def test_what_cannot_connect_in_time_is_refused_before_anything_starts(
    p2pnet: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "subnet.yaml"
    path.write_text(
        "apiVersion: p2pnet.io/v1alpha1\nkind: Subnet\nmetadata: {name: huge}\n"
        "spec: {nodes: 200, topology: {kind: full}, ready: {within: 5s}}\n"
    )

    ended = p2pnet("up", "-f", str(path))

    assert ended.code == 2
    assert "200 nodes with 19900 links need about" in ended.err


def test_a_state_directory_that_is_a_file_ends_with_2(
    p2pnet: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_text("")
    monkeypatch.setenv("P2PNET_STATE", str(path))

    ended = p2pnet("up", "demo", "--nodes", "1")

    assert ended.code == 2
    assert str(path) in ended.err
    assert len(ended.err.splitlines()) == 3


@pytest.mark.parametrize(
    ("words", "said", "following"),
    [
        (("fault", "demo"), "Missing argument 'ACTION': choose one of add, list, clear", "fault --help"),
        (("completion",), "Missing argument 'SHELL': choose one of bash, zsh, fish", "completion --help"),
        (("schema",), "Missing argument 'KIND'", "schema --help"),
        (("runs", "--verdict"), "Option '--verdict' requires an argument", "runs --help"),
    ],
)
def test_what_is_missing_is_told_in_a_sentence_with_what_can_be_chosen(
    p2pnet: Callable[..., Any], words: tuple[str, ...], said: str, following: str
) -> None:
    ended = p2pnet(*words)
    assert ended.err == f"error: {said}\nwhere: p2pnet {' '.join(words)}\n next: p2pnet {following}\n"
