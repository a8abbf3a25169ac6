"""What `p2pnet install` applies: install.yaml with the version of this p2pnet in it."""

import json
import re
from importlib import metadata

import pytest

from p2pnet.cli.targets.cluster.installation import images, manifest


@pytest.mark.parametrize(("version", "tag"), [("1.2.3", "1.2.3"), ("1.3.0rc1", "1.3.0rc1"), ("1.2.4.dev3", "dev")])
def test_everything_that_names_a_version_names_that_of_this_p2pnet(
    monkeypatch: pytest.MonkeyPatch, version: str, tag: str
) -> None:
    monkeypatch.setattr(metadata, "version", lambda _: version)
    objects = manifest()
    assert images(objects) == (f"p2pnet/p2pnet-operator:{tag}", f"p2pnet/p2pnet-node:{tag}")
    assert set(re.findall(r'app\.kubernetes\.io/version": "(.*?)"', json.dumps(objects))) == {tag}


def test_images_of_ones_own_stay_as_they_are() -> None:
    assert images(manifest("here/operator:dev", "here/node:dev")) == ("here/operator:dev", "here/node:dev")
