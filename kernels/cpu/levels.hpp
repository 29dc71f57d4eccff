// Levels of neighboring pixels in float64, from bytes and back.
#pragma once

#include <algorithm>
#include <cstring>
#include <utility>

#include "pixels.hpp"

namespace apr {

// Pixels that are handled at a time: two vectors per channel.
inline constexpr std::size_t kTogether = kLanes<float>;

struct Levels {
    Doubles of[3][2];

    // From `count` pixels at least; what lies past them is 0. A load takes in 4 bytes after the last whole pixel.
    APR_INLINE static Levels read(const std::uint8_t* from, std::size_t count) {
        constexpr std::size_t taken = 3 * kTogether + 4;
        if (3 * count >= taken) return of_pixels(spread(load_pixels(from), kEachByte));
        std::uint8_t padded[taken] = {};
        std::memcpy(padded, from, 3 * std::min(count, kTogether));
        return of_pixels(spread(load_pixels(padded), kEachByte));
    }

    // Levels in 0..255, truncated, to `count` pixels at most.
    APR_INLINE void write(std::uint8_t* to, std::size_t count) const {
        const Ints pixels = join(packed(0), packed(1), kEach);
        if (count >= kTogether) return store_pixels<true>(pack(pixels, kEachByte), to);
        std::uint8_t last[3 * kTogether];
        store_pixels<true>(pack(pixels, kEachByte), last);
        std::memcpy(to, last, 3 * count);
    }

   private:
    using Whole = Vector<std::int32_t, 4 * kLanes<double>>;
    static constexpr std::make_integer_sequence<int, kLanes<double>> kEachHalf{};
    static constexpr std::make_integer_sequence<int, kLanes<float>> kEach{};

    APR_INLINE static Levels of_pixels(Ints pixels) {
        Levels out;
#pragma GCC unroll 3
        for (int c = 0; c < 3; ++c) {
            const Ints channel = (pixels >> (8 * c)) & 255;
            out.of[c][0] = __builtin_convertvector(part<0>(channel, kEachHalf), Doubles);
            out.of[c][1] = __builtin_convertvector(part<kLanes<double>>(channel, kEachHalf), Doubles);
        }
        return out;
    }

    APR_INLINE Whole packed(int half) const {
        const auto whole = [&](int c) { return __builtin_convertvector(of[c][half], Whole); };
        return whole(0) | whole(1) << 8 | whole(2) << 16;
    }
};

// Calls change(first, levels) for all pixels, kTogether at a time; it leaves levels in 0..255.
template <class Change>
APR_INLINE void change_levels(const std::uint8_t* in, std::uint8_t* out, std::size_t pixels, const Change& change) {
    for (std::size_t first = 0; first < pixels; first += kTogether) {
        Levels levels = Levels::read(in + 3 * first, pixels - first);
        change(first, levels);
        levels.write(out + 3 * first, pixels - first);
    }
}

APR_INLINE Doubles clipped(Doubles value, double high) {
    const Doubles positive = value > 0.0 ? value : Doubles{};
    return positive < high ? positive : broadcast(high);
}

// A value of 0..1, or beyond, as a level of 0..255.
APR_INLINE Doubles to_level(Doubles unit) { return clipped(unit, 1.0) * 255.0; }

}  // namespace apr
