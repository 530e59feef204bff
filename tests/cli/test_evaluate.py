"""`adbench eval`: model files that cannot be used."""

from pathlib import Path

from conftest import Run, one_line


def test_a_model_that_is_none(run: Run, parts: Path, tmp_path: Path) -> None:
    missing = run("eval", "none.safetensors", "--data", parts)
    assert one_line(missing, 3) == "model none.safetensors: no such file; make it with 'adbench train'"
    (tmp_path / "m.safetensors").write_bytes(b"12345678" * 9)
    damaged = one_line(run("eval", "m.safetensors", "--data", parts), 3)
    assert damaged.startswith("model m.safetensors: damaged, or not written by 'adbench train'")
