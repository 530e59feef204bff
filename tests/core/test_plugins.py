"""Plug-ins from outside: a file in ADBENCH_PLUGINS, and an installed package with an entry point."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

import pytest
from fresh import Nursery

DETECTOR = '''"""A Gaussian under another name (Nobody et al., 2026)."""
from dataclasses import dataclass
from adbench.detectors import register
from adbench.detectors.mahalanobis import Mahalanobis


@register("{name}")
@dataclass
class Outsider(Mahalanobis):
    """A Gaussian."""
'''
SPEC = "{layers: [blocks.1.1.add], image_sizes: [64], eval_size: 64, detectors: [from_file, from_package]}"


class Adbench(Protocol):
    def __call__(self, *arguments: Any, where: Path, **environment: Any) -> "subprocess.CompletedProcess[str]": ...


@pytest.fixture
def adbench(nursery: Nursery) -> Adbench:
    """Run `python -m` with arguments in a process of its own."""

    def run(*arguments: Any, where: Path, **environment: Any) -> "subprocess.CompletedProcess[str]":
        path = os.pathsep.join([str(where), *sys.path])
        known = {name: value for name, value in os.environ.items() if not name.startswith("ADBENCH")}
        given = {name: str(value) for name, value in environment.items()}
        return nursery.run([*map(str, arguments)], where, known | {"PYTHONPATH": path} | given)

    return run


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder with a plug-in file, and with a package as pip installs it."""
    (tmp_path / "file_plugin.py").write_text(DETECTOR.format(name="from_file"))
    (tmp_path / "toy_package").mkdir()
    (tmp_path / "toy_package" / "__init__.py").write_text(DETECTOR.format(name="from_package"))
    info = tmp_path / "toy_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[adbench.plugins]\ntoy = toy_package\n")
    return tmp_path


def test_plug_ins_are_listed(adbench: Adbench, outside: Path) -> None:
    done = adbench("adbench", "list", "detectors", where=outside, ADBENCH_PLUGINS="file_plugin.py")
    assert {"from_file", "from_package", "patchcore"} <= set(done.stdout.split()), done.stderr


def test_plug_ins_run_in_the_workers_of_a_sweep(adbench: Adbench, outside: Path, parts: Path, cache: Path) -> None:
    (outside / "spec.yaml").write_text(SPEC)
    arguments = ["--spec", "spec.yaml", "--data", parts, "--out", "results", "--jobs", 2, "--device", "cpu", "--json"]
    done = adbench("adbench", "sweep", *arguments, where=outside, ADBENCH_PLUGINS="file_plugin.py", ADBENCH_CACHE=cache)
    assert json.loads(done.stdout)["done"] == 4, done.stderr
    report = adbench("adbench", "report", "results", "--format", "json", where=outside)  # which needs none of them
    records = json.loads(report.stdout)
    assert {record["detector"] for record in records} == {"from_file", "from_package"}
    assert {len(record["environment"]["plugins"]) for record in records} == {2}


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        (DETECTOR.format(name="patchcore"), "ValueError: detector 'patchcore' is registered twice"),
    ],
)
def test_a_plug_in_that_cannot_be_imported_is_named(adbench: Adbench, tmp_path: Path, code: str, reason: str) -> None:
    file = tmp_path / "broken.py"
    file.write_text(code)
    done = adbench("adbench", "list", "detectors" if "Outsider" in code else "metrics", where=tmp_path, ADBENCH_PLUGINS=file)
    expected = f"plug-in {file} cannot be imported ({reason}); fix it, or take it out of ADBENCH_PLUGINS"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"adbench: error: {expected}\n")


@pytest.mark.parametrize(("value", "reason"), [("no such:thing:", "AttributeError"), ("nowhere", "ModuleNotFoundError")])
def test_an_entry_point_that_names_no_module_is_one_line(adbench: Adbench, outside: Path, value: str, reason: str) -> None:
    (outside / "toy_package-1.0.dist-info" / "entry_points.txt").write_text(f"[adbench.plugins]\ntoy = {value}\n")
    done = adbench("adbench", "list", "metrics", where=outside)
    assert done.stderr.startswith(f"adbench: error: plug-in toy = {value} cannot be imported ({reason}: ")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.endswith("; fix or uninstall its package toy-package\n")


def test_a_missing_file_is_named(adbench: Adbench, tmp_path: Path) -> None:
    done = adbench("adbench", "list", "metrics", where=tmp_path, ADBENCH_PLUGINS="no.py")
    reason = "(ImportError: no such file); fix it, or take it out of ADBENCH_PLUGINS"
    assert done.stderr == f"adbench: error: plug-in {tmp_path / 'no.py'} cannot be imported {reason}\n"


def test_authors_test_their_own(adbench: Adbench, outside: Path) -> None:
    passed = adbench("adbench.testing", "file_plugin.py", where=outside, ADBENCH_PLUGINS="file_plugin.py")
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert len([line for line in passed.stdout.splitlines() if line.startswith("ok  detectors from_file: ")]) >= 7


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("", "registers nothing new; call the 'register' of its kind, e.g. of adbench.detectors"),
        ("import nowhere", "cannot be imported (ModuleNotFoundError: No module named 'nowhere'); name a module or a .py file"),
    ],
)
def test_what_cannot_be_tested_is_said(adbench: Adbench, tmp_path: Path, code: str, line: str) -> None:
    (tmp_path / "odd.py").write_text(code)
    done = adbench("adbench.testing", "odd.py", where=tmp_path)
    assert (done.returncode, done.stderr) == (2, f"adbench: error: odd.py {line}\n")


def test_a_broken_contract_is_told(adbench: Adbench, tmp_path: Path) -> None:
    code = DETECTOR.format(name="noisy") + (
        "    def score(self, features, *, device):\n        import numpy as np\n"
        "        found = super().score(features, device=device)\n"
        "        return type(found)(np.random.normal(size=len(features)).astype(np.float32), found.maps)\n"
    )
    (tmp_path / "noisy.py").write_text(code)
    done = adbench("adbench.testing", "noisy.py", where=tmp_path)
    assert done.returncode == 1
    failure = "FAILED  detectors noisy: The same seed gives the same bits: two fits with one seed give other scores"
    assert failure in done.stdout.splitlines()
