"""The live page in a real browser, of a real subnet: tabs follow it, buttons do what they show, a lost lab comes back."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

DOCUMENT = """
apiVersion: p2pnet.io/v1alpha1
kind: Subnet
metadata: {name: demo}
spec: {groups: [{name: good, nodes: 3}, {name: bad, nodes: 1, behaviour: silent}]}
"""
PROGRAM = [sys.executable, "-m", "p2pnet.cli"]

pytestmark = pytest.mark.timeout(300)  # where a browser is to be installed first


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "state"
    p2pnet(tmp_path / "state", "down", "--all", "--yes")


def p2pnet(state: Path, *words: str) -> None:
    done = subprocess.run(
        [*PROGRAM, *words], env=os.environ | {"P2PNET_STATE": str(state)}, capture_output=True, text=True, check=False,
        timeout=90,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.fixture
def served(state: Path) -> Iterator["subprocess.Popen[str]"]:
    (state.parent / "demo.yaml").write_text(DOCUMENT)
    p2pnet(state, "up", "-f", str(state.parent / "demo.yaml"))
    with subprocess.Popen(
        [*PROGRAM, "ui", "demo"], env=os.environ | {"P2PNET_STATE": str(state)}, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        yield process
        process.kill()


def test_tabs_follow_a_subnet_its_buttons_act_and_a_lost_lab_is_said_and_found_again(browser, state, served):
    address = served.stdout.readline().strip()
    first = browser.driver.current_window_handle
    browser.driver.get(address)
    ready = (
        "return document.documentElement.dataset.ready === 'yes' && document.documentElement.dataset.live === 'live'"
    )
    browser.until(ready)
    assert browser.driver.current_url == f"http://{urlsplit(address).netloc}/"
    browser.driver.switch_to.new_window("tab")
    second = browser.driver.current_window_handle
    browser.driver.get(f"http://{urlsplit(address).netloc}/")
    browser.until(ready)

    form = browser.driver.find_element(By.CSS_SELECTOR, "form[data-verb=inject]")
    assert form.find_element(By.CLASS_NAME, "command").text == (
        "p2pnet inject demo --size 64KiB --count 5 --rate 5/s --no-wait"
    )
    form.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    browser.until("return document.getElementById('live-answer').dataset.ok === 'yes'")
    for tab in (first, second):
        browser.driver.switch_to.window(tab)
        browser.until(
            "const {model} = p2pnetPage; return model.journeys.filter((one) => one.order.length === 2).length === 5"
        )
        assert browser.run("return p2pnetPage.model.latency().curves[0].points_ms.length") == 10

        shown = "const {network} = p2pnetPage.drawn; return [network.artifact, Number(network.artifacts.value)]"
        assert browser.run(shown) == [4, 4]

    browser.driver.find_element(By.CSS_SELECTOR, "form[data-verb=break] button").send_keys(Keys.ENTER)
    heal = "return document.querySelector('form[data-verb=heal] .command').textContent"
    browser.until(f"{heal} === 'p2pnet fault demo clear loss-1'")
    browser.driver.find_element(By.CSS_SELECTOR, "form[data-verb=heal] button").send_keys(Keys.ENTER)
    browser.until(f"{heal} === 'nothing is broken'")
    browser.picture("live-1280-light")

    os.kill(int(json.loads((state / "subnets" / "demo" / "lab.json").read_bytes())["pid"]), signal.SIGKILL)
    browser.until("return document.documentElement.dataset.live === 'lost'")
    assert "does not answer" in browser.driver.find_element(By.ID, "live-said").text
    p2pnet(state, "up", "demo")
    browser.until(ready)
    assert browser.errors() == []

    browser.driver.close()
    browser.driver.switch_to.window(first)
    served.send_signal(signal.SIGINT)
    assert served.wait(20) == 130
    browser.until("return document.documentElement.dataset.live === 'cut off'")
    browser.driver.get("about:blank")
    browser.errors()  # that the server has gone is told there
