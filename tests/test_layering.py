"""Imports go one way, and what belongs to the terminal stays at the top."""

import ast
import re
from pathlib import Path

import pytest
from conftest import loaded_by

import adbench

ROOT = Path(adbench.__file__).parent
ROOMS = (
    "types", "core", "data", "backbones", "features", "detectors", "metrics", "statistics", "pictures", "sweep", "models",
    "reports", "selection", "cli", "testing",
)  # fmt: skip
RANK = {name: rank for rank, name in enumerate(ROOMS)}
MODULES = [path for path in sorted(ROOT.rglob("*.py")) if path.parent != ROOT or not path.name.startswith("__")]


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Dotted names of everything that a module imports, at its top or in a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            found |= {f"{base}.{alias.name}" for alias in node.names} if base == "adbench" else {base}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    own = RANK[room(path)]
    for name in imports(path):
        if name.startswith("adbench.") and (target := name.split(".")[1]) in RANK:
            assert RANK[target] <= own, f"{path.name} imports {name}, a room below it"


@pytest.mark.parametrize("path", [p for p in MODULES if room(p) != "cli"], ids=lambda p: str(p.relative_to(ROOT)))
def test_the_core_does_not_talk(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports(path)}
    assert not roots & {"rich", "typer", "click"}
    assert not re.search(r"(?<![.\w])print\(", path.read_text())


def test_every_module_has_a_room() -> None:
    assert {room(path) for path in MODULES} - set(RANK) == set()


@pytest.mark.parametrize(
    "arguments", [["--help"], ["sweep", "--help"], ["list", "presets"], ["list", "datasets"], ["list", "metrics"]]
)
def test_commands_that_need_no_torch_do_not_import_it(arguments: list[str]) -> None:
    assert not {"torch", "matplotlib", "timm", "sklearn", "numba"} & loaded_by(arguments), "heavy import"
