"""The results folder: whole files, failures apart, damage reported, plans joined."""

import json
import logging
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adbench.core.errors import DataError
from adbench.sweep.records import dump
from adbench.sweep.results import ResultStore
from adbench.types import Job, Result

JOB = Job("demo", "f0", "bolt", "resnet18", "random", "ab", ("layer2",), 256, 256, "knn", {"neighbours": 5}, 1, 0)
AXIS = replace(JOB, extraction=4)
DONE = Result(JOB, "done", None, {"image_auroc": 0.1 + 0.2, "aupro": None}, {"fit_s": 1.5}, {"torch": "2"}, {"bank": [3, 4]})
FAILED = Result(JOB, "failed", "out of memory")


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "results")


def path_of(store: ResultStore, job: Job = JOB) -> Path:
    return store.folder / f"{job.key}.json"


def test_a_done_result_round_trips_exactly(store: ResultStore) -> None:
    store.write(DONE)
    assert store.read(JOB.key) == DONE
    assert store.all() == [DONE]


def test_an_unknown_key_is_no_result(store: ResultStore) -> None:
    assert store.read("0" * 20) is None
    assert store.all() == [] == store.planned()


def test_the_file_is_one_line_of_sorted_json(store: ResultStore) -> None:
    store.write(DONE)
    text = path_of(store).read_text()
    record = json.loads(text)
    checksum = record.pop("crc32")
    rest = json.dumps(record, sort_keys=True)[1:] + "\n"
    assert text == f'{{"crc32": "{checksum}", {rest}' and int(checksum, 16) == zlib.crc32(rest.encode())
    assert record["schema"] == 1 and record["layer"] == "layer2" and record["metrics"]["image_auroc"] == 0.30000000000000004


def test_a_done_result_is_immutable(store: ResultStore) -> None:
    store.write(DONE)
    store.write(replace(DONE, cost={"fit_s": 99.0}))
    store.write(FAILED)
    assert store.all() == [DONE]


def test_failures_lie_apart_until_the_job_is_done(store: ResultStore) -> None:
    store.write(FAILED)
    assert store.read(JOB.key) is None
    assert store.all() == [FAILED]
    assert [p.relative_to(store.folder) for p in store.folder.rglob("*.json")] == [Path("failed", f"{JOB.key}.json")]
    store.write(DONE)
    assert store.all() == [DONE] and not list((store.folder / "failed").iterdir())


def test_a_later_failure_replaces_an_earlier_one(store: ResultStore) -> None:
    store.write(FAILED)
    store.write(Result(JOB, "skipped", "weights missing"))
    assert [r.reason for r in store.all()] == ["weights missing"]


def test_an_interrupted_success_over_a_failure_counts_once(store: ResultStore) -> None:
    store.write(DONE)
    (store.folder / "failed").mkdir()
    failed = json.dumps(FAILED.record() | {"schema": 1})
    (store.folder / "failed" / f"{JOB.key}.json").write_text(failed)
    assert store.all() == [DONE]


def damaged(record: dict) -> dict[str, str]:
    """Every way in which a file can be wrong, and what the warning calls it."""
    return {
        "Expecting value: line 1 column 1 (char 0)": "",
        "schema version 2, not 1": json.dumps(record | {"schema": 2}),
        "Object missing required field `environment`": json.dumps({k: v for k, v in record.items() if k != "environment"}),
        "its content does not belong to its name": json.dumps(record | {"seed": 7}),
        "Expected `int | float | null`, got `str` - at `$.metrics[...]`": json.dumps(record | {"metrics": {"aupro": "0.9"}}),
        "Expected `object`, got `array`": "[]",
        "its status is failed": json.dumps(record | {"status": "failed"}),
        "Object contains unknown field `shot`": json.dumps(record | {"shot": 1}),
    }


@pytest.mark.parametrize("why", list(damaged({})))
def test_a_damaged_file_is_reported_once_and_set_aside(store: ResultStore, caplog, why: str) -> None:
    store.write(DONE)
    path = path_of(store)
    record = json.loads(path.read_text())
    del record["crc32"]  # as in files of older versions, or it would be the first to complain
    path.write_text(damaged(record)[why])
    with caplog.at_level(logging.WARNING, "adbench"):
        assert store.read(JOB.key) is None
    assert [r.getMessage() for r in caplog.records] == [
        f"set aside as {path}.damaged: damaged ({why}); its job counts as not run"
    ]
    assert not path.exists() and path.with_name(f"{path.name}.damaged").exists()


