"""The HTML page in a real browser, wide and narrow, light and dark: sorting, filtering, no errors, no requests, axe-core."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adbench.reports.formats import ANSWER, Section
from adbench.reports.report import View, make_report, render
from adbench.sweep.results import ResultStore
from adbench.types import Job, Result

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian's package: chromium)")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run")
JOB = Job("demo", "f", "bolt", "resnet18", "random", "ab", ("layer2",), 256, 256, "knn", {"k": 5}, 1, 0)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    store = ResultStore(folder / "out")
    for index in range(12):
        job = replace(JOB, category=f"part{index % 3}", layers=(f"layer{index // 3 + 1}",))
        store.write(Result(job, "done", None, {"image_auroc": (index * 7 % 12) / 12, "aupro": 0.25}, {"fit_s": 1.0}))
    store.write(Result(replace(JOB, layers=("layer12",)), "failed", "out of memory"))
    page = folder / "page.html"
    report = make_report(store.folder, View(complete=True))
    others = [section for section in report.sections if section.title != ANSWER]
    answer = Section(ANSWER, notes=["layer3: 0.5", "train it: adbench train knn resnet18 layer3"])
    page.write_text(render(replace(report, sections=[*others, answer]), "html"), encoding="utf-8")
    return page


@pytest.fixture(
    params=[(390, "light"), (390, "dark"), (1280, "light"), (1280, "dark")], ids=lambda param: f"{param[0]}-{param[1]}"
)
def look(request: pytest.FixtureRequest) -> tuple[int, str]:
    """The width of a window in px and a color scheme."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def page(browser: Any, path: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page on a phone, or in the window of `look` where a test asks for it."""
    width, scheme = request.getfixturevalue("look") if "look" in request.fixturenames else (390, "light")
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    opened, heard = context.new_page(), []
    opened.set_default_timeout(10_000)
    opened.on("console", lambda message: heard.append(message.text))
    opened.on("pageerror", lambda error: heard.append(str(error)))
    opened.on("request", lambda request: heard.append(request.url) if request.url != path.as_uri() else None)
    opened.goto(path.as_uri())
    yield opened
    assert [text for text in heard if not text.startswith("data:")] == []
    context.close()


def column(page: Any, header: str) -> list[str]:
    """The visible cells of the table of all jobs below `header`, from top to bottom."""
    script = """([title, header]) => {
        const titleOf = (table) => document.getElementById(table.getAttribute("aria-labelledby")).textContent;
        const table = [...document.querySelectorAll("table")].find((found) => titleOf(found) === title);
        const index = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent === header);
        return [...table.tBodies[0].rows].filter((row) => !row.hidden).map((row) => row.cells[index].textContent);
    }"""
    return list(page.evaluate(script, ["Every job", header]))


def jobs(page: Any) -> Any:
    return page.get_by_role("region", name="Every job")


def test_a_click_sorts_by_number_and_again_the_other_way(page: Any) -> None:
    head = jobs(page).get_by_role("columnheader", name="image_auroc")
    head.get_by_role("button").click()
    ascending = column(page, "image_auroc")
    assert ascending == [*sorted(ascending[:-1], key=float), "-"]
    assert head.get_attribute("aria-sort") == "ascending"
    head.get_by_role("button").click()
    assert column(page, "image_auroc") == [*ascending[-2::-1], "-"]


@pytest.mark.parametrize("look", [(1280, "light")], indirect=True)
def test_the_keyboard_sorts_names_as_people_count(page: Any, look: tuple[int, str]) -> None:
    button = jobs(page).get_by_role("columnheader", name="layer").get_by_role("button")
    button.focus()
    page.keyboard.press("Enter")
    layers = column(page, "layer")
    assert layers[-1] == "layer12" and layers[0] == "layer1"


def test_words_and_choices_filter(page: Any) -> None:
    section = page.locator("section", has=page.get_by_role("region", name="Every job"))
    section.get_by_label("Filter").fill("layer2 part1")
    assert column(page, "category") == ["part1"]
    assert section.locator("output").text_content() == "1 of 13 rows"
    section.get_by_label("Filter").fill("")
    section.get_by_label("status").select_option("failed")
    assert column(page, "reason") == ["out of memory"]


def test_tables_scroll_and_the_page_does_not(page: Any, look: tuple[int, str]) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    state = """(table) => {
        const scroll = table.closest(".scroll"), frame = scroll.parentElement;
        return [scroll.scrollWidth > scroll.clientWidth + 1, frame.classList.contains("right"), !frame.nextElementSibling.hidden];
    }"""
    tables = page.locator("table").all()
    states = [table.evaluate(state) for table in tables]
    assert all(cut == shadow == hint for cut, shadow, hint in states)
    if look[0] == 390:
        assert any(cut for cut, *_ in states)


def test_at_the_end_of_a_table_nothing_says_that_it_goes_on(page: Any) -> None:
    scroll = page.get_by_role("region", name="Every job")
    frame = scroll.locator("..")
    assert "right" in (frame.get_attribute("class") or "")
    scroll.evaluate("(element) => { element.scrollLeft = element.scrollWidth; }")
    page.wait_for_function("(frame) => !frame.classList.contains('right')", arg=frame.element_handle())


def test_a_phone_shows_the_main_metric_beside_the_labels_of_its_row(page: Any) -> None:
    results = page.locator(".scroll").first
    box = results.get_by_role("columnheader", name="image_auroc").bounding_box()
    assert box and box["x"] + box["width"] <= 390
    job = page.get_by_role("region", name="Every job").locator("tbody th").first
    assert job.evaluate("(cell) => getComputedStyle(cell, '::after').content") == '"layer12, failed"'


def test_the_answer_stands_on_the_first_screen(page: Any, look: tuple[int, str]) -> None:
    box = page.locator(".answer").bounding_box()
    assert box and box["y"] + box["height"] < 800
    assert page.locator(".answer code").text_content() == "adbench train knn resnet18 layer3"
    assert page.locator("h2", has_text=ANSWER).count() == 1


def test_figures_fill_the_page_and_follow_the_scheme(page: Any, look: tuple[int, str]) -> None:
    """The corner of a figure is paper: white, or nearly black."""
    width, scheme = look
    figures = page.locator("figure img").all()
    assert figures
    script = """(image) => {
        const canvas = document.createElement("canvas");
        [canvas.width, canvas.height] = [image.clientWidth, image.clientHeight];
        const context = canvas.getContext("2d");
        context.drawImage(image, 0, 0, canvas.width, canvas.height);
        return [image.clientWidth, ...context.getImageData(2, 2, 1, 1).data.slice(0, 3)];
    }"""
    for figure in figures:
        shown, *corner = figure.evaluate(script)
        assert corner == ([255, 255, 255] if scheme == "light" else [13, 17, 23])
        assert shown > 0.9 * width


def test_axe_finds_nothing_serious(page: Any, look: tuple[int, str]) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    found = axe.Axe().run(page).response
    assert len(found["passes"]) > 10
    assert [(v["id"], v["impact"]) for v in found["violations"] if v["impact"] != "minor"] == []
