"""Nearest-neighbor search, exact and approximate, and greedy coreset selection."""

from adbench.detectors.search.coreset import BYTES_PER_POINT, greedy_coreset, project
from adbench.detectors.search.nearest import InvertedFile, NearestNeighbours

__all__ = ["BYTES_PER_POINT", "InvertedFile", "NearestNeighbours", "greedy_coreset", "project"]
