"""What the metrics share: curves, defect regions, labels, breakdowns by kind and size, maps of other programs."""
