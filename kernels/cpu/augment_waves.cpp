// AFA's plane waves: sin(a + b) is two products of a row and a column, and so is the sum of its squares.
#include <algorithm>
#include <cmath>

#include "augment_images.hpp"
#include "extremes.hpp"
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

// Those of a plane's rows and columns, and in float32 what its pixels are made of.
struct Wave {
    Turns down, across;
    Buffer<float> first, second;  // of the rows, times the strength
    Buffer<float> sin, cos;       // of the columns

    explicit Wave(Shape shape)
        : down(shape.height),
          across(shape.width),
          first(room(down)),
          second(room(down)),
          sin(room(across)),
          cos(room(across)) {}

    void round(double gain) const {
        round(down, down.sin, gain, first);
        round(down, down.cos, gain, second);
        round(across, across.sin, 1, sin);
        round(across, across.cos, 1, cos);
    }

   private:
    // Past the last value there is a vector to read.
    static std::size_t room(const Turns& turns) { return turns.vectors * kLanes<double> + kLanes<float>; }

    static void round(const Turns& turns, const Buffer<Doubles>& from, double gain, const Buffer<float>& to) {
        for (int i = 0; i < turns.vectors; ++i) {
            const auto values = __builtin_convertvector(gain * from[i], Vector<float, kVectorBytes / 2>);
            store(to.get() + i * kLanes<double>, values);
        }
    }
};

// clip(value, 0, top), of a number or of a vector.
template <class V>
APR_INLINE V clipped(V value, V top) {
    const V low = value < V{} ? V{} : value;
    return low > top ? top : low;
}

// to = clip(from + first·cos + second·sin, 0, top) for each row. By itself: where it was inlined, GCC kept the numbers
// of a row on the stack, and took half as long again.
[[gnu::noinline]] void add_rows(const float* from, float* to, const Wave& wave, float top, Extremes& extremes) {
    const int height = wave.down.size, width = wave.across.size;
    const int whole = width / kLanes<float> * kLanes<float>;
    const float *sin = wave.sin.get(), *cos = wave.cos.get();
    Extremes seen = extremes;
    for (int y = 0; y < height; ++y, from += width, to += width) {
        const Floats first = broadcast(wave.first[y]), second = broadcast(wave.second[y]);
        const auto sum = [&](Floats values, int x) APR_LAMBDA {
            seen.take(values);
            return clipped(fma(second, load(sin + x), fma(first, load(cos + x), values)), broadcast(top));
        };
        for (int x = 0; x < whole; x += kLanes<float>) store(to + x, sum(load(from + x), x));
        if (whole == width) continue;
        float last[kLanes<float>];
        store(last, sum(Extremes::filled(from + whole, width - whole), whole));
        std::copy_n(last, width - whole, to + whole);
    }
    extremes = seen;
}

// The same with sums in float64.
void add_rows_exactly(const float* from, float* to, const Wave& wave, double gain, float top) {
    const double *sin = wave.across.sin_values(), *cos = wave.across.cos_values();
    const int width = wave.across.size;
    for (int y = 0; y < wave.down.size; ++y, from += width, to += width) {
        const double first = gain * wave.down.sin_values()[y];
        const double second = gain * wave.down.cos_values()[y];
        for (int x = 0; x < width; ++x) {
            to[x] = clipped(from[x] + static_cast<float>(first * cos[x] + second * sin[x]), top);
        }
    }
}

// to = clip(from + wave·strength, 0, top) for one plane; strength is that of the wave's norm 1.
void add_wave(const float* from, float* to, const Wave& wave, double strength, double least_norm, float top,
              Extremes& extremes) {
    const Turns &down = wave.down, &across = wave.across;
    const double square =
        down.sines * across.cosines + 2 * down.products * across.products + down.cosines * across.sines;
    const double gain = strength / std::max(std::sqrt(std::max(square, 0.0)), least_norm);
    // Where all pixels of a few lie near zeros of the wave the products cancel.
    if (square < 1e-2 * down.size * across.size) {
        extremes.take(from, static_cast<std::size_t>(down.size) * across.size);
        return add_rows_exactly(from, to, wave, gain, top);
    }
    wave.round(gain);
    add_rows(from, to, wave, top, extremes);
}

}  // namespace

Bounds add_waves(const WaveTask& task) {
    const AugmentBatch& images = task.images;
    const Shape shape = images.shape;
    Team team(images.threads, images.batch);
    const auto ports = ports_for(images, team.workers());
    const auto rooms = rooms_for(images, team.workers());
    std::vector<Extremes> extremes(team.workers());
    std::vector<Wave> waves;
    for (int i = 0; i < team.workers(); ++i) waves.emplace_back(shape);
    team.run([&](int worker, int n) {
        const float* from = ports[worker].read(n, rooms[worker].get());
        float* to = ports[worker].result(n);
        Wave& wave = waves[worker];
        for (int c = 0; c < shape.channels; ++c) {
            const std::size_t i = static_cast<std::size_t>(n) * shape.channels + c;
            wave.down.set(task.down[i], task.turn);
            wave.across.set(task.across[i], 0);
            add_wave(from + c * shape.plane(), to + c * shape.plane(), wave, task.strength[i] * images.top(),
                     task.least_norm, images.top(), extremes[worker]);
        }
        ports[worker].write(n);
    });
    return bounds_of(extremes);
}

}  // namespace apr
