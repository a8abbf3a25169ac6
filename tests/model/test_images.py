"""Names of the images."""

import re

import pytest

from p2pnet.model.images import UNRELEASED, image_tag

TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
"""What a registry takes: https://github.com/opencontainers/distribution-spec."""


@pytest.mark.parametrize("version", ["0.1.0", "1.2", "1.2.3rc1", "2.0a2", "1.0.post1"])
def test_a_release_has_images_of_its_own_version(version: str) -> None:
    assert image_tag(version) == version
    assert TAG.fullmatch(version)


@pytest.mark.parametrize("version", ["0.1.dev366", "1.2.4.dev0", "1.2.3+local", "0.1.dev3+g1234567", "1!2.0", ""])
def test_anything_else_has_those_that_are_built_at_hand(version: str) -> None:
    assert image_tag(version) == UNRELEASED
