"""Groups on this machine: one after the other in this process, or several worker processes, a fresh one per group."""

import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

import torch

from adbench.executors import Site, register
from adbench.pipeline import Workplace
from adbench.results import ResultStore
from adbench.store import FeatureStore
from adbench.sweep import Group, run_group
from adbench.types import Job, Result


@register("local")
def run_local(groups: tuple[Group, ...], site: Site) -> Iterator[Result]:
    """Run the groups here; a worker that dies leaves its unfinished jobs as failed, and the others go on."""
    if site.workers > 1 and len(groups) > 1:
        yield from _in_workers(groups, site)
        return
    results = ResultStore(site.out)
    for group in groups:
        yield from run_group(site.place, group, results)


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    left: dict[str, Job]  # jobs without a result, by key


def _in_workers(groups: tuple[Group, ...], site: Site) -> Iterator[Result]:
    waiting, active = list(groups), dict[Connection, _Worker]()
    try:
        while waiting or active:
            while waiting and len(active) < site.workers:
                worker = _start(waiting.pop(0), site)
                active[worker.pipe] = worker
            for pipe in wait(list(active)):
                yield from _received(active, active[pipe], site)  # type: ignore[index]
    finally:
        for worker in active.values():
            worker.process.terminate()
            worker.process.join()


def _start(group: Group, site: Site) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    store, device = site.place.store.folder, str(site.place.device)
    # As many threads as one process alone has: a convolution's last bits depend on their number. They wait passively.
    arguments = (theirs, group, site.out, store, device, torch.get_num_threads())
    process = context.Process(target=_work, args=arguments, daemon=True)  # daemon: it never outlives the sweep
    process.start()
    theirs.close()
    return _Worker(process, ours, {job.key: job for job in group.jobs})


def _received(active: dict[Connection, _Worker], worker: _Worker, site: Site) -> Iterator[Result]:
    try:
        result: Result = worker.pipe.recv()
        worker.left.pop(result.job.key)
        yield result
        return
    except EOFError:
        pass
    worker.process.join()
    del active[worker.pipe]
    for job in worker.left.values():
        reason = f"the worker process died (exit code {worker.process.exitcode}); run the sweep again"
        result = Result(job, "failed", reason)
        ResultStore(site.out).write(result)
        yield result


def _work(pipe: Connection, group: Group, out: Path, cache: Path, device: str, threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted too, and ends its workers
    torch.set_num_threads(threads)
    place = Workplace(FeatureStore(cache), torch.device(device))
    with suppress(BrokenPipeError):  # the parent was killed: what is done is on disk
        for result in run_group(place, group, ResultStore(out)):
            pipe.send(result)
    pipe.close()
