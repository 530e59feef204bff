"""The command select, from images to advice: it ranks, goes on where it stopped, and never looks at a test image."""

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Answer, Run, make_category, opened_paths

from adbench.features.view import SIZES
from adbench.models.files import load_model
from adbench.reports.formats import FORMATS
from adbench.selection import select
from adbench.selection.advice import advice
from adbench.selection.ranking import Ranked
from adbench.sweep.forecast import Forecaster
from adbench.types import Job, Result

SMALL = ("--image-sizes", 64, "--set", "eval_size=64", "--defects", 12)
LAYERS = ("--layers", "blocks.1.1.add,blocks.2.1.add")
JOB = Job("parts", "f", "nut", "efficientnet_lite0", "imagenet", "s", ("blocks.2.1.add",), 256, 256, "patchcore",
          {"coreset_fraction": 0.1}, 1, 0)  # fmt: skip
JSON_KEYS = {"backbone", "weights", "layer", "image_size", "detector", "score", "interval", "cost"}


@pytest.fixture(scope="session")
def nuts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One category with 12 good training images; not to be changed."""
    return make_category(tmp_path_factory.mktemp("nuts") / "nut", 7, train=12)


def chosen(answer: Answer) -> list[tuple[Any, ...]]:
    return [(one["layer"], one["score"], one["interval"], one["metrics"]) for one in answer.json["ranking"]]


def test_the_ranking_its_advice_and_its_command(run: Run, nuts: Path) -> None:
    answer = run("select", "--data", nuts, *SMALL, "--pairs", *LAYERS, "--json")
    assert answer.code == 0
    ranking = answer.json["ranking"]
    assert all(set(one) >= JSON_KEYS for one in ranking)
    assert {one["layer"] for one in ranking} == {
        "blocks.1.1.add", "blocks.2.1.add", "blocks.1.1.add+blocks.2.1.add"}  # fmt: skip
    scores = [one["score"] for one in ranking]
    assert scores == sorted(scores, reverse=True)
    assert all(one["score"] == (one["metrics"]["image_auroc"] + one["metrics"]["aupro"]) / 2 for one in ranking)
    assert all(one["cost"]["latency_ms"] > 0 and one["cost"]["memory_mb"] > 0 for one in ranking)
    assert answer.json["advice"].startswith(f"Use {ranking[0]['layer']} of efficientnet_lite0 at 64 px with patchcore. ")
    validation = answer.json["validation"]
    sizes = validation.pop("defect_sizes")
    assert 0 < sizes["smallest"] <= sizes["median"] <= sizes["largest"]
    assert validation == {"train": 6, "good": 3, "reserved": 3, "synthetic": 12}


def test_the_threshold_is_set_on_images_that_took_no_part_in_the_choice(run: Run, nuts: Path) -> None:
    command = run("select", "--data", nuts, *SMALL, *LAYERS, "--json").json["command"]
    assert " --fpr 0.5 --from-selection results/selection/selection-nut.json " in command
    images = json.loads(Path("results/selection/selection-nut.json").read_text())["images"]
    assert [len(images[part]) for part in ("fit", "validation", "reserved")] == [6, 3, 3]
    assert len({digest for part in images.values() for digest in part}) == 12
    trained = run(*shlex.split(command)[1:])
    assert trained.code == 0 and "expected false-positive rate 0.5" in trained.out
    assert "the threshold comes from 3 good images that took part neither in the selection nor in the fit to 9" in trained.err
    model = load_model(Path("nut.safetensors"))
    assert list(model.held_out) == images["reserved"]
    assert list(model.fitted) == list(model.selected_on) == sorted(images["fit"] + images["validation"])
    rare = run(*shlex.split(command.replace("--fpr 0.5", "--fpr 0.01"))[1:])
    assert "needs 99 or more held-out good images, not 3; the highest of their scores becomes" in rare.err
    assert "expected false-positive rate 0.25" in rare.out


def test_a_selection_without_fresh_images_promises_no_rate(run: Run, nuts: Path, tmp_path: Path) -> None:
    found = run("select", "--data", nuts, *SMALL, *LAYERS, "--reserve", "0", "--json").json
    assert found["images"]["reserved"] == [] and "--fpr" not in found["command"]
    file = "results/selection/selection-nut.json"
    train = ("train", "patchcore", "efficientnet_lite0", "blocks.1.1.add", "--data", nuts, "--category", "nut", "--image-size",
             "64", "--model", "m.safetensors", "--fpr", "0.1", "--from-selection")  # fmt: skip
    (tmp_path / "other.json").write_text(json.dumps({"images": {"fit": ["0" * 64], "validation": []}}))
    (tmp_path / "forecast.json").write_text("{}")
    for name, code, message in (
        (file, 3, "all 12 good images of category 'nut' took part in the selection, so no false-positive rate can be promised on "
         "them; add good images, or select again with --reserve 0.25"),
        (tmp_path / "other.json", 2, "none of its images is a good image of category 'nut'; name its category"),
        (tmp_path / "forecast.json", 3, "does not say which images took part; give the JSON of one category from "
         "'adbench select'"),
        ("nosuch.json", 3, "No such file or directory; give the file that select wrote"),
    ):  # fmt: skip
        answer = run(*train, name)
        assert (answer.code, answer.err) == (code, f"adbench: error: --from-selection {name}: {message}\n")


def test_test_images_are_never_opened_and_need_not_be_there(run: Run, nuts: Path, tmp_path: Path) -> None:
    command = ("select", *SMALL, *LAYERS, "--json", "--seed", 5)
    with opened_paths() as seen:
        answer = run(*command, "--data", nuts)
    inside = {Path(path).relative_to(nuts).parts[:1] for path in seen if Path(path).is_relative_to(nuts)}
    assert ("train",) in inside
    assert inside <= {(), ("train",)}  # the category's folder itself is listed
    shutil.copytree(nuts / "train", tmp_path / "alone" / "nut" / "train")
    alone = run(*command, "--data", tmp_path / "alone", "--out", "other")
    assert chosen(alone) == chosen(answer)


def test_test_images_and_masks_may_be_unreadable(run: Run, nuts: Path, tmp_path: Path) -> None:
    shutil.copytree(nuts, tmp_path / "sealed" / "nut")
    sealed = [path for part in ("test", "ground_truth") for path in (tmp_path / "sealed/nut" / part).rglob("*.png")]
    for path in sealed:
        path.unlink()
        path.symlink_to(path)  # the system itself refuses to open it, also to root
        with pytest.raises(OSError, match="Too many levels of symbolic links"):
            path.open()
    command = ("select", *SMALL, *LAYERS, "--json", "--seed", 6)
    assert len(sealed) == 9
    assert chosen(run(*command, "--data", tmp_path / "sealed", "--out", "sealed")) == chosen(run(*command, "--data", nuts))


def test_a_stopped_selection_goes_on_with_the_same_numbers(run: Run, nuts: Path) -> None:
    command = ("select", "--data", nuts, *SMALL, *LAYERS, "--out", "stopped", "--json")
    first = run(*command, "--verbose")
    assert first.err.count("mvtec+synthetic nut") == 2
    next(Path("stopped/selection").glob("*.json")).unlink()
    again = run(*command, "--verbose")
    assert again.err.count("mvtec+synthetic nut") == 1
    assert chosen(again) == chosen(first)
    assert run(*command).err == ""
    assert not list(Path("stopped").glob("*.json"))


@pytest.mark.parametrize("name", FORMATS.names())
def test_every_report_format_takes_a_selection(run: Run, nuts: Path, name: str) -> None:
    answer = run("select", "--data", nuts, *SMALL, *LAYERS, "--out", "shared", "--format", name)
    assert answer.code == 0
    assert "blocks.1.1.add" in answer.out
    if name != "csv":
        told = "ranks first of 2 candidates on the synthetic defects" in " ".join(answer.out.split())
        assert told == (name != "json") or answer.json
    assert ("data:image/webp" in answer.out) == (name == "html")


@pytest.fixture
def early(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Rounds with two training images and two candidates left."""
    monkeypatch.setattr(select, "LEAST_IMAGES", 2)
    monkeypatch.setattr(select, "LEAST_KEPT", 1)
    yield


