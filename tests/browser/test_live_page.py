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
from tests.patience import PATIENCE_S

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.browser.chromium import Browser

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
        timeout=PATIENCE_S,
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


READY = "return document.documentElement.dataset.ready === 'yes' && document.documentElement.dataset.live === 'live'"
WIDER = (
    "return [...document.querySelectorAll('main *')].filter((one) => one.getBoundingClientRect().right > innerWidth"
    " && !one.closest('.scroll, .choice, svg')).map((one) => one.outerHTML.slice(0, 90)).slice(0, 5)"
)
FOREIGN = (
    "const [url, done] = arguments, body = JSON.stringify({verb: 'inject', size: '1KiB'});"
    "const asked = (more) => fetch(url, {method: 'POST', body, credentials: 'include', ...more})"
    ".then((one) => one.type, () => 'refused');"
    "Promise.all([asked({mode: 'no-cors'}), asked({headers: {'Content-Type': 'application/json'}})]).then(done)"
)


def press(browser: Browser, verb: str, **fields: str) -> None:
    """Fill in a form and press its button; until it has been carried out."""
    browser.run(
        "const [verb, fields] = arguments, form = document.querySelector(`form[data-verb=${verb}]`);"
        "delete document.getElementById('live-answer').dataset.ok;"
        "for (const [name, value] of Object.entries(fields)) form.elements[name].value = value;"
        "form.dispatchEvent(new Event('input'))", verb, fields,
    )  # fmt: skip
    browser.driver.find_element(By.CSS_SELECTOR, f"form[data-verb={verb}] button").send_keys(Keys.ENTER)
    browser.until("return document.getElementById('live-answer').dataset.ok === 'yes'")


def test_tabs_follow_a_subnet_its_buttons_act_and_a_lost_lab_is_said_and_found_again(browser, state, served):
    address = served.stdout.readline().strip()
    base = f"http://{urlsplit(address).netloc}/"
    first = browser.driver.current_window_handle
    browser.driver.get(base)
    assert "open the address that p2pnet ui printed" in browser.run("return document.body.textContent")
    browser.driver.get(address)
    browser.until(READY)
    browser.errors()  # that the page without the token was refused is told there
    assert browser.driver.current_url == base
    browser.run("window.before = document.querySelector('.network')")
    assert "1 node that does not behave" in browser.driver.find_element(By.CSS_SELECTOR, ".legend").text
    browser.picture("live-idle-1280-light")
    browser.driver.switch_to.new_window("tab")
    second = browser.driver.current_window_handle
    browser.look(1280, dark=False)
    browser.driver.get(base)
    browser.until(READY)

    form = browser.driver.find_element(By.CSS_SELECTOR, "form[data-verb=inject]")
    assert form.find_element(By.CLASS_NAME, "command").text == (
        "p2pnet inject demo --size 64KiB --count 5 --rate 5/s --no-wait"
    )
    press(browser, "inject")
    for tab in (first, second):
        browser.driver.switch_to.window(tab)
        browser.until(
            "const {model} = p2pnetPage; return model.journeys.filter((one) => one.order.length === 2).length === 5"
        )
        assert browser.run("return p2pnetPage.model.latency().curves[0].points_ms.length") == 10
        browser.until(
            "const {network} = p2pnetPage.drawn; return network.artifact === 4 && network.artifacts.value === '4'"
        )

    the_parts_beside_receipts_are_drawn(browser)
    nodes_that_are_down_are_marked_and_the_view_stays(browser)
    browser.run("scrollTo({top: 0, behavior: 'instant'})")
    browser.picture("live-1280-light")
    for width, dark in ((2560, False), (1280, True), (360, True)):
        browser.look(width, dark=dark)
        browser.settled()
        assert browser.run("return document.documentElement.scrollWidth") <= width, browser.run(WIDER)
        if dark:  # a picture takes software a while
            browser.picture(f"live-{width}-dark")
    browser.look(1280, dark=False)

    another_page_is_refused(browser, base)
    browser.driver.switch_to.window(second)
    os.kill(int(json.loads((state / "subnets" / "demo" / "lab.json").read_bytes())["pid"]), signal.SIGKILL)
    browser.until("return document.documentElement.dataset.live === 'lost'")
    assert "does not answer" in browser.driver.find_element(By.ID, "live-said").text
    browser.run("window.kept = true")
    p2pnet(state, "up", "demo")
    browser.until(READY)
    browser.until("return p2pnetPage.model.journeys.length === 0")  # of the lab that there is now
    assert browser.run("return window.kept") is True, "it was not loaded again"
    assert browser.errors() == []

    browser.driver.close()
    browser.driver.switch_to.window(first)
    served.send_signal(signal.SIGINT)
    assert served.wait(PATIENCE_S) == 130
    browser.until("return document.documentElement.dataset.live === 'cut off'")
    browser.driver.get("about:blank")
    browser.errors()  # that the server has gone is told there
    assert len(served.stderr.read().strip().splitlines()) == 1, "no error was said"


