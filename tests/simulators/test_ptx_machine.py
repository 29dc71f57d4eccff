"""The machine that runs PTX: its arithmetic, its barriers, and how it counts memory."""

import numpy as np
import pytest
from simulators import ptx_machine

from apr_dali.kernels.cuda import nvrtc
from apr_dali.kernels.cuda.launch import Launch

pytest.importorskip("cuda.bindings.nvrtc", reason="NVRTC comes with torch's CUDA builds")
pytestmark = pytest.mark.simulator


def run(body: str, *arrays: np.ndarray, block: int = 64, shared: int = 0) -> ptx_machine.Trace:
    """A kernel whose parameters are `arrays`, named a, b, c; i is the thread's number."""
    kinds = {"float32": "float", "float64": "double", "int32": "int", "uint8": "unsigned char", "int64": "long long"}
    parameters = ", ".join(f"{kinds[str(array.dtype)]}* {name}" for name, array in zip("abc", arrays, strict=False))
    text = f"""
    extern __shared__ __align__(16) float dynamic_shared[];
    extern "C" __global__ void kernel({parameters}) {{
        const int i = blockIdx.x * blockDim.x + threadIdx.x;
        {body}
    }}"""
    (kernel,) = ptx_machine.parse(nvrtc.ptx(nvrtc.OPERATIONS, 90, text)).values()
    memory = ptx_machine.Memory(1 << 16)
    places = [memory.put(array) for array in arrays]
    trace = ptx_machine.launch(kernel, Launch(2, block, shared), [np.uint64(place) for place in places], memory)
    for place, array in zip(places, arrays, strict=True):
        memory.get(place, array)
    return trace


def test_arithmetic_of_integers():
    numbers = np.random.default_rng(0).integers(-(2**31), 2**31, 128).astype(np.int32)
    by = np.random.default_rng(1).integers(1, 40, 128).astype(np.int32)
    out = np.zeros(128 * 6, np.int64)
    run(
        """
        c[6 * i] = a[i] / b[i];
        c[6 * i + 1] = a[i] % b[i];
        c[6 * i + 2] = (long long)a[i] * b[i];
        c[6 * i + 3] = a[i] >> (b[i] % 32);
        c[6 * i + 4] = (unsigned)a[i] >> (b[i] % 32);
        c[6 * i + 5] = a[i] / 7 + min(a[i], b[i]);
        """,
        *(numbers, by, out),
    )
    wide, unsigned = numbers.astype(np.int64), numbers.view(np.uint32).astype(np.int64)
    quotient = np.trunc(wide / by).astype(np.int64)
    least = np.trunc(wide / 7) + np.minimum(wide, by)
    wrapped = least.astype(np.int64).astype(np.int32)
    expected = [quotient, wide - quotient * by, wide * by, wide >> (by % 32), unsigned >> (by % 32), wrapped]
    np.testing.assert_array_equal(out.reshape(-1, 6), np.stack(expected, axis=1))


def test_arithmetic_of_numbers():
    numbers = np.random.default_rng(0).uniform(-300, 300, 128).astype(np.float32)
    numbers[:3] = np.nan, np.inf, -np.inf
    out, levels = np.zeros(128 * 3, np.float32), np.zeros(128, np.uint8)
    run(
        """
        b[3 * i] = fminf(fmaxf(a[i], 0.f), 255.f);
        b[3 * i + 1] = rintf(a[i]) + floor((double)a[i]);
        b[3 * i + 2] = a[i] < 1.f ? 1.f : a[i] >= 1.f ? 2.f : 3.f;
        c[i] = (unsigned char)fminf(fmaxf(rintf(a[i]), 0.f), 255.f);
        """,
        *(numbers, out, levels),
    )
    clipped = np.where(np.isnan(numbers), 0, np.clip(numbers, 0, 255))
    rounded = np.rint(numbers) + np.floor(numbers.astype(float))
    kind = np.select([numbers < 1, numbers >= 1], [1, 2], 3)
    np.testing.assert_array_equal(out.reshape(-1, 3), np.stack([clipped, rounded, kind], axis=1).astype(np.float32))
    np.testing.assert_array_equal(levels, np.rint(clipped).astype(np.uint8))


