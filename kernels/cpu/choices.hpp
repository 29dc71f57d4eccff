// What a batch asks for, as types: the transform over the channels, its scale, and passes for each thread.
#pragma once

#include <vector>

#include "batch.hpp"
#include "channels.hpp"
#include "passes.hpp"

namespace apr {

template <class T>
Scaling<T> scaled(int channels, double factor) {
    return {std::vector<T>(channels, static_cast<T>(factor)), std::vector<T>(channels, T(0))};
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

}  // namespace apr
