"""Exact nearest-neighbor search and greedy coreset selection."""
