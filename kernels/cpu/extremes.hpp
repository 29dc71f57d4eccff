// The least and the greatest of values that a pass looks at anyway.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <vector>

#include "augment.hpp"
#include "simd.hpp"

namespace apr {

inline constexpr float kInfinite = std::numeric_limits<float>::infinity();

// One running extreme would have to be kept in order, so each lane has its own. NaN, which no order has, is noted.
struct Extremes {
    Floats least = Floats{} + kInfinite;
    Floats greatest = Floats{} - kInfinite;
    Ints unordered = {};

    APR_INLINE void take(Floats values) {
        least = values < least ? values : least;
        greatest = values > greatest ? values : greatest;
        unordered |= values != values;
    }

    // `count` values, fewer than a vector has, at least one; a vector of them and what fills it up.
    APR_INLINE static Floats filled(const float* from, int count) {
        float padded[kLanes<float>];
        std::copy_n(from, count, padded);
        std::fill(padded + count, padded + kLanes<float>, from[0]);
        return load(padded);
    }

    void take(const float* from, std::size_t count) {
        Extremes seen = *this;
        std::size_t done = 0;
        for (; done + kLanes<float> <= count; done += kLanes<float>) seen.take(load(from + done));
        if (done < count) seen.take(filled(from + done, static_cast<int>(count - done)));
        *this = seen;
    }
};

// Of all that the threads have seen.
inline Bounds bounds_of(const std::vector<Extremes>& seen) {
    Bounds out{kInfinite, -kInfinite};
    for (const Extremes& each : seen) {
        for (int lane = 0; lane < kLanes<float>; ++lane) {
            if (each.unordered[lane] != 0) {
                constexpr float nan = std::numeric_limits<float>::quiet_NaN();
                return {nan, nan};
            }
            out = {std::min(out.least, each.least[lane]), std::max(out.greatest, each.greatest[lane])};
        }
    }
    return out;
}

}  // namespace apr
