"""Sweeps: a specification becomes jobs, jobs become groups that share a forward pass, groups become results."""
