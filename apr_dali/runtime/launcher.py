"""Who started this process beside others: torchrun, SLURM's srun, an mpirun, or nobody.

torch meets through torchrun's variables (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT).
`adopt` sets them from what the other launchers say, or refuses what would leave each process to train alone.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import zlib
from collections.abc import Mapping, MutableMapping

from apr_dali.errors import InputError
from apr_dali.runtime import cpus

_OPEN_MPI = {
    "RANK": "OMPI_COMM_WORLD_RANK",
    "WORLD_SIZE": "OMPI_COMM_WORLD_SIZE",
    "LOCAL_RANK": "OMPI_COMM_WORLD_LOCAL_RANK",
    "LOCAL_WORLD_SIZE": "OMPI_COMM_WORLD_LOCAL_SIZE",
}
# MPICH, Intel MPI and what is made of them.
_HYDRA = {
    "RANK": "PMI_RANK",
    "WORLD_SIZE": "PMI_SIZE",
    "LOCAL_RANK": "MPI_LOCALRANKID",
    "LOCAL_WORLD_SIZE": "MPI_LOCALNRANKS",
}
_MVAPICH = {
    "RANK": "MV2_COMM_WORLD_RANK",
    "WORLD_SIZE": "MV2_COMM_WORLD_SIZE",
    "LOCAL_RANK": "MV2_COMM_WORLD_LOCAL_RANK",
    "LOCAL_WORLD_SIZE": "MV2_COMM_WORLD_LOCAL_SIZE",
}
_MPI = (_OPEN_MPI, _MVAPICH, _HYDRA)
_SLURM = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_STEP_NUM_TASKS", "LOCAL_RANK": "SLURM_LOCALID"}
_FLUX_SIZE = "FLUX_JOB_SIZE"
_RANKS = ("FLUX_TASK_RANK", "PMIX_RANK", "PALS_RANKID", "ALPS_APP_PE")
"""Of launchers that say no more, or nothing that we could test."""
_PORTS = range(20000, 30000)
"""Where ports for a meeting are taken from: below those that systems give out by themselves."""


def adopt(environ: MutableMapping[str, str] = os.environ) -> None:
    """Set torchrun's variables where another launcher started several processes and nobody has set them yet.

    Raises:
        InputError: where the processes could not meet, with the torchrun line to use.
    """
    if "RANK" not in environ and "WORLD_SIZE" not in environ:
        by_mpi = [found for names in _MPI if (found := _of_mpi(environ, names))]
        environ.update(by_mpi[0] if by_mpi else _of_slurm(environ))
        if "RANK" not in environ:
            _check_alone(environ)


def check(environ: Mapping[str, str] = os.environ) -> None:
    """Raise InputError where torchrun's variables are set by half, or do not go together."""
    rank, world = (_number(environ, name, default) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1")))
    needed = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if world > 1 else ()
    missing = [name for name in needed if not environ.get(name)]
    if missing:
        raise InputError(
            f"WORLD_SIZE is {world}, but {', '.join(missing)} is not set: start with\n"
            f"  {_torchrun(str(world))}\nor remove WORLD_SIZE"
        )
    _number(environ, "LOCAL_RANK", "0")
    if rank >= world:
        raise InputError(f"RANK must be below WORLD_SIZE, got {rank} of {world}: start with\n  {_torchrun('N')}")


def _of_mpi(environ: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    """What an mpirun says in torchrun's words; nothing where it did not start several processes."""
    if any(name not in environ for name in names.values()):
        return {}
    place = {ours: str(_number(environ, theirs)) for ours, theirs in names.items()}
    if place["WORLD_SIZE"] == "1":
        return {}
    hosts = environ.get("SLURM_JOB_NODELIST")
    if place["LOCAL_WORLD_SIZE"] == place["WORLD_SIZE"]:
        first = "127.0.0.1"
    elif hosts:
        first = first_host(hosts)
    elif "MASTER_ADDR" in environ:
        first = environ["MASTER_ADDR"]
    else:
        raise InputError(
            "mpirun started processes on several machines and does not say which is the first: set MASTER_ADDR to the "
            "first process's host and MASTER_PORT to a free port there, or start on each machine\n"
            f"  {_torchrun('GPUS', nodes='MACHINES')}"
        )
    # What all processes of one mpirun have alike, and no others, as far as there is such a thing.
    run = environ.get("PMIX_NAMESPACE") or environ.get("OMPI_MCA_ess_base_jobid") or environ.get("SLURM_JOB_ID", "")
    return place | _meeting(environ, first, run)


def _check_alone(environ: Mapping[str, str]) -> None:
    """Raise InputError where a launcher says that there are several processes, but not all that is needed to meet."""
    for names in _MPI:
        if environ.get(names["WORLD_SIZE"], "1") == "1":
            continue
        missing = [name for name in names.values() if name not in environ]
        if missing:
            raise _would_train_alone(environ, names["WORLD_SIZE"], f", but {', '.join(missing)} not set")
    if environ.get(_FLUX_SIZE, "1") != "1":
        raise _would_train_alone(environ, _FLUX_SIZE)
    for name in _RANKS:
        # The first process cannot know; where one is refused, the launchers end them all.
        if environ.get(name, "0") != "0":
            raise _would_train_alone(environ, name)


def _would_train_alone(environ: Mapping[str, str], name: str, but: str = "") -> InputError:
    return InputError(
        f"{name} is {environ[name]}{but}: this process would train alone; start with\n  {_torchrun('GPUS')}\n"
        "or set RANK=0 and WORLD_SIZE=1 to run alone"
    )


def _of_slurm(environ: Mapping[str, str]) -> dict[str, str]:
    """What srun says in torchrun's words; nothing where it did not start several processes."""
    if "SLURM_PROCID" not in environ:
        return {}
    if _SLURM["WORLD_SIZE"] not in environ:
        tasks = _number(environ, "SLURM_NTASKS", "1")
        if tasks > 1:
            # In a batch script itself: the other tasks do not exist, so waiting for them would take for ever.
            raise InputError(
                f"SLURM has {tasks} tasks for this job, but srun did not start this process (there is no "
                f"{_SLURM['WORLD_SIZE']}): put srun before the command, or SLURM_NTASKS=1 to run alone, or use\n"
                f"  srun {_torchrun('GPUS', environ.get('SLURM_NNODES', '1'))}"
            )
        return {}
    place = {ours: str(_number(environ, theirs)) for ours, theirs in _SLURM.items()}
    if place["WORLD_SIZE"] == "1":
        return {}
    hosts = environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_JOB_NODELIST") or environ.get("SLURM_NODELIST")
    if not hosts and "MASTER_ADDR" not in environ:
        raise InputError(f"srun does not say on which nodes it runs (SLURM_STEP_NODELIST): use\n  {_torchrun('GPUS')}")
    place["LOCAL_WORLD_SIZE"] = str(_sharing(environ))
    if "," not in environ.get("CUDA_VISIBLE_DEVICES", ","):
        place["LOCAL_RANK"] = "0"  # srun shows each task a GPU of its own, as the only one
    run = f"{environ.get('SLURM_JOB_ID', '')}.{environ.get('SLURM_STEP_ID', '')}"
    return place | _meeting(environ, first_host(hosts) if hosts else "", run)


def _sharing(environ: Mapping[str, str]) -> int:
    """How many of srun's tasks share the CPUs that this process may use: 1 where srun gave each its own."""
    if cpus.usable() < int(environ.get("SLURM_CPUS_ON_NODE", "0")):
        return 1
    tasks = [
        int(count)
        for count, repeated in re.findall(r"(\d+)(?:\(x(\d+)\))?", environ.get("SLURM_STEP_TASKS_PER_NODE", "1"))
        for _ in range(int(repeated or 1))
    ]
    node = int(environ.get("SLURM_NODEID", "0"))
    return tasks[node] if node < len(tasks) else tasks[-1]


def _meeting(environ: Mapping[str, str], host: str, run: str) -> dict[str, str]:
    """Where the processes meet: what is set already, or `host` at a port that follows from the name `run`."""
    port = _PORTS[zlib.crc32(run.encode()) % len(_PORTS)]
    return {"MASTER_ADDR": environ.get("MASTER_ADDR") or host, "MASTER_PORT": environ.get("MASTER_PORT") or str(port)}


def first_host(nodes: str) -> str:
    """The first host of SLURM's list of nodes: "gpu01" of "gpu[01-03,7],login"; InputError if it is none."""
    found = re.match(r"[^\[\],\s]*(?:\[\w[^\[\]]*\][^\[\],\s]*)*", nodes)
    if not found or not found[0]:
        raise InputError(f"SLURM's list of nodes cannot be read: {nodes!r}; set MASTER_ADDR to the first one's name")
    # Of each bracket its first number, which keeps its zeros.
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", found[0])


def _number(environ: Mapping[str, str], name: str, default: str | None = None) -> int:
    text = environ.get(name, default or "")
    if not text.isdecimal():
        raise InputError(f"the environment's {name} must be a whole number, got {text!r}: {_torchrun('GPUS')}")
    return int(text)


def _torchrun(processes: str, nodes: str = "1") -> str:
    meeting = "--standalone" if nodes == "1" else f"--nnodes={nodes} --rdzv-backend=c10d --rdzv-endpoint=HOST:29500"
    return f"torchrun {meeting} --nproc-per-node={processes} {shlex.join(sys.argv)}"
