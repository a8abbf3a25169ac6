"""From a text to one Subnet document: what kubectl takes is taken, what multiplies or means two things is refused."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from p2pnet.model.errors import SpecError
from p2pnet.subnet.reading import Found, find_subnet

SUBNET = "apiVersion: p2pnet.io/v1alpha1\nkind: Subnet\nmetadata: {name: demo}\n"
OTHER = SUBNET.replace("demo", "other")
NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {name: team}\n"
PARSED = {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "demo"}}


def mistake(text: str | bytes) -> str:
    with pytest.raises(SpecError) as caught:
        find_subnet(text, "file.yaml")
    assert str(caught.value).startswith("file.yaml: ")
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        SUBNET,
        f"---\n{SUBNET}",
        f"# a comment\n---\n{SUBNET}---\n",
        SUBNET.replace("\n", "\r\n"),
        "\ufeff" + SUBNET,
        json.dumps(PARSED),
        "\ufeff" + json.dumps(PARSED, indent="\t"),
    ],
    ids=["yaml", "opened", "ended", "crlf", "byte order mark", "json", "json with tabs"],
)
def test_one_document_is_read_however_it_is_written(text: str) -> None:
    assert find_subnet(text) == find_subnet(text.encode()) == Found(PARSED)


@pytest.mark.parametrize(
    "text",
    [
        f"{NAMESPACE}---\n{SUBNET}",
        f"{SUBNET}---\n{NAMESPACE}",
        json.dumps({"kind": "List", "apiVersion": "v1", "items": [yaml.safe_load(NAMESPACE), PARSED]}),
        json.dumps(yaml.safe_load(NAMESPACE)) + "\n" + json.dumps(PARSED),
    ],
    ids=["before it", "after it", "in a list", "json after json"],
)
def test_what_else_stands_there_is_named_and_passed_over(text: str) -> None:
    assert find_subnet(text) == Found(PARSED, ("Namespace team",))


def test_of_several_subnets_the_one_that_is_named_is_taken() -> None:
    both = f"{SUBNET}---\n{OTHER}"
    assert find_subnet(both, name="demo") == Found(PARSED, ("Subnet other",))
    assert "2 are here: Subnet demo, Subnet other; give a NAME" in mistake(both)
    with pytest.raises(SpecError, match="2 are here"):
        find_subnet(both, name="third")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "one Subnet document is wanted, none is here"),
        (f"{NAMESPACE}---\na: 1", "none is here, only Namespace team, a document without kind"),
        (f"{SUBNET}---\n- a", "is a mapping"),
        ("kind: Subnet\nkind: Subnet", "line 2, column 1: key 'kind' stands here twice"),
        ('{"kind": "Subnet", "kind": "Subnet"}', "key 'kind' stands here twice"),
        ("a: {b: 1, b: 2}", "key 'b' stands here twice"),
        ("? [a, b]\n: 1", "is no text: quote it"),
        ("null: 1", "is no text: quote it"),
        ("a: {<<: 3}", "<< takes a mapping, or a list of them"),
        ("!!python/object:os.system {}", "not YAML"),
        ("a: \x00", "not YAML"),
        ("a: &a [*a]", "recursive"),
        ("a: " + "[" * 5_000, "not YAML"),
        ('{"a": ' + "[" * 100_000, "not YAML"),
        ("---\na: 1\n" * 1_001, "more than 1000 documents"),
        ("x" * (2 << 20) + "x", "larger than 2 MiB"),
    ],
)
def test_what_is_no_document_is_said(text: str, message: str) -> None:
    assert message in mistake(text)


def test_a_group_can_begin_with_what_another_one_says() -> None:
    text = f"{SUBNET}spec: {{groups: [&a {{name: eu, nodes: 2, labels: {{x: y}}}}, {{<<: *a, name: us}}]}}"
    eu, us = find_subnet(text).document["spec"]["groups"]
    assert us == eu | {"name": "us"}


def test_of_several_sources_the_first_wins_and_a_key_of_ones_own_wins_over_all() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {x: 2, y: 2, z: 2}\nc: {<<: [*a, *b], y: 3}\nd: {y: 3, <<: *a}"
    found = find_subnet(text).document
    assert (found["c"], found["d"]) == ({"x": 1, "y": 3, "z": 2}, {"x": 1, "y": 3})


@pytest.mark.parametrize("merge", [True, False])
def test_aliases_that_multiply_cost_no_more_than_they_are_long(merge: bool) -> None:
    line = "a{0}: &a{0} {{<<: [*a{1}, *a{1}], x{0}: 2}}" if merge else "a{0}: &a{0} {{l: *a{1}, r: *a{1}}}"
    text = "\n".join(["a0: &a0 {x: 1}", *(line.format(index, index - 1) for index in range(1, 40))])
    if merge:
        assert len(find_subnet(text).document["a39"]) == 40
    else:
        assert "more than 500,000 values" in mistake(text)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("2026-11-21", "2026-11-21"), ("12:30", "12:30"), ("190:20:30", "190:20:30"), ("=", "="), ("0o17", 15), ("017", 15),
        ("0x1F", 31), ("0b11", 3), ("1_000", 1000), ("-7", -7), ("+7", 7), ("1e3", 1000.0), ("2.5", 2.5), (".5", 0.5),
        ("yes", True), ("off", False), ("~", None), ("90ms", "90ms"), ("1.2.3", "1.2.3"), ("0", 0), ("1Gi", "1Gi"),
    ],
)  # fmt: skip
def test_scalars_mean_what_they_mean_to_kubectl(written: str, value: object) -> None:
    found = find_subnet(f"a: {written}").document["a"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("written", "key"), [("1", "1"), ("true", "true"), ("on", "true"), ("2.5", "2.5"), ("'x y'", "x y")]
)
def test_keys_become_text_as_in_json(written: str, key: str) -> None:
    assert find_subnet(f"a: {{{written}: x}}").document["a"] == {key: "x"}


@given(st.binary(max_size=200) | st.text(alphabet="{}[]&*<:,-? \n\tab1'\"#!|>", max_size=60))
def test_any_text_is_a_document_or_a_spec_error(text: Any) -> None:
    try:
        assert isinstance(find_subnet(text), Found)
    except SpecError:
        return
