"""`adbench cache`: list and prune."""

from pathlib import Path

from conftest import Run

LAYER = "blocks.2.1.add"


def test_cache_list_and_prune(run: Run, parts: Path) -> None:
    run("extract", "efficientnet_lite0", LAYER, "--image-size", 64, "--data", parts, "--cache", "own")
    listed = run("cache", "list", "--cache", "own", "--json").json
    assert len(listed["entries"]) == 4
    pruned = run("cache", "prune", "--max-size", "0", "--cache", "own", "--json").json
    assert pruned == {"deleted": 4, "bytes": listed["bytes"]}
    assert run("cache", "list", "--cache", "own", "--json").json == {"entries": [], "bytes": 0}
