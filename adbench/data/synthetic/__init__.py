"""Synthetic defects on images of good parts, and data sets made of them."""
