#include "batch.hpp"

#include <functional>
#include <type_traits>

#include "choices.hpp"
#include "threads.hpp"
#include "views.hpp"
#include "walks.hpp"

namespace apr {
namespace {

template <class T>
Scaling<T> scaling(const double* scale, const double* bias, int channels, double factor = 1) {
    Scaling<T> out = scaled<T>(channels, 1);
    for (int c = 0; c < channels; ++c) {
        out.scale[c] = static_cast<T>(scale[c] * factor);
        out.bias[c] = static_cast<T>(bias[c]);
    }
    return out;
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

void mix_batch(const PairTask& task, const Layout<float>& layout, const Ports& ports) {
    const std::vector<int> order = partners_first(task.partner, task.batch);
    Parts parts(task.threads, task.batch);
    auto passes = one_each(parts.workers(), layout);
    parts.run([&](int worker, int begin, int end) {
        Passes<float>& own = passes[worker];
        for (int i = begin; i < end && task.both_views; ++i) ports.copy(own, 2 * order[i]);
        const auto measure = [&](int image) {
            ports.forward(own, image);
            own.measure();
        };
        const auto mix = [&](int image) {
            ports.forward(own, image);
            own.mix();
            ports.inverse(own, image);
        };
        mix_walk(task.partner, order, begin, end, measure, mix);
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

// APR-S of one image; `scratch` has room for two.
template <class Channels>
void single_image(Passes<float>& passes, const Channels& channels, const Scaling<float>& scale, const SingleTask& task,
                  int n, std::uint8_t* scratch) {
    const Shape shape{3, task.height, task.width};
    const Views views = views_of(task, n, scratch);
    if (!views.mixed) return;
    mix_two(passes, channels, RgbSource{views.phase_of, shape}, RgbSource{views.amplitude_of, shape});
    std::uint8_t* out = task.out + n * shape.size();
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
        const auto scratch = rooms_for_views(shape, team.workers());
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
