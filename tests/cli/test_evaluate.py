"""`adbench eval`: model files that cannot be used, and categories that the model does not know."""

from pathlib import Path

from conftest import Run, one_line


def test_a_model_that_is_none(run: Run, parts: Path, tmp_path: Path) -> None:
    missing = run("eval", "none.safetensors", "--data", parts)
    assert one_line(missing, 3) == "model none.safetensors: no such file; make it with 'adbench train'"
    (tmp_path / "m.safetensors").write_bytes(b"12345678" * 9)
    damaged = one_line(run("eval", "m.safetensors", "--data", parts), 3)
    assert damaged.startswith("model m.safetensors: damaged or not written by 'adbench train'")


def test_another_category_than_the_models_is_said(run: Run, parts: Path, model: Path) -> None:
    own, other = (run("eval", model, "--data", parts, "--category", name, "--json") for name in ("alpha", "beta"))
    assert (own.code, own.err) == (0, "")
    assert (other.code, other.json["category"]) == (0, "beta")
    assert other.err == (
        f"adbench: warning: model {model} was fitted to category 'alpha', not to 'beta'; "
        "to measure a detector of 'beta', train one on it\n"
    )
