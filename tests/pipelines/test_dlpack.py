"""Batches of DALI samples as one array and back, on the CPU's capsules; and in a graph, with a CuPy of NumPy arrays."""

import ctypes
import sys
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("nvidia.dali")
from nvidia.dali import fn, pipeline_def, types
from nvidia.dali.data_node import DataNode

from apr_dali import functional
from apr_dali.augmentations import functional as augmenting
from apr_dali.errors import InputError
from apr_dali.kernels import dispatch
from apr_dali.kernels.cuda import backend as cupy_backend
from apr_dali.pipelines import dlpack, operators, per_batch

STREAM = 77


class FakeArray(np.ndarray):
    """An array with what CuPy's have beside NumPy's."""

    @property
    def data(self):
        return SimpleNamespace(ptr=self.__array_interface__["data"][0])

    @property
    def device(self):
        return SimpleNamespace(id=0)


class Exchanged:
    """A capsule as an array exchange asks for it."""

    def __init__(self, capsule) -> None:
        self._capsule = capsule

    def __dlpack__(self, **_):
        return self._capsule

    def __dlpack_device__(self):
        return dlpack.CPU, 0


class FakeStream:
    current: int | None = None

    def __init__(self, pointer):
        self.pointer = pointer

    @classmethod
    def from_external(cls, stream):
        return cls(stream.__cuda_stream__()[1])

    def __enter__(self):
        FakeStream.current = self.pointer

    def __exit__(self, *_):
        FakeStream.current = None


def from_memory(shape, dtype, pointer):
    """CuPy's ndarray(shape, dtype, memory): a view of the bytes at an address."""
    address, size, owner = pointer
    buffer = (ctypes.c_char * size).from_address(address)
    buffer.owner = owner
    return np.ndarray(shape, dtype, buffer).view(FakeArray)


FAKE_CUPY = SimpleNamespace(
    cuda=SimpleNamespace(
        Stream=FakeStream,
        UnownedMemory=lambda address, size, owner, _: (address, size, owner),
        MemoryPointer=lambda memory, _: memory,
    ),
    ndarray=from_memory,
    stack=lambda arrays: np.stack(arrays).view(FakeArray),
    ascontiguousarray=lambda array: np.ascontiguousarray(array).view(FakeArray),
)


@pytest.fixture
def on_fake_device(monkeypatch):
    import nvidia.dali.python_function_plugin as plugin

    monkeypatch.setitem(sys.modules, "cupy", FAKE_CUPY)
    monkeypatch.setattr(plugin, "current_dali_stream", lambda: STREAM)
    monkeypatch.setattr(dlpack, "CUDA", dlpack.CPU)


@pytest.fixture(params=["extension", "python"], autouse=True)
def way(request, monkeypatch):
    """By the extension, and without it."""
    if request.param == "python":
        monkeypatch.setattr(dlpack, "native", lambda: None)
    elif dlpack.native() is None:
        pytest.skip("the extension was not built")


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(), (2,), (4, 5, 3)], ids=str)
def test_samples_are_read_as_they_lie(dtype, shape):
    batch = np.arange(7 * int(np.prod(shape)), dtype=dtype).reshape(7, *shape)
    found = dlpack.samples_of([batch[k, ...].__dlpack__() for k in range(7)])
    assert (found.shape, found.dtype, found.device_id) == (shape, batch.dtype, 0)
    assert found.addresses.tolist() == [batch.ctypes.data + k * batch[0].nbytes for k in range(7)]
    assert found.packed


@pytest.mark.usefixtures("on_fake_device")
@pytest.mark.parametrize("order", [[1, 0, 2], [0, 2], [2]], ids=str)
def test_only_what_lies_end_to_end_is_one_array(order):
    batch = np.arange(3 * 24, dtype=np.uint8).reshape(3, 2, 4, 3)
    capsules = [batch[k].__dlpack__() for k in order]
    assert dlpack.samples_of(capsules).packed == (order == [2])
    got = per_batch._on_device(capsules)
    np.testing.assert_array_equal(got, batch[order])
    assert np.shares_memory(got, batch) == (order == [2])


@pytest.mark.usefixtures("on_fake_device")
def test_a_view_keeps_the_samples_alive():
    got = per_batch._on_device([np.full((64, 64, 3), 5, np.uint8).__dlpack__()])
    _ = [np.zeros((64, 64, 3), np.uint8) for _ in range(8)]  # would lie in its place
    assert (got == 5).all()