def test_the_worse_half_is_dropped_early(run: Run, nuts: Path, early: None) -> None:
    layers = ("--layers", "blocks.1.1.add,blocks.2.1.add,blocks.5.0.bn3,blocks.6.0.bn3")
    command = ("select", "--data", nuts, *SMALL, *layers, "--reserve", "0", "--out", "halved", "--json")
    halved, whole = run(*command).json, run(*command, "--no-halving").json
    assert (len(halved["ranking"]), len(whole["ranking"]), whole["excluded"]) == (2, 4, [])
    assert [(one["status"], one["reason"]) for one in halved["excluded"]] == [
        ("dropped", f"ranked {k} of 4 on 1/4 of the training images") for k in (3, 4)]  # fmt: skip
    finalists = {one["layer"]: one["score"] for one in halved["ranking"]}
    assert finalists.items() <= {one["layer"]: one["score"] for one in whole["ranking"]}.items()


def test_a_dry_run_tells_the_time_and_runs_nothing(run: Run, nuts: Path) -> None:
    command = ("select", "--data", nuts, *SMALL, *LAYERS, "--out", "planned")
    found = run(*command, "--dry-run", "--json").json
    assert [one["layer"] for one in found["candidates"]] == ["blocks.1.1.add", "blocks.2.1.add"]
    assert found["seconds"] == pytest.approx(sum(one["seconds"] for one in found["candidates"]))
    assert (found["done"], found["cut"], found["synthetic"]) == (0, [], 12)
    text = run(*command, "--dry-run")
    assert re.match(r"layer +64 px\n", text.out)
    assert "2 candidates to run, 0 done before, 0 cut; 12 synthetic defects; about " in text.out
    banks = "detectors=[{name: patchcore, params: {coreset_max: 5}}, {name: patchcore, params: {coreset_max: 7}}]"
    text = run(*command, "--layers", "blocks.1.1.add", "--set", banks, "--dry-run").out
    assert re.match(r"params +layer +64 px\n[- ]+\ncoreset_max=5 +blocks.1.1.add .*\ncoreset_max=7 +blocks.1.1.add ", text)
    assert not Path("planned").exists()
    assert run(*command, "--json").err.startswith("2 candidates to run: about ")
    assert run(*command, "--dry-run", "--json").json["done"] == 2


