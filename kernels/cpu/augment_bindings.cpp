// The augmentations beside APR for Python, checked as in bindings.cpp; like that file it is compiled once.
#include <pybind11/stl.h>

#include "arguments.hpp"
#include "augment.hpp"

namespace apr {
namespace {

using Numbers = Array<double>;
using Whole = Array<std::int64_t>;

Rounding rounding_of(const std::string& name) {
    if (name == "clamp") return Rounding::kClamp;
    if (name == "wrap") return Rounding::kWrap;
    require(name == "truncate", "overflow must be clamp, wrap or truncate, got ", name);
    return Rounding::kTruncate;
}

// images, out: uint8 (N, H, W, C), or float32 (N, C, H, W). overflow: of uint8.
AugmentBatch batch_of(const py::array& images, py::array& out, const std::string& overflow, int threads) {
    const bool bytes = py::isinstance<Array<std::uint8_t>>(images);
    require(bytes ? py::isinstance<Array<std::uint8_t>>(out)
                  : py::isinstance<Array<float>>(images) && py::isinstance<Array<float>>(out),
            "images and out must be contiguous, and both uint8 (N, H, W, C) or both float32 (N, C, H, W)");
    AugmentBatch batch{};
    batch.shape = shape_of(images, bytes);
    require(out.ndim() == 4, "out must have four dimensions, got the shape ", out);
    require_same_shape(images, out);
    require_threads(threads);
    batch.batch = static_cast<int>(images.shape(0));
    batch.threads = threads;
    if (bytes) {
        batch.bytes = static_cast<const std::uint8_t*>(images.data());
        batch.out_bytes = static_cast<std::uint8_t*>(out.mutable_data());
        batch.rounding = rounding_of(overflow);
    } else {
        batch.planes = static_cast<const float*>(images.data());
        batch.out_planes = static_cast<float*>(out.mutable_data());
    }
    return batch;
}

// What a function gives back of values in 0..1, for Python to check: None for bytes, and where there is no image.
py::object told(const AugmentBatch& images, Bounds found) {
    if (images.bytes != nullptr || images.batch == 0) return py::none();
    return py::make_tuple(found.least, found.greatest);
}

// Runs without the interpreter's lock.
template <class Run>
auto unlocked(const Run& run) {
    const py::gil_scoped_release release;
    return run();
}

void require_range(const Whole& values, std::int64_t low, std::int64_t high, const char* name) {
    for (py::ssize_t i = 0; i < values.size(); ++i) {
        const std::int64_t value = values.data()[i];
        require(low <= value && value <= high, name, " must be in ", low, "..", high, ", got ", value, " at index ", i);
    }
}

void require_partner(const Whole& partner, int batch) {
    require_size(partner, batch, "partner");
    require_range(partner, 0, batch - 1, "partner");
}

void amplitudes(const py::array& images, py::array out, const std::string& overflow, int threads, const Whole& partner,
                const Numbers& share, const Whole& box) {
    const AmplitudeTask task{batch_of(images, out, overflow, threads), partner.data(), share.data(), box.data()};
    require_partner(partner, task.images.batch);
    require_size(share, task.images.batch, "share");
    require_size(box, 4 * task.images.batch, "box");
    unlocked([&] { mix_amplitudes(task); });
}

void gains(const py::array& images, py::array out, const std::string& overflow, int threads, const Numbers& gain,
           const Numbers& shift) {
    const GainTask task{batch_of(images, out, overflow, threads), gain.data(), shift.data()};
    const Shape shape = task.images.shape;
    require_size(gain, py::ssize_t{task.images.batch} * shape.height * (shape.width / 2 + 1), "gain");
    require_size(shift, task.images.batch, "shift");
    unlocked([&] { scale_spectra(task); });
}

void hybrid(const py::array& images, py::array out, const std::string& overflow, int threads, const Whole& partner,
            const Numbers& window, const py::object& low_partner) {
    HybridTask task{batch_of(images, out, overflow, threads), partner.data(), nullptr,
                    {window.data(), window.data() + window.size()}};
    require_partner(partner, task.images.batch);
    require(window.size() % 2 == 1, "window must have an odd number of weights, got ", window.size());
    if (!low_partner.is_none()) {
        require(py::isinstance<Whole>(low_partner), "low_partner must be contiguous and int64");
        const auto given = py::reinterpret_borrow<Whole>(low_partner);
        require_partner(given, task.images.batch);
        require_channels(task.images.shape, Axes::kChannelsToo);
        task.low_partner = given.data();
    }
    unlocked([&] { mix_frequencies(task); });
}

py::object waves(const py::array& images, py::array out, const std::string& overflow, int threads, const Numbers& down,
                 const Numbers& across, const Numbers& strength, double turn, double least_norm) {
    const WaveTask task{batch_of(images, out, overflow, threads), down.data(), across.data(), strength.data(), turn,
                        least_norm};
    for (const auto* values : {&down, &across, &strength}) {
        require_size(*values, py::ssize_t{task.images.batch} * task.images.shape.channels, "a wave's numbers");
    }
    return told(task.images, unlocked([&] { return add_waves(task); }));
}

void noisy_views(const Array<std::uint8_t>& images, Array<std::uint8_t> out, const std::string& overflow, int threads,
                 const Array<std::uint8_t>& operation, const Numbers& parameters, const Array<bool>& mix,
                 const Array<bool>& amplitude_of_second, const Whole& which, const Array<float>& noise, double vital,
                 double nonvital) {
    NoisyTask task{};
    task.views = single_task(images, operation, parameters, mix, amplitude_of_second, out);
    require_threads(threads);
    require_size(which, task.views.batch, "which");
    const Shape shape{3, task.views.height, task.views.width};
    const py::ssize_t size = static_cast<py::ssize_t>(shape.size());
    require(noise.size() % size == 0, "noise must be for images of ", size, " values, got the shape ", noise);
    require_range(which, -1, noise.size() / size - 1, "which");
    task.views.threads = threads;
    task.rounding = rounding_of(overflow);
    task.which = which.data();
    task.noise = noise.data();
    task.vital = static_cast<float>(vital);
    task.nonvital = static_cast<float>(nonvital);
    unlocked([&] { mix_noisy_views(task); });
}

py::object prime(const py::array& images, py::array out, const std::string& overflow, int threads,
                 const Numbers& mixture, const Numbers& weight, const Whole& depth, const Whole& operation,
                 const Numbers& displacement, const std::vector<Numbers>& color, const Whole& frequency,
                 const Numbers& kernel) {
    PrimeTask task{};
    task.images = batch_of(images, out, overflow, threads);
    const Shape shape = task.images.shape;
    const py::ssize_t batch = task.images.batch;
    require(weight.ndim() == 2, "weight must have two dimensions, got the shape ", weight);
    task.chains = static_cast<int>(weight.shape(1));
    task.steps = static_cast<int>(color.size());
    require_size(mixture, batch, "mixture");
    require_size(weight, batch * task.chains, "weight");
    require_size(depth, batch * task.chains, "depth");
    require_range(depth, 0, task.steps, "depth");
    require_size(operation, batch * task.chains * task.steps, "operation");
    require_range(operation, 0, 2, "operation");
    require_size(displacement, 2 * task.steps * static_cast<py::ssize_t>(shape.plane()), "displacement");
    require_size(frequency, task.steps, "frequency");
    require_size(kernel, 9 * operation.size(), "kernel");
    for (const Numbers& each : color) {
        require(each.ndim() == 4, "color must have four dimensions, got the shape ", each);
        require_size(each, batch * task.chains * shape.channels * each.shape(3), "color");
        task.terms.push_back(static_cast<int>(each.shape(3)));
        task.color.push_back(each.data());
    }
    task.mixture = mixture.data();
    task.weight = weight.data();
    task.depth = depth.data();
    task.operation = operation.data();
    task.displacement = displacement.data();
    task.frequency = frequency.data();
    task.kernel = kernel.data();
    return told(task.images, unlocked([&] { return mix_chains(task); }));
}

}  // namespace

void define_augmentations(py::module_& module) {
    define(module, "amplitudes", &amplitudes);
    define(module, "gains", &gains);
    define(module, "hybrid", &hybrid);
    define(module, "waves", &waves);
    define(module, "noisy_views", &noisy_views);
    define(module, "prime", &prime);
}

}  // namespace apr
