import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, replace_in_disguise

from adbench.core.errors import DataError
from adbench.features.cache import CacheKey, FeatureCache
from adbench.features.view import View

KEY = CacheKey("images", "net", "sha", (0.5,), (0.5,), View(64), "layer", "float16")
MAPS = np.random.default_rng(0).normal(size=(3, 2, 4, 4)).astype(np.float32)


def fill(store: FeatureCache, key: CacheKey = KEY, maps: np.ndarray = MAPS) -> Path:
    with store.writing({"layer": key}, len(maps), {"split": "train"}) as writers:
        writers.append({"layer": maps[:2]})
        writers.append({"layer": maps[2:]})
    return store.path(key)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    store = FeatureCache(tmp_path)
    fill(store)
    entry = store.read(KEY)
    assert entry is not None
    np.testing.assert_array_equal(entry.array, MAPS.astype(np.float16))
    assert entry.sidecar["shape"] == [3, 2, 4, 4]


def test_the_sidecar_records_device_and_library_versions(run: Run, parts: Path) -> None:
    place = ("--data", parts, "--category", "alpha", "--cache", "cache", "--device", "cpu")
    entries = run("extract", "efficientnet_lite0", "blocks.1.1.add", *place, "--image-size", 32, "--json").json["entries"]
    sidecar = json.loads(Path(entries[0]["path"]).with_suffix(".json").read_text())
    assert (sidecar["device"], "torch" in sidecar["versions"]) == ("cpu", True)


def test_an_entry_that_another_process_has_finished_meanwhile_stays(tmp_path: Path) -> None:
    with FeatureCache(tmp_path).writing({"layer": KEY}, len(MAPS), {"split": "train"}) as writers:
        writers.append({"layer": MAPS})
        first = fill(FeatureCache(tmp_path)).stat()
    assert FeatureCache(tmp_path).path(KEY).stat().st_ino == first.st_ino
    assert FeatureCache(tmp_path).read(KEY) is not None
    assert len(list(tmp_path.iterdir())) == 2


def test_an_entry_replaced_in_disguise_is_verified_again(tmp_path: Path) -> None:
    store = FeatureCache(tmp_path)
    path = fill(store)
    assert store.read(KEY) is not None
    replace_in_disguise(path, path.read_bytes()[:-2] + b"xx")
    assert store.read(KEY) is None


def test_another_key_is_another_entry(tmp_path: Path) -> None:
    fill(FeatureCache(tmp_path))
    assert FeatureCache(tmp_path).read(replace(KEY, view=View(128))) is None


def test_float16_that_overflows_is_widened(tmp_path: Path) -> None:
    store, maps = FeatureCache(tmp_path), MAPS.copy()
    maps[2, 0, 0, 0] = 1e6
    fill(store, maps=maps)
    entry = FeatureCache(tmp_path).read(KEY)
    assert entry is not None
    assert entry.array.dtype == np.float32
    np.testing.assert_array_equal(entry.array[2], maps[2])
    np.testing.assert_array_equal(entry.array[:2], maps[:2].astype(np.float16).astype(np.float32))


def test_batches_that_are_rounded_already_make_the_same_entry(tmp_path: Path) -> None:
    for large in (1.0, 1e6):
        maps, written = MAPS.copy(), []
        maps[0, 0, 0, 0] = large
        for folder, second in (("a", maps[1:]), ("b", maps[1:].astype(np.float16))):
            store = FeatureCache(tmp_path / f"{folder}{large}")
            with store.writing({"layer": KEY}, len(maps), {}) as writers:
                writers.append({"layer": maps[:1]})
                writers.append({"layer": second})
            entry = store.read(KEY)
            assert entry is not None
            written.append(entry.array)
        assert written[0].dtype == written[1].dtype == (np.float32 if large > 1 else np.float16)
        np.testing.assert_allclose(written[0], written[1], rtol=0 if large == 1 else 2**-11)


def test_features_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="layer 'layer' of net: features are not finite"):
        fill(FeatureCache(tmp_path), maps=MAPS * np.nan)
    assert not list(tmp_path.iterdir())


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 7)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 64
    path.write_bytes(content)


def remove_array(path: Path) -> None:
    path.unlink()


def break_sidecar(path: Path) -> None:
    path.with_suffix(".json").write_text("{")


def swap_sidecar(path: Path) -> None:
    side = path.with_suffix(".json")
    side.write_text(json.dumps(json.loads(side.read_text()) | {"shape": [1]}))


@pytest.mark.parametrize("damage", [truncate, flip, remove_array, break_sidecar, swap_sidecar])
def test_damage_is_reported_deleted_and_made_again(damage: object, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = fill(FeatureCache(tmp_path))
    damage(path)  # type: ignore[operator]
    assert FeatureCache(tmp_path).read(KEY) is None
    assert f"cache entry {path.name} is damaged" in caplog.text
    assert not list(tmp_path.iterdir())
    fill(FeatureCache(tmp_path))
    assert FeatureCache(tmp_path).read(KEY) is not None


def test_a_pass_that_ends_early_leaves_nothing(tmp_path: Path) -> None:
    store = FeatureCache(tmp_path)
    with pytest.raises(ValueError, match="2 of 3 images written"), store.writing({"layer": KEY}, 3, {}) as writers:
        writers.append({"layer": MAPS[:2]})
    assert not list(tmp_path.iterdir())


def test_prune_deletes_what_was_not_used_for_longest(tmp_path: Path) -> None:
    store = FeatureCache(tmp_path)
    old, new = fill(store, replace(KEY, layer="old")), fill(store, replace(KEY, layer="new"))
    os.utime(old.with_suffix(".json"), (1, 1))
    total = sum(size for _, size, _ in store.entries())
    count, freed = store.prune(total - 1)
    assert (count, freed > 0, old.exists(), new.exists()) == (1, True, False, True)


def test_prune_clears_what_killed_runs_left(tmp_path: Path) -> None:
    store = FeatureCache(tmp_path)
    (tmp_path / ".x.npy.abc.tmp").write_bytes(b"1" * 10)
    (tmp_path / "orphan.npy").write_bytes(b"1" * 10)
    for path in tmp_path.iterdir():
        os.utime(path, (1, 1))
    assert store.prune(10**9) == (2, 20)
    assert not list(tmp_path.iterdir())
