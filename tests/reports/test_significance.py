"""The analysis of significance: Demsar's worked example, tests over test images, and the verdicts in words."""

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from published_ranks import PUBLISHED

from adbench.reports.analyses import Question
from adbench.reports.analyses.significance import joined, section, sentences
from adbench.reports.configurations import listed
from adbench.reports.formats import Section
from adbench.reports.keys import keyed_jobs
from adbench.statistics.ranks import all_pairs
from adbench.types import Job, Result

NAMES = ("layer1", "layer2", "layer3", "layer4")


JOB = Job("parts", "f", "bolt", "resnet18", "random", "ab", ("layer1",), 256, 256, "knn", {}, 1, 0)
Draw = Callable[[Result], np.ndarray | None]


def results(values: np.ndarray, seeds: int = 1, deviation: float = 0.0) -> list[Result]:
    """A result per category (row), configuration (column) and seed."""
    return [
        Result(
            replace(JOB, fingerprint=f"f{i}", category=f"c{i}", layers=(NAMES[j],), seed=seed),
            "done",
            metrics={"aupro": float(value + deviation * (seed - (seeds - 1) / 2))},
            details={"resamples": f"r{i}"},
        )
        for i, row in enumerate(values)
        for j, value in enumerate(row)
        for seed in range(seeds)
    ]


def noisy(result: Result) -> np.ndarray:
    """Replicates that scatter by 0.03 with the category, and by 0.005 with the configuration."""
    shared = np.random.default_rng(int(result.job.category[1:])).normal(size=(7, 500)) * 0.03
    own = np.random.default_rng(NAMES.index(result.job.layer)).normal(size=(7, 500)) * 0.005
    return (np.full((7, 1), result.metrics["aupro"]) + shared + own).astype(np.float32)


def asked(found: list[Result], drawn: Draw = lambda result: None) -> Section:
    return section(keyed_jobs([(r.job, r) for r in found]), Question(["layer"], ["aupro"], drawn))


def column(made: Section, header: str, table: int = 0) -> list[str]:
    return [row[list(made.tables[table].headers).index(header)].text for row in made.tables[table].rows]


def test_the_published_example_in_words() -> None:
    made = asked(results(PUBLISHED))
    assert column(made, "mean rank") == ["3.14", "2.00", "2.89", "1.96"]
    assert column(made, "p (categories)") == [*(f"{p:.2g}" for p in all_pairs(PUBLISHED, 3)[:3]), "-"]
    assert made.notes[0] == (
        "aupro: layer4 has the best mean over 14 categories; not significantly different: all others (Wilcoxon's test, "
        "Holm over all pairs, at 5%)"
    )
    assert made.notes[1] == ("aupro: mean ranks that are less than 1.25 apart are not significantly different (Nemenyi)")
    assert made.figures[0].description == (
        "Mean ranks: layer4 1.96, layer2 2.00, layer3 2.89, layer1 3.14. Critical difference 1.25."
    )


def test_worse_ones_are_told_from_those_that_are_not_different() -> None:
    rng = np.random.default_rng(0)
    close = rng.normal(0.8, 0.01, (10, 2))
    made = asked(results(np.column_stack([close, close[:, 0] - 0.1])))
    told = r"aupro: layer[12] has the best mean over 10 categories; not significantly different: layer[12]; "
    assert re.fullmatch(told + r"significantly worse: layer3 \(Wilcoxon's test, Holm over all pairs, at 5%\)", made.notes[0])


def test_without_differences_friedman_says_so() -> None:
    made = asked(results(np.random.default_rng(3).normal(0.8, 0.05, (12, 3))))
    assert re.fullmatch(
        r"aupro: no significant differences between 3 configurations over 12 categories \(Friedman, p = 0\.\d+\)", made.notes[0]
    )


@pytest.mark.parametrize("categories", [1, 12])
def test_two_identical_columns_do_not_differ(categories: int) -> None:
    values = np.random.default_rng(0).normal(0.8, 0.05, (categories, 1))
    made = asked(results(np.column_stack([values, values])), noisy)
    where = "the only category" if categories == 1 else "all 12 categories"
    assert f"aupro: layer1 and layer2 do not differ: equal in {where}" in made.notes
    if categories > 1:
        assert column(made, "p (categories)") == ["-", "1"]


def test_too_few_categories_have_no_p_value() -> None:
    made = asked(results(PUBLISHED[:5, :2]))
    assert list(made.tables[0].headers) == ["configuration", "mean", "mean rank"]
    assert made.notes[0] == (
        "aupro: whether the differences hold for other categories cannot be tested: 2 rows need 6 categories (else "
        "Wilcoxon's test cannot reach 5%), and 5 categories have a value in every row"
    )
    assert (
        made.figures == []
        and sentences(keyed_jobs([(r.job, r) for r in results(PUBLISHED[:5, :2])]), Question(["layer"], ["aupro"])) == []
    )


def test_only_categories_that_all_have_count() -> None:
    found = results(PUBLISHED)
    lacking = [replace(r, metrics={"aupro": None}) if r.job.category == "c3" and r.job.layer == "layer2" else r for r in found]
    made = asked(lacking)
    complete, shared = made.tables
    assert complete.caption == "aupro: means over 14 of 14 categories; 1 incomplete row left out"
    assert column(made, "configuration") == ["layer1", "layer3", "layer4"]
    assert column(made, "mean")[0] == f"{PUBLISHED[:, 0].mean():.3f}"
    assert shared.caption == "aupro, what all 4 share: means over 13 of 14 categories"
    assert column(made, "mean", 1)[0] == f"{np.delete(PUBLISHED, 3, axis=0)[:, 0].mean():.3f}"


