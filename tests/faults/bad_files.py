"""Damage to what adbench wrote itself (cache, results, models), to datasets, checkpoints and foreign maps."""

from __future__ import annotations

import io
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from bad_images import picture, tiff
from cases import DATA, EVAL, EXTRACT, FINE, SOME_FAILED, SWEEP, USAGE, Case, Damage, cut, flip, named, nothing, write
from PIL import Image

MAPS = ("eval-maps", "--maps", "maps", "--data", "parts", "--eval-size", "64")
FIRST_MAP = "maps/alpha/test/good/000.npy"
VISA = ("extract", "efficientnet_lite0", "blocks.2.1.add", "--image-size", "64", "--data", "visa")
SYNTH = ("synth", "--data", "parts", "--out", "made", "--count", "2")
HEADER = "object,split,label,image,mask\n"


class Attack:
    """What code in a checkpoint would do."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("hacked"),)  # type: ignore[return-value]


def array(content: np.ndarray, allow_pickle: bool = False) -> bytes:
    """Return an array as the content of a .npy file."""
    out = io.BytesIO()
    np.save(out, content, allow_pickle=allow_pickle)
    return out.getvalue()


def own_files() -> Iterator[Case]:
    """Yield damage to cache entries and results, which must heal, and to models, which must be refused."""
    healing: dict[str, str] = {
        "cached features": "cache/features/**/*.npy",
        "cache sidecar": "cache/features/**/*.json",
        "file memo": "cache/files.json",
        "result": "results/*.json",
        "plan": "results/plans/*.jsonl",
        "replicates": "results/replicates/*.npy",
    }
    for what, pattern in healing.items():
        for name, damage in damages(pattern).items():
            yield Case(f"{what} {name}", both(damage, forget_first_result), SWEEP, FINE, recovers=True)
    for name, damage in damages("m.safetensors").items():
        # a tensor's flipped bit may leave a model that loads: it is refused all the same
        yield Case(f"model {name}", damage, EVAL, DATA, "m.safetensors")
    for name, content in {"a list": b"[]", "of no schema": b"{}", "nested": b"[" * 5000, "text": b"result"}.items():
        yield Case(f"result replaced by {name}", write_over("results/*.json", content), SWEEP, FINE, recovers=True)


def damages(pattern: str) -> dict[str, Damage]:
    """Return cuts and flipped bytes of files."""
    cuts: dict[str, Damage] = {f"cut to {share:.0%}": cut(pattern, share) for share in (0.0, 0.01, 0.5, 0.99)}
    return cuts | {f"flipped at {place:.0%}": flip(pattern, place) for place in (0.0, 0.3, 0.6, 0.95)}


def both(first: Damage, second: Damage) -> Damage:
    """Do one damage after the other."""

    def damage(workplace: Path) -> None:
        first(workplace)
        second(workplace)

    return damage


def forget_first_result(workplace: Path) -> None:
    """Delete a result, so that the sweep has something to do with what is damaged."""
    found = sorted((workplace / "results").glob("*.json"))
    for path in found[:1]:
        path.unlink()


def write_over(pattern: str, content: bytes) -> Damage:
    """Put `content` into every file that `pattern` finds."""

    def damage(workplace: Path) -> None:
        for path in workplace.glob(pattern):
            path.write_bytes(content)

    return damage


def visa(rows: str, header: str = HEADER) -> Damage:
    """Write a dataset of VisA's layout with these rows."""
    return write("visa/split_csv/1cls.csv", (header + rows).encode())


def datasets() -> Iterator[Case]:
    """Yield csv files with ways out and folders that are not what they should be."""
    row = "candle,{split},normal,{image},\n"
    yield from named("VisA", [
        ("parent in a path", visa(row.format(split="train", image="../../etc/passwd")), VISA, DATA, "leads out of"),
        ("absolute path", visa(row.format(split="train", image="/etc/passwd")), VISA, DATA, "leads out of"),
        ("Windows drive", visa(row.format(split="train", image="C:\\\\x.png")), VISA, DATA, "leads out of"),
        ("mask leads out", visa("candle,test,anomaly,a.JPG,../m.png\n"), VISA, DATA, "leads out of"),
        ("missing column", visa("candle,train,normal\n", "object,split,label\n"), VISA, DATA, "columns"),
        ("no rows", visa(""), VISA, DATA, "columns"),
        ("NUL", visa("candle\0,train,normal,a.png,\n"), VISA, DATA, "visa"),
        ("binary", write("visa/split_csv/1cls.csv", bytes(range(128, 256))), VISA, DATA, "1cls.csv"),
        ("image is missing", visa(row.format(split="train", image="a.png")), VISA, DATA, "a.png"),
        ("category that leads out", visa("../x,train,normal,a.png,\n"), VISA, DATA, "."),
    ])  # fmt: skip
    yield from named("dataset", [
        ("no training images", emptied("parts/alpha/train/good"), EXTRACT, DATA, "train"),
        ("folder named like an image", folder("parts/alpha/train/good/900.png"), EXTRACT, FINE, ""),
        ("link to nowhere", link("parts/alpha/train/good/901.png", "nowhere.png"), EXTRACT, DATA, "901.png"),
        ("link to itself", link("parts/alpha/train/good/902.png", "902.png"), EXTRACT, DATA, "902.png"),
        ("mask is missing", without("parts/alpha/ground_truth/spot/000_mask.png"), EXTRACT, DATA, "no mask"),
        ("mask of another size", write("parts/alpha/ground_truth/spot/000_mask.png", small_mask()), EXTRACT, DATA, "10 x 10"),
        ("a name with a line break", renamed("000.png", "a\nb.png"), EXTRACT, FINE, ""),
        ("a name of bytes", renamed("000.png", "\udcff\udcfe.png"), EXTRACT, FINE, ""),
        ("empty folder as data", both(emptied("parts"), folder("parts")), EXTRACT, DATA, "parts"),
    ])  # fmt: skip


