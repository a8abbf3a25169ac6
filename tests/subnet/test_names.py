"""Names, keys and amounts are those of Kubernetes, and one that is none is told what to write."""

from decimal import Decimal

import pytest

from p2pnet.model.errors import SpecError
from p2pnet.subnet.document import load_subnet
from p2pnet.subnet.names import amount_of


def mistakes(metadata: dict[str, object], **spec: object) -> str:
    with pytest.raises(SpecError) as caught:
        load_subnet(
            {
                "apiVersion": "p2pnet.io/v1alpha1",
                "kind": "Subnet",
                "metadata": {"name": "demo", **metadata},
                "spec": spec,
            }
        )
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "number"),
    [("500m", "0.5"), (2, 2), ("1Gi", 1 << 30), ("1e3", 1000), ("2E3", 2000), ("1E", 10**18), ("1.5", "1.5"), (".5", "0.5"),
     ("100n", "0.0000001"), ("1k", 1000), ("64Mi", 64 << 20), ("1e-2", "0.01")],
)  # fmt: skip
def test_an_amount_is_the_number_that_kubernetes_makes_of_it(text: str | int, number: str | int) -> None:
    assert amount_of(text) == Decimal(number)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"labels": {"a b": "c"}}, "metadata.labels: 'a b' is no key of a label"),
        ({"labels": {"team": "p 2 p"}}, "metadata.labels: team: 'p 2 p' is no value of a label"),
        ({"annotations": {"a/b/c": "x"}}, "metadata.annotations: 'a/b/c' is no key"),
        ({"namespace": "Test"}, "metadata.namespace: 'Test' is no namespace"),
    ],
)
def test_what_an_api_server_refuses_around_the_spec_is_refused_before(metadata: dict[str, object], words: str) -> None:
    assert words in mistakes(metadata)


def test_annotations_of_the_document_may_have_capitals_in_their_domain_as_in_kubernetes() -> None:
    metadata = {"name": "demo", "annotations": {"Example.com/Team": "x"}}
    document = {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": metadata, "spec": {}}
    assert load_subnet(document).name == "demo"


def test_a_key_or_a_value_is_named_in_what_is_wrong_with_it() -> None:
    words = mistakes(
        {}, pod={"labels": {"team": "p 2 p"}, "nodeSelector": {"a b": "c"}}, groups=[{"name": "a", "nodes": 1}]
    )
    assert "spec.pod.labels: team: 'p 2 p' is no value of a label" in words
    assert "spec.pod.nodeSelector: 'a b' is no key of a label or an annotation" in words


def test_a_time_with_a_line_break_behind_it_is_refused_as_by_an_api_server() -> None:
    assert "spec.ttl: '1h\\n' is no duration" in mistakes({}, ttl="1h\n")


def test_a_ttl_beyond_all_calendars_is_refused() -> None:
    assert "spec.ttl: 99999999d: from 1m to 3650d" in mistakes({}, ttl="99999999d")


def test_a_share_of_nodes_above_all_of_them_is_refused_where_it_stands() -> None:
    faults = [{"name": "x", "from": "250%", "pause": True}]
    assert mistakes({}, faults=faults).startswith("spec.faults[0].from: '250%' is no share")
