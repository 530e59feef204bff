"""What detectors that train a network share: flows, the training loop, standardization."""
