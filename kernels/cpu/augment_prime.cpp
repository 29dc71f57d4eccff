// PRIME's chains on one image after another.
#include <array>
#include <cmath>

#include "augment_images.hpp"
#include "extremes.hpp"
#include "sines.hpp"
#include "threads.hpp"

namespace apr {
namespace {

constexpr int kLevels = 256;

float clipped(float value) {
    const float low = value < 0.0f ? 0.0f : value;
    return low > 1.0f ? 1.0f : low;
}

// A place in 0..last, which NaN becomes too.
double within(double place, int last) { return place > 0 ? std::min<double>(place, last) : 0; }

// Where the pixels of one step's diffeomorphism come from: the same for all images.
class Displacement {
   public:
    Displacement(Shape shape, const double* left, const double* up)
        : plane_(shape.plane()), at_(plane_), right_(plane_), below_(plane_), dx_(plane_), dy_(plane_) {
        for (int y = 0; y < shape.height; ++y) {
            for (int x = 0; x < shape.width; ++x) {
                const std::size_t i = static_cast<std::size_t>(y) * shape.width + x;
                const double column = within(x - left[i], shape.width - 1);
                const double row = within(y - up[i], shape.height - 1);
                const int x0 = static_cast<int>(column);
                const int y0 = static_cast<int>(row);
                at_[i] = y0 * shape.width + x0;
                right_[i] = at_[i] + (column > x0 ? 1 : 0);
                below_[i] = row > y0 ? shape.width : 0;
                dx_[i] = static_cast<float>(column - x0);
                dy_[i] = static_cast<float>(row - y0);
            }
        }
    }

    void run(const float* __restrict from, float* __restrict to) const {
        const int* __restrict at = at_.get();
        const int* __restrict right = right_.get();
        const int* __restrict below = below_.get();
        for (std::size_t i = 0; i < plane_; ++i) {
            const float upper = from[at[i]] + dx_[i] * (from[right[i]] - from[at[i]]);
            const int left_below = at[i] + below[i];
            const int right_below = right[i] + below[i];
            const float lower = from[left_below] + dx_[i] * (from[right_below] - from[left_below]);
            to[i] = upper + dy_[i] * (lower - upper);
        }
    }

   private:
    std::size_t plane_;
    Buffer<int> at_, right_, below_;
    Buffer<float> dx_, dy_;
};

// clip(x + Σ a_k sin(π(first + k)x), 0, 1) of some vectors; a rotation from term to term, whose rounding stays small.
template <int Count>
APR_INLINE void recolor(const Floats* x, Floats* out, const double* coefficients, int terms, int first) {
    SinCos<float> step[Count], at[Count];
    for (int i = 0; i < Count; ++i) {
        step[i] = sin_cos_pi<float>(x[i]);
        at[i] = sin_cos_pi<float>(x[i] * static_cast<float>(first));
        out[i] = x[i];
    }
    for (int term = 0; term < terms; ++term) {
        const Floats coefficient = broadcast(static_cast<float>(coefficients[term]));
        for (int i = 0; i < Count; ++i) {
            out[i] = fma(coefficient, at[i].sin, out[i]);
            const Floats sin = fma(at[i].cos, step[i].sin, at[i].sin * step[i].cos);
            at[i].cos = fma(at[i].cos, step[i].cos, -(at[i].sin * step[i].sin));
            at[i].sin = sin;
        }
    }
    for (int i = 0; i < Count; ++i) {
        const Floats low = out[i] < 0.0f ? Floats{} : out[i];
        out[i] = low > 1.0f ? broadcast(1.0f) : low;
    }
}

// Of a plane.
void recolor(const float* from, float* to, std::size_t count, const double* coefficients, int terms, int first) {
    constexpr int vectors = 4;
    constexpr std::size_t together = vectors * kLanes<float>;
    for (std::size_t i = 0; i < count; i += together) {
        float values[together] = {};
        const std::size_t here = std::min(together, count - i);
        std::memcpy(values, from + i, here * sizeof(float));
        Floats x[vectors], out[vectors];
        for (int k = 0; k < vectors; ++k) x[k] = load(values + k * kLanes<float>);
        recolor<vectors>(x, out, coefficients, terms, first);
        for (int k = 0; k < vectors; ++k) store(values + k * kLanes<float>, out[k]);
        std::memcpy(to + i, values, here * sizeof(float));
    }
}

class Chains {
   public:
    explicit Chains(const PrimeTask& task)
        : task_(task),
          shape_(task.images.shape),
          port_(task.images),
          whole_(shape_.size()),
          first_(shape_.size()),
          second_(shape_.size()),
          padded_(static_cast<std::size_t>(shape_.height + 2) * (shape_.width + 2)) {
        std::fill_n(padded_.get(), static_cast<std::size_t>(shape_.height + 2) * (shape_.width + 2), 0.0f);
    }

