// The two views that APR-S makes of an image, and their recombination.
#pragma once

#include <cstring>
#include <utility>
#include <vector>

#include "batch.hpp"
#include "operations.hpp"
#include "passes.hpp"

namespace apr {

// An image, and what an operation may read after it.
inline std::size_t room_for_view(Shape shape) { return shape.size() + bytes_beyond(shape.width); }

// For each of `workers` the room of two views.
inline std::vector<Buffer<std::uint8_t>> rooms_for_views(Shape shape, int workers) {
    std::vector<Buffer<std::uint8_t>> rooms;
    for (int i = 0; i < workers; ++i) rooms.emplace_back(2 * room_for_view(shape));
    return rooms;
}

struct Views {
    bool mixed;  // if not, the first view is the result, and is there already
    const std::uint8_t *phase_of, *amplitude_of;
};

// Those of image n; `scratch` has room for two.
inline Views views_of(const SingleTask& task, int n, std::uint8_t* scratch) {
    const Shape shape{3, task.height, task.width};
    const std::uint8_t* image = task.images + n * shape.size();
    std::uint8_t* first = scratch;
    std::uint8_t* second = scratch + room_for_view(shape);
    // The images after this one are there to read; at the end of the batch there is nothing.
    if ((task.batch - n - 1) * shape.size() < bytes_beyond(shape.width)) {
        image = static_cast<const std::uint8_t*>(std::memcpy(second, image, shape.size()));
    }
    const auto run = [&](int which, const std::uint8_t* from, std::uint8_t* to) {
        const auto operation = static_cast<Operation>(task.operation[2 * n + which]);
        operate(operation, task.parameters + 6 * (2 * n + which), from, to, task.height, task.width);
    };
    if (!task.mix[n]) {
        run(0, image, task.out + n * shape.size());
        return {};
    }
    run(0, image, first);
    run(1, first, second);
    if (task.amplitude_of_second[n]) std::swap(first, second);
    return {true, second, first};
}

// The amplitudes of one image, the phases of another: the passes end with the spectra of the mixed columns.
template <class T, class Channels, class Source>
void mix_two(Passes<T>& passes, const Channels& channels, const Source& phase_of, const Source& amplitude_of) {
    passes.columns_forward(channels, amplitude_of, Unscaled{});
    passes.measure();
    passes.columns_forward(channels, phase_of, Unscaled{});
    passes.mix();
}

}  // namespace apr
