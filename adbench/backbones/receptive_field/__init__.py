"""Receptive fields of layers: exact from the graph, estimated from gradients as in the paper, and drawn as its Figure 1.

Nothing here imports torch or matplotlib before it is used.
"""

from adbench.backbones.receptive_field.fields import AnalyticField, EstimatedField, relative
from adbench.backbones.receptive_field.figure import figure
from adbench.backbones.receptive_field.gradient import estimated, estimated_all
from adbench.backbones.receptive_field.graph import analytic, analytic_all

__all__ = [
    "AnalyticField", "EstimatedField", "analytic", "analytic_all", "estimated", "estimated_all", "figure", "relative",
]  # fmt: skip
