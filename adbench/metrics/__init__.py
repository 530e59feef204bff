"""Exact metrics of anomaly detection and localization; one file per metric, all from one sort of the scores."""