def test_one_configuration_alone_is_not_compared() -> None:
    assert asked(results(PUBLISHED[:, :1])).notes == [
        "nothing to compare: no two configurations have a value in the same category"
    ]


def test_differences_over_test_images_are_paired() -> None:
    made = asked(results(np.array([[0.80, 0.79, 0.70]] * 3)), noisy)
    assert column(made, "minus best") == ["-", "-0.010", "-0.100"]
    widths = [float(b) - float(a) for a, b in (text.split(" to ") for text in column(made, "95 % interval"))]
    of_difference = [float(b) - float(a) for a, b in (text.split(" to ") for text in column(made, "95 % interval of that")[1:])]
    assert max(of_difference) < min(widths) / 2
    assert float(column(made, "p (images)")[2]) < 0.05
    assert made.notes[1].startswith("aupro, over the test images of 3 categories: layer1 has the best mean; ")


def test_each_category_has_its_own_comparison() -> None:
    made = asked(results(np.array([[0.80, 0.70], [0.75, 0.751]])), noisy)
    assert [[cell.text for cell in row][:3] for row in made.tables[1].rows] == [["c0", "layer1", "-"], ["c1", "layer2", "layer1"]]


@pytest.mark.parametrize("flaw", ["missing", "other images"])
def test_without_common_replicates_there_are_no_intervals(flaw: str) -> None:
    found = results(PUBLISHED[:, :2])
    if flaw == "other images":
        found[0] = replace(found[0], details={"resamples": "another"})
    made = asked(found, noisy if flaw == "other images" else lambda r: None if r.job.category == "c4" else noisy(r))
    assert "95 % interval" not in made.tables[0].headers and len(made.tables) == 1
    assert made.notes[-2] == (
        "no intervals for aupro: not every result has its influence values (RESULTS/influence), of the same test images"
    )


def test_seeds_are_averaged_and_their_deviation_is_shown() -> None:
    made = asked(results(PUBLISHED, seeds=3, deviation=0.01))
    assert column(made, "sd of seeds") == ["0.0100"] * 4
    assert column(made, "mean rank") == ["3.14", "2.00", "2.89", "1.96"]
    assert "sd of seeds" not in asked(results(PUBLISHED, seeds=2, deviation=0.01)).tables[0].headers


def test_the_main_table_gets_one_sentence() -> None:
    found = keyed_jobs([(r.job, r) for r in results(PUBLISHED)])
    assert sentences(found, Question(["layer"], ["aupro"])) == [section(found, Question(["layer"], ["aupro"])).notes[0]]


def test_scales_are_not_mixed() -> None:
    found = results(PUBLISHED)
    native = [replace(r, job=replace(r.job, eval_size="native")) for r in found]
    made = section(keyed_jobs([(r.job, r) for r in [*found, *native]]), Question(["layer", "eval_size"], ["aupro"]))
    assert [table.caption.split(":")[0] for table in made.tables] == ["aupro, eval_size 256", "aupro, eval_size native"]
    assert {table.caption.split(":")[1] for table in made.tables} == {" means over 14 of 14 categories"}


def test_the_diagram_has_every_name() -> None:
    drawing = asked(results(PUBLISHED)).figures[0].draw()
    (axes,) = drawing.axes
    texts = {text.get_text() for text in (*axes.texts, *axes.get_yticklabels())}
    assert {"layer4 (1.96)", "layer1 (3.14)", "critical difference 1.25"} <= texts


def test_a_metric_of_a_plug_in_has_its_interval() -> None:
    found = [replace(r, metrics={"zebra": 0.5} | r.metrics | {"blur": 1 - r.metrics["aupro"]}) for r in results(PUBLISHED[:, :2])]

    def drawn(result: Result) -> np.ndarray:
        rows = noisy(result)
        return np.concatenate([rows, 1 - rows[-1:], np.full_like(rows[:1], 0.5)])  # the package's seven, blur, zebra

    def made(metric: str, replicates: Draw) -> Section:
        return section(keyed_jobs([(r.job, r) for r in found]), Question(["layer"], [metric], replicates))

    low, high = column(made("aupro", drawn), "95 % interval")[0].split(" to ")
    assert column(made("blur", drawn), "95 % interval")[0] == f"{1 - float(high):.3f} to {1 - float(low):.3f}"
    assert "95 % interval" not in made("blur", noisy).tables[0].headers


def test_bars_join_what_is_not_significantly_different() -> None:
    assert joined(np.array([1.0, 3.0, 1.5, 2.4]), 1.0) == [(1.0, 1.5), (1.5, 2.4), (2.4, 3.0)]
    assert joined(np.array([1.0, 2.5, 4.0]), 1.0) == []


@pytest.mark.parametrize(
    ("count", "text"), [(0, ""), (1, "a"), (2, "a and b"), (5, "a, b, c, d and e"), (6, "a, b, c, d and 2 more")]
)
def test_a_sentence_names_the_first_few(count: int, text: str) -> None:
    assert listed(list("abcdef")[:count]) == text
