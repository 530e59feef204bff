"""Which networks of timm have layers here: one architecture of each of its model files with published weights.

    python benchmarks/architectures.py > docs/architectures.md

Of each file the network with the fewest parameters is described, and run with random weights on one image of its usual size:
the maps of its default layers must have the channels and strides that `adbench list layers` prints. Takes about ten minutes.
"""

from __future__ import annotations

import sys
import warnings
from collections import defaultdict

import timm
import torch

from adbench.backbones.layers import Description, describe
from adbench.backbones.network import Network
from adbench.backbones.weights import resolve
from adbench.core.errors import AdbenchError

HEAD = """# Networks of timm

One architecture of each of the {count} model files of timm {version} that have published weights, the one with the fewest
parameters: {sane} have layers. `benchmarks/architectures.py` writes this page. It runs each network on an image and compares
the maps with what is printed here. Layers called `blocks.N`, or by the name of a stage, come from timm's
`forward_intermediates`; the others are nodes of the network's graph.
"""


def main() -> None:
    """Print the table in Markdown."""
    warnings.simplefilter("ignore")
    rows = [row(file, smallest(names)) for file, names in sorted(model_files().items())]
    sane = sum(bool(one[2]) for one in rows)
    print(HEAD.format(count=len(rows), version=timm.__version__, sane=sane))
    print("| model file | architecture | layers | default layers: channels, stride | image sizes |\n|---|---|---|---|---|")
    for one in rows:
        print("| " + " | ".join(map(str, one)) + " |")


def model_files() -> dict[str, list[str]]:
    """Return {model file of timm: its architectures with published weights}."""
    published = {name.partition(".")[0] for name in timm.list_models(pretrained=True)}
    files = defaultdict(list)
    for name in published:
        files[timm.models.model_entrypoint(name).__module__.rpartition(".")[2]].append(name)
    return files


def smallest(names: list[str]) -> str:
    """Return the architecture with the fewest parameters."""

    def parameters(name: str) -> int:
        try:
            with torch.device("meta"):
                return sum(p.numel() for p in timm.create_model(name).parameters())
        except (RuntimeError, NotImplementedError):  # not every network can be built there
            return sum(p.numel() for p in timm.create_model(name).parameters())

    return min(sorted(names), key=parameters) if len(names) > 1 else names[0]


def row(file: str, name: str) -> list[object]:
    """Return the cells of an architecture."""
    print(file, name, file=sys.stderr)
    try:
        description = describe(f"timm/{name}")
        problem = mistake(description)
    except AdbenchError as error:
        problem = str(error)
    if problem:
        return [file, name, 0, problem, ""]
    ends = [description.layer(stage) for stage in description.stages]
    text = ", ".join(f"`{layer.name}` {layer.channels}, {layer.stride}" for layer in ends)
    sizes = f"any from {description.any_from}" if description.any_from else f"made for {description.usual_size[0]}"
    return [file, name, len(description.layers), text, sizes]


def mistake(description: Description) -> str | None:
    """Run the network; return what is wrong with the description of its default layers, if anything is."""
    network = Network(description.backbone, resolve(description.backbone, "random"))
    height, width = description.usual_size
    with torch.inference_mode():
        maps = network.cut(description.stages, (height, width))(torch.zeros(1, 3, height, width))
    if len(description.stages) < 2:
        return f"only the layer `{description.stages[0]}`"
    for name in description.stages:
        layer, shape = description.layer(name), maps[name].shape
        fewest, most = (height - height // 8) // layer.stride, -(-height // layer.stride)  # without padding, borders are lost
        if shape[1] != layer.channels or not fewest <= shape[2] <= most:
            return f"`{name}` has the shape {tuple(shape)}, not {layer.channels} channels at stride {layer.stride}"
    return None


if __name__ == "__main__":
    main()
