#include "capsules.hpp"

#include <algorithm>
#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "jpeg_header.hpp"

namespace py = pybind11;

namespace apr {
namespace {

constexpr const char* kName = "dltensor";

// DLPack's DLManagedTensor, https://github.com/dmlc/dlpack.
struct Managed {
    void* data;
    std::int32_t device_type, device_id, ndim;
    std::uint8_t code, bits;
    std::uint16_t lanes;
    std::int64_t *shape, *strides;
    std::uint64_t byte_offset;
    void* owner;
    void (*deleter)(Managed*);
};

std::string text(const Managed& tensor) {
    std::string shape = "(";
    for (int axis = 0; axis < tensor.ndim; ++axis) shape += (axis ? ", " : "") + std::to_string(tensor.shape[axis]);
    return shape + (tensor.ndim == 1 ? ",)" : ")");
}

std::int64_t size(const Managed& tensor) {
    std::int64_t product = 1;
    for (int axis = 0; axis < tensor.ndim; ++axis) product *= tensor.shape[axis];
    return product;
}

bool compact(const Managed& tensor) {
    if (tensor.strides == nullptr) return true;
    std::int64_t step = 1;
    for (int axis = tensor.ndim - 1; axis >= 0; --axis) {
        if (tensor.shape[axis] > 1 && tensor.strides[axis] != step) return false;
        step *= tensor.shape[axis];
    }
    return true;
}

const Managed& tensor_in(py::handle capsule) {
    void* pointer = PyCapsule_GetPointer(capsule.ptr(), kName);
    if (pointer == nullptr) throw py::error_already_set();
    return *static_cast<const Managed*>(pointer);
}

std::uintptr_t address(const Managed& tensor) {
    return reinterpret_cast<std::uintptr_t>(tensor.data) + tensor.byte_offset;
}

// The strides of a sample whose first axis, of length 1, has another one than that of a compact sample.
std::vector<std::int64_t> framed_strides(const std::vector<std::int64_t>& shape) {
    std::vector<std::int64_t> strides(shape.size(), 1);
    for (std::size_t axis = shape.size() - 1; axis > 0; --axis) strides[axis - 1] = strides[axis] * shape[axis];
    ++strides[0];
    return strides;
}

// The structures of a batch: one block, which the last capsule that is let go of deletes.
struct Block {
    std::vector<std::int64_t> shape, strides;
    std::vector<Managed> tensors;
    std::atomic<int> users = 1;  // who makes it
};

void let_go(Block* block) {
    if (--block->users == 0) delete block;
}

void delete_tensor(Managed* tensor) { let_go(static_cast<Block*>(tensor->owner)); }

// Of a capsule that nobody has taken: who does renames it.
void destroy(PyObject* capsule) {
    if (!PyCapsule_IsValid(capsule, kName)) return;
    delete_tensor(static_cast<Managed*>(PyCapsule_GetPointer(capsule, kName)));
}

}  // namespace

py::tuple read_capsules(const py::list& capsules) {
    if (capsules.empty()) throw std::invalid_argument("a batch must have samples, got none");
    const Managed& first = tensor_in(capsules[0]);
    py::array_t<std::int64_t> addresses(static_cast<py::ssize_t>(capsules.size()));
    std::int64_t* to = addresses.mutable_data();
    for (const py::handle capsule : capsules) {
        const Managed& tensor = tensor_in(capsule);
        const bool same = tensor.ndim == first.ndim && tensor.code == first.code && tensor.bits == first.bits &&
                          std::equal(tensor.shape, tensor.shape + tensor.ndim, first.shape);
        if (!same) {
            throw std::invalid_argument("the images of a batch must have one size, got " + text(first) + " and " +
                                        text(tensor));
        }
        if (!compact(tensor)) throw std::invalid_argument("samples must be C-contiguous, got one of " + text(tensor));
        *to++ = static_cast<std::int64_t>(address(tensor));
    }
    py::tuple shape(first.ndim);
    for (int axis = 0; axis < first.ndim; ++axis) shape[axis] = first.shape[axis];
    return py::make_tuple(addresses, shape, first.lanes == 1 ? int{first.code} : -1, int{first.bits}, first.device_id);
}

py::list make_capsules(std::uintptr_t address, int count, const py::tuple& shape, int code, int bits, int device_type,
                       int device_id, bool framed) {
    const std::unique_ptr<Block, void (*)(Block*)> block(new Block, &let_go);
    if (framed) block->shape.push_back(1);
    for (const py::handle length : shape) block->shape.push_back(length.cast<std::int64_t>());
    if (framed) block->strides = framed_strides(block->shape);
    const auto ndim = static_cast<std::int32_t>(block->shape.size());
    const Managed common{nullptr,
                         device_type,
                         device_id,
                         ndim,
                         static_cast<std::uint8_t>(code),
                         static_cast<std::uint8_t>(bits),
                         1,
                         block->shape.data(),
                         framed ? block->strides.data() : nullptr,
                         0,
                         block.get(),
                         &delete_tensor};
    block->tensors.assign(static_cast<std::size_t>(count), common);
    const std::uintptr_t step = static_cast<std::uintptr_t>(size(common)) * static_cast<std::uintptr_t>(bits / 8);
    py::list capsules;
    for (int index = 0; index < count; ++index) {
        Managed& tensor = block->tensors[static_cast<std::size_t>(index)];
        tensor.data = reinterpret_cast<void*>(address + step * static_cast<std::uintptr_t>(index));
        auto capsule = py::reinterpret_steal<py::object>(PyCapsule_New(&tensor, kName, &destroy));
        if (!capsule) throw py::error_already_set();
        ++block->users;
        capsules.append(std::move(capsule));
    }
    return capsules;
}

py::array_t<bool> plain_jpegs(const py::list& capsules, std::int64_t longest, std::int64_t most) {
    py::array_t<bool> plain(static_cast<py::ssize_t>(capsules.size()));
    bool* to = plain.mutable_data();
    for (const py::handle capsule : capsules) {
        const Managed& tensor = tensor_in(capsule);
        const auto* content = reinterpret_cast<const std::uint8_t*>(address(tensor));
        const bool bytes = tensor.code == 1 && tensor.bits == 8 && compact(tensor);
        const Sides sides = bytes ? plain_jpeg(content, static_cast<std::size_t>(size(tensor))) : Sides{};
        *to++ = sides.height > 0 && sides.height <= longest && sides.width <= longest &&
                std::int64_t{3} * sides.height * sides.width < most;
    }
    return plain;
}

}  // namespace apr
