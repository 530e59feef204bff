"""adbench: which pretrained backbone, layer, input size, pretraining and detector to use for visual anomaly detection."""

__version__ = "0.1.0"
