"""A real browser: Debian's Chromium without a screen, drawing WebGL in software. Where it is missing, root installs it.

It may be left out, with the reason, on a machine where it cannot be had; never where `CI` is true or P2PNET_REQUIRE_BROWSER is 1.
"""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from tests.patience import PATIENCE_S

ROOT = Path(__file__).parents[2]
PACKAGES = ("chromium", "chromium-driver", "fonts-dejavu-core")
REQUIRED = os.environ.get("CI", "").lower() in {"1", "true"} or os.environ.get("P2PNET_REQUIRE_BROWSER") == "1"
SCREENSHOTS = Path(os.environ.get("P2PNET_SCREENSHOTS") or ROOT / "build" / "screenshots")
"""Where pictures and figures of the page are left for people; CI keeps them."""
INSTALL_S = 150
READY_S = round(PATIENCE_S)
PICTURE_PX_MAX = 4_000  # of height: software draws no larger ones
ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars", "--force-device-scale-factor=1",
    "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--enable-precise-memory-info",
    "--disable-background-networking", "--disable-component-update", "--no-first-run",
)  # fmt: skip


def found() -> tuple[str, str] | None:
    """Browser and driver; None unless both are there."""
    browser = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


def apt(*words: str) -> "subprocess.CompletedProcess[str]":
    """A command of apt-get, which asks nothing."""
    return subprocess.run(
        ["apt-get", *words], env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"}, capture_output=True, text=True,
        check=False, timeout=INSTALL_S,
    )  # fmt: skip


def installed() -> tuple[str, str]:
    """Browser and driver, installed where root can."""
    if (there := found()) is not None:
        return there
    why = f"no chromium and chromedriver here, and only root can install {' '.join(PACKAGES)}"
    if os.geteuid() == 0 and shutil.which("apt-get"):
        with Path("/var/lock/p2pnet-browser").open("w") as lock:  # workers of several runs
            fcntl.flock(lock, fcntl.LOCK_EX)
            if found() is None:
                apt("update")
            done = apt("install", "--yes", "--no-install-recommends", *PACKAGES)
            why = f"apt-get could not install {' '.join(PACKAGES)}: {done.stderr[-500:]}"
        if (there := found()) is not None:
            return there
    if REQUIRED:
        pytest.fail(why)
    print(why)
    pytest.skip(why)


class Browser:
    """One page at a time."""

    def __init__(self, browser: str, driver: str) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = browser
        for argument in ARGUMENTS:
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(driver))
        self.driver.set_page_load_timeout(READY_S)

    def open(self, page: Path, *, width: int = 1280, dark: bool = False) -> None:
        """Load a page and wait until everything is drawn."""
        self.look(width, dark=dark)
        self.driver.get(page.as_uri())
        self.until("return document.documentElement.dataset.ready")
        assert self.run("return document.documentElement.dataset.ready") == "yes", self.run(
            "return document.getElementById('unscripted').textContent"
        )

    def look(self, width: int, *, dark: bool, motion: bool = True) -> None:
        """As somebody with such a screen and such wishes sees it."""
        self.cdp("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "no-preference" if motion else "reduce"},
        ])  # fmt: skip
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=1000, deviceScaleFactor=1, mobile=False)

    def run(self, script: str, *arguments: Any) -> Any:
        """What a function of this body returns."""
        return self.driver.execute_script(script, *arguments)

    def until(self, script: str, *arguments: Any) -> Any:
        """The first true value of a function of this body."""
        for _ in range(READY_S * 20):
            if value := self.run(script, *arguments):
                return value
            time.sleep(0.05)
        pytest.fail(f"never true: {script}")

    def settled(self) -> None:
        """After what was asked for has been painted."""
        self.driver.execute_async_script(
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 30)))"
        )

    def cdp(self, command: str, **parameters: Any) -> dict[str, Any]:
        """A command of the browser's own protocol."""
        answer: dict[str, Any] = self.driver.execute_cdp_cmd(command, parameters)
        return answer

    def picture(self, name: str, selector: str = "html") -> bytes:
        """A picture of one element, kept under this name; of a long one several."""
        self.settled()
        box = self.run(
            "const r = document.querySelector(arguments[0]).getBoundingClientRect();"
            "return {x: r.x + scrollX, y: r.y + scrollY, width: r.width, height: r.height, scale: 1}", selector,
        )  # fmt: skip
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        for old in SCREENSHOTS.glob(f"{name}*.png"):
            old.unlink()
        first = b""
        for number, top in enumerate(range(0, max(1, round(box["height"])), PICTURE_PX_MAX)):
            part = box | {"y": box["y"] + top, "height": min(PICTURE_PX_MAX, box["height"] - top)}
            data = base64.b64decode(self.cdp("Page.captureScreenshot", captureBeyondViewport=True, clip=part)["data"])
            (SCREENSHOTS / f"{name}{f'.{number + 1}' if number else ''}.png").write_bytes(data)
            first = first or data
        return first

    def errors(self) -> list[str]:
        """What the console complained of since it was asked last."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def requests(self) -> list[str]:
        """Addresses that were asked for since it was asked last."""
        messages = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        return [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]
