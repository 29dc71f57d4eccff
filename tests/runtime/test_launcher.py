"""Processes that srun or mpirun started find each other as torchrun's do, or the error says how."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
from contextlib import suppress

import pytest
from helpers.processes import ENVIRONMENT, PATIENCE
from helpers.project import ROOT

from apr_dali.errors import InputError
from apr_dali.runtime import launcher

SRUN = {
    "SLURM_JOB_ID": "77",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "2",
    "SLURM_NTASKS": "8",
    "SLURM_STEP_NUM_TASKS": "6",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2),3",
    "SLURM_STEP_NODELIST": "gpu[07-09],gpu12",
    "SLURM_JOB_NODELIST": "gpu[01-12]",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
}
HYDRA = {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}
MVAPICH = {f"MV2_COMM_WORLD_{name}": number for name, number in (("RANK", "1"), ("SIZE", "2"))}
MVAPICH |= {f"MV2_COMM_WORLD_LOCAL_{name}": number for name, number in (("RANK", "1"), ("SIZE", "2"))}
PLACE = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR")


def adopted(given: dict[str, str]) -> dict[str, str]:
    environ = dict(given)
    launcher.adopt(environ)
    return environ


@pytest.mark.parametrize(
    ("given", "place"),
    [
        (SRUN, ("5", "6", "1", "3", "gpu07")),
        (SRUN | {"SLURM_CPUS_ON_NODE": "100000"}, ("5", "6", "1", "1", "gpu07")),
        (SRUN | {"CUDA_VISIBLE_DEVICES": "3"}, ("5", "6", "0", "3", "gpu07")),
        (SRUN | {"CUDA_VISIBLE_DEVICES": "0,1"}, ("5", "6", "1", "3", "gpu07")),
        (OPEN_MPI | {"MASTER_ADDR": "first"}, ("3", "4", "1", "2", "first")),
        (OPEN_MPI | SRUN, ("3", "4", "1", "2", "gpu01")),
        (OPEN_MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "4"}, ("3", "4", "1", "4", "127.0.0.1")),
        (HYDRA, ("1", "2", "1", "2", "127.0.0.1")),
        (MVAPICH, ("1", "2", "1", "2", "127.0.0.1")),
    ],
    ids=["srun", "bound", "a GPU each", "all GPUs", "mpirun", "mpirun in a job", "one machine", "hydra", "mvapich"],
)
def test_places_in_torchruns_words(given, place):
    found = adopted(given)
    assert tuple(found[name] for name in PLACE) == place
    launcher.check(found)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"RANK": "0", "WORLD_SIZE": "2"} | SRUN,
        SRUN | {"SLURM_STEP_NUM_TASKS": "1"},
        {"SLURM_NTASKS": "8", "SLURM_JOB_ID": "77"},
        HYDRA | {"PMI_SIZE": "1"},
    ],
    ids=["nothing", "torchrun under srun", "one task", "a shell of salloc", "one process of mpirun"],
)
def test_who_is_alone_or_torchruns_stays_as_it_is(given):
    assert adopted(given) == given


@pytest.mark.parametrize("whole", [OPEN_MPI, HYDRA, MVAPICH], ids=["Open MPI", "hydra", "MVAPICH"])
def test_an_mpi_that_says_half_is_refused(whole):
    """Each process would train alone, in the same folder."""
    size = next(name for name in whole if name.endswith("_SIZE") and "LOCAL" not in name)
    for name in set(whole) - {size}:
        half = {key: value for key, value in whole.items() if key != name}
        with pytest.raises(InputError, match=rf"{size} is {whole[size]}, but {name} not set: .*alone(.|\n)*torchrun "):
            adopted(half)
        alone = half | {"RANK": "0", "WORLD_SIZE": "1"}
        assert adopted(alone) == alone
        assert adopted(half | {size: "1"}) == half | {size: "1"}
    # Under srun a plug-in sets some of them beside SLURM's own.
    assert adopted(SRUN | {"PMI_RANK": "5", "PMI_SIZE": "6"})["WORLD_SIZE"] == "6"


def test_processes_of_one_run_meet_at_one_port_and_others_elsewhere():
    def port(**more: str) -> int:
        return int(adopted(SRUN | more)["MASTER_PORT"])

    assert port() == port(SLURM_PROCID="0", SLURM_LOCALID="0")
    assert port() != port(SLURM_STEP_ID="1")
    assert 1024 < port() < 32768
    assert port(MASTER_PORT="5") == 5


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu01", "gpu01"),
        ("gpu[01-03,7],login", "gpu01"),
        ("login,gpu[1-2]", "login"),
        ("r[1,3]-n[02-04].site,x", "r1-n02.site"),
        ("[5-6]", "5"),
    ],
)
def test_first_host(nodes, first):
    assert launcher.first_host(nodes) == first


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({k: v for k, v in SRUN.items() if "STEP" not in k} | {"SLURM_PROCID": "0"}, "put srun before the command"),
        ({k: v for k, v in SRUN.items() if "NODELIST" not in k}, "SLURM_STEP_NODELIST"),
        (SRUN | {"SLURM_STEP_NODELIST": "[]"}, "set MASTER_ADDR"),
        (SRUN | {"SLURM_PROCID": "first"}, "SLURM_PROCID must be a whole number, got 'first'"),
        (OPEN_MPI, "set MASTER_ADDR"),
    ],
)
def test_who_cannot_meet_is_refused_with_what_to_do(given, told, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train_imagenet.py", "--data", "my data"])
    with pytest.raises(InputError) as error:
        adopted(given)
    assert told in str(error.value)
    assert "MASTER_ADDR" in str(error.value) or "train_imagenet.py --data 'my data'" in str(error.value)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"WORLD_SIZE": "2", "RANK": "0"}, "MASTER_ADDR, MASTER_PORT is not set"),
        ({"WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "RANK is not set"),
        ({"RANK": "2", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "RANK must be below WORLD_SIZE"),
        ({"RANK": "1"}, "got 1 of 1"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE must be a whole number"),
    ],
)
def test_half_an_environment_is_refused(given, told):
    with pytest.raises(InputError) as error:
        launcher.check(given)
    assert told in str(error.value)
    assert "torchrun --standalone" in str(error.value)


_TOGETHER = """
import sys
from apr_dali.runtime.exit_status import run
from apr_dali.runtime.distributed import gather, start
def main():
    with start("cpu") as group:
        print(gather(group, (group.rank, group.world, group.local_rank)))
