"""Sweeps: a specification becomes a plan of groups, and each group becomes results.

spec -> plan        what to run; jobs that share a forward pass are one group
plan -> groups      run: without finished jobs, and through one of the executors/
group -> results    pipeline: extract once, then fit, score and evaluate each job
results             the folder of results and plans
workers, heartbeat  groups in other processes, how they are followed, and how far a sweep is
workspace           data, cache, device of a command
forecast            what a sweep will cost
"""
