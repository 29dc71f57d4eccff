// The Python modules: check every argument, let go of the interpreter's lock, run.
//
// This file is compiled once, for every processor, and linked into the module of each instruction set: it must not
// include what depends on the vectors' width.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>

#include "arguments.hpp"
#include "batch.hpp"
#include "capsules.hpp"
#include "corrupt.hpp"
#include "operations.hpp"

namespace py = pybind11;

namespace apr {
namespace {

void require_draws(const SingleTask& task) {
    for (int i = 0; i < 2 * task.batch; ++i) {
        const int operation = task.operation[i];
        require(operation < kOperations, "operation must be in 0..8, got ", operation);
        const double bits = task.parameters[6 * i];
        require(operation != static_cast<int>(Operation::kPosterize) || (bits >= 0 && bits <= 8),
                "posterize keeps 0 to 8 bits, got ", bits);
    }
}

}  // namespace

SingleTask single_task(const Array<std::uint8_t>& images, const Array<std::uint8_t>& operation,
                       const Array<double>& parameters, const Array<bool>& mix,
                       const Array<bool>& amplitude_of_second, Array<std::uint8_t>& out) {
    const Shape shape = shape_of(images, true);
    require(shape.channels == 3, "images must have three channels, got the shape ", images);
    require_same_shape(images, out);
    SingleTask task{};
    task.batch = static_cast<int>(images.shape(0));
    require_size(operation, 2 * task.batch, "operation");
    require_size(parameters, 12 * task.batch, "parameters");
    require_size(mix, task.batch, "mix");
    require_size(amplitude_of_second, task.batch, "amplitude_of_second");
    task.height = shape.height;
    task.width = shape.width;
    task.images = images.data();
    task.operation = operation.data();
    task.parameters = parameters.data();
    task.mix = mix.data();
    task.amplitude_of_second = amplitude_of_second.data();
    task.out = out.mutable_data();
    require_draws(task);
    return task;
}

}  // namespace apr

