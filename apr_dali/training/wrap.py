"""What is put around a network that trains: shared batch norm, the exchange of gradients, compilation."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from apr_dali.errors import InputError
from apr_dali.runtime.distributed import Group


def shared_batch_norm(model: nn.Module, group: Group) -> nn.Module:
    """The network with batch norm over the batches of all processes; InputError where torch has none."""
    if group.world == 1:
        raise InputError("--sync-bn changes nothing in one process: leave it out, or give --no-sync-bn")
    if group.device.type != "cuda":
        raise InputError("--sync-bn needs GPUs, torch has no such batch norm on the CPU: give --no-sync-bn")
    try:
        # timm's batch norm has an activation in it, which torch's function would lose.
        from timm.layers import convert_sync_batchnorm
    except ImportError:
        convert_sync_batchnorm = nn.SyncBatchNorm.convert_sync_batchnorm
    return cast(nn.Module, convert_sync_batchnorm(model))


def exchanging(model: nn.Module, group: Group) -> nn.Module:
    """The network whose backward pass gives the mean gradient of all processes; itself where there is one."""
    if not dist.is_initialized():
        return model
    return DistributedDataParallel(model, device_ids=[group.device] if group.device.type == "cuda" else None)


def apart(network: nn.Module) -> AbstractContextManager[None]:
    """While entered, backward passes of what `exchanging` gave add up this process's own gradients."""
    if isinstance(network, DistributedDataParallel):
        return cast(AbstractContextManager[None], network.no_sync())
    return nullcontext()


def compiled(network: nn.Module, mode: str) -> nn.Module:
    """The network, compiled in one of COMPILE's modes; itself with "none"."""
    # torch declares a function; what comes back for a module is a module.
    return network if mode == "none" else cast(nn.Module, torch.compile(network, mode=mode))
