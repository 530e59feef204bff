"""Sweeps: a specification becomes a plan of groups, and each group becomes results.

spec -> plan        what to run; jobs that share a forward pass are one group
plan -> groups      run: without finished jobs, and through one of the executors/
group -> results    pipeline: extract once, then fit, score and evaluate each job
results, records    the folder of results and plans, and its lines of JSON
task_messages, worker_pool, heartbeat    groups in other processes, and how they are followed
workspace           data, cache, device of a command
forecast, status    what a sweep will cost, and how far it is
"""
