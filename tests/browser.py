"""Headless Chromium for tests of pages; they are skipped where it is not installed."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

PATIENCE = 30.0
"""Seconds to wait for what a page does by itself."""

SWITCHES = (
    "headless=new",
    "no-sandbox",
    "disable-dev-shm-usage",
    "disable-gpu",
    "disable-background-networking",
)
"""The sandbox needs rights that containers lack; the last switch keeps the browser from contacting its maker."""


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser that logs every request."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs the package selenium")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("needs Chromium and its driver (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for switch in SWITCHES:
        options.add_argument(f"--{switch}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield browser
    finally:
        browser.quit()


def requests(browser: Any) -> list[str]:
    """Addresses that pages asked for since the last call."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]


def complaints(browser: Any) -> list[str]:
    """What the browser did not like since the last call: files that are missing, or that the page's policy forbids."""
    return [entry["message"] for entry in browser.get_log("browser")]


def wait_for(what: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """Call until the result is true, and return it."""
    end = time.monotonic() + patience
    while not (result := what()):
        assert time.monotonic() < end, what
        time.sleep(0.05)
    return result