def test_a_damaged_file_in_a_read_only_folder_is_left(store: ResultStore, caplog, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(DONE)
    path = path_of(store)
    path.write_text("{")

    def refuse(*_: object) -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    assert store.read(JOB.key) is None
    assert caplog.messages[0].startswith(f"left as {path}: damaged (")
    assert path.exists()


def written(store: ResultStore, **changes: object) -> Path:
    """The file of DONE with other fields, as another version might write it."""
    record = {name: value for name, value in DONE.record().items() if name not in changes} | {"schema": 1} | changes
    path = path_of(store)
    path.parent.mkdir(exist_ok=True)
    path.write_text(dump(record))
    return path


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"lens": 512}, "Object contains unknown field `lens`"),
        ({"schema": 2}, "schema version 2, not 1"),
        ({"status": "half"}, "Invalid enum value 'half' - at `$.status`"),
    ],
)
def test_a_result_of_a_newer_version_is_an_error_and_stays(store: ResultStore, changes: dict, what: str) -> None:
    path = written(store, **changes)
    with pytest.raises(DataError) as caught:
        store.all()
    assert str(caught.value) == f"{path} was written by a newer version of adbench ({what}); update adbench to read it"
    assert path.exists()


def test_a_plan_of_a_newer_version_is_an_error_and_stays(store: ResultStore) -> None:
    store.write_plan("study", [JOB])
    path = store.folder / "plans/study.jsonl"
    header, line = path.read_text().splitlines(keepends=True)
    path.write_text(header + dump({name: value for name, value in json.loads(line).items() if name != "crc32"} | {"lens": 512}))
    with pytest.raises(DataError, match=r"study.jsonl was written by a newer version of adbench \(Object contains unknown field"):
        store.planned()
    assert path.exists()


def test_a_later_axis_is_in_key_and_record_only_where_it_is_not_the_default(store: ResultStore) -> None:
    assert "extraction" not in JOB.record() and replace(JOB, extraction=3).key == JOB.key
    assert AXIS.record()["extraction"] == 4 and AXIS.key != JOB.key and AXIS.group != JOB.group
    assert Job.from_record(JOB.record()) == JOB and Job.from_record(AXIS.record()) == AXIS
    for job in (JOB, AXIS):
        store.write(replace(DONE, job=job))
        store.write_plan(job.key, [job])
        assert store.read(job.key) == replace(DONE, job=job)
    assert {job.extraction for job in store.planned()} == {3, 4}


@pytest.mark.parametrize("changes", [{"dtype": "bfloat16"}, {"dtype": "float32"}, {"pro_limit": 0.05}])
def test_what_decides_a_number_is_in_the_key(changes: dict) -> None:
    assert replace(JOB, **changes).key != JOB.key


def test_library_versions_and_devices_are_in_the_record_but_not_in_the_key(store: ResultStore) -> None:
    environment = {"torch": "9.9", "accelerator": "NVIDIA H200"}
    store.write(replace(DONE, environment=environment))
    [found] = store.all()
    assert (found.job.key, found.environment) == (JOB.key, environment)


def test_a_changed_digit_is_noticed(store: ResultStore, caplog) -> None:
    store.write(DONE)
    path = path_of(store)
    assert store.has(JOB.key)
    path.write_text(path.read_text().replace("0.30000000000000004", "0.30000000000000005"))
    with caplog.at_level(logging.WARNING, "adbench"):
        assert not store.has(JOB.key)
    assert "its checksum does not fit" in caplog.text and not path.exists()


def test_a_result_under_another_name_does_not_count(store: ResultStore) -> None:
    store.write(DONE)
    other = path_of(store).with_name(f"{'0' * 20}.json")
    path_of(store).rename(other)
    assert not store.has("0" * 20) and not other.exists()


def test_a_damaged_file_does_not_stop_a_rewrite(store: ResultStore) -> None:
    store.write(DONE)
    path_of(store).write_bytes(b"\xff\x00 half a file")
    store.write(DONE)
    assert store.read(JOB.key) == DONE


def test_a_failure_among_the_done_is_damage(store: ResultStore) -> None:
    store.write(DONE)
    path_of(store).write_text(json.dumps(FAILED.record() | {"schema": 1}))
    assert store.read(JOB.key) is None


