"""The program starts itself again for huge pages once, and only where that can help."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from adbench.core import pages

PROGRAM = """
import os, sys
from pathlib import Path
from adbench.core import pages
pages._MODE = Path(sys.argv[1])
print(os.getpid(), sys.argv[2], os.environ.get("GLIBC_TUNABLES"), flush=True)
pages.use_huge_pages()
"""


def starts(tmp_path: Path, mode: str, given: str | None = None) -> list[list[str]]:
    """Return the process number, an argument and the variable of each start of a program."""
    (tmp_path / "mode").write_text(mode)
    known = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    known |= {"GLIBC_TUNABLES": given} if given else {}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "mode"), "an argument"]
    done = subprocess.run(command, env=known, capture_output=True, text=True, check=True)
    return [line.split(maxsplit=1) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("command", "known"),
    [
        (["-m", "adbench", "--version"], True),
        ([str(Path(sys.executable).with_name("adbench")), "--version"], True),
        (["-c", "import sys; sys.argv = ['adbench', '--version']; from adbench.cli import main; main()"], False),
    ],
)
def test_only_the_program_itself_starts_again(tmp_path, command, known):
    # python reads this module when it starts, before the program
    (tmp_path / "sitecustomize.py").write_text("import os\nos.execv = lambda *_: print('again')")
    paths = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    given = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"} | {"PYTHONPATH": paths}
    done = subprocess.run([sys.executable, *command], env=given, capture_output=True, text=True, check=True)
    helps = sys.platform == "linux" and pages._MODE.is_file() and "[madvise]" in pages._MODE.read_text()
    assert done.stdout.startswith("again\n") == (known and helps)


@pytest.mark.skipif(sys.platform != "linux", reason="huge pages on request are Linux's")
def test_the_program_starts_again_in_the_same_process(tmp_path):
    (first, before), (second, after) = starts(tmp_path, "always [madvise] never")
    assert first == second
    assert (before, after) == ("an argument None", f"an argument {pages._SETTING}")


@pytest.mark.parametrize(
    ("mode", "given"),
    [("[always] madvise never", None), ("always madvise [never]", None), ("always [madvise] never", "glibc.malloc.check=0")],
)
def test_it_goes_on_where_pages_are_huge_already_or_never_or_the_user_has_set_malloc(tmp_path, mode, given):
    ((_, seen),) = starts(tmp_path, mode, given)
    assert seen == f"an argument {given}"


def test_it_goes_on_where_the_kernel_says_nothing(tmp_path, monkeypatch):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr(pages, "_MODE", tmp_path / "missing")
    monkeypatch.setattr(os, "execv", lambda *_: pytest.fail("started again"))
    pages.use_huge_pages()
    assert "GLIBC_TUNABLES" not in os.environ
