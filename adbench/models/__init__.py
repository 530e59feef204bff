"""Trained detectors: files, thresholds, prediction."""
