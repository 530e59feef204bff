"""What planning asks of code that loads torch is asked once, apart if so wished, and again where the answer may have changed."""

import os
import signal
import sys
from functools import partial
from pathlib import Path

import pytest
from conftest import replace_in_disguise

from adbench.backbones.network import find_network
from adbench.core.errors import UsageError
from adbench.core.memo import Memo
from adbench.core.registry import match
from adbench.core.subprocess import default_threads, in_subprocess
from adbench.sweep.plan import find_method


def test_an_answer_is_kept_for_the_next_process(tmp_path: Path) -> None:
    assert Memo(tmp_path / "a.json").answer(["sum", 1, 2], lambda: 3) == 3
    assert Memo(tmp_path / "a.json").answer(["sum", 1, 2], lambda: pytest.fail("asked again")) == 3
    assert Memo(tmp_path / "a.json").answer(["sum", 1, 3], lambda: 4) == 4


def test_an_answer_that_does_not_hold_any_more_is_asked_for_again(tmp_path: Path) -> None:
    known = Memo(tmp_path / "a.json")
    assert known.answer(["size"], lambda: 1) == 1
    assert known.answer(["size"], lambda: 2, lambda answer: answer == 2) == 2
    assert Memo(tmp_path / "a.json").answer(["size"], lambda: 3) == 2


def test_answers_of_other_versions_are_forgotten(tmp_path: Path) -> None:
    Memo(tmp_path / "a.json", ["torch 1"]).answer(["name"], lambda: "old")
    assert Memo(tmp_path / "a.json", ["torch 2"]).answer(["name"], lambda: "new") == "new"


def test_a_memo_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert Memo(tmp_path / "file" / "a.json").answer(["name"], lambda: "given") == "given"


def test_a_memo_without_a_file_keeps_answers_in_memory() -> None:
    memo = Memo(None)
    assert memo.answer("name", lambda: "first") == memo.answer("name", lambda: pytest.fail("asked again")) == "first"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"made_by": 1}', '{"made_by": null, "crc32": 1}\n{"name": 3}'])
def test_a_damaged_file_of_answers_is_rewritten(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    assert Memo(tmp_path / "a.json").answer(["name"], lambda: "given") == "given"
    assert Memo(tmp_path / "a.json").answer(["name"], lambda: pytest.fail("asked again")) == "given"


def test_a_known_method_is_the_one_that_was_asked_for(tmp_path: Path) -> None:
    first = find_method("Patch-Core", {"coreset_max": 7}, Memo(tmp_path / "a.json"))
    params = first["params"]
    assert (first["detector"], params["coreset_max"], params["coreset_fraction"]) == ("patchcore", 7, 0.1)
    assert find_method("Patch-Core", {"coreset_max": 7}, Memo(tmp_path / "a.json")) == first


def test_a_wrong_parameter_is_refused_each_time(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(UsageError, match="must be a whole number, like its default 0"):
            find_method("patchcore", {"coreset_max": 7.5}, Memo(tmp_path / "a.json"))


def test_weights_that_changed_are_looked_at_again(tmp_path: Path) -> None:
    import torch

    file, known = tmp_path / "own.pth", Memo(tmp_path / "a.json")
    torch.save({"conv1.weight": torch.zeros(1)}, file)
    first = find_network("resnet18", str(file), known)
    assert find_network("resnet18", str(file), known) == first and first.weights.path == file
    torch.save({"conv1.weight": torch.zeros(999)}, file)
    second = find_network("resnet18", str(file), known)
    content = file.read_bytes()
    replace_in_disguise(file, content[:-1] + bytes([content[-1] ^ 1]))  # the last byte belongs to no tensor
    third = find_network("resnet18", str(file), known)
    assert len({found.weights.sha256 for found in (first, second, third)}) == 3


def test_a_question_refused_apart_is_refused() -> None:
    with pytest.raises(UsageError, match="'nosuch'"):
        in_subprocess(partial(match, "thing", "nosuch", ["such"]))


def test_a_question_whose_process_dies_is_asked_here() -> None:
    assert in_subprocess(partial(_dies_elsewhere, os.getpid())) == os.getpid()


def _dies_elsewhere(home: int) -> int:
    if os.getpid() != home:
        os.kill(os.getpid(), signal.SIGKILL)
    return home


def test_threads_are_those_of_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    here = default_threads(tmp_path)
    assert here == torch.get_num_threads()
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert default_threads(tmp_path) == 1
