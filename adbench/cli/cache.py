"""`adbench cache list` and `adbench cache prune`: the feature cache."""

from typing import Annotated

from adbench.cli import console
from adbench.cli import options as o
from adbench.core.environment import cache_folder


def cache_list(cache: o.Cache = None, json: o.Json = False) -> None:
    """Print the entries of the feature cache.

    The least recently used entries come first.

    Examples:
      adbench cache list
    """
    from adbench.features.cache import FeatureCache

    entries = FeatureCache(cache_folder(cache) / "features").describe()
    total = sum(entry["bytes"] for entry in entries)
    if json:
        return console.answer_json({"entries": entries, "bytes": total})
    rows = [
        [e["backbone"], e["layer"], e["image_size"], e["split"], "x".join(map(str, e["shape"])), console.size(e["bytes"])]
        for e in entries
    ]
    console.answer(console.table(["backbone", "layer", "px", "split", "shape", "size"], rows))
    console.say(f"{len(entries)} entries, {console.size(total)}, in {cache_folder(cache)}")


def cache_prune(
    max_size: Annotated[str, o.option("SIZE", "Size to keep, e.g. 50GB; 0 empties the cache.")],
    cache: o.Cache = None,
    json: o.Json = False,
) -> None:
    """Delete the least recently used entries of the cache.

    Entries are deleted until the others fit into SIZE.

    Examples:
      adbench cache prune --max-size 50GB
    """
    from adbench.features.cache import FeatureCache

    count, freed = FeatureCache(cache_folder(cache) / "features").prune(o.parse_size(max_size))
    if json:
        return console.answer_json({"deleted": count, "bytes": freed})
    console.answer(f"deleted {count} entries, {console.size(freed)}")