sys.exit(run(main))
"""


def run_of(kind: str, name: str) -> dict[str, str]:
    """What its two processes on this machine have in common."""
    if kind == "srun":
        return {"SLURM_JOB_ID": name, "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "localhost"}
    return {"PMIX_NAMESPACE": name, "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}


def is_free(port: int) -> bool:
    with socket.socket() as one, suppress(OSError):
        one.bind(("", port))
        return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["srun", "mpirun"])
def test_two_processes_meet(kind, tmp_path):
    (tmp_path / "together.py").write_text(_TOGETHER)
    ranks = {"srun": ("SLURM_PROCID", "SLURM_LOCALID")}
    ranks["mpirun"] = ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK")
    places = [dict.fromkeys(ranks[kind], str(rank)) for rank in (0, 1)]
    # Each run has a port of its own, which another program may have.
    runs = (run_of(kind, f"{os.getpid()}-{number}") for number in itertools.count())
    common = next(run for run in runs if is_free(int(adopted(run | places[0])["MASTER_PORT"])))
    started = [
        subprocess.Popen(
            [sys.executable, "together.py"],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT)} | ENVIRONMENT | common | place,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for place in places
    ]
    for process in started:
        told = process.communicate(timeout=PATIENCE)[0]
        assert process.returncode == 0, told
        assert "[(0, 2, 0), (1, 2, 1)]" in told


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"FLUX_JOB_SIZE": "4", "FLUX_TASK_RANK": "0", "FLUX_TASK_LOCAL_ID": "0"}, "FLUX_JOB_SIZE is 4"),
        ({"FLUX_TASK_RANK": "2"}, "FLUX_TASK_RANK is 2"),
        ({"PMIX_RANK": "1", "PMIX_NAMESPACE": "prterun-1"}, "PMIX_RANK is 1"),
        ({"PALS_RANKID": "1", "PALS_LOCAL_SIZE": "4"}, "PALS_RANKID is 1"),
        ({"ALPS_APP_PE": "3"}, "ALPS_APP_PE is 3"),
    ],
)
def test_launchers_that_say_too_little_are_refused(given, named):
    """Each process would train alone, in the same folder."""
    with pytest.raises(InputError, match=rf"{named}: this process would train alone; (.|\n)*torchrun "):
        adopted(given)
    alone = given | {"RANK": "0", "WORLD_SIZE": "1"}
    assert adopted(alone) == alone
    first = {name: "1" if name.endswith("SIZE") else "0" for name in given}
    assert adopted(first) == first
    # srun and mpirun set some of them beside their own.
    assert adopted(SRUN | given)["WORLD_SIZE"] == "6"


def test_a_local_rank_that_is_no_number_is_named():
    with pytest.raises(InputError, match="LOCAL_RANK must be a whole number, got 'first'"):
        launcher.check({"LOCAL_RANK": "first"})
