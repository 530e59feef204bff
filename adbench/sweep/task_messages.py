"""Task messages: a group of jobs as JSON, for another process that may be on another machine.

All paths are absolute and must exist on every host. Nothing is pickled. The images and weights are checked again, as they may
have changed since the plan.
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
from adbench.features.cache import EXTRACTION_REVISION
from adbench.sweep.plan import Group
from adbench.sweep.results import ResultStore
from adbench.sweep.workspace import Workspace
from adbench.types import Job, Result

SCHEMA = 1
_ONE_VERSION = "install the same version of adbench on all hosts"


def task_message(group: Group, workspace: Workspace, out: Path) -> dict[str, Any]:
    """Return the message to run a group, with as many threads as here: a convolution's last bits depend on their number."""
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
    return os.path.abspath(path)  # noqa: PTH100  resolve() would follow links


def jobs_of(message: dict[str, Any]) -> tuple[Job, ...]:
    """Return the jobs in a message."""
    return tuple(Job.from_record(record) for record in message["jobs"])


def worker_environment(threads: int) -> dict[str, str]:
    """Return the variables that a worker needs before it loads torch or numpy."""
    known = {name: os.environ[name] for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY") if name in os.environ}
    return {"OMP_NUM_THREADS": str(threads)} | known


def run_task(message: dict[str, Any]) -> Iterator[Result]:
    """Run the group in a message; write and yield each result. If the group cannot run here, each of its jobs fails."""
    import torch

    from adbench.sweep.pipeline import failure, run_group

    if message["schema"] != SCHEMA:
        raise DataError(f"task message of schema {message['schema']}, not {SCHEMA}: {_ONE_VERSION}")
    torch.set_num_threads(message["threads"])
    results, jobs = ResultStore(Path(message["out"])), jobs_of(message)
    try:
        workspace = Workspace(message["data"], Path(message["cache"]), (jobs[0].category,), message["device"])
        runtime, group = workspace.runtime(), _group(message, jobs, workspace)
    except Exception as error:  # this machine lacks something: other groups still run
        for job in jobs:
            results.write(result := failure(job, error))
            yield result
        return
    yield from run_group(runtime, group, results)


def _group(message: dict[str, Any], jobs: tuple[Job, ...], workspace: Workspace) -> Group:
    if jobs[0].extraction != EXTRACTION_REVISION:
        raise DataError(f"extraction of revision {jobs[0].extraction}, not {EXTRACTION_REVISION}: {_ONE_VERSION}")
    inputs, weights = workspace.inputs()[0], Weights.from_record(message["weights"])
    if inputs.fingerprint != jobs[0].fingerprint:
        raise DataError(f"images of {jobs[0].category} in {workspace.data} changed after the plan; run the sweep again")
    if weights.path and sha256(weights.path) != weights.sha256:
        raise WeightsError(f"weights {weights.path} differ here, or changed after the plan; run the sweep again")
    return Group(
        inputs, Network(jobs[0].backbone, weights), jobs, message["fields"], message["keep_maps"], message["cache_limit"]
    )
