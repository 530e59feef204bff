"""The HTML page in a real browser: sorting, filtering, no errors, no requests, no serious finding of axe-core."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

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
    page.write_text(render(make_report(store.folder, View(complete=True)), "html"), encoding="utf-8")
    return page


@pytest.fixture
def page(browser: Any, path: Path) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 375, "height": 800})
    opened, heard = context.new_page(), []
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
        const table = [...document.querySelectorAll("table")].find((t) => t.caption.textContent === title);
        const index = [...table.tHead.rows[0].cells].findIndex((c) => c.textContent === header);
        return [...table.tBodies[0].rows].filter((r) => !r.hidden).map((r) => r.cells[index].textContent);
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


def test_the_keyboard_sorts_names_as_people_count(page: Any) -> None:
    button = jobs(page).get_by_role("columnheader", name="layer").get_by_role("button")
    button.focus()
    page.keyboard.press("Enter")
    layers = column(page, "layer")
    assert layers[-1] == "layer12" and layers[0] == "layer1"


def test_words_and_choices_filter(page: Any) -> None:
    section = page.locator("section", has=page.get_by_role("region", name="Every job"))
    section.get_by_label("Rows with these words").fill("layer2 part1")
    assert column(page, "category") == ["part1"]
    assert section.locator("output").text_content() == "1 of 13 rows"
    section.get_by_label("Rows with these words").fill("")
    section.get_by_label("status").select_option("failed")
    assert column(page, "reason") == ["out of memory"]


def test_a_phone_scrolls_tables_not_the_page(page: Any) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(page: Any, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page.emulate_media(color_scheme=scheme)
    found = axe.Axe().run(page).response
    assert len(found["passes"]) > 10
    assert [(v["id"], v["impact"]) for v in found["violations"] if v["impact"] != "minor"] == []