def test_files_of_the_user_are_left_alone(store: ResultStore) -> None:
    store.write(DONE)
    others = ["report.json", f".{JOB.key}.json.x1.tmp", f"{JOB.key}.json.tmp"]
    for name in others:
        (store.folder / name).write_text("mine")
    assert store.all() == [DONE]
    assert all((store.folder / name).read_text() == "mine" for name in others)


def test_a_folder_may_be_called_failed(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "failed")
    store.write(DONE)
    assert store.all() == [DONE]


def test_replicates_need_a_row_for_each_metric(store: ResultStore, caplog) -> None:
    for rows, found in ((2, True), (9, True), (1, False)):
        job = replace(JOB, seed=rows)
        store.write(replace(DONE, job=job, replicates=np.zeros((rows, 5), np.float32)))
        assert (store.replicates(job.key) is not None) == found
    assert "float32 of shape (1, 5), not float32 of 2 rows" in caplog.text
    store.write(replace(DONE, job=replace(JOB, seed=20), influence=np.zeros((2, 5), np.float32)))  # strata are a row of their own
    assert store.influence(replace(JOB, seed=20).key) is None
    assert "float32 of shape (2, 5), not float32 of 3 rows" in caplog.text


def test_names_that_are_not_utf8_and_odd_numbers_are_read(store: ResultStore) -> None:
    odd = replace(DONE, job=replace(JOB, category="\udcff", params={"limit": float("inf")}), details={"by_defect": {"\udcfe": 1}})
    store.write(odd)
    assert store.all() == [store.read(odd.job.key)] == [odd]


def test_numpy_values_are_stored_and_numbers_that_json_lacks_are_null(store: ResultStore) -> None:
    store.write(replace(DONE, details={"loss": [np.float32(0.5), float("nan")], "n": np.int64(3), "v": np.zeros(2)}))
    read = store.read(JOB.key)
    assert read is not None and read.details == {"loss": [0.5, None], "n": 3, "v": [0.0, 0.0]}


def test_the_order_of_all_is_stable(store: ResultStore) -> None:
    jobs = [replace(JOB, category=c, seed=s) for c in ("bolt", "axle") for s in (10, 9)]
    for job in jobs:
        store.write(replace(DONE, job=job))
    store.write(replace(FAILED, job=replace(JOB, category="cable")))
    order = [(r.job.category, r.job.seed) for r in store.all()]
    assert order == [("axle", 9), ("axle", 10), ("bolt", 9), ("bolt", 10), ("cable", 0)]


def test_metrics_are_the_same_bytes_whatever_the_cost(tmp_path: Path) -> None:
    metrics = []
    for name, cost in (("a", 1.0), ("b", 2.0)):
        store = ResultStore(tmp_path / name)
        store.write(replace(DONE, cost={"fit_s": cost}))
        metrics.append(path_of(store).read_text().split('"metrics": ')[1])
    assert metrics[0] == metrics[1]


def test_plans_are_joined(store: ResultStore) -> None:
    second = replace(JOB, seed=1)
    store.write_plan("layers", [JOB])
    store.write_plan("../image size", [JOB, second])
    assert sorted(job.seed for job in store.planned()) == [0, 1]
    assert sorted(p.name for p in (store.folder / "plans").iterdir()) == ["_image_size.jsonl", "layers.jsonl"]


def test_a_plan_replaces_its_earlier_form(store: ResultStore) -> None:
    store.write_plan("layers", [JOB, replace(JOB, seed=1)])
    store.write_plan("layers", [JOB])
    assert store.planned() == [JOB]


def test_a_damaged_plan_is_reported_and_deleted(store: ResultStore, caplog) -> None:
    store.write_plan("layers", [JOB])
    path = store.folder / "plans" / "layers.jsonl"
    for content in (
        path.read_bytes()[:-9],
        path.read_bytes().splitlines(True)[0],
        b'{"schema": 1, "jobs": {"a": {"layers": []}}}',
    ):
        path.write_bytes(content)
        caplog.clear()
        assert store.planned() == []
        assert len(caplog.records) == 1 and not path.exists()
        assert caplog.records[0].getMessage().endswith("; run its sweep again to write the plan anew")


def test_a_plan_of_version_0_1_0_is_read_and_replaced(store: ResultStore) -> None:
    jobs = {job.key: job.record() for job in (JOB, replace(JOB, seed=1))}
    old = store.folder / "plans" / "study.json"
    old.parent.mkdir(parents=True)
    old.write_text(dump({"command": "adbench sweep", "jobs": jobs, "schema": 1}))
    assert [job.key for job in store.planned()] == list(jobs) and store.commands() == ["adbench sweep"]
    store.write_plan("study", [JOB])
    assert store.planned() == [JOB] and not old.exists()