def small_mask() -> bytes:
    """Return a mask of 10 x 10 px."""
    out = io.BytesIO()
    Image.new("L", (10, 10), 255).save(out, format="PNG")
    return out.getvalue()


def emptied(relative: str) -> Damage:
    """Delete a folder."""
    return lambda workplace: shutil.rmtree(workplace / relative)


def without(relative: str) -> Damage:
    """Delete a file."""
    return lambda workplace: (workplace / relative).unlink()


def folder(relative: str) -> Damage:
    """Make a folder."""
    return lambda workplace: (workplace / relative).mkdir(parents=True)


def link(relative: str, target: str) -> Damage:
    """Make a symbolic link."""
    return lambda workplace: (workplace / relative).symlink_to(target)


def renamed(old: str, new: str) -> Damage:
    """Rename a training image."""
    return lambda workplace: (
        (workplace / "parts/alpha/train/good" / old).rename(workplace / "parts/alpha/train/good" / new) and None
    )


def checkpoints() -> Iterator[Case]:
    """Yield weights with code in them, and others that do not fit."""
    command = (*EXTRACT, "--weights", "w.pth")
    imported = ("weights", "import", "moco", "w.pth")
    attack = pickle.dumps(Attack())
    for name, content in {"code": attack, "text": b"weights", "nothing": b"", "zip": b"PK\x03\x04" + bytes(100)}.items():
        yield Case(f"checkpoint: {name}", write("w.pth", content), command, DATA, "w.pth")
        yield Case(f"imported checkpoint: {name}", write("w.pth", content), imported, DATA, "w.pth")


def foreign_maps() -> Iterator[Case]:
    """Yield maps of another program that cannot be measured."""
    bad = {
        "NaN": array(np.full((8, 8), np.nan, np.float32)),
        "infinite": array(np.full((8, 8), np.inf, np.float32)),
        "three-dimensional": array(np.zeros((3, 8, 8), np.float32)),
        "a number": array(np.float32(1)),
        "empty": array(np.zeros((0, 8), np.float32)),
        "of text": array(np.array([["a", "b"], ["c", "d"]])),
        "of objects": array(np.array([[Attack()]], dtype=object), allow_pickle=True),
        "cut": array(np.zeros((8, 8), np.float32))[:150],
        "no bytes": b"",
        "no array": b"maps",
        "claiming terabytes": array(np.zeros((8, 8), np.float32)).replace(b"(8, 8), }    ", b"(9999999,9999999), }"[:13] or b""),
    }
    for name, content in bad.items():
        yield Case(f"map: {name}", write(FIRST_MAP, content), MAPS, DATA, "000.npy")
    yield Case("map: missing", without(FIRST_MAP), MAPS, DATA, "no map for 1")
    yield Case(
        "maps: no folder", nothing, ("eval-maps", "--maps", "nowhere", *MAPS[3:]), DATA, "nowhere: no such folder; each of 6 "
    )
    yield Case("maps: empty folder", both(emptied("maps"), folder("maps")), MAPS, DATA, "maps: none has the name")
    yield Case(
        "maps: a category has none",
        copied("parts/alpha", "parts/beta"),
        MAPS,
        SOME_FAILED,
        "category 'beta' is not measured: maps: no map for 6",
    )
    yield Case("maps: MVTec AD 2", of_mvtec2, MAPS, FINE)
    yield Case("maps: VisA", of_visa, (*MAPS[:3], "--data", "visa", *MAPS[5:]), FINE)
    extra = write("maps/alpha/test/good/9.npy", array(np.zeros((8, 8), np.float32)))
    yield Case("map: of no image", extra, MAPS, FINE, "1 maps in maps belong to no test image")
    plane = np.zeros((8, 8), np.float16)
    pages = picture(plane.astype(np.uint8), "TIFF", save_all=True, append_images=[Image.new("L", (8, 8))])
    five = tiff(np.dstack([plane] * 5), photometric="minisblack", planarconfig="contig")
    kinds = {"float16": (tiff(plane), FINE), "float32": (tiff(plane.astype(np.float32)), FINE), "two pages": (pages, DATA)}
    kinds["five channels"] = five, DATA
    for name, (content, code) in kinds.items():
        damage = both(without(FIRST_MAP), write(FIRST_MAP.replace(".npy", ".TIFF"), content))
        yield Case(f"map: TIFF of {name}", damage, MAPS, code, r"000\.TIFF: cannot be read \(" if code else "")


