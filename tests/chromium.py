"""Headless Chromium, for tests of what people see: its fixtures, and a page that waits for what a test looks for."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    NoSuchElementException,
    StaleElementReferenceException,
    TimeoutException,
)
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

__all__ = ["DRAWN_CURVES", "LAST_IMAGE", "Page", "chromium", "driver", "open_page"]

LAST_IMAGE = "const all = [...document.images]; return all.length ? all.at(-1).naturalWidth : 0"
# Plotly draws a run's curve and a band around it, both under the run's name
DRAWN_CURVES = """
const drawn = [...document.querySelectorAll('.js-plotly-plot')].filter(p => p.querySelector('.scatterlayer .trace'));
return drawn.map(p => new Set(p.data.filter(t => t.type === 'scatter').map(t => t.name)).size)
"""

# in a new browser the UI opens its assistant panel over a quarter of the page
_NO_ASSISTANT = """
localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");
localStorage.setItem("mlflow.assistant.panelOpen_v1", "false");
"""


class Page:
    """A browser on one page; every lookup waits until the element is there."""

    def __init__(self, driver: WebDriver, address: str) -> None:
        self._driver = driver
        driver.get("about:blank")  # otherwise an address that differs only after its # is not reloaded
        driver.get(address)

    @property
    def text(self) -> str:
        return str(self._driver.find_element(By.TAG_NAME, "body").text)

    def until(self, true: Callable[[], Any], what: str) -> Any:
        passing = (
            NoSuchElementException,
            StaleElementReferenceException,
            ElementClickInterceptedException,
            IndexError,
        )
        try:
            return WebDriverWait(self._driver, 120, ignored_exceptions=passing).until(lambda _: true())
        except TimeoutException:
            pytest.fail(f"not seen: {what}, on a page that says:\n{self.text[:3000]}", pytrace=False)

    def shows(self, *texts: str) -> None:
        for text in texts:
            self.until(lambda text=text: text in self.text, repr(text))

    def click(self, selector: str, by: str = By.CSS_SELECTOR) -> None:
        self.until(lambda: self._driver.find_element(by, selector).click() is None, selector)

    def click_text(self, text: str) -> None:
        self.click(f"//*[text()='{text}']", By.XPATH)

    def search(self, placeholder: str, text: str) -> None:
        selector = f"input[placeholder='{placeholder}']"
        self.until(
            lambda: self._driver.find_element(By.CSS_SELECTOR, selector).send_keys(text) is None, selector
        )

    def ask(self, script: str) -> Any:
        return self._driver.execute_script(script)

    def column(self, name: str) -> list[str]:
        """The texts of the run table's column, from top to bottom."""
        cells = self._driver.find_elements(By.CSS_SELECTOR, f'[role=gridcell][col-id="{name}"]')
        rows = [
            (float(cell.rect["y"]), cell.text.splitlines()[-1]) for cell in cells
        ]  # after the run's colour
        return [text for _, text in sorted(rows)]


@pytest.fixture(scope="session")
def chromium() -> dict[str, str]:
    """The paths of Chromium and its driver."""
    found = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    missing = [name for name, place in found.items() if place is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not found: apt-get install chromium chromium-driver")
    return {name: place for name, place in found.items() if place is not None}


@pytest.fixture(scope="session")
def driver(chromium: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = chromium["chromium"]
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--window-size=2000,1300",  # the UI's tables leave out cells that would be out of sight
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=chromium["chromedriver"])
    browser = webdriver.Chrome(options=options, service=service)
    try:
        browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _NO_ASSISTANT})
        yield browser
    finally:
        browser.quit()


@pytest.fixture
def open_page(driver: WebDriver) -> Callable[[str], Page]:
    return lambda address: Page(driver, address)
