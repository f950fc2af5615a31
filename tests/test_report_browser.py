"""The report in a browser: it draws without an error and without the network, by keyboard, in both
themes, narrow, and on paper. Screenshots stay in $CI_ARTEFACTS, or in artefacts/."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_up_search import made_up_search

from analysis.report import build
from analysis.report.page import page as page_of
from analysis.report.study import Study
from dfpl.data.scenario import Scenario
from dfpl.intervals import expected
from dfpl.study.records import RecordStore

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
ROOT = Path(__file__).parents[1]
QUIET = [
    *("--no-sandbox", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run", "--disable-gpu"),
]
HOSTILE = "<img src=x onerror=document.title='spoilt'>"
DRAWN = "[...document.querySelectorAll('.plot')].every((plot) => plot.dataset.drawn)"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> RecordStore:
    """A search for one config over scenarios: with everything that a report can show."""
    store = RecordStore(tmp_path_factory.mktemp("browser") / "tuned")
    made_up_search(store, ["both-0", "both-50"], 16, classes=(HOSTILE, "b", "c"), kind="pareto")
    return store


@pytest.fixture(scope="module")
def file(study: RecordStore) -> Path:
    path = Path(study.root.path, "report.html")
    path.write_text(page_of(build(Study.read(study.root.path))))
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield chromium
        chromium.close()


def wait_until(page: Any, condition: str, seconds: float = 60.0) -> None:
    """Playwright's own wait asks by eval again and again, which the page forbids."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(50)


class Opened:
    """A page, and what went wrong in it."""

    def __init__(self, browser: Any, file: Path, width: int = 1280, scheme: str = "light") -> None:
        size: Any = {"width": width, "height": 900}
        self.page = browser.new_page(viewport=size, color_scheme=scheme, reduced_motion="reduce")
        self.faults: list[str] = []
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", self._asked)
        self.page.goto(file.as_uri())
        wait_until(self.page, DRAWN)

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(message.text)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.faults.append(f"asked for {request.url}")


@pytest.fixture(scope="module")
def opened(browser: Any, file: Path) -> Iterator[Opened]:
    found = Opened(browser, file)
    yield found
    found.page.close()


def artefact(name: str) -> str:
    folder = Path(os.environ.get("CI_ARTEFACTS") or ROOT / "artefacts")
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder / name)


def test_every_chart_is_drawn_without_an_error_or_the_network(opened: Opened) -> None:
    page = opened.page
    assert page.locator(".plot").count() == 8
    assert page.locator(".plot svg.main-svg").count() >= 8
    assert page.locator(".plot .message").count() == 0
    assert opened.faults == []


def test_texts_of_records_are_shown_as_texts(opened: Opened) -> None:
    assert opened.page.locator("img").count() == 0
    assert opened.page.title() == "tuned: report"
    shown = opened.page.locator("#classes .ytick text").all_text_contents()
    assert any(text.startswith("<img src=") for text in shown)


def test_the_slider_moves_by_keyboard_and_tells_the_score(
    opened: Opened, study: RecordStore
) -> None:
    page = opened.page
    part = page.locator("#robustness")
    slider = part.locator("input[type=range]")
    assert slider.get_attribute("aria-valuetext") == "50 %"
    slider.focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "70 %"
    # 88 of 90 test samples have both: round(0.7 x 88) = 62
    words = part.locator(".readout").inner_text()
    assert words.startswith("70 % of 88: 62 complete test samples lose one, 31 the image and 31")
    assert "2 more lack one by nature" in words
    label = part.locator(".lines tbody th").first.inner_text()
    trial = int(label.rpartition("trial ")[2].rstrip(")"))
    [record] = [r for r in study.read_all() if (r.trial, r.scenario) == (trial, "both-0")]
    test = study.predictions(record.run_id).of_split("test")
    score = 100 * expected(test, Scenario.parse("both-70"))[record.config["metric"]]
    told = part.locator(".lines tbody tr").first.locator("td").first.inner_text()
    assert float(told.split(" ")[0]) == pytest.approx(score, abs=0.06)
    page.keyboard.press("Home")
    assert part.locator("output").inner_text() == "0 %"
    part.locator("input[type=radio]").first.focus()
    page.keyboard.press("ArrowRight")
    assert "the table" in part.locator(".readout").inner_text()
    assert opened.faults == []


def test_what_can_be_operated_is_reached_by_tab_from_the_skip_link_on(opened: Opened) -> None:
    page = opened.page
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    page.locator(".skip").focus()
    seen = []
    for _ in range(4):
        seen.append(page.evaluate("document.activeElement.textContent"))
        page.keyboard.press("Tab")
    assert seen == ["Skip to the content", "Dark theme", "What was run", "Results"]
    style = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(style) == "solid"
    unnamed = """[...document.querySelectorAll('input, select')].filter((node) =>
        !node.labels.length).length"""
    assert page.evaluate(unnamed) == 0


def test_the_numbers_of_a_chart_are_a_table_beneath(opened: Opened) -> None:
    figure = opened.page.locator("#robustness figure")
    figure.locator("summary").click()
    assert figure.locator("details table tbody tr").count() == 21


def test_a_command_is_copied(opened: Opened) -> None:
    button = opened.page.locator("#reproduce .code button").first
    button.click()
    wait_until(
        opened.page, "document.querySelector('#reproduce .code button').textContent !== 'Copy'"
    )
    assert button.inner_text() in ("Copied", "Press Ctrl+C")


def test_the_theme_is_that_of_the_system_and_can_be_changed(opened: Opened) -> None:
    page = opened.page
    colour = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(colour)
    page.screenshot(path=artefact("report-light.png"), full_page=True)
    page.locator("button.theme").click()
    assert page.evaluate(colour) != before
    wait_until(page, DRAWN)
    page.screenshot(path=artefact("report-dark.png"), full_page=True)
    assert page.locator("button.theme").inner_text() == "Light theme"
    page.locator("button.theme").click()
    assert page.evaluate(colour) == before
    assert opened.faults == []


def test_on_paper_it_is_light_and_has_no_controls(opened: Opened) -> None:
    opened.page.emulate_media(media="print")
    assert not opened.page.locator(".controls").first.is_visible()
    printed = opened.page.pdf(path=artefact("report.pdf"), format="A4")
    assert printed.startswith(b"%PDF") and len(printed) > 20_000
    opened.page.emulate_media(media="screen")
    assert opened.faults == []


def test_on_a_telephone_nothing_is_wider_than_the_screen(browser: Any, file: Path) -> None:
    found = Opened(browser, file, width=400, scheme="dark")
    assert found.page.evaluate("document.documentElement.scrollWidth") <= 400
    assert found.page.locator("button.theme").inner_text() == "Light theme"
    found.page.screenshot(path=artefact("report-narrow-dark.png"), full_page=True)
    assert found.faults == []
    found.page.close()


def test_a_browser_that_cannot_unpack_still_shows_texts_and_numbers(
    browser: Any, file: Path
) -> None:
    page = browser.new_page()
    page.add_init_script("delete window.DecompressionStream")
    page.goto(file.as_uri())
    page.wait_for_selector(".plot .message")
    assert "need a browser from 2023" in page.locator(".plot .message").first.inner_text()
    assert page.locator("#results table").count() == 1
    page.close()
