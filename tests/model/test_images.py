"""Names of the images."""

import re

import pytest

from p2pnet.model.images import UNRELEASED, image_tag, version_label

TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
"""What a registry takes: https://github.com/opencontainers/distribution-spec."""


@pytest.mark.parametrize("version", ["0.1.0", "1.2", "1.2.3rc1", "2.0a2", "1.0.post1"])
def test_a_release_has_images_of_its_own_version(version: str) -> None:
    assert image_tag(version) == version
    assert TAG.fullmatch(version)


@pytest.mark.parametrize("version", ["0.1.dev366", "1.2.4.dev0", "1.2.3+local", "0.1.dev3+g1234567", "1!2.0", ""])
def test_anything_else_has_those_that_are_built_at_hand(version: str) -> None:
    assert image_tag(version) == UNRELEASED


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("p2pnet/p2pnet-node:1.2.0", "1.2.0"),
        ("registry.example:5000/node:v1@sha256:0a", "v1"),
        ("registry.example:5000/node", ""),
        ("node@sha256:0a", ""),
        ("node:_odd", ""),
        (f"node:{64 * 'a'}", ""),
        ("node:end-", ""),
    ],
)
def test_a_tag_is_a_label_where_it_can_be_one(image: str, label: str) -> None:
    assert version_label(image) == label
