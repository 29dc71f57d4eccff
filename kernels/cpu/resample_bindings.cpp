// Python's side of resample.hpp: the levels where Pillow has them, and the call.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>

#include "arguments.hpp"
#include "resample.hpp"

namespace apr {
namespace {

// Of Arrow's C data interface (https://arrow.apache.org/docs/format/CDataInterface.html).
struct ArrowArray {
    std::int64_t length, null_count, offset, buffer_count, child_count;
    const void** buffers;
    ArrowArray** children;
    ArrowArray* dictionary;
    void (*release)(ArrowArray*);
    void* private_data;
};

constexpr int kChannels = 4;

// The levels, uint8 (height, width, 4), of an array of lists of four bytes; it keeps the capsule, and the capsule them.
py::array arrow_levels(const py::object& capsule, py::ssize_t height, py::ssize_t width) {
    const auto* pixels = static_cast<const ArrowArray*>(PyCapsule_GetPointer(capsule.ptr(), "arrow_array"));
    if (!pixels) throw py::error_already_set();
    require(pixels->child_count == 1 && pixels->offset == 0 && pixels->length == height * width,
            "expected an Arrow array of pixels, as many as the image has");
    const ArrowArray& levels = *pixels->children[0];
    require(levels.buffer_count == 2 && levels.offset == 0 && levels.length == kChannels * height * width,
            "expected an Arrow array of four bytes a pixel");
    const auto* from = static_cast<const std::uint8_t*>(levels.buffers[1]);
    return py::array_t<std::uint8_t>({height, width, py::ssize_t{kChannels}}, from, capsule);
}

void require_pixels(const py::array& image) {
    require(image.ndim() == 3 && image.shape(2) == kChannels && image.size() > 0 && image.shape(0) < (1 << 24) &&
                image.shape(1) < (1 << 24),
            "an image must have rows, columns and four channels, got the shape ", image);
}

void resample_image(const Array<std::uint8_t>& image, Array<std::uint8_t> out) {
    require_pixels(image);
    require_pixels(out);
    const auto side = [](const py::array& array, int axis) { return static_cast<int>(array.shape(axis)); };
    const std::uint8_t* from = image.data();
    std::uint8_t* to = out.mutable_data();
    const py::gil_scoped_release release;
    resample(from, side(image, 0), side(image, 1), to, side(out, 0), side(out, 1));
}

}  // namespace

void define_resampling(py::module_& module) {
    define(module, "arrow_levels", &arrow_levels);
    define(module, "resample", &resample_image);
}

}  // namespace apr
