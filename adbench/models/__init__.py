"""Trained detectors: files, thresholds, calibration, prediction."""
