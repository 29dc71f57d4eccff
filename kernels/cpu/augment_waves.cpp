// AFA's plane waves: sin(a + b) is two products of a row and a column, and so is the sum of its squares.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "augment_images.hpp"
#include "threads.hpp"

namespace apr {
namespace {

// sin and cos of step·linspace(-size / 2, size / 2, size) + turn, and the sums of their squares and of their product.
struct Turns {
    Buffer<double> sin, cos;
    double sines = 0, cosines = 0, products = 0;
    int size;

    explicit Turns(int count) : sin(count), cos(count), size(count) {}

    void set(double step, double turn) {
        const double first = -step * size / 2 + turn;
        const double apart = size > 1 ? step * size / (size - 1) : 0;
        // A rotation from point to point: its rounding grows by a few 1e-16 each, a sine of each would cost ten times it.
        const double c = std::cos(apart), s = std::sin(apart);
        double x = std::cos(first), y = std::sin(first);
        sines = cosines = products = 0;
        for (int i = 0; i < size; ++i) {
            sin[i] = y;
            cos[i] = x;
            sines += y * y;
            cosines += x * x;
            products += x * y;
            const double next = x * c - y * s;
            y = x * s + y * c;
            x = next;
        }
    }
};

struct Memory {
    Turns down, across;
    Buffer<float> sin, cos;  // of the columns

    explicit Memory(Shape shape) : down(shape.height), across(shape.width), sin(shape.width), cos(shape.width) {}
};

// to = clip(from + first·cos + second·sin, 0, top) for one row.
template <class T>
void add_row(const float* __restrict from, float* __restrict to, int width, T first, T second, const T* __restrict sin,
             const T* __restrict cos, float top) {
    for (int x = 0; x < width; ++x) {
        const float sum = from[x] + static_cast<float>(first * cos[x] + second * sin[x]);
        const float low = sum < 0.0f ? 0.0f : sum;
        to[x] = low > top ? top : low;
    }
}

// to = clip(from + wave·strength, 0, top) for one plane; strength is that of the wave's norm 1.
void add_wave(const float* from, float* to, const Memory& memory, double strength, double least_norm, float top) {
    const Turns &down = memory.down, &across = memory.across;
    const double square =
        down.sines * across.cosines + 2 * down.products * across.products + down.cosines * across.sines;
    const double gain = strength / std::max(std::sqrt(std::max(square, 0.0)), least_norm);
    const int width = across.size;
    // Where all pixels of a few lie near zeros of the wave the products cancel.
    const bool cancels = square < 1e-2 * down.size * width;
    for (int x = 0; x < width; ++x) {
        memory.sin[x] = static_cast<float>(across.sin[x]);
        memory.cos[x] = static_cast<float>(across.cos[x]);
    }
    for (int y = 0; y < down.size; ++y, from += width, to += width) {
        const double first = gain * down.sin[y];
        const double second = gain * down.cos[y];
        if (cancels) {
            add_row(from, to, width, first, second, across.sin.get(), across.cos.get(), top);
        } else {
            add_row(from, to, width, static_cast<float>(first), static_cast<float>(second), memory.sin.get(),
                    memory.cos.get(), top);
        }
    }
}

}  // namespace

void add_waves(const WaveTask& task) {
    const AugmentBatch& images = task.images;
    const Shape shape = images.shape;
    Team team(images.threads, images.batch);
    const auto ports = ports_for(images, team.workers());
    const auto rooms = rooms_for(images, team.workers());
    std::vector<Memory> memory;
    for (int i = 0; i < team.workers(); ++i) memory.emplace_back(shape);
    team.run([&](int worker, int n) {
        const float* from = ports[worker].read(n, rooms[worker].get());
        float* to = ports[worker].result(n);
        for (int c = 0; c < shape.channels; ++c) {
            const std::size_t i = static_cast<std::size_t>(n) * shape.channels + c;
            memory[worker].down.set(task.down[i], task.turn);
            memory[worker].across.set(task.across[i], 0);
            add_wave(from + c * shape.plane(), to + c * shape.plane(), memory[worker],
                     task.strength[i] * images.top(), task.least_norm, images.top());
        }
        ports[worker].write(n);
    });
}

namespace {

constexpr float infinite = std::numeric_limits<float>::infinity();

/* Of `count` values. One running extreme would have to be kept in order, so each of `lanes` has its own. */
Bounds bounds_of(const float* from, std::size_t count) {
    constexpr std::size_t lanes = 64;
    float least[lanes], greatest[lanes];
    std::uint32_t unordered[lanes] = {};
    std::fill_n(least, lanes, infinite);
    std::fill_n(greatest, lanes, -infinite);
    const auto take = [&](float value, std::size_t lane) {
        least[lane] = value < least[lane] ? value : least[lane];
        greatest[lane] = value > greatest[lane] ? value : greatest[lane];
        unordered[lane] |= value != value;
    };
    std::size_t done = 0;
    for (; done + lanes <= count; done += lanes)
        for (std::size_t lane = 0; lane < lanes; ++lane) take(from[done + lane], lane);
    for (; done < count; ++done) take(from[done], 0);
    constexpr float nan = std::numeric_limits<float>::quiet_NaN();
    if (std::any_of(unordered, unordered + lanes, [](std::uint32_t any) { return any != 0; })) return {nan, nan};
    return {*std::min_element(least, least + lanes), *std::max_element(greatest, greatest + lanes)};
}

}  // namespace

Bounds bounds(const float* values, std::size_t count, int threads) {
    constexpr std::size_t piece = 1 << 16;
    const auto pieces = static_cast<int>((count + piece - 1) / piece);
    std::vector<Bounds> found(pieces);
    Team(threads, pieces).run([&](int, int index) {
        found[index] = bounds_of(values + index * piece, std::min(piece, count - index * piece));
    });
    Bounds out{infinite, -infinite};
    for (const Bounds& each : found) {
        if (each.least != each.least) return each;
        out = {std::min(out.least, each.least), std::max(out.greatest, each.greatest)};
    }
    return out;
}

}  // namespace apr