namespace {

using namespace apr;

Format format_of(const std::string& name) {
    if (name == "float32") return Format::kFloat32;
    if (name == "float16") return Format::kFloat16;
    require(name == "bfloat16", "dtype must be float32, float16 or bfloat16, got ", name);
    return Format::kBfloat16;
}

Axes axes_of(const std::string& name) {
    require(name == "chw" || name == "hw", "axes must be chw or hw, got ", name);
    return name == "chw" ? Axes::kChannelsToo : Axes::kPlanesOnly;
}

void pair_images(const py::array& images, const Array<std::int64_t>& partner, bool mix, const Array<double>& in_scale,
                 const Array<double>& in_bias, const Array<double>& out_scale, const Array<double>& out_bias,
                 const std::string& dtype, bool channels_last, const std::string& axes, bool both_views, py::array out,
                 int threads) {
    PairTask task{};
    const bool bytes = py::isinstance<Array<std::uint8_t>>(images);
    require(bytes || py::isinstance<Array<float>>(images),
            "images must be contiguous and uint8 (N, H, W, C) or float32 (N, C, H, W)");
    task.shape = shape_of(images, bytes);
    task.batch = static_cast<int>(images.shape(0));
    task.bytes = bytes ? static_cast<const std::uint8_t*>(images.data()) : nullptr;
    task.planes = bytes ? nullptr : static_cast<const float*>(images.data());
    for (const auto* values : {&in_scale, &in_bias, &out_scale, &out_bias}) {
        require_size(*values, task.shape.channels, "scale and bias");
    }
    require_size(partner, task.batch, "partner");
    for (int n = 0; n < task.batch; ++n) {
        const std::int64_t amplitude_source = partner.data()[n];
        require(amplitude_source >= 0 && amplitude_source < task.batch, "partner must be in 0..", task.batch - 1,
                ", got ", amplitude_source, " at index ", n);
    }
    task.format = format_of(dtype);
    require(out.itemsize() == (task.format == Format::kFloat32 ? 4 : 2) && (out.flags() & py::array::c_style),
            "out must be contiguous and of the size of dtype");
    require_size(out, images.size() * (both_views ? 2 : 1), "out");
    require_threads(threads);
    task.partner = partner.data();
    task.mix = mix;
    task.both_views = both_views;
    task.in_scale = in_scale.data();
    task.in_bias = in_bias.data();
    task.out_scale = out_scale.data();
    task.out_bias = out_bias.data();
    task.axes = axes_of(axes);
    require_channels(task.shape, task.axes);
    task.channels_last = channels_last;
    task.out = out.mutable_data();
    task.threads = threads;
    const py::gil_scoped_release release;
    pair(task);
}

void single_images(const Array<std::uint8_t>& images, const Array<std::uint8_t>& operation,
                   const Array<double>& parameters, const Array<bool>& mix, const Array<bool>& amplitude_of_second,
                   bool wrap, const std::string& axes, Array<std::uint8_t> out, int threads) {
    SingleTask task = single_task(images, operation, parameters, mix, amplitude_of_second, out);
    require_threads(threads);
    task.overflow = wrap ? Overflow::kWrap : Overflow::kClamp;
    task.axes = axes_of(axes);
    task.threads = threads;
    const py::gil_scoped_release release;
    single(task);
}

template <class T>
void recombine_images(const Array<T>& phase_of, const Array<T>& amplitude_of, const std::string& axes, Array<T> out,
                      int threads) {
    const Shape shape = shape_of(phase_of, false);
    require_same_shape(phase_of, amplitude_of);
    require_same_shape(phase_of, out);
    require_threads(threads);
    const Axes over = axes_of(axes);
    require_channels(shape, over);
    const int batch = static_cast<int>(phase_of.shape(0));
    T* to = out.mutable_data();
    const py::gil_scoped_release release;
    recombine<T>(shape, batch, phase_of.data(), amplitude_of.data(), over, to, threads);
}

void round_trip_images(const Array<float>& images, Array<float> out, int threads) {
    const Shape shape = shape_of(images, false);
    require_same_shape(images, out);
    require_threads(threads);
    float* to = out.mutable_data();
    const int batch = static_cast<int>(images.shape(0));
    const py::gil_scoped_release release;
    round_trip(shape, batch, images.data(), to, threads);
}

void corrupt_images(const std::string& name, const Array<std::uint8_t>& images,
                    const std::vector<Array<double>>& constants, const std::vector<Array<double>>& given,
                    std::uint64_t seed, std::uint64_t stream, const Array<std::uint64_t>& image_numbers,
                    Array<std::uint8_t> out, int threads) {
    const Shape shape = shape_of(images, true);
    require(shape.channels == 3, "images must have three channels, got the shape ", images);
    require_same_shape(images, out);
    require_threads(threads);
    CorruptTask task{};
    task.batch = static_cast<int>(images.shape(0));
    task.extent = {shape.height, shape.width};
    std::vector<Numbers> numbers;
    for (const auto& each : constants) numbers.push_back({each.data(), static_cast<std::size_t>(each.size())});
    const auto corruption = make_corruption(name, task.extent, numbers);
    const auto fields = corruption->fields();
    require(given.empty() || given.size() == fields.size(), name, " has ", fields.size(), " kinds of draws, got ",
            given.size());
    for (std::size_t i = 0; i < given.size(); ++i) {
        require_size(given[i], static_cast<py::ssize_t>(fields[i]) * task.batch, "draws");
        task.given.push_back(given[i].data());
    }
    task.images = images.data();
    task.key[0] = seed;
    task.key[1] = stream;
    require_size(image_numbers, task.batch, "numbers");
    task.numbers = image_numbers.data();
    task.out = out.mutable_data();
    task.threads = threads;
    const py::gil_scoped_release release;
    corrupt(*corruption, task);
}

// The instruction sets of this machine, as the names of the modules built for them, best first.
py::list supported() {
    py::list names;
#if defined(__x86_64__)
    // F16C is not asked for: clang 16 does not know its name, and every processor with AVX2 has it.
    const bool v3 =
        __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vl");
    if (v4) names.append("v4");
    if (v3) names.append("v3");
#endif
    names.append("baseline");
    return names;
}

void define_all(py::module_& module) {
    define(module, "pair", &pair_images);
    define(module, "single", &single_images);
    define(module, "recombine", &recombine_images<float>);
    define(module, "recombine", &recombine_images<double>);
    define(module, "round_trip", &round_trip_images);
    define(module, "corrupt", &corrupt_images);
    define_augmentations(module);
    define_resampling(module);
    module.def("read_capsules", &read_capsules);
    module.def("make_capsules", &make_capsules);
    module.def("plain_jpegs", &plain_jpegs);
    module.def("supported", &supported);
    module.attr("sources") = APR_SOURCES;  // setup.py gives it
}

}  // namespace

// Python looks for the one that bears the module's name.
PYBIND11_MODULE(_native_baseline, module) { define_all(module); }
PYBIND11_MODULE(_native_v3, module) { define_all(module); }
PYBIND11_MODULE(_native_v4, module) { define_all(module); }