def test_a_file_is_no_results_folder(tmp_path: Path) -> None:
    path = tmp_path / "results"
    path.write_text("")
    with pytest.raises(DataError) as caught:
        ResultStore(path)
    assert str(caught.value) == f"cannot use {path} for results: it is a file; name a folder"


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    target = tmp_path / "file" / "results"
    with pytest.raises(DataError) as caught:
        ResultStore(target).write_plan("layers", [JOB])
    assert str(caught.value) == (
        f"cannot write {target / 'plans' / 'layers.jsonl'}: {tmp_path / 'file'} is a file; name a folder"
    )


def test_an_unreadable_result_is_not_deleted(store: ResultStore) -> None:
    path_of(store).mkdir(parents=True)
    with pytest.raises(DataError) as caught:
        store.read(JOB.key)
    assert str(caught.value) == f"cannot read {path_of(store)}: Is a directory; make it readable or delete it"


def test_what_recurs_in_results_is_held_once(store: ResultStore) -> None:
    for seed in (0, 1):
        store.write(replace(DONE, job=replace(JOB, seed=seed)))
    first, second = store.all()
    assert first.job.params is second.job.params and first.environment is second.environment
    assert first.job.layers == ("layer2",) and first.job.backbone is second.job.backbone


@pytest.mark.parametrize("command", ["adbench sweep --spec 'a b.yaml'", 'say "a\\b" to \u00e4', ""])
def test_a_plan_knows_its_command(store: ResultStore, command: str) -> None:
    store.write_plan("study", [JOB], command)
    assert store.commands() == [command] * bool(command)


def test_a_plan_is_a_header_and_one_job_a_line(store: ResultStore) -> None:
    jobs = [replace(JOB, seed=seed, category='a "jobs": {b}\n\udcff') for seed in range(3)]
    store.write_plan("study", jobs, "adbench --set 'x: {\"jobs\": {}}'")
    header, *lines = (store.folder / "plans/study.jsonl").read_text().splitlines(keepends=True)
    assert header == dump({"schema": 1, "jobs": 3, "command": "adbench --set 'x: {\"jobs\": {}}'"})
    assert lines == sorted((dump(job.record() | {"key": job.key}) for job in jobs), key=lambda line: json.loads(line)["key"])
    assert sorted(store.planned(), key=lambda job: job.seed) == jobs


def test_the_same_plan_is_not_written_again(store: ResultStore) -> None:
    path = store.folder / "plans/study.jsonl"
    store.write_plan("study", [JOB])
    first = path.stat().st_ino
    store.write_plan("study", [JOB])
    assert path.stat().st_ino == first
    path.write_bytes(path.read_bytes() + b" ")
    store.write_plan("study", [JOB])
    assert path.read_bytes().endswith(b"}\n")


def test_a_plan_with_a_flipped_bit_is_written_again(store: ResultStore) -> None:
    path = store.folder / "plans/study.jsonl"
    store.write_plan("study", [JOB])
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"seed": 0', b'"seed": 1'))
    store.write_plan("study", [JOB])
    assert path.read_bytes() == content


def test_results_of_planned_jobs_are_about_the_same_objects(store: ResultStore) -> None:
    store.write_plan("study", [JOB])
    store.write(DONE)
    planned = store.planned()
    assert store.all(planned)[0].job is planned[0]
    assert store.all(planned) == store.all() == [DONE]


def test_details_of_all_results_are_read_when_they_are_looked_into(store: ResultStore) -> None:
    assert replace(DONE, details={"receptive_field_px": 67}).field_is_analytic  # of an earlier version
    store.write(replace(DONE, details={"bank": [3, 4], "receptive_field_px": 67}))
    first, second = store.all()[0], store.all()[0]
    assert first.details["bank"] == [3, 4] and first.record()["details"] == {"bank": [3, 4], "receptive_field_px": 67}
    path_of(store).unlink()
    assert second.receptive_field == 67 and first.details["bank"] == [3, 4]
    with pytest.raises(DataError) as caught:
        second.record()
    expected = f"the result {JOB.key} vanished from {store.folder} while it was reported on; run the command again"
    assert str(caught.value) == expected