def test_samples_that_are_no_batch_are_refused():
    images = [np.zeros((4, 5), np.float32), np.zeros((5, 4), np.float32)]
    with pytest.raises(ValueError, match=r"one size, got \(4, 5\) and \(5, 4\)"):
        dlpack.samples_of([image.__dlpack__() for image in images])
    with pytest.raises(TypeError, match="type 5"):
        dlpack.samples_of([np.zeros(3, np.complex64).__dlpack__()])
    with pytest.raises(ValueError, match="C-contiguous"):
        dlpack.samples_of([np.zeros((4, 6))[:, ::2].__dlpack__()])


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
def test_capsules_are_the_parts_of_the_array(dtype):
    batch = np.arange(5 * 12, dtype=dtype).reshape(5, 2, 3, 2)
    capsules = dlpack.capsules_of(batch)
    read = dlpack.samples_of(capsules)
    assert (read.shape, read.dtype, read.packed) == (batch.shape[1:], batch.dtype, True)
    assert read.addresses[0] == batch.ctypes.data
    # What others make of them.
    for capsule, part in zip(capsules, batch, strict=True):
        taken = np.from_dlpack(Exchanged(capsule))
        assert np.shares_memory(taken, part)
        np.testing.assert_array_equal(taken, part)


@pytest.mark.parametrize("shape", [(), (1,), (2, 3, 2)], ids=str)
def test_framed_samples_have_an_axis_more_and_no_compact_stride(shape):
    batch = np.arange(5 * int(np.prod(shape)), dtype=np.int32).reshape(5, *shape)
    capsules = dlpack.capsules_of(batch, framed=True)
    if dlpack.native() is not None:
        tensor = dlpack._Tensor.from_address(dlpack._get_pointer(capsules[0], dlpack.NAME))
        assert tensor.strides[0] != batch[0].size
        assert [4 * stride for stride in tensor.strides[1 : tensor.ndim]] == list(batch[0].strides)
    for capsule, part in zip(capsules, batch, strict=True):
        taken = np.from_dlpack(Exchanged(capsule))
        assert np.shares_memory(taken, batch)
        np.testing.assert_array_equal(taken, part[None])


def test_capsules_live_and_die_each_for_itself():
    batch = np.zeros((4, 3))
    for _ in range(1000):
        capsules = dlpack.capsules_of(batch)
        part = np.from_dlpack(Exchanged(capsules[2]))
        del capsules[:2]
    np.testing.assert_array_equal(part, batch[2])


@pytest.mark.usefixtures("on_fake_device")
def test_dali_gives_and_takes_the_capsules_of_a_batch(crops):
    """Through DALI's executor, several batches: what comes out is the function of what went in."""
    images, streams = crops(6, 16, 24), []

    def function(batch, numbers):
        streams.append(FakeStream.current)
        assert batch.shape == (6, 16, 24, 3)
        return np.stack([batch, 255 - batch], 1) * 0.5 + numbers[:, :1, None, None, None]

    @pipeline_def(batch_size=6, num_threads=2, device_id=None, seed=3, prefetch_queue_depth=2)
    def graph():
        given = fn.external_source(lambda: list(images), layout="HWC", batch=True)
        numbers = fn.random.uniform(range=(0.0, 1.0), shape=(2,))
        return per_batch._from_capsules(per_batch._OnDaliStream(function), given, numbers, layout="FHWC"), numbers

    pipeline = graph()
    for _ in range(5):
        made, numbers = pipeline.run()
        assert made.layout() == "FHWC"
        drawn = np.stack([np.asarray(numbers.at(k)) for k in range(6)])[:, :1, None, None, None]
        np.testing.assert_array_equal(made.as_array(), np.stack([images, 255 - images], 1) * 0.5 + drawn)
    assert set(streams) == {STREAM}


# ---- What a function on a GPU knows on the host ----


@pytest.fixture
def graph_on_gpu(on_fake_device, monkeypatch):  # noqa: ARG001
    """A function that makes a node one on a GPU for `per_batch`; the graph runs on the CPU."""

    def run(images, *draws, device, synchronize_stream, **options):
        assert (device, synchronize_stream) == ("gpu", False)
        images.device = "cpu"
        return fn.dl_tensor_python_function(images, *draws, **options)

    ours = SimpleNamespace(python_function=fn.python_function, dl_tensor_python_function=run, squeeze=fn.squeeze)
    monkeypatch.setattr(per_batch, "fn", ours)
    monkeypatch.setattr(DataNode, "gpu", lambda node: node)

    def moved(node):
        node.device = "gpu"
        return node

    return moved