def test_bytes_saturation_and_wide_products():
    random = np.random.default_rng(0)
    words, numbers = random.integers(-(2**31), 2**31, 128).astype(np.int32), random.uniform(-1, 2, 128)
    numbers[3] = np.nan
    out = np.zeros(128 * 3, np.int64)
    run(
        """
        unsigned bytes;
        asm("prmt.b32 %0, %1, %2, 0x7a31;" : "=r"(bytes) : "r"(a[i]), "r"(0x01020304));
        c[3 * i] = bytes;
        c[3 * i + 1] = 1000 * __saturatef((float)b[i]);
        c[3 * i + 2] = __umul64hi((unsigned long long)a[i] * 0xD2E7470EE14C6C93ull, 0xCA5A826395121157ull + a[i]);
        """,
        *(words, numbers, out),
    )
    byte = words.view(np.uint8).reshape(-1, 4).astype(np.int64)
    permuted = byte[:, 1] | byte[:, 3] << 8 | np.where(byte[:, 2] & 128, 255, 0) << 16 | 1 << 24
    clipped = (1000 * np.clip(np.nan_to_num(numbers.astype(np.float32)), 0, 1)).astype(np.int64)
    wrap = 2**64
    products = [
        (int(w) % wrap * 0xD2E7470EE14C6C93 % wrap) * ((0xCA5A826395121157 + int(w)) % wrap) >> 64 for w in words
    ]
    high = np.array(products, np.uint64).view(np.int64)
    np.testing.assert_array_equal(out.reshape(-1, 3), np.stack([permuted, clipped, high], axis=1))


@pytest.mark.parametrize("part", ["lo", "hi"])
@pytest.mark.parametrize("signs", ["u32.u32", "s32.u32", "u32.s32", "s32.s32"])
def test_products_of_halves_and_bytes(part, signs):
    words = np.random.default_rng(0).integers(-(2**31), 2**31, 256).astype(np.int32)
    out = np.zeros(128, np.int32)
    run(
        f"""
        asm("dp2a.{part}.{signs} %0, %1, %2, %3;" : "=r"(b[i]) : "r"(a[i]), "r"(a[128 + i]), "r"(a[255 - i]));
        """,
        *(words, out),
    )
    first, second = signs.split(".")
    halves = words[:128].view("i2" if first == "s32" else "u2").reshape(-1, 2).astype(np.int64)
    of_bytes = words[128:].view("i1" if second == "s32" else "u1").reshape(-1, 4).astype(np.int64)
    of_bytes = of_bytes[:, :2] if part == "lo" else of_bytes[:, 2:]
    expected = words[:127:-1] + (halves * of_bytes).sum(axis=1)
    np.testing.assert_array_equal(out, expected.astype(np.int32))


def test_threads_part_and_meet_at_a_barrier():
    out = np.zeros(128, np.int32)
    run(
        """
        if (threadIdx.x % 3 == 0) for (int k = 0; k < threadIdx.x; ++k) a[i] += 2;
        dynamic_shared[threadIdx.x] = a[i];
        __syncthreads();
        a[i] += dynamic_shared[63 - threadIdx.x];
        """,
        out,
        shared=256,
    )
    thread = np.arange(64)
    own = np.where(thread % 3 == 0, 2 * thread, 0)
    np.testing.assert_array_equal(out.reshape(2, 64), [own + own[::-1]] * 2)


@pytest.mark.parametrize(("stride", "passes"), [(1, 1), (2, 2), (3, 1), (8, 8), (32, 32), (33, 1)])
def test_passes_over_the_banks(stride, passes):
    """Of 32 threads with words `stride` apart."""
    out = np.zeros(64, np.float32)
    trace = run(f"a[i] = dynamic_shared[threadIdx.x * {stride}];", out, block=32, shared=32 * 33 * 4)
    assert (trace.passes.sum(), trace.least.sum()) == (2 * passes, 2)


@pytest.mark.parametrize(("stride", "sectors", "filled"), [(1, 4, 4), (2, 8, 4), (8, 32, 4), (0, 1, 1)])
def test_sectors_of_global_memory(stride, sectors, filled):
    given, out = np.zeros(32 * 8, np.float32), np.zeros(64, np.float32)
    trace = run(f"b[i] = a[threadIdx.x * {stride}];", given, out, block=32)
    # What is written are four sectors per warp.
    assert (trace.sectors.sum(), trace.filled.sum()) == (2 * (sectors + 4), 2 * (filled + 4))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("a[i + 1] = 1.f;", "beyond|outside"),
        ("a[i - 1] = 1.f;", "outside"),
        ("*(float*)((char*)a + i) = 1.f;", "misaligned"),
        ("dynamic_shared[i] = 1.f; a[i] = dynamic_shared[0];", "outside of shared memory"),
        ("a[i] = __popc(i);", r"popc\.b32"),
    ],
)
def test_what_is_wrong_or_not_known_raises(body, words):
    with pytest.raises((AssertionError, NotImplementedError), match=words):
        run(body, np.zeros(128, np.float32), shared=64)