def test_a_budget_cuts_the_slowest_candidates_and_says_so(run: Run, nuts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = ("--layers", "blocks.1.1.add,blocks.2.1.add,blocks.4.2.add,blocks.6.0.bn3")
    fit_s = {"blocks.1.1.add": 9000.0, "blocks.2.1.add": 3000.0, "blocks.4.2.add": 2000.0, "blocks.6.0.bn3": 1000.0}
    monkeypatch.setattr(Forecaster, "pass_seconds", lambda *_: 0.0)
    monkeypatch.setattr(Forecaster, "job_seconds", lambda _, __, job: (fit_s[job.layer], 2.0))
    command = ("select", "--data", nuts, "--image-sizes", 64, "--set", "eval_size=64", "--defects", 40, *layers, "--out", "cut")
    answer = run(*command, "--budget", "104m", "--json")
    assert answer.err.startswith(
        "3 candidates to run: about 1.7 h\n"
        "cut to fit --budget 104m: 1 candidate left out, the slowest, 30 synthetic defects instead of 40\n"
    )
    assert {one["layer"] for one in answer.json["ranking"]} == set(fit_s) - {"blocks.1.1.add"}
    assert answer.json["validation"]["synthetic"] == 30
    (out,) = answer.json["excluded"]
    assert (out["layer"], out["status"], out["reason"]) == (
        "blocks.1.1.add", "cut", "forecast to take 9002 s, too long for the budget")  # fmt: skip
    least = run(*command, "--budget", "1s", "--out", "least", "--dry-run", "--json").json
    assert [one["layer"] for one in least["cut"]] == ["blocks.1.1.add", "blocks.2.1.add"]


def test_a_budget_that_is_used_up_ends_the_run(run: Run, nuts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = ("--layers", "blocks.1.1.add,blocks.2.1.add,blocks.4.2.add")
    within = select.Selecting.within
    monkeypatch.setattr(select.Selecting, "within", lambda self, *given: replace(within(self, *given), ends=0.0))
    answer = run("select", "--data", nuts, *SMALL, *layers, "--out", "late", "--budget", "9h", "--json")
    assert (answer.code, len(answer.json["ranking"])) == (0, 2)
    assert [(one["status"], one["reason"]) for one in answer.json["excluded"]] == [
        ("cut", "the time of the budget was used up before its turn")]  # fmt: skip


def test_limits_leave_out_what_costs_too_much(run: Run, nuts: Path) -> None:
    layers = ("--layers", "blocks.1.1.add,blocks.6.0.bn3")
    found = run("select", "--data", nuts, *SMALL, *layers, "--max-memory", "2MB", "--json")
    assert (found.code, [one["layer"] for one in found.json["ranking"]]) == (0, ["blocks.1.1.add"])
    (out,) = found.json["excluded"]
    assert (out["layer"], out["status"]) == ("blocks.6.0.bn3", "over a limit")
    assert re.fullmatch(r"takes \d+\.\d MB, more than --max-memory 2 MB", out["reason"])


def test_defects_as_large_as_known_ones(run: Run, nuts: Path) -> None:
    command = ("select", "--data", nuts, *SMALL, *LAYERS, "--kinds", "stain", "--json")
    sizes = run(*command, "--like", nuts / "ground_truth").json["validation"]["defect_sizes"]
    assert sizes["median"] == pytest.approx(14 / 64, rel=0.25)


ERRORS = {
    "budget": (("--budget", "10"), "--budget '10': write a time with its unit, e.g. 90s, 10m or 1.5h"),
    "dry run": (("--verify", "--dry-run"), "select: --verify takes neither --budget nor --dry-run; leave one out"),
    "both sources": (("--preset", "quickstart", "--spec", "a.yaml"), "select: give --preset or --spec, not both"),
    "two categories": (
        ("--category", "nut", "--category", "nut2"), "--category: this command takes one category, not 2"),
    "image size": (("--image-sizes", "64,x"), f"select: image_sizes: expected {SIZES}, not the text 'x'"),
    "layer": (
        ("--layers", "blocks.2.1.ad"),
        "unknown layer 'blocks.2.1.ad' of efficientnet_lite0; did you mean 'blocks.2.1.add'?"),
    "kind": (("--kinds", "scrach"), "unknown defect 'scrach'; did you mean 'scratch'?"),
    "memory": (("--max-memory", "much"), "--max-memory 'much': write megabytes, e.g. 500, or a size, e.g. 2GB"),
    "holdout": (
        ("--holdout", "1"),
        "--holdout 1: the share of good images held out must be above 0 and below 1, e.g. 0.25",
    ),
    "reserve": (
        ("--reserve", "0.75"),
        "--reserve 0.75: the share of good images kept for a threshold must be at least 0 and below 0.75, since --holdout takes "
        "0.25",
    ),
    "format": (("--format", "tabel"), "unknown format 'tabel'; did you mean 'table'?"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), ERRORS.values(), ids=ERRORS)
def test_mistakes_are_one_line(run: Run, nuts: Path, arguments: tuple[str, ...], message: str) -> None:
    answer = run("select", "--data", nuts, *arguments)
    assert (answer.code, answer.out, answer.err) == (2, "", f"adbench: error: {message}\n")


def test_nothing_within_the_limits_is_an_error(run: Run, nuts: Path) -> None:
    answer = run("select", "--data", nuts, *SMALL, "--layers", "blocks.1.1.add", "--max-memory", "1kB")
    assert (answer.code, answer.out) == (1, "")
    message = r"select: no candidate can be ranked, 1 excluded: takes \d\.\d MB, more than --max-memory 0.001 MB"
    assert re.fullmatch(f"adbench: error: {message}", answer.err.splitlines()[-1])


def test_verify_compares_the_choice_with_real_defects(run: Run, parts: Path) -> None:
    make_category(Path("labeled/alpha"), 1, train=10)
    make_category(Path("labeled/beta"), 2, train=10)
    command = ("select", "--verify", "--data", "labeled", *SMALL, *LAYERS, "--pairs")
    found = run(*command, "--json").json
    assert [one["category"] for one in found["categories"]] == ["alpha", "beta"]
    real = {(r["category"], r["layer"]): r["metrics"] for r in run("report", "results", "--json").json}
    for one in found["categories"]:
        scores = [candidate["real"] for candidate in one["ranking"]]
        metrics = [real[one["category"], candidate["layer"]] for candidate in one["ranking"]]
        assert scores == [(m["image_auroc"] + m["aupro"]) / 2 for m in metrics]
        assert one["regret"]["chosen"] == max(scores) - scores[0]
        assert one["regret"]["by_lot"] == pytest.approx(max(scores) - sum(scores) / 3)
        assert one["best"]["layer"] == one["ranking"][scores.index(max(scores))]["layer"]
    again = run(*command, "--format", "html")
    assert (again.code, again.err, "better than the best fixed candidate" in again.out) == (0, "", True)
    assert "One scatter plot per category" in again.out


def test_verify_needs_labels(run: Run, tmp_path: Path) -> None:
    make_category(tmp_path / "good" / "part", 3, train=10, good=0, bad=0)
    answer = run("select", "--verify", "--data", tmp_path / "good", *SMALL, "--layers", "blocks.2.1.add")
    assert (answer.code, answer.out) == (3, "")
    assert answer.err == (
        "adbench: error: select --verify: category 'part': no labeled test images; choose labeled categories with --category\n"
    )


LICENSES = {
    ("vit_base_patch16_224", "mae"): " The license of its weights (cc-by-nc-4.0) forbids commercial use.",
    (
        "vit_small_patch16_dinov3",
        "imagenet",
    ): " The license of its weights (dinov3-license) has terms of its own: read them before commercial use.",
    ("resnet50", "swav"): " The license of its weights (CC-BY-NC-4.0) forbids commercial use.",
    ("resnet50", "own.pth"): "",
    ("resnet50", "random"): "",
}


def test_the_advice_gives_its_reasons() -> None:
    done = Result(JOB, "done", None, {}, {"latency_ms": 10.0, "memory_mb": 5.0}, details={"receptive_field_px": 64})
    quick = replace(done, job=replace(JOB, image_size=192), cost={"latency_ms": 4.0, "memory_mb": 5.0})
    ranking = [
        Ranked(done, 0.9, (0.85, 0.94), tied=True),
        Ranked(quick, 0.89, (0.8, 0.9), tied=True),
        Ranked(done, 0.5, (0.4, 0.6), tied=False),
    ]
    assert advice(ranking, (0.05, 0.1, 0.2)) == (
        "Use blocks.2.1.add of efficientnet_lite0 at 256 px with patchcore. It ranks first of 3 candidates on the synthetic "
        "defects (score 0.900, 95 % interval 0.850 to 0.940). It takes 10 ms per image and 5.0 MB. Its receptive field is 2.5 "
        "times as wide as the median defect. 1 other candidate is not significantly worse; blocks.2.1.add of "
        "efficientnet_lite0 at 192 px with patchcore takes only 4 ms per image, with a score of 0.890."
    )
    for (backbone, weights), sentence in LICENSES.items():
        job = replace(JOB, backbone=backbone, weights=weights)
        text = advice([replace(ranking[0], result=replace(done, job=job))], (0.1,))
        assert text.endswith(f" times as wide as the median defect.{sentence}")
    worse = replace(ranking[1], tied=False)
    assert advice([ranking[0], worse], (0.1,)).endswith(" All other candidates are significantly worse.")
    even = replace(ranking[1], result=done)
    assert advice([ranking[0], even], (0.1,)).endswith(" 1 other candidate is not significantly worse, but not much faster.")
    assert advice([ranking[0], even, even], (0.1,)).endswith(
        " 2 other candidates are not significantly worse, none of them much faster."
    )
