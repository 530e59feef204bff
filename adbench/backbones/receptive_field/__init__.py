"""Receptive fields of layers: exact ones from the graph, estimated ones from gradients, and their figure."""
