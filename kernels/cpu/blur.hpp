// A separable filter over planes whose border is mirrored, again and again where the image is narrower than the window.
#pragma once

#include <algorithm>
#include <vector>

#include "pixels.hpp"

namespace apr {

inline int mirrored(int at, int size) {
    if (at >= 0 && at < size) return at;
    if (size == 1) return 0;
    const int period = 2 * size - 2;
    const int folded = (at % period + period) % period;
    return std::min(folded, period - folded);
}

// What is filtered: the planes of an image, or how far one image's lie from another's.
struct Plain {
    const float* planes;
    APR_INLINE Floats vector(std::size_t at) const { return load(planes + at); }
    APR_INLINE float value(std::size_t at) const { return planes[at]; }
};
struct Apart {
    const float *planes, *others;
    APR_INLINE Floats vector(std::size_t at) const { return load(planes + at) - load(others + at); }
    APR_INLINE float value(std::size_t at) const { return planes[at] - others[at]; }
};

// The lanes' neighbors, to the left where those of `before` are further left, and to the right where `after` is.
template <int... Lane>
APR_INLINE Floats to_the_left(Floats before, Floats own, std::integer_sequence<int, Lane...>) {
    return __builtin_shufflevector(before, own, (Lane + kLanes<float> - 1)...);
}
template <int... Lane>
APR_INLINE Floats to_the_right(Floats own, Floats after, std::integer_sequence<int, Lane...>) {
    return __builtin_shufflevector(own, after, (Lane + 1)...);
}
// Those of the first and of the last lanes of a row.
template <int... Lane>
APR_INLINE Floats left_of_first(Floats own, std::integer_sequence<int, Lane...>) {
    return __builtin_shufflevector(own, own, (Lane == 0 ? 1 : Lane - 1)...);
}
template <int... Lane>
APR_INLINE Floats right_of_last(Floats own, std::integer_sequence<int, Lane...>) {
    return __builtin_shufflevector(own, own, (Lane == kLanes<float> - 1 ? Lane - 1 : Lane + 1)...);
}

class Blur {
   public:
    Blur(Shape shape, const std::vector<float>& window)
        : shape_(shape),
          window_(window),
          reach_(static_cast<int>(window.size() / 2)),
          start_((reach_ + kLanes<float> - 1) / kLanes<float> * kLanes<float>),
          row_(start_ + shape.width + reach_ + kLanes<float>),
          result_(shape.width + kLanes<float>) {}

    // out = combine(filtered, beside, out), of numbers and of vectors. `beside` and `out` are planes like the values'.
    template <class Values, class Combine>
    void run(const Values& values, const float* beside, float* out, const Combine& combine) const {
        const bool usual = reach_ == 1 && window_[0] == window_[2] && shape_.width % kLanes<float> == 0;
        for (int c = 0; c < shape_.channels; ++c) {
            const std::size_t plane = c * shape_.plane();
            if (usual) {
                three_taps(values, plane, beside, out, combine);
                continue;
            }
            for (int y = 0; y < shape_.height; ++y) {
                const std::size_t at = plane + static_cast<std::size_t>(y) * shape_.width;
                any_taps(values, plane, y);
                for (int x = 0; x < shape_.width; ++x) out[at + x] = combine(result_[x], beside[at + x], out[at + x]);
            }
        }
    }

   private:
    std::size_t place(std::size_t plane, int y) const {
        return plane + static_cast<std::size_t>(mirrored(y, shape_.height)) * shape_.width;
    }

    // A plane by the published window: columns, then rows, without a step by way of memory.
    template <class Values, class Combine>
    void three_taps(const Values& values, std::size_t plane, const float* beside, float* out,
                    const Combine& combine) const {
        constexpr int n = kLanes<float>;
        constexpr std::make_integer_sequence<int, n> lanes;
        const int height = shape_.height, width = shape_.width;
        // No fma: GCC takes one apart, lane by lane, whose lanes are shuffled.
        const Floats middle = broadcast(window_[1]), beyond = broadcast(window_[0]);
        for (int y = 0; y < height; ++y) {
            const std::size_t above = place(plane, y - 1), here = place(plane, y), below = place(plane, y + 1);
            const auto column = [&](int x) APR_LAMBDA {
                return middle * values.vector(here + x) + beyond * (values.vector(above + x) + values.vector(below + x));
            };
            const auto put = [&](int x, Floats left, Floats own, Floats right) APR_LAMBDA {
                const Floats filtered = middle * own + beyond * (left + right);
                store(out + here + x, combine(filtered, load(beside + here + x), load(out + here + x)));
            };
            Floats own = column(0);
            Floats left = left_of_first(own, lanes);
            for (int x = 0; x < width - n; x += n) {
                const Floats next = column(x + n);
                put(x, left, own, to_the_right(own, next, lanes));
                left = to_the_left(own, next, lanes);
                own = next;
            }
            put(width - n, left, own, right_of_last(own, lanes));
        }
    }

    // The row of the result for any window.
    template <class Values>
    [[gnu::noinline]] void any_taps(const Values& values, std::size_t plane, int y) const {
        float* row = row_.get() + start_;
        std::fill_n(row, shape_.width, 0.0f);
        for (int tap = 0; tap <= 2 * reach_; ++tap) {
            const std::size_t from = place(plane, y + tap - reach_);
            for (int x = 0; x < shape_.width; ++x) row[x] += window_[tap] * values.value(from + x);
        }
        for (int i = 1; i <= reach_; ++i) {
            row[-i] = row[mirrored(-i, shape_.width)];
            row[shape_.width - 1 + i] = row[mirrored(shape_.width - 1 + i, shape_.width)];
        }
        float* to = result_.get();
        std::fill_n(to, shape_.width, 0.0f);
        for (int tap = 0; tap <= 2 * reach_; ++tap) {
            const float* from = row + tap - reach_;
            for (int x = 0; x < shape_.width; ++x) to[x] += window_[tap] * from[x];
        }
    }

    Shape shape_;
    const std::vector<float>& window_;
    int reach_, start_;
    Buffer<float> row_, result_;
};

}  // namespace apr
