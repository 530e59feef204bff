"""The HTML page: self-contained, escaped, the same digits as every other format, kept pictures of the best job."""

import base64
import hashlib
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adbench.pictures.kept_maps import chosen, keep_maps, own_separations, read_kept
from adbench.reports.formats import ANSWER, Report, Section, Table
from adbench.reports.report import make_report, render
from adbench.sweep.results import ResultStore
from adbench.types import Job, Result, Sample, Scores

JOB = Job("demo", "f", "bolt", "resnet18", "random", "ab", ("layer2",), 256, 256, "knn", {"k": 5}, 1, 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store = ResultStore(tmp_path / "out")
    store.write_plan("p", [JOB], "adbench sweep --spec 'a b.yaml'")
    for index in range(8):
        job = replace(JOB, category=f"part{index}", layers=(f"layer{index % 4 + 1}",))
        metrics = {"image_auroc": 0.5 + index / 20, "aupro": 0.25}
        store.write(Result(job, "done", None, metrics, {"fit_s": 1.0}, {"torch": "2.1"}))
    store.write(Result(replace(JOB, layers=("layer9",)), "failed", "<b>no</b> & never"))
    return store.folder


def page(folder: Path) -> str:
    return render(make_report(folder), "html")


def test_the_page_asks_for_nothing(folder: Path) -> None:
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)|url\(|@import|https?://""", page(folder))
    assert "default-src 'none'" in page(folder)


def test_only_its_own_style_and_script_may_run(folder: Path) -> None:
    text = page(folder)
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        allowed = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{allowed}'" in text


def test_text_is_escaped_and_digits_agree(folder: Path) -> None:
    text = page(folder)
    assert "&lt;b&gt;no&lt;/b&gt; &amp; never" in text and "<b>no" not in text
    for row in make_report(folder).table.rows:
        assert all(f">{cell.text}</t" in text for cell in row)


def test_the_page_tells_environment_and_command(folder: Path) -> None:
    text = page(folder)
    commands = [re.sub("<.*?>", "", command) for command in re.findall("<pre>(.*?)</pre>", text)]
    assert commands == ["adbench sweep --spec &#39;a b.yaml&#39;"]
    assert re.search(r"<th scope=\"row\">torch</th><td>2.1</td>", text)


def test_the_first_screen_says_what_when_and_how_many(folder: Path) -> None:
    for index, path in enumerate(sorted(folder.rglob("*.json"))):
        os.utime(path, (1_800_000_000 + 60 * index,) * 2)
    head = page(folder).split("<nav")[0]
    assert "<h1>Anomaly detection on demo</h1>" in head
    facts = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", head))
    assert facts == {
        "Data": "demo: 9 categories",
        "Results": "2027-01-15 08:00 to 08:08 UTC",
        "Jobs": "8 done, 1 failed, 1 not run yet",
    }


def test_the_answer_comes_first_and_once_with_its_command() -> None:
    table = Table.of_texts("t", ["layer"], [["a"]], 1)
    answer = Section(ANSWER, notes=["a: 0.9 & best", "train it: adbench train knn resnet18 a --model 'm s'"])
    text = render(Report(table, sections=[Section("Costs", notes=["b"]), answer]), "html")
    head, body = text.split("<nav")
    assert "<p>a: 0.9 &amp; best</p>" in head and ANSWER not in body
    (command,) = re.findall('<code class="command">(.*?)</code>', head)
    assert re.sub("<.*?>", "", command) == "adbench train knn resnet18 a --model &#39;m s&#39;"


def test_notes_that_answer_come_first_and_empty_ones_are_dropped() -> None:
    report = Report(Table.of_texts("t", ["layer"], [["a"]], 1), ["legend", "", "take a", "train it: adbench train"], answers=2)
    head, body = render(report, "html").split("<nav")
    assert "<p>take a</p>" in head and "take a" not in body
    assert re.findall("<li>([^<]*)</li>", body) == ["legend"]


def test_metrics_stand_beside_the_labels() -> None:
    headers = ["layer", "categories", "RRF", "image_auroc", "pixel_ap", "aupro", "MB"]
    table = Table.of_texts("t", headers, [["a", "1/1", "2", "3", "4", "5", "6"]], 1)
    text = render(Report(table), "html")
    order = re.findall(r"<th scope=\"col\"[^>]*>(.*?)</th>", text)
    assert order == ["layer", "image_auroc", "aupro", "pixel_ap", "categories", "RRF", "MB"]
    assert re.findall(r"<td[^>]*>(.*?)</td>", text) == ["3", "5", "4", "1/1", "2", "6"]


def test_best_and_worst_never_share_an_image() -> None:
    scores = np.array([0.1, 0.9, 0.5, 0.4, 0.3], np.float32)
    anomalous = [True, True, True, False, False]
    found = chosen({0: 0.2, 1: 0.9, 2: 0.6}, scores, anomalous, 2)
    assert found == [("best", 1), ("best", 2), ("worst", 0), ("false alarm", 3), ("false alarm", 4)]


def test_separation_is_the_auroc_within_the_image() -> None:
    maps = np.array([[[0, 0], [0, 0]], [[1, 2], [3, 2]]], np.float32)
    masks = np.array([[[0, 0], [0, 0]], [[0, 1], [0, 0]]], bool)
    assert own_separations(maps, masks, 0.0) == {1: 0.5}  # of 1, 3, 2 it is above one, below one, equal to one


def test_kept_pictures_stand_on_the_page(folder: Path, tmp_path: Path) -> None:
    samples = [_sample(tmp_path, "good", i) for i in range(2)] + [_sample(tmp_path, "cut", i) for i in range(2)]
    maps = np.random.default_rng(0).random((4, 8, 8)).astype(np.float32)
    masks = np.zeros((4, 16, 16), bool)
    masks[2:, :4] = True
    job = next(r.job for r in make_report(folder).results if r.status == "done")
    keep_maps(ResultStore(folder).maps(job.key), samples, Scores(np.arange(4, dtype=np.float32), maps), masks, 0.0, 1)
    kept = read_kept(ResultStore(folder).maps(job.key))
    assert [(item.role, item.defect) for item, _ in kept] == [("best", "cut"), ("worst", "cut"), ("false alarm", "good")]
    text = page(folder)
    assert text.count("data:image/webp") == 3 and "part0: knn on resnet18 layer1" in text


def _sample(folder: Path, defect: str, index: int) -> Sample:
    path, mask = folder / f"{defect}{index}.png", folder / f"{defect}{index}_mask.png"
    Image.new("RGB", (16, 16), "grey").save(path)
    Image.new("L", (16, 16), 255).save(mask)
    return Sample(path, path.name, defect, () if defect == "good" else (mask,))
