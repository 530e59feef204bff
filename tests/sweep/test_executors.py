"""Executors without a cluster: resources, task messages, and the groups of workers that die."""

import json
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, make_category

from adbench.cli import options
from adbench.core.errors import UsageError
from adbench.features.cache import EXTRACTION_REVISION
from adbench.sweep.executors import Resources, Site, choose_executor, ray, slurm
from adbench.sweep.executors.local import devices
from adbench.sweep.heartbeat import group_name, heartbeat
from adbench.sweep.pipeline import run_group
from adbench.sweep.plan import Group
from adbench.sweep.run import Sweep, plan_sweep
from adbench.sweep.spec import Choice, Spec
from adbench.sweep.workers import Ending, follow, run_task, task_message
from adbench.sweep.workspace import Workspace
from adbench.types import Result

LAYERS = ("blocks.1.1.add", "blocks.2.1.add", "blocks.4.2.add")


@pytest.fixture
def sweep(parts: Path, cache: Path, tmp_path: Path) -> Sweep:
    """Two groups, alpha and beta, of three jobs."""
    spec = Spec(layers=LAYERS, image_sizes=(64,), eval_size=64, detectors=(Choice("mahalanobis"),))
    return plan_sweep(Workspace(str(parts), cache), spec, tmp_path / "out")


@pytest.fixture
def site(sweep: Sweep) -> Site:
    return Site(sweep.results.folder, sweep.workspace)


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        (Resources(), ["auto"]),
        (Resources(jobs=2), ["auto", "auto"]),
        (Resources(gpus=(0, 3)), ["cuda:0", "cuda:3"]),
        (Resources(gpus=(0, 1), gpu_slots=2), ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]),
        (Resources(gpus=(0, 1), gpu_slots=2, jobs=3), ["cuda:0", "cuda:1", "cuda:0"]),
    ],
)
def test_each_worker_has_a_device_slot(resources: Resources, expected: list[str]) -> None:
    assert devices(resources, "auto") == expected


SLURM, RAY = ("--executor", "slurm"), ("--executor", "ray")
WRONG = {
    "of slurm": (("--partition", "p"), "--partition is not for --executor local; use slurm"),
    "of two": (("--max-parallel", "2"), "--max-parallel is not for --executor local; use ray or slurm"),
    "no wait": ((*RAY, "--no-wait"), "--no-wait is not for --executor ray; use slurm"),
    "of local": ((*SLURM, "--jobs", "2"), "--jobs is not for --executor slurm; use local"),
    "gpus": (("--gpus", "0,x"), "--gpus '0,x': write each GPU's number once, e.g. --gpus 0,1"),
    "same gpu": (("--gpus", "0,0"), "--gpus '0,0': write each GPU's number once, e.g. --gpus 0,1"),
    "time": ((*SLURM, "--time", "soon"), "--time 'soon': write minutes, H:MM:SS or D-HH:MM:SS, e.g. --time 2:30:00"),
    "slots": (("--gpus", "0", "--jobs", "2"), "--jobs 2: there are 1 slots on GPUs; more of them by --gpu-slots K per GPU"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", WRONG)
def test_resources_that_do_not_fit(mistake: str, run: Run, parts: Path) -> None:
    arguments, message = WRONG[mistake]
    answer = run("sweep", "--preset", "quickstart", "--data", parts, *arguments)
    assert (answer.code, answer.out, answer.err) == (2, "", f"adbench: error: {message}\n")


def test_gpus_and_another_device_contradict_each_other() -> None:
    with pytest.raises(UsageError, match=r"^--device cpu does not go with --gpus or --gpu-slots; leave one of them out$"):
        devices(Resources(gpus=(0,)), "cpu")


@pytest.mark.parametrize(
    ("name", "gpus", "message"),
    [
        ("slurm", 0.5, "--gpus-per-task 0.5: Slurm gives whole GPUs; write a whole number"),
        ("ray", 1.5, "--gpus-per-task 1.5: write a part of one GPU, such as 0.5, or a whole number"),
    ],
)
def test_parts_of_gpus(name: str, gpus: float, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"adbench.sweep.executors.{name}.find_spec", lambda _: True)
    monkeypatch.setattr("shutil.which", lambda _: "/bin/sbatch")
    with pytest.raises(UsageError) as refused:
        choose_executor(name, Resources(gpus_per_task=gpus))
    assert str(refused.value) == message


@pytest.mark.parametrize(("name", "package"), [("slurm", "submitit"), ("ray", "Ray")])
def test_a_missing_package_is_one_line(name: str, package: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"adbench.sweep.executors.{name}.find_spec", lambda _: None)
    answer = run("sweep", "--preset", "quickstart", "--executor", name)
    expected = f"--executor {name} needs {package}; install it: pip install 'adbench-vision[{name}]'"
    assert (answer.code, answer.err) == (3, f"adbench: error: {expected}\n")


def test_slurm_without_its_commands_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adbench.sweep.executors.slurm.find_spec", lambda _: True)
    monkeypatch.setattr("shutil.which", lambda _: None)
    answer = run("sweep", "--preset", "quickstart", "--executor", "slurm")
    expected = "--executor slurm: no command sbatch here; run it on a machine that submits to Slurm"
    assert (answer.code, answer.err) == (3, f"adbench: error: {expected}\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90", 90), ("0", 1), ("1:30", 2), ("2:30:00", 150), ("1-0", 1440), ("1-2:30", 1590), ("1-00:00:01", 1441)],
)
def test_times_are_read_as_slurm_reads_them(text: str, expected: int) -> None:
    assert options.minutes(text) == expected


