"""Whether the GPU operators can run here: a driver, a device that is not too old, and the libraries of CUDA."""

from __future__ import annotations

from apr_dali.errors import install_command


def check() -> tuple[bool, str]:
    """Whether this backend can run here, and why not."""
    import cupy

    cuda = cupy.cuda.runtime.runtimeGetVersion() // 1000
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return False, _no_device(cuda, cupy.cuda.runtime.driverGetVersion(), f"{error}")
    if count == 0:
        return False, "the driver finds no GPU"
    for library, load in (("NVRTC", _nvrtc_version), ("cuFFT", _cufft_version)):
        try:
            load()
        except (ImportError, OSError, RuntimeError) as error:
            first = f"{error}".partition("\n")[0]
            return False, f"{library} does not load, {install_command(f'cuda{cuda}')} brings it: {first}"
    known = min(cupy.cuda.nvrtc.getSupportedArchs())
    capability = int(cupy.cuda.Device().compute_capability)
    if capability < known:
        return False, _too_old(cuda, capability, known)
    return True, f"CuPy {cupy.__version__}"


def _no_device(cuda: int, driver: int, words: str) -> str:
    """cuda: the major version that CuPy is built for. driver: the version of CUDA that it knows; 0 without one."""
    if driver == 0:
        return "no NVIDIA driver"
    if driver // 1000 < cuda:
        oldest = {12: 525, 13: 580}.get(cuda)
        newer = f"update it to {oldest} or newer" if oldest else "update it"
        known = f"{driver // 1000}.{driver % 1000 // 10}"
        return f"the NVIDIA driver supports CUDA up to {known}, CuPy is built for CUDA {cuda}: {newer}"
    return f"no CUDA device: {words}"


def _too_old(cuda: int, capability: int, known: int) -> str:
    """capability: of the device; known: the oldest that NVRTC compiles for; both as 75 for 7.5."""
    has, needs = (f"{value // 10}.{value % 10}" for value in (capability, known))
    instead = f"; {install_command('cuda12')} brings one for older GPUs" if cuda > 12 else ""
    return f"the GPU has compute capability {has}, NVRTC of CUDA {cuda} compiles for {needs} and newer{instead}"


def _nvrtc_version() -> None:
    from cupy.cuda import nvrtc as library

    library.getVersion()


def _cufft_version() -> None:
    from cupy.cuda import cufft

    cufft.getVersion()
