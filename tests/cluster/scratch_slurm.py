"""A real Slurm of one node, this machine, in a scratch folder: no systemd, no munge, no accounting."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COMMANDS = ("slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol")
CONFIG = """\
ClusterName=scratch
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
AuthInfo=cred_expire=5
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
KillWait=5
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0,sched_min_interval=100000
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10
"""


def missing() -> str | None:
    """Return why no Slurm can be started here, or None."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    absent = [command for command in COMMANDS if shutil.which(command, path=path) is None]
    return f"Slurm is not installed: no {', '.join(absent)}" if absent else None


@contextmanager
def scratch_slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Start a controller and a node; yields the environment in which Slurm's commands find them. Both end afterward."""
    host = socket.gethostname().split(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    config = folder / "slurm.conf"
    config.write_text(CONFIG.format(host=host, user=getpass.getuser(), ports=_free_ports(2), folder=folder, cpus=os.cpu_count()))
    environment = dict(os.environ, SLURM_CONF=str(config), PATH=os.environ["PATH"] + ":/usr/sbin:/sbin")
    daemons = []
    try:
        for command in (["slurmctld", "-D", "-c"], ["slurmd", "-D", "-c"]):
            daemons.append(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        _wait_until_idle(environment, folder)
        yield environment
    finally:
        subprocess.run(["scancel", "--full", f"--user={getpass.getuser()}"], env=environment, check=False)
        time.sleep(1)
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(30)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _wait_until_idle(environment: dict[str, str], folder: Path) -> None:
    for _ in range(60):
        states = subprocess.run(["sinfo", "-h", "-o", "%t"], env=environment, check=False, capture_output=True, text=True)
        if states.stdout.split() == ["idle"]:
            return
        time.sleep(0.5)
    logs = "\n".join((folder / name).read_text()[-2000:] for name in ("slurmctld.log", "slurmd.log"))
    raise RuntimeError(f"the node does not become idle: {states.stdout}{states.stderr}\n{logs}")
