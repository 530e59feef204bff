"""Backbones: networks by name, their layers, weights and receptive fields."""
