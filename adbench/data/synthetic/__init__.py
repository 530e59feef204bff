"""Synthetic defects on images of good parts, and datasets of them."""
