"""A group of jobs as JSON text, so that another process, perhaps on another machine, can carry it out.

An order names files and folders by their absolute paths: data, cache, weights and results are where they are for the one
who gave it. Nothing is pickled. The images are looked at again, as they may have changed since.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adbench.backbones.network import Network
from adbench.backbones.weights import Weights
from adbench.core.errors import DataError, WeightsError
from adbench.core.files import sha256
from adbench.core.subprocess import default_threads
from adbench.data.layouts import DATASETS
from adbench.sweep.plan import Group
from adbench.sweep.results import ResultStore
from adbench.sweep.workspace import Workspace
from adbench.types import Job, Result

SCHEMA = 1


def task_message(group: Group, workspace: Workspace, out: Path) -> dict[str, Any]:
    """Return the order to run a group, with as many threads as here: a convolution's last bits depend on their number."""
    weights = group.network.weights.record()
    return {
        "schema": SCHEMA, "out": _absolute(out), "cache": _absolute(workspace.cache), "data": _data(workspace.data),
        "device": workspace.device, "threads": default_threads(workspace.memo), "weights": weights, "fields": group.fields,
        "jobs": [job.record() for job in group.jobs], "keep_maps": group.keep_maps,
        "cache_limit": group.cache_limit,
    }  # fmt: skip


def _data(data: str) -> str:
    kind = DATASETS.items().get(data)
    return data if kind and kind.generated else _absolute(Path(data).expanduser())


def _absolute(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100  a link stays the name that every machine knows


def jobs_of(order: dict[str, Any]) -> tuple[Job, ...]:
    """Return the jobs of a read order."""
    return tuple(Job.from_record(record) for record in order["jobs"])


def worker_environment(threads: int) -> dict[str, str]:
    """Return the variables that a process which carries out orders needs before it loads torch or numpy."""
    known = {name: os.environ[name] for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY") if name in os.environ}
    return {"OMP_NUM_THREADS": str(threads)} | known


def run_task(order: dict[str, Any]) -> Iterator[Result]:
    """Run a group as ordered, write and yield each result; what keeps the group from running is each job's failure."""
    import torch

    from adbench.sweep.pipeline import failure, run_group

    if order["schema"] != SCHEMA:
        raise DataError(f"order of schema {order['schema']}, not {SCHEMA}: install one version of adbench everywhere")
    torch.set_num_threads(order["threads"])
    results, jobs = ResultStore(Path(order["out"])), jobs_of(order)
    try:
        workspace = Workspace(order["data"], Path(order["cache"]), (jobs[0].category,), order["device"])
        runtime, group = workspace.runtime(), _group(order, jobs, workspace)
    except Exception as error:  # this machine lacks something: a record for each job, and other groups go on
        for job in jobs:
            results.write(result := failure(job, error))
            yield result
        return
    yield from run_group(runtime, group, results)


def _group(order: dict[str, Any], jobs: tuple[Job, ...], workspace: Workspace) -> Group:
    inputs, weights = workspace.inputs()[0], Weights.from_record(order["weights"])
    if inputs.fingerprint != jobs[0].fingerprint:
        raise DataError(f"images of {jobs[0].category} in {workspace.data} changed after the plan; run the sweep again")
    if weights.path and sha256(weights.path) != weights.sha256:
        raise WeightsError(f"weights {weights.path} are other ones here, or changed after the plan; run the sweep again")
    return Group(inputs, Network(jobs[0].backbone, weights), jobs, order["fields"], order["keep_maps"], order["cache_limit"])
