"""The random numbers of the CUDA kernels, number by number: those of the definition, and the native operators' own."""

import numpy as np
import pytest
from simulators import ptx_cuda, ptx_machine
from simulators.host_cuda import build, run_kernel
from simulators.ptx_cuda import PtxCuda

from apr_dali.corruptions.counter import CounterRandom, stream_of
from apr_dali.kernels.cuda import nvrtc
from apr_dali.kernels.cuda.launch import Launch

pytestmark = pytest.mark.simulator

SEED, NUMBERS, BLOCKS = 2**64 - 3, np.array([7, 2**63 - 1], np.uint64), 64
COUNT = 8 * BLOCKS
TEXT = """
#include "random.cuh"
extern "C" __global__ void draw(DRAW_PARAMETERS, const double* given, int count, unsigned* words, double* uniforms,
                                double* normals, float* floats, int* integers, unsigned char* chosen) {
    const int image = blockIdx.x, block = threadIdx.x;
    const Philox philox = PHILOX(image);
    const auto field = [&](int number) { return Field(philox, number, given, image, count); };
    unsigned word[8];
    double uniform[8], normal[8];
    float real[8];
    int integer[8];
    bool choice[8];
    field(0).words(block, word);
    field(1).uniform(block, -2, 5, uniform);
    field(2).normal(block, 3.0, 0.5, normal);
    field(2).normal(block, 0.0f, 1.0f, real);
    field(3).integer(block, -4, 9, integer);
    field(4).choice(block, 1u << 30, choice);
    for (int i = 0; i < 8; ++i) {
        const int to = (image * blockDim.x + block) * 8 + i;
        words[to] = word[i], uniforms[to] = uniform[i], normals[to] = normal[i], floats[to] = real[i];
        integers[to] = integer[i], chosen[to] = choice[i];
    }
}
"""
PROGRAM = nvrtc.Program("random.cuh", fused_multiply_add=False)


@pytest.fixture(params=["threads", "compiled"])
def drawn(request, shim_folder, monkeypatch):
    """A function (given, count) → the numbers that the kernel makes, by name, (images, COUNT) each."""
    text = TEXT.replace('#include "random.cuh"', nvrtc.source("random.cuh"))
    if request.param == "compiled":
        pytest.importorskip("cuda.bindings.nvrtc", reason="NVRTC comes with torch's CUDA builds")

    def run(given=None, count=COUNT):
        kinds = {"words": "u4", "uniforms": "f8", "normals": "f8", "floats": "f4", "integers": "i4", "chosen": "u1"}
        out = {name: np.zeros((len(NUMBERS), COUNT), kind) for name, kind in kinds.items()}
        pointer = np.uintp(0) if given is None else given
        key = np.uint64(SEED), np.uint64(stream_of("fog", 2))
        args = (*key, NUMBERS, pointer, np.int32(count), *out.values())
        shape = Launch(len(NUMBERS), BLOCKS)
        if request.param == "threads":
            run_kernel(build(PROGRAM, shim_folder, text), "draw", shape, args)
        else:
            kernels = ptx_machine.parse(nvrtc.ptx(PROGRAM, 90, text))
            monkeypatch.setattr(ptx_cuda, "_kernels", lambda _: kernels)
            PtxCuda().launch(PROGRAM, "draw", shape, args)
        return out

    return run


def test_numbers_are_those_of_the_definition(drawn):
    got = drawn()
    for image, number in enumerate(NUMBERS):
        random = CounterRandom(SEED, int(number), "fog", 2)
        np.testing.assert_array_equal(got["words"][image], random.words(COUNT))
        np.testing.assert_array_equal(got["uniforms"][image], random.uniform(-2, 5, COUNT))
        normal = random.normal(3.0, 0.5, COUNT)
        np.testing.assert_allclose(got["normals"][image], normal, rtol=0, atol=4e-15)
        np.testing.assert_allclose(got["floats"][image], (normal - 3) / 0.5, rtol=0, atol=2e-6)
        np.testing.assert_array_equal(got["integers"][image], random.randint(-4, 5, COUNT))
        np.testing.assert_array_equal(got["chosen"][image], random.random(COUNT) <= 0.25)


def test_given_numbers_are_taken(drawn):
    count = COUNT - 3
    given = np.random.default_rng(0).normal(0, 9, (2, count))
    got = drawn(given, count)
    for name, expected in {
        "uniforms": given,
        "normals": given,
        "floats": given.astype(np.float32),
        "integers": np.clip(given + 4, 0, 8).astype(int) - 4,
        "chosen": given != 0,
    }.items():
        np.testing.assert_array_equal(got[name][:, :count], expected, err_msg=name)
        assert (got[name][:, count:] == 0).all()  # past the end
