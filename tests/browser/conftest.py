"""One browser for all tests of this folder."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.browser.chromium import Browser, installed


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    opened = Browser(*installed())
    yield opened
    opened.driver.quit()