def of_mvtec2(workplace: Path) -> None:
    """Give data and maps the layout of MVTec AD 2."""
    for root in (workplace / "parts/alpha", workplace / "maps/alpha"):
        (root / "test").rename(root / "test_public")
    (workplace / "parts/alpha/ground_truth").rename(workplace / "parts/alpha/test_public/ground_truth")


def of_visa(workplace: Path) -> None:
    """Give data and maps the layout of VisA."""
    rows, source = "", workplace / "parts/alpha"
    for path in sorted(path for split in ("train", "test") for path in source.glob(f"{split}/*/*.png")):
        split, kind = path.relative_to(source).parts[:2]
        mask = f"alpha/ground_truth/spot/{path.stem}_mask.png" if kind == "spot" else ""
        rows += f"alpha,{split},{'anomaly' if mask else 'normal'},alpha/{path.relative_to(source).as_posix()},{mask}\n"
    visa(rows)(workplace)
    shutil.copytree(source, workplace / "visa/alpha")
    (workplace / "visa/alpha/train/good").rename(workplace / "visa/alpha/train/normal")
    csv = workplace / "visa/split_csv/1cls.csv"
    csv.write_text(csv.read_text().replace("train/good", "train/normal"))
    (workplace / "maps/alpha/test/spot").rename(workplace / "maps/alpha/test/anomaly")


LONG = "a" * 245 + ".png"  # 249 bytes
PREDICT = ("predict", "m.safetensors", "new", "--out", "new/out2", "--overlays", "all")
RC = write("matplotlibrc", b"font.size: gro\xdf\n")


def outputs() -> Iterator[Case]:
    """Yield pictures among the images, names that are long, and folders that are files."""
    image = copied("parts/alpha/test/spot/000.png", "new/000.png")
    long = both(image, copied("parts/alpha/test/spot/001.png", f"new/{LONG}"))
    yield from named("output", [
        ("overlays among the images", both(image, drawn("new/out1/000.jpg")), PREDICT, FINE, "1 picture skipped"),
        ("only pictures of adbench", drawn("new/out1/000.jpg"), PREDICT, DATA, "adbench itself drew 1 picture"),
        ("a dataset of synth among images", both(image, write("new/made/synthetic.json", b"{}")), PREDICT, FINE, "is skipped"),
        ("pictures over images", nothing, (*EVAL, "--heatmaps", "parts/alpha/test"), USAGE, "would be replaced by its picture"),
        ("a picture in a dataset", drawn("parts/alpha/test/heat/0.png"), EVAL, FINE, "1 picture skipped"),
        ("a long name", long, PREDICT, FINE, "images per second"),
        ("a long name in a dataset", renamed("000.png", LONG), EXTRACT, FINE, ""),
        ("a name of bytes", copied("parts/alpha/test/spot/000.png", "new/\udcff.png"), PREDICT, FINE, ""),
        ("predictions into a file", both(image, write("out", b"")), (*PREDICT[:3], "--out", "out"), DATA, "out is a file"),
        ("heat maps into a file", nothing, (*EVAL, "--heatmaps", "study.yaml"), DATA, "study.yaml is a file"),
        ("figures into a file", nothing, ("report", "results", "--figures", "study.yaml"), DATA, "study.yaml is a file"),
        ("a damaged matplotlibrc", both(image, RC), PREDICT, DATA, "matplotlibrc: the file in the working folder"),
        ("a synthetic dataset that is there", write("made/alpha/synthetic.json", b"{}"), SYNTH, DATA, "add --force"),
        ("a folder in the way of a synthetic dataset", folder("made/alpha"), SYNTH, DATA, "not made by 'adbench synth'"),
    ])  # fmt: skip


def copied(source: str, target: str) -> Damage:
    """Copy a file or a folder."""

    def damage(workplace: Path) -> None:
        if (workplace / source).is_dir():
            shutil.copytree(workplace / source, workplace / target)
        else:
            write(target, (workplace / source).read_bytes())(workplace)

    return damage


def drawn(relative: str) -> Damage:
    """Write a picture as adbench draws them."""
    from PIL import Image

    from adbench.data.writing import save_picture

    kind = "PNG" if relative.endswith("png") else "JPEG"
    return lambda workplace: save_picture(Image.new("RGB", (64, 64)), workplace / relative, kind)


def cases() -> Iterator[Case]:
    """Yield all damage to files that are not images or specifications."""
    yield from outputs()
    yield from own_files()
    yield from datasets()
    yield from checkpoints()
    yield from foreign_maps()
    odd = ("sweep", "--spec", "odd.yaml", "--data", "parts", "--out", "results")
    spec = write("odd.yaml", b"layers: [blocks.6.0.bn3]\nimage_sizes: [32]\neval_size: 32\nweights: [random, none.pth]\n")
    yield Case("a job that cannot run leaves the others", spec, odd, SOME_FAILED, "skipped|failed")
    yield Case("dry run of a bad layer", spec, (*odd, "--dry-run", "--set", "layers=x"), USAGE, "unknown layer")