    void run(const std::vector<Displacement>& displacements, int n) {
        const float* given = port_.read(n, whole_.get());
        const bool levels = task_.images.bytes != nullptr;
        if (levels) {
            divide(whole_.get());
        } else {
            extremes.take(given, shape_.size());
        }
        const auto mixture = static_cast<float>(task_.mixture[n]);
        float* __restrict out = port_.result(n);
        for (std::size_t i = 0; i < shape_.size(); ++i) out[i] = (1 - mixture) * given[i];
        for (int chain = 0; chain < task_.chains; ++chain) {
            const int index = n * task_.chains + chain;
            const float* __restrict made = follow(displacements, given, index);
            const auto weight = static_cast<float>(task_.mixture[n] * task_.weight[index]);
            for (std::size_t i = 0; i < shape_.size(); ++i) out[i] += weight * made[i];
        }
        if (levels) {
            for (std::size_t i = 0; i < shape_.size(); ++i) out[i] *= 255.0f;
        }
        port_.write(n);
    }

    Extremes extremes;  // of the images so far

   private:
    void divide(float* values) const {
        for (std::size_t i = 0; i < shape_.size(); ++i) values[i] /= 255.0f;
    }

    // The image after the steps of a chain.
    const float* follow(const std::vector<Displacement>& displacements, const float* image, int index) {
        const std::size_t chains = static_cast<std::size_t>(task_.images.batch) * task_.chains;
        const float* from = image;
        for (int step = 0; step < task_.depth[index]; ++step) {
            float* to = from == first_.get() ? second_.get() : first_.get();
            const std::size_t place = step * chains + index;
            for (int c = 0; c < shape_.channels; ++c) {
                const float* plane = from + c * shape_.plane();
                float* result = to + c * shape_.plane();
                switch (task_.operation[place]) {
                    case 0: displacements[step].run(plane, result); break;
                    case 1: color(plane, result, step, index * shape_.channels + c); break;
                    default: filter(plane, result, task_.kernel + 9 * place);
                }
            }
            from = to;
        }
        return from;
    }

    // In the first step bytes have 256 values.
    void color(const float* from, float* to, int step, int row) const {
        const int terms = task_.terms[step];
        const double* coefficients = task_.color[step] + static_cast<std::size_t>(row) * terms;
        const int first = static_cast<int>(task_.frequency[step]);
        if (step > 0 || task_.images.bytes == nullptr) {
            return recolor(from, to, shape_.plane(), coefficients, terms, first);
        }
        float values[kLevels], table[kLevels];
        for (int level = 0; level < kLevels; ++level) values[level] = static_cast<float>(level) / 255.0f;
        recolor(values, table, kLevels, coefficients, terms, first);
        for (std::size_t i = 0; i < shape_.plane(); ++i) to[i] = table[static_cast<int>(from[i] * 255.0f + 0.5f)];
    }

    void filter(const float* from, float* to, const double* kernel) const {
        const int stride = shape_.width + 2;
        float taps[9];
        std::copy_n(kernel, 9, taps);
        for (int y = 0; y < shape_.height; ++y) {
            std::copy_n(from + static_cast<std::size_t>(y) * shape_.width, shape_.width,
                        padded_.get() + static_cast<std::size_t>(y + 1) * stride + 1);
        }
        for (int y = 0; y < shape_.height; ++y) {
            const float* __restrict row = padded_.get() + static_cast<std::size_t>(y) * stride;
            float* __restrict result = to + static_cast<std::size_t>(y) * shape_.width;
            for (int x = 0; x < shape_.width; ++x) {
                float sum = 0;
                for (int tap = 0; tap < 9; ++tap) sum += taps[tap] * row[tap / 3 * stride + tap % 3 + x];
                result[x] = clipped(sum);
            }
        }
    }

    const PrimeTask& task_;
    Shape shape_;
    ImagePort port_;
    Buffer<float> whole_, first_, second_, padded_;
};

}  // namespace

Bounds mix_chains(const PrimeTask& task) {
    const Shape shape = task.images.shape;
    std::vector<Displacement> displacements;
    for (int step = 0; step < task.steps; ++step) {
        const double* left = task.displacement + 2 * step * shape.plane();
        displacements.emplace_back(shape, left, left + shape.plane());
    }
    Team team(task.images.threads, task.images.batch);
    std::vector<Chains> chains;
    for (int i = 0; i < team.workers(); ++i) chains.emplace_back(task);
    team.run([&](int worker, int n) { chains[worker].run(displacements, n); });
    std::vector<Extremes> seen;
    for (const Chains& each : chains) seen.push_back(each.extremes);
    return bounds_of(seen);
}

}  // namespace apr