def plain(group: Group, site: Site) -> Any:
    """The task message as a worker reads it."""
    return json.loads(json.dumps(task_message(group, site.workspace, site.out)))


def test_a_task_message_gives_the_bytes_of_its_group(sweep: Sweep, site: Site) -> None:
    group = sweep.plan.groups[0]
    here = [result.metrics for result in run_group(sweep.workspace.runtime(), group, sweep.results)]
    elsewhere = replace(site, out=site.out / "elsewhere")
    assert [result.metrics for result in run_task(plain(group, elsewhere))] == here
    assert len(here) == 3


def test_images_that_changed_since_the_plan_fail_their_jobs(cache: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    make_category(data / "part", 3)
    spec = Spec(layers=LAYERS, image_sizes=(64,), detectors=(Choice("mahalanobis"),))
    planned = plan_sweep(Workspace(str(data), cache), spec, tmp_path / "out")
    shutil.copy(data / "part/train/good/000.png", data / "part/train/good/009.png")
    results = list(run_task(plain(planned.plan.groups[0], Site(tmp_path / "out", planned.workspace))))
    assert {result.reason for result in results} == {f"images of part in {data} changed after the plan; run the sweep again"}
    assert planned.results.failures() == sorted(results, key=planned.results.failures().index)


def test_a_finished_job_is_not_run_again(sweep: Sweep) -> None:
    group = sweep.plan.groups[0]
    before = list(run_group(sweep.workspace.runtime(), group, sweep.results))
    nowhere = replace(sweep.workspace, cache=sweep.results.folder / "empty").runtime()
    assert list(run_group(nowhere, replace(group, network=None), sweep.results)) == before  # type: ignore[arg-type]


@dataclass
class FakePool:
    """Workers that do what a test says: each task is a generator over its group's jobs that ends when it dies."""

    site: Site
    act: Any  # of a group: does it, in part or whole, and returns how it ended
    size: int = 1
    pause: float = 0
    patience: float = 0
    started: list[list[str]] = field(default_factory=list)
    endings: dict[int, Ending] = field(default_factory=dict)
    stopped: list[int] = field(default_factory=list)

    def start(self, groups: Sequence[Group]) -> dict[int, tuple[Group, ...]]:
        tasks = {}
        for group in groups:
            self.started.append([f"{job.category} {job.layer}" for job in group.jobs])
            tasks[len(self.started)] = (group,)
            self.endings[len(self.started)] = self.act(group)
        return tasks

    def ended(self, tasks: Collection[int]) -> dict[int, Ending]:
        return self.endings

    def stop(self, tasks: Collection[int]) -> None:
        self.stopped += tasks


def dies_at(layer: str, site: Site, results: Any, again: bool = True) -> Any:
    """Jobs are done one by one until the worker dies at a layer, its heartbeat left behind."""

    def act(group: Group) -> Ending:
        at_work = heartbeat(site.out, group_name(group.jobs[0]))
        at = at_work.__enter__()
        for job in group.jobs:
            at(job.key)
            if job.layer == layer:
                remember = next((site.out / "running").glob("*.json"))
                content = json.loads(remember.read_text()) | {"host": "elsewhere"}
                at_work.__exit__(None, None, None)
                remember.write_text(json.dumps(content))
                return Ending("killed", again)
            results.write(Result(job, "done"))
        at_work.__exit__(None, None, None)
        return Ending("finished")

    return act


def outcomes(results: Iterator[Result]) -> list[str]:
    return [f"{r.job.category} {r.job.layer.split('.')[1]} {r.status}" for r in results]


def test_the_job_at_which_a_worker_dies_fails_and_the_rest_start_anew(sweep: Sweep, site: Site) -> None:
    pool = FakePool(site, dies_at(LAYERS[1], site, sweep.results))
    assert outcomes(follow(pool, sweep.plan.groups, site)) == [
        "alpha 1 done", "alpha 2 failed", "beta 1 done", "beta 2 failed", "alpha 4 done", "beta 4 done",
    ]  # fmt: skip
    assert [len(group) for group in pool.started] == [3, 3, 1, 1]
    reasons = {result.reason for result in sweep.results.failures()}
    assert reasons == {"the worker died at this job (killed); run the sweep again"}


def test_a_cancelled_task_is_not_started_anew(sweep: Sweep, site: Site) -> None:
    pool = FakePool(site, dies_at(LAYERS[1], site, sweep.results, again=False))
    assert outcomes(follow(pool, sweep.plan.groups[:1], site)) == ["alpha 1 done", "alpha 2 failed", "alpha 4 failed"]
    reasons = {result.reason for result in sweep.results.failures()}
    assert reasons == {"not run, its worker ended (killed); run the sweep again"}


def test_a_worker_that_dies_before_its_first_job_fails_the_group(sweep: Sweep, site: Site) -> None:
    pool = FakePool(site, lambda group: Ending("exit code 1"))
    assert [text.split()[-1] for text in outcomes(follow(pool, sweep.plan.groups, site))] == ["failed"] * 6
    assert len(pool.started) == 2


def test_an_earlier_failure_does_not_count_as_an_outcome(sweep: Sweep, site: Site) -> None:
    group = sweep.plan.groups[0]
    sweep.results.write(Result(group.jobs[0], "failed", "earlier"))
    pool = FakePool(site, dies_at("none", site, sweep.results))
    assert {text.split()[-1] for text in outcomes(follow(pool, [group], site))} == {"done"}


def test_what_another_sweep_is_at_comes_last(sweep: Sweep, site: Site) -> None:
    pool = FakePool(site, dies_at("none", site, sweep.results))
    with heartbeat(site.out, group_name(sweep.plan.groups[0].jobs[0])):
        assert outcomes(follow(pool, sweep.plan.groups, site))[0] == "beta 1 done"


def test_tasks_are_stopped_when_nobody_wants_the_rest(sweep: Sweep, site: Site) -> None:
    pool = FakePool(site, dies_at("none", site, sweep.results), size=2)
    following = follow(pool, sweep.plan.groups, site)
    next(following)
    following.close()
    assert pool.stopped == [1, 2]


def test_tasks_of_ray_know_the_plugins_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ADBENCH_PLUGINS", raising=False)
    assert "ADBENCH_PLUGINS" not in ray.environment_of_tasks(2)
    monkeypatch.setenv("ADBENCH_PLUGINS", "/mine/plugin.py")
    assert ray.environment_of_tasks(2)["ADBENCH_PLUGINS"] == "/mine/plugin.py"


def test_a_task_message_names_no_code(sweep: Sweep, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADBENCH_PLUGINS", "/mine/plugin.py")
    assert "plugin" not in json.dumps(plain(sweep.plan.groups[0], site))


def test_a_message_of_another_extraction_fails_its_jobs(sweep: Sweep, site: Site) -> None:
    message = plain(sweep.plan.groups[0], site)
    message["jobs"] = [job | {"extraction": 99} for job in message["jobs"]]
    reason = f"extraction of revision 99, not {EXTRACTION_REVISION}: install the same version of adbench on all hosts"
    assert {(result.status, result.reason) for result in run_task(message)} == {("failed", reason)}


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Slurm's commands as scripts; returns the file that says what the queue holds."""
    (tmp_path / "bin").mkdir()
    state = tmp_path / "queue"
    state.write_text("")
    scripts = {"squeue": f"cat {state}", "scontrol": "echo 'MaxArraySize            = 3'", "scancel": f"echo $@ > {state}"}
    for name, body in scripts.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return state


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> list[list[Path]]:
    """Files of each array that was submitted; their tasks are called 7_0, 7_1 ..."""
    calls: list[list[Path]] = []

    def submit(folder: Path, files: list[Path], resources: Resources, threads: int) -> list[str]:
        calls.append(files)
        return [f"{6 + len(calls)}_{index}" for index in range(len(files))]

    monkeypatch.setattr(slurm, "submit", submit)
    return calls


def test_slurm_follows_what_an_earlier_call_has_submitted(
    sweep: Sweep, site: Site, queue: Path, submitted: list[list[Path]]
) -> None:
    executor = slurm.Slurm(Resources(no_wait=True))
    sweep.results.write(Result(sweep.plan.jobs[0], "failed", "earlier"))
    assert list(executor.run(sweep.plan.groups, site)) == []
    assert sweep.results.failures() == []  # tried again: what follows must not take the old failure for the new outcome
    queue.write_text("7_0 RUNNING\n7_1 PENDING\n")
    assert list(executor.run(sweep.plan.groups, site)) == []
    assert [len(files) for files in submitted] == [2]
    queue.write_text("7_0 FAILED\n")  # 7_1 is gone from the queue
    assert list(executor.run(sweep.plan.groups, site)) == []
    assert [len(files) for files in submitted] == [2, 2]
    assert len(list((site.out / "orders").iterdir())) == 3


def test_slurm_tells_how_a_task_ended(site: Site, queue: Path) -> None:
    queue.write_text("7_0 RUNNING\n7_1 NODE_FAIL\n7_2 CANCELLED\n")
    pool = slurm.SlurmTasks(site, Resources())
    ended = pool.ended(["7_0", "7_1", "7_2", "7_3"])
    log = f"see {site.out}/slurm"
    assert ended == {
        "7_1": Ending(f"task 7_1 of Slurm: NODE_FAIL, {log}/7_1_0_log.err"),
        "7_2": Ending(f"task 7_2 of Slurm: CANCELLED, {log}/7_2_0_log.err", again=False),
        "7_3": Ending(f"task 7_3 of Slurm: gone from the queue, {log}/7_3_0_log.err"),
    }


def test_slurm_cancels_only_what_this_call_has_submitted(
    sweep: Sweep, site: Site, queue: Path, submitted: list[list[Path]]
) -> None:
    pool = slurm.SlurmTasks(site, Resources())
    pool.start(sweep.plan.groups)
    pool.stop(["7_0", "9_0"])
    assert queue.read_text() == "7_0\n"


def test_more_groups_than_an_array_holds_share_tasks(sweep: Sweep, site: Site, queue: Path, submitted: list[list[Path]]) -> None:
    groups = [replace(group, jobs=(job,)) for group in sweep.plan.groups for job in group.jobs]
    tasks = slurm.SlurmTasks(site, Resources()).start(groups)
    assert {name: len(own) for name, own in tasks.items()} == {"7_0": 3, "7_1": 3}
    messages = json.loads(submitted[0][0].read_text())
    assert [len(message["jobs"]) for message in messages] == [1, 1, 1]


def test_a_slurm_task_runs_its_messages_and_can_be_queued_again(sweep: Sweep, site: Site, tmp_path: Path) -> None:
    file = tmp_path / "messages.json"
    file.write_text(json.dumps([task_message(group, site.workspace, site.out) for group in sweep.plan.groups]))
    slurm.RunMessages()(str(file))
    assert len(sweep.results.done()) == 6


def test_a_gpu_that_is_not_here_is_named_before_any_work(run: Run, parts: Path) -> None:
    answer = run("sweep", "--preset", "quickstart", "--data", parts, "--gpus", "77")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("adbench: error: device 'cuda:77' is not on this machine; choose from: auto, cpu")
