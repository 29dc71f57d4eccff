#include "batch.hpp"

#include <algorithm>
#include <cstring>
#include <functional>
#include <type_traits>

#include "channels.hpp"
#include "operations.hpp"
#include "passes.hpp"
#include "threads.hpp"

namespace apr {
namespace {

template <class T>
Scaling<T> scaled(int channels, double factor) {
    return {std::vector<T>(channels, static_cast<T>(factor)), std::vector<T>(channels, T(0))};
}
template <class T>
Scaling<T> scaling(const double* scale, const double* bias, int channels, double factor = 1) {
    Scaling<T> out = scaled<T>(channels, 1);
    for (int c = 0; c < channels; ++c) {
        out.scale[c] = static_cast<T>(scale[c] * factor);
        out.bias[c] = static_cast<T>(bias[c]);
    }
    return out;
}

// What comes out of the passes is too large by this factor.
template <class Channels>
double unit(const Channels& channels, Shape shape) {
    return channels.factor() / static_cast<double>(shape.plane());
}

// Calls `run` with the transform over the channels that `axes` asks for.
template <class T, class Run>
void with_rgb(Axes axes, const Run& run) {
    if (axes == Axes::kPlanesOnly) return run(Separate<T, 3>{3});
    run(OverRgb<T>{});
}
template <class T, class Run>
void with_planes(int channels, const Run& run) {
    if (channels == 3) return run(Separate<T, 3>{3});
    run(Separate<T, 0>{channels});
}
template <class T, class Run>
void with_channels(Axes axes, int channels, const Run& run) {
    if (channels == 1 || axes == Axes::kPlanesOnly) return with_planes<T>(channels, run);
    if (channels == 3) return run(OverRgb<T>{});
    run(OverChannels<T>(channels));
}

template <class T>
std::vector<Passes<T>> one_each(int workers, const Layout<T>& layout) {
    std::vector<Passes<T>> passes;
    for (int i = 0; i < workers; ++i) passes.emplace_back(layout);
    return passes;
}

// Calls `run` with a function from the index of an image to its Source. `Channels`: 3, or 0 for any other number.
template <int Channels, class Run>
void with_source(const PairTask& task, const Run& run) {
    const Shape shape = task.shape;
    using Packed = std::conditional_t<Channels == 3, RgbSource, BytesSource>;
    if (task.bytes != nullptr) return run([=](int n) { return Packed{task.bytes + n * shape.size(), shape}; });
    run([=](int n) { return PlanesSource<float, Channels>{task.planes + n * shape.size(), shape}; });
}

// The same for the Sink of a place in the result.
template <int Channels, class Run>
void with_sink(const PairTask& task, const Run& run) {
    const Shape shape = task.shape;
    const auto as = [&]<class Item, class Convert>(Item* out, Convert) {
        if (task.channels_last) {
            run([=](int slot) { return PixelsSink<float, Channels, Item, Convert>{out + slot * shape.size(), shape}; });
        } else {
            run([=](int slot) { return PlanesSink<float, Channels, Item, Convert>{out + slot * shape.size(), shape}; });
        }
    };
    switch (task.format) {
        case Format::kFloat32: return as(static_cast<float*>(task.out), AsIs{});
        case Format::kFloat16: return as(static_cast<std::uint16_t*>(task.out), AsHalf{});
        case Format::kBfloat16: return as(static_cast<std::uint16_t*>(task.out), AsBfloat16{});
    }
}

// How pixels reach the passes and leave them; resolved once per call for the formats that it asks for.
using Port = std::function<void(Passes<float>&, int image)>;
struct Ports {
    Port forward, inverse, copy;
};

template <int Channels>
Port copy_port(const PairTask& task) {
    const auto in = scaling<float>(task.in_scale, task.in_bias, task.shape.channels);
    const auto out = scaling<float>(task.out_scale, task.out_bias, task.shape.channels);
    const int views = task.both_views ? 2 : 1;
    Port port;
    with_source<Channels>(task, [&](auto source) {
        with_sink<Channels>(task, [&](auto sink) {
            port = [=](Passes<float>& passes, int slot) { passes.convert(source(slot / views), sink(slot), in, out); };
        });
    });
    return port;
}

template <class Channels>
Ports ports_of(const PairTask& task, const Channels& channels) {
    constexpr int known = Channels::kChannels;
    const int count = task.shape.channels;
    const auto in = scaling<float>(task.in_scale, task.in_bias, count);
    const auto out = scaling<float>(task.out_scale, task.out_bias, count, unit(channels, task.shape));
    const int views = task.both_views ? 2 : 1;
    Ports ports{{}, {}, copy_port<known>(task)};
    with_source<known>(task, [&](auto source) {
        ports.forward = [=](Passes<float>& passes, int n) { passes.columns_forward(channels, source(n), in); };
    });
    with_sink<known>(task, [&](auto sink) {
        ports.inverse = [=](Passes<float>& passes, int n) {
            passes.columns_inverse(channels, sink(views * n + views - 1), out);
        };
    });
    return ports;
}

// An order in which each image, where possible, comes straight after the partner whose amplitudes it needs: walks
// along the partners, each run through from its end.
std::vector<int> partners_first(const std::int64_t* partner, int batch) {
    std::vector<int> order;
    std::vector<bool> seen(batch);
    for (int start = 0; start < batch; ++start) {
        const auto walk = order.size();
        for (int n = start; !seen[n]; n = static_cast<int>(partner[n])) {
            seen[n] = true;
            order.push_back(n);
        }
        std::reverse(order.begin() + static_cast<std::ptrdiff_t>(walk), order.end());
    }
    return order;
}

// Mixes order[begin..end). A walk that closes a cycle begins with the amplitudes of the image that it ends with: that
// one is transformed twice, which takes less time than to keep its spectrum until then.
void mix_walk(Passes<float>& passes, const Ports& ports, const std::int64_t* partner, const std::vector<int>& order,
              int begin, int end) {
    int measured = -1;
    for (int i = begin; i < end; ++i) {
        const int image = order[i];
        const int amplitude_source = static_cast<int>(partner[image]);
        if (amplitude_source != measured) {
            ports.forward(passes, amplitude_source);
            passes.measure();
        }
        ports.forward(passes, image);
        passes.mix();
        ports.inverse(passes, image);
        measured = image;
    }
}

void mix_batch(const PairTask& task, const Layout<float>& layout, const Ports& ports) {
    const std::vector<int> order = partners_first(task.partner, task.batch);
    const int chunks = std::min(task.threads, task.batch);
    Team team(task.threads, chunks);
    auto passes = one_each(team.workers(), layout);
    team.run([&](int worker, int chunk) {
        const auto bound = [&](int k) { return static_cast<int>(static_cast<long long>(task.batch) * k / chunks); };
        const int begin = bound(chunk);
        const int end = bound(chunk + 1);
        for (int i = begin; i < end && task.both_views; ++i) ports.copy(passes[worker], 2 * order[i]);
        mix_walk(passes[worker], ports, task.partner, order, begin, end);
    });
}

void copy_batch(const PairTask& task, const Layout<float>& layout, const Ports& ports) {
    Team team(task.threads, task.batch);
    auto passes = one_each(team.workers(), layout);
    team.run([&](int worker, int image) {
        const int views = task.both_views ? 2 : 1;
        for (int view = 0; view < views; ++view) ports.copy(passes[worker], views * image + view);
    });
}

// The amplitudes of one image, the phases of another: the passes end with the spectra of the mixed columns.
template <class T, class Channels, class Source>
void mix_two(Passes<T>& passes, const Channels& channels, const Source& phase_of, const Source& amplitude_of) {
    passes.columns_forward(channels, amplitude_of, Unscaled{});
    passes.measure();
    passes.columns_forward(channels, phase_of, Unscaled{});
    passes.mix();
}

// An image, and what an operation may read after it.
std::size_t room(Shape shape) { return shape.size() + bytes_beyond(shape.width); }

// APR-S of one image; `scratch` has room for two.
template <class Channels>
void single_image(Passes<float>& passes, const Channels& channels, const Scaling<float>& scale, const SingleTask& task,
                  int n, std::uint8_t* scratch) {
    const Shape shape{3, task.height, task.width};
    const std::uint8_t* image = task.images + n * shape.size();
    std::uint8_t* out = task.out + n * shape.size();
    std::uint8_t* first = scratch;
    std::uint8_t* second = scratch + room(shape);
    // The images after this one are there to read; at the end of the batch there is nothing.
    if ((task.batch - n - 1) * shape.size() < bytes_beyond(shape.width)) {
        image = static_cast<const std::uint8_t*>(std::memcpy(second, image, shape.size()));
    }
    const auto run = [&](int which, const std::uint8_t* from, std::uint8_t* to) {
        const auto operation = static_cast<Operation>(task.operation[2 * n + which]);
        operate(operation, task.parameters + 6 * (2 * n + which), from, to, task.height, task.width);
    };
    if (!task.mix[n]) return run(0, image, out);
    run(0, image, first);
    run(1, first, second);
    if (task.amplitude_of_second[n]) std::swap(first, second);
    mix_two(passes, channels, RgbSource{second, shape}, RgbSource{first, shape});
    if (task.overflow == Overflow::kWrap) {
        passes.columns_inverse(channels, RgbSink<Wrapped>{out, shape}, scale);
    } else {
        passes.columns_inverse(channels, RgbSink<Clamped>{out, shape}, scale);
    }
}

}  // namespace

void pair(const PairTask& task) {
    with_channels<float>(task.axes, task.shape.channels, [&](const auto& channels) {
        const Layout<float> layout(task.shape, channels.real_planes(), channels.complex_planes());
        const Ports ports = ports_of(task, channels);
        task.mix ? mix_batch(task, layout, ports) : copy_batch(task, layout, ports);
    });
}

void single(const SingleTask& task) {
    with_rgb<float>(task.axes, [&](const auto& channels) {
        const Shape shape{3, task.height, task.width};
        const Layout<float> layout(shape, channels.real_planes(), channels.complex_planes());
        const auto scale = scaled<float>(3, unit(channels, shape));
        Team team(task.threads, task.batch);
        auto passes = one_each(team.workers(), layout);
        std::vector<Buffer<std::uint8_t>> scratch;
        for (int i = 0; i < team.workers(); ++i) scratch.emplace_back(2 * room(shape));
        team.run([&](int worker, int n) {
            single_image(passes[worker], channels, scale, task, n, scratch[worker].get());
        });
    });
}

template <class T>
void recombine(Shape shape, int batch, const T* phase_of, const T* amplitude_of, Axes axes, T* out, int threads) {
    with_channels<T>(axes, shape.channels, [&](const auto& channels) {
        const Layout<T> layout(shape, channels.real_planes(), channels.complex_planes());
        constexpr int known = std::decay_t<decltype(channels)>::kChannels;
        using Source = PlanesSource<T, known>;
        using Sink = PlanesSink<T, known, T, AsIs>;
        const auto scale = scaled<T>(shape.channels, unit(channels, shape));
        Team team(threads, batch);
        auto passes = one_each(team.workers(), layout);
        team.run([&](int worker, int n) {
            const std::size_t offset = n * shape.size();
            mix_two(passes[worker], channels, Source{phase_of + offset, shape}, Source{amplitude_of + offset, shape});
            passes[worker].columns_inverse(channels, Sink{out + offset, shape}, scale);
        });
    });
}
template void recombine(Shape, int, const float*, const float*, Axes, float*, int);
template void recombine(Shape, int, const double*, const double*, Axes, double*, int);

void round_trip(Shape shape, int batch, const float* images, float* out, int threads) {
    with_planes<float>(shape.channels, [&](const auto& channels) {
        constexpr int known = std::decay_t<decltype(channels)>::kChannels;
        const Layout<float> layout(shape, channels.real_planes(), channels.complex_planes());
        const auto scale = scaled<float>(shape.channels, unit(channels, shape));
        Team team(threads, batch);
        auto passes = one_each(team.workers(), layout);
        team.run([&](int worker, int n) {
            const std::size_t offset = n * shape.size();
            passes[worker].columns_forward(channels, PlanesSource<float, known>{images + offset, shape}, Unscaled{});
            passes[worker].leave();
            passes[worker].columns_inverse(channels, PlanesSink<float, known, float, AsIs>{out + offset, shape}, scale);
        });
    });
}

}  // namespace apr
