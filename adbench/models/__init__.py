"""Trained detectors: files, scoring, thresholds, prediction."""
