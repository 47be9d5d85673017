"""The page of `lab report` in a real browser: a study of 500 trials, at three widths, light and dark."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from lab.page import render_page
from lab.report import report_of
from tests.memory_study import many_trials

pytestmark = pytest.mark.browser

MEGABYTE = 2**20
DRAWN = "return document.documentElement.dataset.drawn"
#: The serious faults that axe-core finds, each with an element that has it.
AXE = """
const done = arguments[arguments.length - 1];
axe.run({ resultTypes: ['violations'] }).then(found => done(found.violations
  .filter(each => ['serious', 'critical'].includes(each.impact)).map(each => each.id + ': ' + each.nodes[0].html)));
"""
OVERFLOWING = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
EMPTY = """
return [...document.querySelectorAll('.plot')].filter(plot =>
  !plot.querySelector('.point, .hm, .heatmaplayer image, .lines path, .js-line, .barlayer path')).map(plot => plot.id);
"""
#: The lowest contrast (WCAG 2.2) of a text in a heat map with the colour under its middle.
CONTRAST = """
const done = arguments[arguments.length - 1];
const light = (rgb) => {
  const [r, g, b] = rgb.map(each => each / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const contrast = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
const middle = (of) => {
  const { x, y, width, height } = of.getBoundingClientRect();
  return [x + width / 2, y + height / 2];
};
const lowest = async (plot) => {
  const shown = plot.querySelector('.heatmaplayer image'), drawn = new Image();
  drawn.src = shown.getAttribute('xlink:href') || shown.getAttribute('href');
  await drawn.decode();
  const canvas = document.createElement('canvas'), place = shown.getBoundingClientRect();
  [canvas.width, canvas.height] = [drawn.width, drawn.height];
  const pen = canvas.getContext('2d');
  pen.drawImage(drawn, 0, 0);
  return [...plot.querySelectorAll('.heatmap-label text')].filter(text => text.textContent.trim()).map(text => {
    const [x, y] = middle(text);
    const at = [(x - place.x) / place.width * drawn.width, (y - place.y) / place.height * drawn.height].map(Math.floor);
    const own = getComputedStyle(text).fill.match(/\\d+/g).map(Number);
    return contrast(light(own), light([...pen.getImageData(...at, 1, 1).data].slice(0, 3)));
  });
};
const maps = [...document.querySelectorAll('.plot')].filter(plot => plot.querySelector('.heatmaplayer image'));
const told = (found) => done([found.flat().length, Math.min(...found.flat())]);
Promise.all(maps.map(lowest)).then(told, error => done(String(error)));
"""
SHOWN = """
const rows = [...document.querySelectorAll('.board tbody tr')].filter(row => !row.hidden);
return rows.map(row => row.cells[arguments[0]].textContent);
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = many_trials()
    page = render_page(report_of([study.source()], study.tracker))
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(page, encoding="utf-8")
    return file


@pytest.fixture
def opened(driver: Any, file: Path) -> Iterator[Any]:
    """The page in a browser of any width and theme."""

    def opened(width: int, theme: str) -> Any:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        driver.get_log("browser")  # of earlier pages
        driver.get(file.as_uri())
        return driver

    yield opened
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def wait_until_drawn(driver: Any) -> None:
    WebDriverWait(driver, 60).until(lambda _: driver.execute_script(DRAWN) == "true")


def test_a_report_of_500_trials_is_small(file: Path) -> None:
    assert file.stat().st_size < 6 * MEGABYTE


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 768, 1280])
def test_it_is_drawn_without_an_error(opened: Any, width: int, theme: str) -> None:
    driver = opened(width, theme)
    wait_until_drawn(driver)
    assert driver.get_log("browser") == []
    assert driver.execute_script(OVERFLOWING) <= 0
    assert driver.execute_script(EMPTY) == []
    background = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 28)"}[theme]


@pytest.mark.parametrize(("width", "theme"), [(375, "light"), (1280, "dark")])
def test_axe_finds_nothing_serious(opened: Any, width: int, theme: str) -> None:
    source = axe_core()
    driver = opened(width, theme)
    wait_until_drawn(driver)
    driver.execute_cdp_cmd("Runtime.evaluate", {"expression": source.read_text(encoding="utf-8")})
    assert driver.execute_async_script(AXE) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_in_heat_maps_can_be_read(opened: Any, theme: str) -> None:
    driver = opened(1280, theme)
    wait_until_drawn(driver)
    texts, lowest = driver.execute_async_script(CONTRAST)
    assert texts > 50
    assert lowest > 4.5


def axe_core() -> Path:
    """The script of axe-core: .ci/run installs it."""
    folder = os.environ.get("LAB_AXE_CORE")
    if not folder:
        pytest.skip("LAB_AXE_CORE is not set to a folder with axe-core: npm install --prefix FOLDER axe-core")
    return Path(folder) / "node_modules" / "axe-core" / "axe.min.js"


def test_the_leaderboard_sorts_and_filters_by_keyboard(opened: Any) -> None:
    driver = opened(1280, "light")
    wait_until_drawn(driver)
    assert shown(driver)[:3] == ["1", "2", "3"]

    header = driver.find_element(By.CSS_SELECTOR, "th[aria-sort]")
    focus(driver, header.find_element(By.TAG_NAME, "button"))
    press(driver, Keys.ENTER)
    assert header.get_attribute("aria-sort") == "descending"
    assert shown(driver)[:2] == ["168", "167"]
    press(driver, Keys.TAB, Keys.SPACE)  # the next column: lr
    assert header.get_attribute("aria-sort") is None
    rates = [float(text) for text in shown(driver, column=1)]
    assert rates == sorted(rates)

    focus(driver, driver.find_element(By.CSS_SELECTOR, "[data-words]"))
    press(driver, "lr=0.01 adam")
    assert driver.find_element(By.CSS_SELECTOR, "[role=status]").text == "12 of 168 rows."
    assert shown(driver, column=1) == ["0.01"] * 12


def shown(driver: Any, column: int = 0) -> list[str]:
    """The texts in a column of the leaderboard, without the rows that are filtered out."""
    found: list[str] = driver.execute_script(SHOWN, column)
    return found


def focus(driver: Any, element: Any) -> None:
    """Focus an element as the tab key does, which must be able to reach it."""
    assert driver.execute_script("return arguments[0].tabIndex", element) >= 0
    driver.execute_script("arguments[0].focus()", element)


def press(driver: Any, *keys: str) -> None:
    ActionChains(driver).send_keys(*keys).perform()


def test_a_command_is_selected_where_the_clipboard_is_closed(opened: Any) -> None:
    driver = opened(1280, "light")
    wait_until_drawn(driver)
    driver.execute_script("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    driver.execute_script("window.setTimeout = () => 0")  # the button says so for two seconds only
    button = driver.find_element(By.CSS_SELECTOR, "tr:nth-child(2) [data-copy]")
    driver.execute_script("arguments[0].click()", button)
    WebDriverWait(driver, 60).until(lambda _: button.text == "Selected")
    assert driver.execute_script("return getSelection().toString()").startswith("lab train --")


def test_it_prints_in_black_on_white(opened: Any) -> None:
    driver = opened(1280, "dark")
    wait_until_drawn(driver)
    driver.execute_script("dispatchEvent(new Event('beforeprint'))")
    fill = "return getComputedStyle(document.querySelector('.plot .xtick text')).fill"
    assert driver.execute_script(fill) == "rgb(27, 31, 36)"
    driver.execute_script("dispatchEvent(new Event('afterprint'))")
    assert driver.execute_script(fill) == "rgb(232, 235, 239)"
