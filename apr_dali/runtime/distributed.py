"""Several processes as one: started by torchrun, srun or mpirun, or a single one without them.

Decisions, states and sums of Python numbers travel over gloo on the CPU, so that they never wait for a GPU;
gradients go over NCCL where the network is on a GPU.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from apr_dali.errors import InputError, first_line
from apr_dali.runtime import launcher

Result = TypeVar("Result")
_SHARED_STORE = "TORCHELASTIC_USE_AGENT_STORE"


@dataclass(frozen=True)
class Group:
    """This process among all: its number, how many there are, its number on this machine, its device."""

    rank: int
    world: int
    local_rank: int
    device: torch.device

    @property
    def main(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.rank == 0

    def share(self, batch_size: int) -> int:
        """This process's part of a global batch; InputError unless it divides evenly."""
        if batch_size % self.world:
            raise InputError(f"--batch-size must be divisible by the {self.world} processes, got {batch_size}")
        return batch_size // self.world


def rank_of_environment() -> int:
    """This process's number as torchrun set it, 0 without torchrun."""
    text = os.environ.get("RANK", "0")
    return int(text) if text.isdecimal() else 0  # what it should be is `start`'s to say


@contextmanager
def start(device: str) -> Iterator[Group]:
    """Join the processes that torchrun, srun or mpirun started, or be the only one; leave again at the end.

    device: "auto", "cpu" or "gpu". Raises InputError where there is no GPU for this process, or the processes cannot
    meet.
    """
    launcher.adopt()
    _check_restart()
    launcher.check()
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    chosen = _device(device, local_rank)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Group(0, 1, 0, chosen)
        return
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo")
    except (RuntimeError, ValueError) as error:
        meeting = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise InputError(
            f"the {os.environ['WORLD_SIZE']} processes could not meet at {meeting} ({first_line(error)}): see that all "
            "of them start, or set MASTER_ADDR to the first one's host and MASTER_PORT to a free port there"
        ) from error
    try:
        yield Group(dist.get_rank(), dist.get_world_size(), local_rank, chosen)
    finally:
        # A network in DDP stands in cycles and holds the group: its threads must end before the process does, which
        # is aborted else.
        gc.collect()
        dist.destroy_process_group()


def _check_restart() -> None:
    # Started again, the processes find the addresses of the dead ones in torchrun's store, and may wait for them long.
    if int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) and os.environ.get(_SHARED_STORE) == "True":
        raise InputError(
            "torchrun started the processes again, but they cannot meet in the store that they share with it: "
            "set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in torchrun's environment"
        )


def _device(name: str, local_rank: int) -> torch.device:
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and not found):
        return torch.device("cpu")
    if not found:
        raise InputError("--device gpu: torch finds no GPU. Use --device cpu, or see `apr-dali doctor`")
    if local_rank >= found:
        raise InputError(f"a process needs a GPU of its own: {found} here; start torchrun --nproc-per-node={found}")
    torch.cuda.set_device(local_rank)
    # Every batch has the same shape, so trying the convolution algorithms once pays off.
    torch.backends.cudnn.benchmark = True
    return torch.device("cuda", local_rank)


def on_main(group: Group, work: Callable[[], Result]) -> Result:
    """What `work` returns on the main process, on every process; its InputError likewise."""
    outcome: list[Any] = [None, None]
    if group.main:
        try:
            outcome[0] = work()
        except InputError as error:
            outcome[1] = str(error)
    if group.world > 1:
        dist.broadcast_object_list(outcome, src=0)
    if outcome[1] is not None:
        raise InputError(outcome[1])
    return outcome[0]


def gather(group: Group, value: Result) -> list[Result]:
    """`value` of every process, in the order of their numbers, on every process."""
    values: list[Any] = [value] * group.world
    if group.world > 1:
        dist.all_gather_object(values, value)
    return values


def maximum(group: Group, values: list[int]) -> list[int]:
    """The greatest of each number over the processes."""
    if group.world == 1:
        return values
    together = torch.tensor(values)
    dist.all_reduce(together, dist.ReduceOp.MAX)
    return together.tolist()


def total(group: Group, values: list[float]) -> list[float]:
    """The sum of each number over the processes."""
    if group.world == 1:
        return values
    together = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(together)
    return together.tolist()


def same_buffers(group: Group, model: torch.nn.Module) -> None:
    """Give every process the main one's buffers: batch norm's statistics differ between them after a step."""
    if group.world > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)
