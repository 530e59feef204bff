"""The executor ray on a cluster of two nodes that is started for these tests. `make test-cluster` runs them."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_study import Sweeps, kill, summary, until

cluster_utils = pytest.importorskip("ray.cluster_utils", reason="Ray is not installed")
pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> Sweeps:
    return Sweeps(tmp_path_factory.mktemp("ray"), dict(os.environ, RAY_USAGE_STATS_ENABLED="0"))


@pytest.fixture(scope="module")
def reference(sweeps: Sweeps) -> dict[str, str]:
    assert sweeps.run("reference")["done"] == 6
    return sweeps.metrics("reference")


@pytest.fixture
def cluster() -> Iterator[Any]:
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.second = cluster.add_node(num_cpus=1)
    cluster.options = ["--executor", "ray", "--ray-address", cluster.address]
    yield cluster
    cluster.shutdown()


def test_the_quickstart_has_the_bytes_of_a_local_sweep(sweeps: Sweeps, cluster: Any) -> None:
    quickstart = ["--preset", "quickstart"]
    for name, options in (("one", ["--jobs", 1]), ("two", ["--jobs", 2]), ("ray", cluster.options)):
        assert sweeps.run(name, *options, study=quickstart)["done"] == 20
    assert sweeps.metrics("ray") == sweeps.metrics("two") == sweeps.metrics("one")
    assert len(sweeps.metrics("one")) == 20


def test_a_killed_worker_is_replaced(sweeps: Sweeps, cluster: Any, reference: dict[str, str]) -> None:
    sweep = sweeps.start("killed", *cluster.options)
    kill(sweeps.worker_at("killed", "fastflow"))
    assert summary(sweep)["done"] == 6
    assert sweeps.metrics("killed") == reference


def test_a_lost_node_is_survived(sweeps: Sweeps, cluster: Any, reference: dict[str, str]) -> None:
    sweep = sweeps.start("lost", *cluster.options)
    sweeps.worker_at("lost", "fastflow")
    cluster.remove_node(cluster.second, allow_graceful=False)
    assert summary(sweep)["done"] == 6
    assert sweeps.metrics("lost") == reference


@pytest.mark.parametrize(("sent", "code", "name"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")])
def test_a_signal_ends_the_sweep_and_its_tasks(
    sweeps: Sweeps, cluster: Any, reference: dict[str, str], sent: int, code: int, name: str
) -> None:
    sweep = sweeps.start(name, *cluster.options)
    worker = sweeps.worker_at(name, "fastflow")
    sweep.send_signal(sent)
    assert f"{name}; finished work is kept, resume with: adbench sweep --spec" in summary(sweep, code)["err"]
    until(lambda: not Path(f"/proc/{worker}").exists())
    assert sweeps.run(name, *cluster.options)["failed"] == 0
    assert sweeps.metrics(name) == reference


def test_a_killed_parent_leaves_no_worker(sweeps: Sweeps, cluster: Any, reference: dict[str, str]) -> None:
    sweep = sweeps.start("orphaned", *cluster.options)
    worker = sweeps.worker_at("orphaned", "fastflow")
    kill(sweep.pid)
    sweep.communicate()
    until(lambda: not Path(f"/proc/{worker}").exists())
    again = sweeps.run("orphaned", *cluster.options)
    assert again["done"] + again["cached"] == 6
    assert sweeps.metrics("orphaned") == reference


def test_no_cluster_is_one_line(sweeps: Sweeps) -> None:
    error = sweeps.run("nowhere", "--executor", "ray", "--ray-address", "127.0.0.1:1", code=3)["err"]
    reason = "[Errno 111] Connection refused"
    remedy = "start one with 'ray start --head', or give --ray-address"
    assert error == f"adbench: error: no Ray cluster at 127.0.0.1:1 ({reason}); {remedy}\n"
