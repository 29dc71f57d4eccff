// The checks of what Python gives.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "batch.hpp"
#include "shape.hpp"

namespace apr {

namespace py = pybind11;

// No copies behind the caller's back: an array of another type or order is refused by its signature.
template <class T>
using Array = py::array_t<T, py::array::c_style>;

inline std::string text(const std::string& value) { return value; }
inline std::string text(const py::array& value) { return py::str(py::object(value.attr("shape"))); }
template <class Number>
    requires std::is_arithmetic_v<Number>
std::string text(Number value) {
    return std::to_string(value);
}

// A function for Python that converts no argument, see above.
template <class Result, class... Argument>
void define(py::module_& module, const char* name, Result (*function)(Argument...)) {
    const auto given = [](auto) { return py::arg().noconvert(); };
    module.def(name, function, given(static_cast<std::decay_t<Argument>*>(nullptr))...);
}

// The message is made of its parts only when it is needed: that takes longer than a small batch.
template <class... Parts>
[[noreturn, gnu::cold, gnu::noinline]] void refuse(const Parts&... parts) {
    throw std::invalid_argument((text(parts) + ...));
}
template <class... Parts>
void require(bool holds, const Parts&... parts) {
    if (!holds) refuse(parts...);
}

inline constexpr py::ssize_t kMost = py::ssize_t{1} << 31;

inline Shape shape_of(const py::array& images, bool channels_last) {
    require(images.ndim() == 4, "images must have four dimensions, got the shape ", images);
    for (int axis = 1; axis < 4; ++axis) {
        require(images.shape(axis) > 0 && images.shape(axis) < (1 << 24),
                "images must have 1 to 2^24 - 1 channels, rows and columns, got the shape ", images);
    }
    // What an image has and what is chosen for a batch is counted in 32 bits.
    const py::ssize_t pixels = images.shape(1) * images.shape(2);
    require(pixels < kMost && pixels * images.shape(3) < kMost,
            "an image must have fewer than 2^31 values, got the shape ", images);
    require(images.shape(0) < (1 << 26), "a batch must have fewer than 2^26 images, got the shape ", images);
    const auto size = [&](int axis) { return static_cast<int>(images.shape(axis)); };
    return channels_last ? Shape{size(3), size(1), size(2)} : Shape{size(1), size(2), size(3)};
}

// The transform over the channels is a matrix.
inline void require_channels(Shape shape, Axes axes) {
    require(axes == Axes::kPlanesOnly || shape.channels <= 1 << 12,
            "at most 4096 channels can be transformed together (axes chw), got ", shape.channels);
}

inline void require_size(const py::array& array, py::ssize_t size, const char* name) {
    require(array.size() == size, name, " must have ", size, " entries, got the shape ", array);
}

inline void require_threads(int threads) {
    require(threads >= 1, "threads must be at least 1, got ", threads);
}

inline void require_same_shape(const py::array& a, const py::array& b) {
    require(std::equal(a.shape(), a.shape() + a.ndim(), b.shape(), b.shape() + b.ndim()),
            "arrays must have one shape, got ", a, " and ", b);
}

// APR-S of `images` into `out` by draws, but for how levels overflow and for the threads; of bindings.cpp.
SingleTask single_task(const Array<std::uint8_t>& images, const Array<std::uint8_t>& operation,
                       const Array<double>& parameters, const Array<bool>& mix,
                       const Array<bool>& amplitude_of_second, Array<std::uint8_t>& out);

// The augmentations beside APR, of augment.hpp.
void define_augmentations(py::module_& module);

// Images made smaller, of resample.hpp.
void define_resampling(py::module_& module);

}  // namespace apr