def the_parts_beside_receipts_are_drawn(browser: Browser) -> None:
    browser.until(
        "const {snapshot: {traffic}} = p2pnetPage.model;"
        "return traffic?.receipts.reduce((sum, [,, many]) => sum + many, 0) >= 10"
    )
    browser.until("return Boolean(p2pnetPage.drawn.series.drawn && p2pnetPage.model.snapshot.traffic.wire)")
    assert browser.run("return p2pnetPage.model.reach().received.at(-1)") == 10
    browser.until(
        "return ['latency', 'hops', 'reach', 'traffic', 'series'].every((one) => p2pnetPage.drawn[one]?.drawn)"
    )
    assert "the way from" in browser.driver.find_element(By.ID, "slow").text


def nodes_that_are_down_are_marked_and_the_view_stays(browser: Browser) -> None:
    browser.run("p2pnetPage.drawn.network.drawing.sigma.getCamera().setState({ratio: 0.7})")
    press(browser, "break")
    heal = "return document.querySelector('form[data-verb=heal] .command').textContent"
    browser.until(f"{heal} === 'p2pnet fault demo clear loss-1'")
    browser.until("return Boolean(p2pnetPage.drawn.faults.drawn)")
    press(browser, "heal")
    browser.until(f"{heal} === 'nothing is broken'")
    node = browser.run(  # the seed is the same: the first artifact of every run has the same publisher
        "const {model} = p2pnetPage;"
        "return model.nodes.find((name, node) => name.startsWith('good') && node !== model.journeys[0].publisher)"
    )
    press(browser, "break", kind="pause", value="", node=node)
    browser.until("return [...p2pnetPage.model.down.values()].join() === 'paused'")
    browser.until("return document.querySelector('.legend').textContent.includes('1 node not running')")
    press(browser, "inject", count="1")
    browser.until(
        "return p2pnetPage.model.journeys.at(-1).order.length === 1 && p2pnetPage.model.journeys.length === 6"
    )
    assert browser.run("return p2pnetPage.drawn.network.drawing.sigma.getCamera().ratio") == 0.7
    browser.until("return p2pnetPage.model.snapshot.faults.find((one) => one.name === 'loss-1').state === 'ended'")
    browser.run("p2pnetPage.drawn.network.pick(p2pnetPage.model.nodes.indexOf(arguments[0]))", node)
    browser.until("return document.querySelector('.picked').textContent.includes('paused')")
    browser.picture("live-paused-1280-dark", "#network")
    press(browser, "heal", fault="pause-1")
    browser.until("return p2pnetPage.model.down.size === 0")


def another_page_is_refused(browser: Browser, base: str) -> None:
    """Of the same browser, which has the cookie: an order of it comes to nothing."""
    runs = "return document.getElementById('live-lines').textContent.match(/Run r-/g).length"
    browser.run("window.runs = (() => {" + runs + "})()")
    here = browser.driver.current_window_handle
    browser.driver.switch_to.new_window("tab")
    browser.driver.get("data:text/html,another page")
    said = browser.driver.execute_async_script(FOREIGN, f"{base}orders")
    assert said in (["opaque", "refused"], ["refused", "refused"]), (
        "no answer is for it, and it may not even ask in JSON"
    )
    browser.errors()
    browser.driver.close()
    browser.driver.switch_to.window(here)
    assert browser.run(f"return window.runs === (() => {{{runs}}})()")