def outputs_of(pipeline, count):
    """Of `count` batches, while DALI is ahead."""
    for _ in range(count):
        yield [np.stack([np.asarray(output.at(k)) for k in range(len(output))]) for output in pipeline.run()]


@pytest.mark.parametrize("dynamic", [True, False])
def test_the_seed_of_a_batch_stays_on_the_host(dynamic, graph_on_gpu, crops, monkeypatch):
    images, pairs = crops(4, 8, 8), []

    def apply_in_graph(batch, numbers, coins=None, **_):
        assert isinstance(batch, FakeArray)
        pairs.append((type(numbers), type(coins)))
        return batch + (numbers.reshape(-1) % 251).astype(np.uint8)[:, None, None, None] + np.uint8(100 * coins[0, 1])

    monkeypatch.setattr(augmenting, "apply_in_graph", apply_in_graph)
    monkeypatch.setattr(augmenting, "choose", lambda *_: "cupy")

    @pipeline_def(batch_size=4, num_threads=2, device_id=None, seed=3, prefetch_queue_depth=3, exec_dynamic=dynamic)
    def graph():
        given = fn.external_source(lambda: list(images), layout="HWC", batch=True)
        numbers = fn.random.uniform(range=(0.0, 2.0**31 - 1), dtype=types.INT64)
        coins = operators.draw_coins(5, 1)[0]
        return operators.augment(graph_on_gpu(given), "hybrid-p", numbers=numbers, coins=coins), numbers, coins

    for made, numbers, coins in outputs_of(graph(), 6):
        added = (numbers % 251 + int(100 * coins[0, 1]))[:, None, None, None]
        np.testing.assert_array_equal(made, (images + added) % 256)
    assert set(pairs) == {(np.ndarray, np.ndarray)}


def test_a_checkpoint_gives_the_same_seeds_again(graph_on_gpu, crops, monkeypatch):
    images = crops(4, 8, 8)
    monkeypatch.setattr(augmenting, "apply_in_graph", lambda batch, numbers, **_: batch + np.uint8(numbers[0] % 251))
    monkeypatch.setattr(augmenting, "choose", lambda *_: "cupy")

    @pipeline_def(
        batch_size=4, num_threads=1, device_id=None, seed=3, prefetch_queue_depth=2, enable_checkpointing=True
    )
    def graph():
        given = fn.external_source(lambda _: list(images), layout="HWC", batch=True, batch_info=True)
        return operators.augment(graph_on_gpu(given), "afa")

    first = graph()
    made = [batch for (batch,) in outputs_of(first, 3)]
    state = first.checkpoint()
    made += [batch for (batch,) in outputs_of(first, 3)]
    again = [batch for (batch,) in outputs_of(graph(checkpoint=state), 3)]
    np.testing.assert_array_equal(again, made[3:])
    assert len({batch.tobytes() for batch in made}) == 6


@pytest.mark.parametrize("backend", ["cupy", "torch"])
def test_the_draws_of_apr_s_are_where_they_are_decoded(backend, graph_on_gpu, crops, monkeypatch):
    images, given = crops(4, 8, 8), []
    monkeypatch.setattr(dispatch, "choose", lambda *_: backend)
    monkeypatch.setattr(cupy_backend, "decode", lambda uniform, *_: ("on the device", uniform[:, 0].copy()))
    monkeypatch.setattr(operators.SingleDraws, "from_uniform", lambda uniform, *_: ("on the host", uniform[:, 0]))
    monkeypatch.setattr(functional, "single", lambda batch, draws, **_: given.append(draws) or batch)

    @pipeline_def(batch_size=4, num_threads=1, device_id=None, seed=3)
    def graph():
        node = graph_on_gpu(fn.external_source(lambda: list(images), layout="HWC", batch=True))
        uniform = operators.draw_single()
        return operators.apr_single(node, backend=backend, draws=uniform), uniform

    for number, (_, uniform) in enumerate(outputs_of(graph(), 3)):
        where, first = given[number]
        assert where == ("on the device" if backend == "cupy" else "on the host")
        assert isinstance(first, FakeArray) == (backend == "cupy")
        np.testing.assert_array_equal(first, uniform[:, 0])


def test_numbers_on_a_gpu_are_refused_by_name():
    node = SimpleNamespace(device="gpu")
    with pytest.raises(InputError, match="must be on the CPU"):
        per_batch.per_batch(len, node, on_host=[node], layout="")
