"""The paper's studies: which results they answer, what their tables say, and that their figures can be read."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest
from conftest import Run
from matplotlib.text import Text

from adbench.reports.formats import Report, Section, Table
from adbench.reports.keys import KeyedJob
from adbench.reports.plotting import COLUMN, style
from adbench.reports.report import make_report, render
from adbench.reports.studies import STUDIES
from adbench.reports.studies.shots import curve
from adbench.reports.study_data import short_names
from adbench.reports.tables import current
from adbench.statistics.ranks import holm, wilcoxon
from adbench.sweep.results import ResultStore
from adbench.types import Job, Result

FIELDS = {"layer1.2.relu_2": 35, "layer2.3.relu_2": 91, "layer10.1.relu_2": 400}
JOB = Job("demo", "f", "bolt", "resnet50", "random", "ab", ("layer1.2.relu_2",), 256, 256, "patchcore", {}, 1, 0)
Value = Callable[[Job], float | None]


def grid(**values: Sequence[Any]) -> list[Job]:
    """All jobs over the values of the keys named, three categories each."""
    values = {"category": ("axle", "bolt", "cable"), "layers": [(name,) for name in FIELDS], **values}
    jobs = [replace(JOB, **dict(zip(values, cell, strict=True))) for cell in product(*values.values())]
    return [replace(job, fingerprint=job.category, weights_sha256=job.weights) for job in jobs]


SWEEPS = {
    "layers": grid(backbone=["resnet50", "wide_resnet50_2"], detector=["fastflow", "patchcore"]),
    "image-size": grid(image_size=[128, 256, 1024]),
    "pretraining": grid(weights=["moco", "random", "supervised"]),
    "seeds": grid(seed=range(3), layers=[("layer2.3.relu_2",)]),
    "shots": grid(shots=[1, 8, "all"], detector=["padim", "patchcore"], seed=range(5), layers=[("layer2.3.relu_2",)]),
}


def done(job: Job, value: float | None) -> Result:
    field = {"receptive_field_px": FIELDS[job.layer], "receptive_field_kind": "estimated"}
    return Result(job, "done", None, {"image_auroc": value, "aupro": value and value / 2}, {}, {}, field)


def some_value(job: Job) -> float:
    return 0.5 + int(job.key[:4], 16) / 2**17


def found(jobs: Sequence[Job], value: Value = some_value, share: float = 1) -> list[KeyedJob]:
    """The jobs as entries, of which the first part is done."""
    results = [done(job, value(job)) for job in jobs[: round(share * len(jobs))]]
    return current(results, jobs)[0]


def section(name: str, entries: Sequence[KeyedJob]) -> Section:
    return STUDIES.get(name).section(entries)


def cells(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


@pytest.mark.parametrize("name", SWEEPS)
def test_results_are_recognised_by_what_varies(name: str) -> None:
    assert [study for study, item in STUDIES.items().items() if item.recognized_in(found(SWEEPS[name]))] == [name]


def test_seeds_stand_beside_another_study() -> None:
    entries = found(grid(seed=range(2)))
    assert [name for name, item in STUDIES.items().items() if item.recognized_in(entries)] == ["layers", "seeds"]


def test_layers_of_a_pretraining_sweep_are_shown_when_they_are_named() -> None:
    entries = found(SWEEPS["pretraining"])
    assert STUDIES.get("layers").answered_by(entries)
    assert [row[0] for row in cells(section("layers", entries).tables[0])] == [
        f"resnet50, {weights}" for weights in ("moco", "random", "supervised") for _ in FIELDS
    ]


def test_weights_that_differ_between_backbones_are_no_pretraining_study() -> None:
    jobs = grid() + grid(backbone=["resnet18"], weights=["imagenet"])
    assert not STUDIES.get("pretraining").answered_by(found(jobs))


def test_a_study_without_an_answer_is_told_in_one_line(run: Run, tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    for job in SWEEPS["layers"]:
        store.write(done(job, 0.5))
    answer = run("report", tmp_path, "--study", "seeds")
    assert answer.code == 3
    assert answer.err == "adbench: error: these results do not answer the study 'seeds': no two jobs differ in their seed alone\n"


class TestLayers:
    def test_a_layer_counts_where_none_of_its_backbone_is_higher_and_ties_count_for_each(self) -> None:
        values = {"axle": (0.5, 0.9, 0.1), "bolt": (0.7, 0.70004, 0.2), "cable": (0.3, 0.3, 0.8)}
        entries = found(grid(), lambda job: values[job.category][list(FIELDS).index(job.layer)])
        classification, localization, best, _ = section("layers", entries).tables
        assert cells(classification) == [
            ["resnet50", "layer1.2.relu_2", "35", "0.14", "1"],
            ["resnet50", "layer2.3.relu_2", "91", "0.36", "2"],
            ["resnet50", "layer10.1.relu_2", "400", "1.56", "1"],
        ]
        assert [row[-1] for row in cells(localization)] == ["1", "2", "1"]
        assert cells(best) == [["axle", "layer2"], ["bolt", "layer1, layer2"], ["cable", "layer10"]]

    def test_notes_say_how_ties_count_and_what_draws_figure_1(self) -> None:
        assert section("layers", found(grid())).notes == [
            "a layer is best in a category if none of the same backbone has a higher value as printed; ties count for each",
            "RF: receptive field, estimated from gradients; RRF: RF / image size; the fields as in the paper's Figure 1: "
            "adbench rf resnet50 --figure FILE.png",
        ]

    def test_a_receptive_field_of_an_earlier_version_is_marked_as_approximate(self) -> None:
        old = [replace(done(job, 0.5), details={"receptive_field_px": FIELDS[job.layer]}) for job in grid()]
        made = section("layers", current(old, [])[0])
        assert [row[2:4] for row in cells(made.tables[0])] == [["~35", "~0.14"], ["~91", "~0.36"], ["~400", "~1.56"]]
        assert made.notes[-1].startswith("~: the analytic receptive field of a result without the estimated one")

    def test_a_category_counts_once_all_layers_are_done(self) -> None:
        made = section("layers", found(grid(), share=5 / 9))  # the second category lacks one layer
        assert [row[-1] for row in cells(made.tables[0])].count("1 (1/3)") == 1
        assert [row[1] for row in cells(made.tables[2])][1:] == ["-", "-"]
        assert "a number with (n/N) counts n of N planned categories: those in which all layers have a value" in made.notes
        assert "classification of 3 categories: layer1" in made.figures[0].description

    def test_nothing_is_counted_before_a_category_is_complete(self) -> None:
        made = section("layers", found(grid(), share=1 / 9))
        assert {row[-1] for row in cells(made.tables[0])} == {"- (0/3)"}

    def test_each_detector_has_its_column_and_its_figure(self) -> None:
        made = section("layers", found(SWEEPS["layers"]))
        assert made.tables[0].headers[-2:] == ["fastflow", "patchcore"]
        assert [figure.name for figure in made.figures] == ["layers-fastflow", "layers-patchcore"]
        assert [table.headers[1:] for table in made.tables[2:]] == [["resnet50", "wide_resnet50_2"]] * 4

    def test_a_detector_and_a_backbone_with_one_layer_are_left_out(self) -> None:
        single = {"layers": [("layer1.2.relu_2",)]}
        jobs = grid() + grid(backbone=["resnet18"], **single) + grid(detector=["padim"], **single)
        made = section("layers", found(jobs))
        assert [figure.name for figure in made.figures] == ["layers-patchcore"]
        assert {row[0] for row in cells(made.tables[0])} == {"resnet50"}

    def test_detectors_of_one_backbone_stand_side_by_side(self) -> None:
        made = section("layers", found(grid(detector=["fastflow", "patchcore"])))
        assert [table.headers for table in made.tables[2:]] == [["category", "fastflow", "patchcore"]] * 2


@pytest.mark.parametrize(
    ("layer", "short"),
    [("layer2.3.relu_2", "layer2"), ("features.denseblock1.cat", "denseblock1"), ("features.6.8.add", "features.6"),
     ("blocks.2.1.add+blocks.4.2.add", "blocks.2+blocks.4"), ("stem", "stem")],
)  # fmt: skip
def test_a_layer_is_called_by_its_stage(layer: str, short: str) -> None:
    assert short_names([layer]) == {layer: short}


def test_layers_of_one_stage_keep_their_names() -> None:
    assert short_names(["layer1.0.add", "layer1.1.add"]) == {"layer1.0.add": "layer1.0.add", "layer1.1.add": "layer1.1.add"}


class TestImageSize:
    def test_a_column_per_size_and_the_relative_receptive_field(self) -> None:
        made = section("image-size", found(SWEEPS["image-size"], lambda job: job.image_size / 2048))
        auroc, _, fields = made.tables
        assert auroc.headers == ["layer", "128", "256", "1024"]
        assert cells(auroc)[0] == ["layer1.2.relu_2", "0.062", "0.125", "0.500"]
        assert cells(fields)[1] == ["resnet50", "layer2.3.relu_2", "0.71", "0.36", "0.09"]
        assert made.notes == ["all sizes are scored at one grid, eval_size 256; RRF: estimated receptive field / image size"]

    def test_the_figure_says_its_numbers_in_words(self) -> None:
        figure = section("image-size", found(SWEEPS["image-size"], lambda job: 0.5)).figures[0]
        assert figure.name == "image-size-patchcore"
        assert "resnet50 layer1.2.relu_2: image AUROC 0.500 at 128 px, 0.500 at 256 px, 0.500 at 1024 px;" in figure.description

    def test_what_is_over_a_part_of_the_categories_is_hollow_and_says_so(self) -> None:
        jobs = sorted(SWEEPS["image-size"], key=lambda job: job.category)
        drawing = section("image-size", found(jobs, share=2 / 3)).figures[0].draw()
        panel = drawing.axes[0]
        assert panel.get_xlabel() == "hollow, dotted or missing: 2/3"
        assert sum(line.get_markerfacecolor() == "white" for line in panel.get_lines()) == 3

    def test_sizes_of_earlier_versions_answer_it_though_their_smoothing_in_pixels_differs(self) -> None:
        old = grid(image_size=[128, 512], detector=["fastflow", "patchcore"])
        assert {job.unusual_smoothing for job in old} == {None, 2.0, 8.0}
        entries = found(old, lambda job: 0.5)
        assert [name for name, study in STUDIES.items().items() if study.recognized_in(entries)] == ["image-size"]
        made = section("image-size", entries)
        assert made.tables[0].headers == ["layer", "detector", "128", "512"]
        assert {tuple(row[2:]) for row in cells(made.tables[0])} == {("0.500", "0.500")}  # none is partial
        assert [figure.name for figure in made.figures] == ["image-size-fastflow", "image-size-patchcore"]

    def test_sizes_of_both_smoothings_stay_apart_and_say_so(self) -> None:
        old = grid(image_size=[128, 512], layers=[("layer2.3.relu_2",)])
        new = [replace(job, smoothing=4.0) for job in old]
        auroc = section("image-size", found([*old, *new], lambda job: 0.75 if job.smoothing else 0.5)).tables[0]
        assert auroc.headers[:2] == ["layer", "smoothing"] and auroc.headers[-2:] == ["128", "512"]
        apart = [["2 px", "0.500", "-"], ["8 px", "-", "0.500"], ["usual", "0.750", "0.750"]]
        assert [[row[1], *row[-2:]] for row in cells(auroc)] == apart


class TestPretraining:
    def test_a_column_per_pretraining_and_where_it_comes_from(self) -> None:
        auroc, _, sources = section("pretraining", found(SWEEPS["pretraining"], lambda job: 0.25)).tables
        assert auroc.headers == ["layer", "moco", "random", "supervised"]
        assert cells(auroc)[2] == ["layer10.1.relu_2", "0.250", "0.250", "0.250"]
        source = "https://github.com/facebookresearch/moco"
        assert cells(sources)[0] == ["moco", "resnet50", source, "moco_v2_800ep_pretrain.pth.tar", "moco"]
        assert cells(sources)[1] == ["random", "resnet50", "initialization, drawn by the job's seed", "-", "-"]

    def test_bars_of_missing_weights_say_so(self) -> None:
        jobs = [replace(job, weights_sha256="missing") if job.weights == "moco" else job for job in SWEEPS["pretraining"]]
        skipped = [Result(job, "skipped", "no file") for job in jobs if job.weights == "moco"]
        results = [done(job, some_value(job)) for job in jobs if job.weights != "moco"]
        made = section("pretraining", current([*skipped, *results], jobs)[0])
        assert cells(made.tables[-1])[0][-1] == "missing: its jobs are skipped"
        assert [text.get_text().strip() for text in made.figures[0].draw().axes[0].texts] == ["0/3"] * 3

    def test_each_backbone_has_a_figure(self) -> None:
        jobs = SWEEPS["pretraining"] + grid(backbone=["lite"], weights=["imagenet", "random"])
        names = [figure.name for figure in section("pretraining", found(jobs)).figures]
        assert names == ["pretraining-patchcore-lite", "pretraining-patchcore-resnet50"]


class TestSeeds:
    def test_mean_and_deviation_over_seeds(self) -> None:
        values = (0.5, 0.625, 0.875)
        made = section("seeds", found(SWEEPS["seeds"], lambda job: values[job.seed]))
        assert cells(made.tables[0]) == [["layer2.3.relu_2", "3/3", f"0.667 ± {stdev(values):.4f}", "0.333 ± 0.0955"]]
        assert made.tables[1].headers == ["layer", "axle", "bolt", "cable"]
        assert cells(made.tables[1]) == [["layer2.3.relu_2", *["0.667 ± 0.1909"] * 3]]

    def test_two_seeds_are_too_few(self) -> None:
        made = section("seeds", found(grid(seed=range(2)), lambda job: 0.5 + job.seed / 4))
        assert cells(made.tables[0])[0] == ["layer1.2.relu_2", "2/2", "0.625", "0.312"]
        assert made.notes[1] == "too few seeds for a standard deviation in 3 rows: 3 are the least, five are better"

    def test_no_deviation_while_a_job_is_missing(self) -> None:
        made = section("seeds", found(SWEEPS["seeds"], lambda job: 0.5, share=8 / 9))
        assert cells(made.tables[0]) == [["layer2.3.relu_2", "2/3", "0.500 (8/9 jobs)", "0.250 (8/9 jobs)"]]
        assert "no standard deviation is given while a job is missing; a number with (n/N) is over n of N" in made.notes


class TestShots:
    def curves(self, gain: dict[Any, float]) -> Section:
        """Seeds scatter by up to 0.01, more than an image gains from 8 on."""
        jobs = [job for job in SWEEPS["shots"] if job.detector == "padim"]
        return section("shots", found(jobs, lambda job: 0.5 + gain[job.shots] + int(job.key[:4], 16) / 2**16 / 100))

    def test_the_sentence_names_the_number_from_which_on_no_gain_is_significant(self) -> None:
        made = self.curves({1: 0, 8: 0.2, "all": 0.2})
        value = {row[0]: row for row in cells(made.tables[-2])}["layer2.3.relu_2"]
        assert value[1] == "8" and value[-1] == "15"
        assert made.notes[0] == (
            f"image AUROC, layer2.3.relu_2: from 8 good images on, no significant gain: {value[2]} with 8 and {value[4]} with "
            f"all ({value[5]}, {value[6]} in {value[7]})"
        )

    def test_a_gain_up_to_the_last_number_asks_for_more_images(self) -> None:
        auroc, *_ = self.curves({1: 0, 8: 0.2, "all": 0.3}).notes
        assert re.fullmatch(
            r"image AUROC, layer2.3.relu_2: the gain is significant up to all good images, \+0\.\d{3} from 8 to all: more images "
            "may help further", auroc,
        )  # fmt: skip

    def test_the_numbers_behind_it_are_those_of_the_tests_of_every_two_numbers(self) -> None:
        entries = found(SWEEPS["shots"])
        for detector in ("padim", "patchcore"):
            one = curve(detector, [entry for entry in entries if entry.job.detector == detector], "image_auroc")
            columns = [[some_value(e.job) for e in entries if (e.job.detector, e.job.shots) == (detector, k)] for k in one.levels]
            pairs = list(combinations(range(3), 2))
            p = dict(
                zip(pairs, holm(np.array([wilcoxon(np.array(columns[b]), np.array(columns[a])) for a, b in pairs])), strict=True)
            )
            assert one.p_values == pytest.approx(p)
            assert one.means == pytest.approx([fmean(column) for column in columns])
            gains = [a for (a, b), chance in p.items() if chance < 0.05 and fmean(columns[b]) > fmean(columns[a])]
            assert one.enough == max(gains, default=-1) + 1

    def test_one_seed_is_too_few_for_an_answer(self) -> None:
        made = section("shots", found([job for job in SWEEPS["shots"] if job.seed == 0]))
        assert made.notes[0] == (
            "image AUROC, padim: whether more images help cannot be tested: 3 pairs of category and seed have every number, and "
            "the test needs 7"
        )

    def test_categories_and_seeds_without_every_number_are_no_cells(self) -> None:
        made = section("shots", found(SWEEPS["shots"], share=5 / 6))
        assert {row[-1] for row in cells(made.tables[-1])} == {"10/15"}
        assert all(re.search(r"over 10/15 pairs of category and seed, ", note) for note in made.notes[:4])


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("name", SWEEPS)
def test_figures_fit_a_column_and_can_be_read(name: str, share: float) -> None:
    for figure in section(name, found(SWEEPS[name], share=share)).figures:
        with style():
            drawing = figure.draw()
            drawing.draw_without_rendering()
            used = drawing.get_tightbbox()  # of all that is drawn, in inches
        assert drawing.get_figwidth() == COLUMN
        assert all(text.get_fontsize() >= 6 for text in drawing.findobj(Text) if text.get_text())
        assert min(used.x0, used.y0, COLUMN - used.x1, drawing.get_figheight() - used.y1) > -0.02


@pytest.mark.parametrize("name", SWEEPS)
def test_without_a_value_there_is_no_figure(name: str) -> None:
    jobs = SWEEPS[name]
    made = section(name, current([Result(job, "failed", "lost") for job in jobs], jobs)[0])
    assert made.figures == []


@pytest.mark.parametrize("name", [name for name in SWEEPS if name != "layers"])
def test_no_partial_mean_is_bare(name: str) -> None:
    made = section(name, found(SWEEPS[name], share=0.5))  # no row has all categories
    own = [table for table in made.tables if "that all have" not in table.caption]
    numbers = [cell for table in own for row in cells(table) for cell in row if re.match(r"\d\.\d{3}", cell)]
    assert numbers
    assert all(re.search(r"\(\d/\d.*\)|±", number) for number in numbers)


def test_a_report_holds_the_study(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    for job in SWEEPS["image-size"]:
        store.write(done(job, 0.5))
    assert [made.title for made in make_report(tmp_path).sections] == ["How does the image size matter?", "Which row is best?"]


@pytest.fixture
def unfinished(tmp_path: Path) -> Report:
    """A report on a sweep over image sizes of which two thirds have run."""
    store, jobs = ResultStore(tmp_path), SWEEPS["image-size"]
    store.write_plan("sweep", jobs)
    for job in jobs[: len(jobs) * 2 // 3]:
        store.write(done(job, some_value(job)))
    return make_report(tmp_path)


@pytest.mark.parametrize("name", ["html", "latex", "markdown", "table"])
def test_every_format_for_people_prints_every_cell_of_a_study(name: str, unfinished: Report) -> None:
    text = re.sub(r"\\([_()])", r"\1", render(unfinished, name))
    printed = [cell for table in unfinished.sections[0].tables for row in cells(table) for cell in row]
    assert sum("(2/3)" in cell for cell in printed) == 18
    assert [cell for cell in printed if cell not in text] == []


def test_formats_for_programs_have_the_numbers_that_a_study_prints(unfinished: Report) -> None:
    records = json.loads(render(unfinished, "json"))
    for layer, _, *means in cells(unfinished.sections[0].tables[0]):
        for size, printed in zip((128, 256, 1024), means, strict=True):
            of = [r["metrics"]["image_auroc"] for r in records if (r["layer"], r["image_size"]) == (layer, size)]
            assert printed == f"{fmean(of):.3f} (2/3)"


def test_the_command_says_which_figures_it_drew(run: Run, tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "results")
    for job in SWEEPS["layers"]:
        store.write(done(job, 0.5))
    answer = run("report", tmp_path / "results", "--figures", "figures")
    assert answer.err == "in figures, as PNG and SVG: layers-fastflow, layers-patchcore\n"
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        f"layers-{detector}.{kind}" for detector in ("fastflow", "patchcore") for kind in ("png", "svg")
    ]
    assert run("report", tmp_path / "results", "--study", "none", "--figures", "none").err == (
        "no figures: these results answer no study\n"
    )
