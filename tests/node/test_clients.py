import pytest

from p2pnet.broadcast import BlobClient
from p2pnet.model.config import ClientSpec, NodeConfig
from p2pnet.model.errors import SpecError
from p2pnet.node.clients import load_client, make_broadcast


@pytest.mark.parametrize(
    "spec",
    [
        ClientSpec(),
        ClientSpec("files", "p2pnet.broadcast.blob:BlobClient"),
        ClientSpec("blob", "p2pnet.broadcast:BlobClient"),
    ],
)
def test_a_client_is_found_and_bears_the_name_it_was_given(spec: ClientSpec) -> None:
    client = load_client(spec)
    assert isinstance(client, BlobClient)
    assert client.name == spec.name
    assert BlobClient.name == "blob"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (ClientSpec("nobody"), "entry point"),
        (ClientSpec("Blob"), "lower-case"),
        (ClientSpec("a/b"), "lower-case"),
        (ClientSpec("own", "no.such.module:Thing"), "cannot make"),
        (ClientSpec("own", "p2pnet.broadcast:Missing"), "cannot make"),
        (ClientSpec("own", "p2pnet.broadcast"), "module:Class"),
        (ClientSpec("blob", settings={"colour": "red"}), "cannot make"),
    ],
)
def test_a_client_that_cannot_be_had_is_named(spec: ClientSpec, words: str) -> None:
    with pytest.raises(SpecError, match=words) as error:
        load_client(spec)
    assert spec.name in str(error.value)


def test_no_two_starts_draw_the_same_chances() -> None:
    config = NodeConfig(name="node-0", subnet="demo")
    one, again, other = (make_broadcast(config, BlobClient(), start) for start in ("a", "a", "b"))
    assert one._turn.chance.random() == again._turn.chance.random() != other._turn.chance.random()
