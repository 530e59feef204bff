"""Fork processes from one that has loaded torch and timm, which takes seconds, but nothing of adbench: each starts it afresh."""

import json
import os
import runpy
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class Nursery:
    """Runs Python modules as programs, one after the other, each in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._parent = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, arguments: Sequence[str], where: Path, environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
        """Run `python -m ARGUMENTS` in the folder `where` with these variables; PYTHONPATH is heeded."""
        out, err = self.folder / "out", self.folder / "err"
        order = {"arguments": list(arguments), "where": str(where), "environment": dict(environment)}
        assert self._parent.stdin and self._parent.stdout
        self._parent.stdin.write(json.dumps(order | {"out": str(out), "err": str(err)}) + "\n")
        self._parent.stdin.flush()
        code = int(self._parent.stdout.readline())
        return subprocess.CompletedProcess(list(arguments), code, out.read_text(), err.read_text())

    def close(self) -> None:
        self._parent.communicate()


def _be(arguments: list[str], where: str, environment: dict[str, str], out: str, err: str) -> int:
    """Run a program in this process and return its exit code."""
    os.chdir(where)
    os.environ.clear()
    os.environ.update({"GLIBC_TUNABLES": ""} | environment)  # or the program would start again, as its parent
    sys.path[:0] = environment.get("PYTHONPATH", "").split(os.pathsep)
    for target, number in ((os.devnull, 0), (out, 1), (err, 2)):
        os.dup2(os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = arguments
    try:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def main() -> None:
    """Read orders from stdin, one per line, fork a process for each and write its exit code."""
    import timm  # noqa: F401
    import torch

    assert not any(name.partition(".")[0] == "adbench" for name in sys.modules)
    torch.set_num_threads(1)  # threads would not survive the fork
    for line in sys.stdin:
        order: dict[str, Any] = json.loads(line)
        if not (child := os.fork()):
            code = 1
            try:
                code = _be(**order)
            finally:
                os._exit(code)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
