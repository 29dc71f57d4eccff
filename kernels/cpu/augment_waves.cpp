// AFA's plane waves: sin(a + b) is two products of a row and a column, and so is the sum of its squares.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "augment_images.hpp"
#include "sines.hpp"
#include "threads.hpp"

namespace apr {
namespace {

// sin and cos of π·(step·linspace(-size / 2, size / 2, size) + turn), and the sums of their squares and of their product.
struct Turns {
    int size, vectors;
    Buffer<Doubles> sin, cos;
    double sines = 0, cosines = 0, products = 0;

    explicit Turns(int count)
        : size(count), vectors((count + kLanes<double> - 1) / kLanes<double>), sin(vectors), cos(vectors) {}

    void set(double step, double turn) {
        const double first = turn - step * size / 2;
        const double apart = size > 1 ? step * size / (size - 1) : 0;
        Doubles sums[3] = {};
        for (int i = 0; i < vectors; ++i) {
            const Doubles at = kAscending<double> + static_cast<double>(i * kLanes<double>);
            const SinCos<double> point = sin_cos_pi<double>(at * apart + first);
            sin[i] = at < static_cast<double>(size) ? point.sin : Doubles{};
            cos[i] = at < static_cast<double>(size) ? point.cos : Doubles{};
            sums[0] += sin[i] * sin[i];
            sums[1] += cos[i] * cos[i];
            sums[2] += sin[i] * cos[i];
        }
        sines = cosines = products = 0;
        for (int lane = 0; lane < kLanes<double>; ++lane) {
            sines += sums[0][lane];
            cosines += sums[1][lane];
            products += sums[2][lane];
        }
    }

    const double* sin_values() const { return reinterpret_cast<const double*>(sin.get()); }
    const double* cos_values() const { return reinterpret_cast<const double*>(cos.get()); }
};

struct Memory {
    Turns down, across;
    Buffer<float> sin, cos;  // of the columns

    explicit Memory(Shape shape)
        : down(shape.height),
          across(shape.width),
          sin(shape.width + kLanes<float>),
          cos(shape.width + kLanes<float>) {}

    void round() const {
        const double *sines = across.sin_values(), *cosines = across.cos_values();
        for (int x = 0; x < across.size; ++x) {
            sin[x] = static_cast<float>(sines[x]);
            cos[x] = static_cast<float>(cosines[x]);
        }
    }
};

// clip(value, 0, top), of a number or of a vector.
template <class V>
APR_INLINE V clipped(V value, V top) {
    const V low = value < V{} ? V{} : value;
    return low > top ? top : low;
}

// to = clip(from + first·cos + second·sin, 0, top) for one row.
void add_row(const float* from, float* to, int width, float first, float second, const float* sin, const float* cos,
             float top) {
    const auto sum = [&](const float* at, int x) APR_LAMBDA {
        const Floats partial = fma(broadcast(first), load(cos + x), load(at));
        return clipped(fma(broadcast(second), load(sin + x), partial), broadcast(top));
    };
    int x = 0;
    for (; x + kLanes<float> <= width; x += kLanes<float>) store(to + x, sum(from + x, x));
    if (x == width) return;
    float padded[kLanes<float>] = {};
    std::copy(from + x, from + width, padded);
    store(padded, sum(padded, x));
    std::copy_n(padded, width - x, to + x);
}

// The same with sums in float64.
void add_row_exactly(const float* from, float* to, int width, double first, double second, const double* sin,
                     const double* cos, float top) {
    for (int x = 0; x < width; ++x) {
        to[x] = clipped(from[x] + static_cast<float>(first * cos[x] + second * sin[x]), top);
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
    if (!cancels) memory.round();
    for (int y = 0; y < down.size; ++y, from += width, to += width) {
        const double first = gain * down.sin_values()[y];
        const double second = gain * down.cos_values()[y];
        if (cancels) {
            add_row_exactly(from, to, width, first, second, across.sin_values(), across.cos_values(), top);
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
