"""A stand-in for `CudaDevice` that runs what NVRTC makes of the CUDA kernels: the PTX, on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulators import ptx_machine
from simulators.host_cuda import HostCuda

from apr_dali.kernels.cuda import nvrtc
from apr_dali.kernels.cuda.launch import SHARED_LIMIT, Launch

_ARCHITECTURE = 90


@cache
def _kernels(program: nvrtc.Program) -> dict[str, ptx_machine.Kernel]:
    return ptx_machine.parse(nvrtc.ptx(program, _ARCHITECTURE))


class PtxCuda(HostCuda):
    """traces: of the latest launch of each kernel."""

    def __init__(self) -> None:
        super().__init__(Path())
        self.traces: dict[str, ptx_machine.Trace] = {}

    def launch(self, program: nvrtc.Program, kernel: str, shape: Launch, args: Sequence[Any]) -> None:
        self.launched.append(kernel)
        assert shape.shared <= SHARED_LIMIT
        arrays = {arg.ctypes.data: arg for arg in args if isinstance(arg, np.ndarray)}
        # An array that is given twice is one piece of memory.
        memory = ptx_machine.Memory(sum(array.nbytes + 1024 for array in arrays.values()))
        places = {address: memory.put(array) for address, array in arrays.items()}
        values = [np.uint64(places[arg.ctypes.data]) if isinstance(arg, np.ndarray) else arg for arg in args]
        try:
            self.traces[kernel] = ptx_machine.launch(_kernels(program)[kernel], shape, values, memory)
        except NotImplementedError as error:  # another version of the compiler may know more than the machine does
            pytest.skip(f"the PTX machine cannot run what this NVRTC makes of {kernel}: {error}")
        for address, array in arrays.items():
            memory.get(places[address], array)
