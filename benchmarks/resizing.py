"""Time and error of resizing an RGB image, against Pillow on uint8 and torchvision's tensor path in float32.

Run: python benchmarks/resizing.py [--threads N] [--repeats N]. The error is the largest one against Pillow in float32.
"""

from __future__ import annotations

from common import arguments, exponent, in_turn, local, middle, show

OPTIONS = arguments(__doc__)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from adbench.data.pixels import STEPS, resize  # noqa: E402

SHAPES = [(256, 256), (600, 800), (1024, 1024), (2048, 2048), (4096, 4096)]
SIZE, CALLS = 256, 10  # calls per timing


def pillow(image: np.ndarray, size: int) -> np.ndarray:
    return np.array(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))


def torchvision(image: np.ndarray, size: int) -> torch.Tensor:
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    return F.interpolate(tensor, (size, size), mode="bilinear", antialias=True)


def exact(image: np.ndarray, size: int) -> np.ndarray:
    return np.stack([pillow(image[..., k].astype(np.float32), size) for k in range(3)], axis=2)


WAYS = {"ours": resize, "Pillow, uint8": pillow, "torchvision, float32": torchvision}


def main() -> None:
    """Print times and errors for each size of image."""
    torch.set_num_threads(OPTIONS.threads)
    rng, seconds = np.random.default_rng(0), []
    for height, width in SHAPES:
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        calls = {name: local(lambda way=way, image=image: [way(image, SIZE) for _ in range(CALLS)]) for name, way in WAYS.items()}
        found = in_turn(calls, OPTIONS.repeats)
        show(f"{height} x {width} to {SIZE} px", found, unit=CALLS / 1000, name="ms")
        seconds.append(middle(found["ours"]).cpu)
        truth = exact(image, SIZE)
        ours, pillows = (np.abs(made - truth).max() for made in (resize(image, SIZE) / STEPS, pillow(image, SIZE)))
        print(f"  largest error in gray levels: ours {ours:.4f}, Pillow {pillows:.4f}")
    pixels = [height * width for height, width in SHAPES[1:]]
    print(f"exponent of the pixels, where it shrinks: {exponent(pixels, seconds[1:]):.2f}")


if __name__ == "__main__":
    main()
