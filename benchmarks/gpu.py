"""A GPU against the CPU (same picks, distances, features?) and against its own limits: coreset, scoring, extraction.

Run: python benchmarks/gpu.py [--repeats N]. Needs CUDA. The references run on the same GPU in the same run, float32 without
TF32: the textbook loop of the coreset, which no host waits for; a distance matrix in one product and its minimum; the cut,
unfolded graph on images that lie on the GPU already. Medians of wall times, the queue empty at both ends.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from common import Timing, arguments, in_turn, middle, ratio, timed

OPTIONS = arguments(__doc__, threads=0)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from scipy.ndimage import gaussian_filter  # noqa: E402

from adbench.backbones.network import Network  # noqa: E402
from adbench.backbones.weights import resolve  # noqa: E402
from adbench.data.pixels import MEMORY  # noqa: E402
from adbench.detectors.patchcore import PatchCore  # noqa: E402
from adbench.detectors.search.coreset import greedy_coreset  # noqa: E402
from adbench.detectors.search.nearest import NearestNeighbors  # noqa: E402
from adbench.features.cache import FeatureCache  # noqa: E402
from adbench.features.extraction import DEVICE_BATCH, extract  # noqa: E402
from adbench.features.feature_maps import FeatureMaps  # noqa: E402
from adbench.features.runtime import Runtime  # noqa: E402
from adbench.sweep.job_features import entry_key, write_features  # noqa: E402

GPU, CPU, SIZE, IMAGES = torch.device("cuda"), torch.device("cpu"), 256, 512
DIM = 128
CORESETS = ((40_960, 4096), (200_000, 2000), (1_000_000, 10_000))
NETWORKS = {"efficientnet_lite0": ["blocks.2.1.add", "blocks.4.2.add"], "wide_resnet50_2": ["layer2.3.relu_2", "layer3.5.relu_2"]}
SCORED = {"efficientnet_lite0": ((40, 32), (112, 16)), "wide_resnet50_2": ((512, 32), (1024, 16))}
BANK, BATCH = 4096, 32


def settled(call: Callable[[], object]) -> Callable[[], Timing]:
    """Return a function that times a call and what it left to the GPU."""

    def timing() -> Timing:
        torch.cuda.synchronize()
        return timed(lambda: (call(), torch.cuda.synchronize()))

    return timing


def report(title: str, calls: dict[str, Callable[[], object]], per: int = 1, unit: str = "s") -> dict[str, list[Timing]]:
    """Print the wall time of each call divided by `per`, and its ratio to the first."""
    found = in_turn({name: settled(call) for name, call in calls.items()}, OPTIONS.repeats)
    first = next(iter(found))
    scale = {"s": 1, "ms": 1e3, "us": 1e6}[unit]
    print(title)
    for name, timings in found.items():
        of = "" if name == first else f"   {first} / it {ratio(found[first], timings).wall:.3f}"
        print(f"  {name:44} {middle(timings).wall * scale / per:10.3f} {unit}{of}", flush=True)
    return found


def limits() -> None:
    """Print what the GPU can do."""
    left = torch.randn(8192, 8192, device=GPU)
    out = torch.empty_like(left)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        a = left.to(dtype)[: 8192 if dtype != torch.float64 else 4096, :4096].contiguous()
        seconds = middle(in_turn({"": settled(lambda a=a: a @ a.T)}, 3)[""]).wall
        print(f"  {dtype} product {2 * len(a) ** 2 * 4096 / seconds / 1e12:.1f} TFLOP/s")
    seconds = middle(in_turn({"": settled(lambda: out.copy_(left))}, 5)[""]).wall
    print(f"  copy {2 * left.nbytes / seconds / 1e12:.2f} TB/s")
    pinned = torch.empty(left.shape, pin_memory=True)
    seconds = middle(in_turn({"": settled(lambda: pinned.copy_(left, non_blocking=True))}, 3)[""]).wall
    print(f"  to pinned memory {left.nbytes / seconds / 1e9:.1f} GB/s", flush=True)


def low_rank(count: int) -> torch.Tensor:
    """Return standardized points of 16 directions and some noise, on the GPU: like features of a layer, projected."""
    generator = torch.Generator(GPU).manual_seed(0)
    points = torch.randn(count, 16, device=GPU, generator=generator) @ torch.randn(16, DIM, device=GPU, generator=generator)
    points += 0.3 * torch.randn(count, DIM, device=GPU, generator=generator)
    return (points - points.mean(0)) / points.std(0)


def textbook(points: torch.Tensor, num_picks: int) -> torch.Tensor:
    """Return the picks of the plain loop."""
    norms, last = points.square().sum(1), torch.zeros(1, dtype=torch.int64, device=GPU)
    far, picks = torch.full_like(norms, torch.inf), [last]
    while len(picks) < num_picks:
        row = points.index_select(0, last)[0]
        torch.minimum(far, norms + norms.index_select(0, last) - 2 * (points @ row), out=far)
        far.index_fill_(0, last, -1)
        last = far.argmax()[None]
        picks.append(last)
    return torch.cat(picks)


def coresets() -> None:
    for count, picks in CORESETS:
        points = low_rank(count)
        calls = {"ours": partial(greedy_coreset, points, picks), "textbook": partial(textbook, points, picks)}
        report(f"coreset: {picks:,} of {count:,} points of {DIM} dimensions, per pick", calls, picks, "us")
        if count == CORESETS[0][0]:
            same = (greedy_coreset(points, picks) == greedy_coreset(points.cpu(), picks)).mean()
            print(f"  share of the picks equal to the CPU's: {same}")
    ties = torch.randint(0, 4, (20_000, 8), generator=torch.Generator().manual_seed(0)).float()
    same = (greedy_coreset(ties, 5000, device=GPU) == greedy_coreset(ties, 5000)).mean()
    print(f"  the same with ties: {same}", flush=True)


def distances() -> None:
    """Print how far the GPU's distances are from float64's."""
    generator = torch.Generator().manual_seed(0)
    bank, queries = (torch.randn(n, 152, generator=generator) for n in (4096, 4096))
    queries[:64] = bank[:64] + 1e-4 * queries[:64]
    found, index = NearestNeighbors(bank, device=GPU).query(queries)
    exact = torch.cdist(queries.double(), bank.double(), compute_mode="donot_use_mm_for_euclid_dist").min(1)
    error = float(((torch.from_numpy(found[:, 0]).double() - exact.values) / exact.values).abs().max())
    same = float((torch.from_numpy(index[:, 0]) == exact.indices).float().mean())
    print(f"nearest rows: largest relative error {error:.1e}, the same row {same}", flush=True)


def plain_scores(bank: torch.Tensor, layers: list[np.ndarray]) -> np.ndarray:
    """Score images with a distance matrix."""
    from torch.nn import functional as F

    maps = [F.avg_pool2d(torch.from_numpy(layer).to(GPU).float(), 3, 1, 1) for layer in layers]
    grid = maps[0].shape[-2:]
    maps = [F.interpolate(part, grid, mode="bilinear") for part in maps]
    patches = torch.cat(maps, 1).permute(0, 2, 3, 1).flatten(0, 2)
    squares = patches.square().sum(1)[:, None] - 2 * patches @ bank.T + bank.square().sum(1)
    scores = squares.clamp(min=0).sqrt().min(1).values.view(-1, 1, *grid)
    return F.interpolate(scores, (SIZE, SIZE), mode="bilinear").cpu().numpy()


def scoring() -> None:
    for name, shapes in SCORED.items():
        rng = np.random.default_rng(0)
        layers = tuple(rng.normal(size=(BATCH, c, side, side)).astype(np.float16) for c, side in shapes)
        detector = PatchCore(coreset_fraction=1, coreset_max=BANK).fit(FeatureMaps(layers), device=GPU)
        bank = torch.from_numpy(detector.bank_).to(GPU)
        for count in (1, BATCH):
            maps = FeatureMaps(tuple(layer[:count] for layer in layers))
            calls = {
                "ours": partial(detector.score, maps, device=GPU),
                "distance matrix": partial(plain_scores, bank, list(maps.layers)),
            }
            report(f"scoring {count} image(s), {name}, bank of {len(bank):,}, per image", calls, count, "ms")


def write_image(path: Path) -> None:
    rng = np.random.default_rng(int(path.stem))
    texture = gaussian_filter(rng.normal(size=(SIZE, SIZE, 3)), (3, 3, 0))
    pixels = 127 + 40 * texture / texture.std() + rng.normal(0, 3, texture.shape)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


def bare(module: torch.nn.Module, pixels: torch.Tensor, batch: int) -> None:
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for part in torch.split(pixels, batch):
            module(part)


def in_memory(network: Network, paths: list[Path], layers: list[str], precision: torch.dtype) -> None:
    for _ in extract(network, paths, layers, SIZE, GPU, read=MEMORY.read, precision=precision):
        pass


def to_cache(network: Network, paths: list[Path], layers: list[str], folder: Path, dtype: str) -> None:
    """Do what `adbench extract` does, in a new folder."""
    keys = {layer: entry_key(network, "0" * 64, layer, SIZE, dtype) for layer in layers}
    runtime = Runtime(FeatureCache(Path(tempfile.mkdtemp(dir=folder))), GPU)
    write_features(runtime, network, keys, paths, {})


def extraction(folder: Path) -> None:
    paths = [folder / f"{number}.png" for number in range(IMAGES)]
    with ProcessPoolExecutor() as pool:
        list(pool.map(write_image, paths, chunksize=16))
    pixels = torch.randn(IMAGES, 3, SIZE, SIZE, device=GPU)
    for name, layers in NETWORKS.items():
        network = Network(name, resolve(name, "imagenet" if name == "efficientnet_lite0" else "random"))
        module, batch = network.cut(layers).to(GPU), DEVICE_BATCH // SIZE**2
        calls = {
            "ours, decoded images to features": partial(in_memory, network, paths, layers, torch.float32),
            "ours, decoded images to the cache, float16": partial(to_cache, network, paths, layers, folder, "float16"),
            "ours, the same in bfloat16": partial(in_memory, network, paths, layers, torch.bfloat16),
            f"bare forward pass, {batch} at once": partial(bare, module, pixels, batch),
        }
        found = report(f"extraction: {name}, {IMAGES} PNG files of {SIZE} px, per image", calls, IMAGES, "ms")
        names = list(found)
        for ours in names[:3]:
            print(f"  {ours} / bare {ratio(found[ours], found[names[3]]).wall:.3f}")
        few = paths[:8]
        exact = next(iter(extract(network, few, layers, SIZE, CPU)))
        for precision in (torch.float32, torch.bfloat16):
            maps = next(iter(extract(network, few, layers, SIZE, GPU, precision=precision)))
            told = [f"{_relative(maps[layer][: len(exact[layer])], exact[layer]):.1e}" for layer in layers]
            print(f"  {precision} on the GPU against float32 on the CPU, relative: {', '.join(told)}", flush=True)


def _relative(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


if __name__ == "__main__":
    print(torch.cuda.get_device_name(), torch.__version__, f"{torch.get_num_threads()} CPU threads")
    limits()
    distances()
    coresets()
    scoring()
    with tempfile.TemporaryDirectory() as name:
        extraction(Path(name))
