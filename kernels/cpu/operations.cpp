#include "operations.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "simd.hpp"
#include "tables.hpp"
#include "warps.hpp"

namespace apr {
namespace {

Table identity() {
    Table table;
    for (int level = 0; level < 256; ++level) table[level] = static_cast<std::uint8_t>(level);
    return table;
}

// The table of values, 0..255, that `value` gives for kLanes<double> levels from `level` on.
template <class Value>
Table table_of(const Value& value) {
    Table table;
    for (int level = 0; level < 256; level += kLanes<double>) store_bytes(table.data() + level, value(level));
    return table;
}

// The darkest and the brightest level of each channel.
struct Range {
    std::uint8_t low[3], high[3];
};

Range range_of(const std::uint8_t* in, std::size_t bytes) {
    // Three vectors hold every channel equally often, always in the same lanes.
    constexpr int width = 32;
    using Lane = Vector<std::uint8_t, width>;
    Lane low[3], high[3];
    for (int k = 0; k < 3; ++k) high[k] = ~(low[k] = ~Lane{});
    std::size_t i = 0;
    for (; i + 3 * width <= bytes; i += 3 * width) {
#pragma GCC unroll 3
        for (int k = 0; k < 3; ++k) {
            Lane levels;
            std::memcpy(&levels, in + i + k * width, width);
            low[k] = levels < low[k] ? levels : low[k];
            high[k] = levels > high[k] ? levels : high[k];
        }
    }
    std::uint8_t lows[3 * width], highs[3 * width];
    std::memcpy(lows, low, sizeof(low));
    std::memcpy(highs, high, sizeof(high));
    // Lanes that a multiple of three lies between are of one channel: halve them until there are three.
#pragma GCC unroll 5
    for (int left = 3 * width / 2; left >= 3; left /= 2) {
        for (int k = 0; k < left; ++k) {
            lows[k] = std::min(lows[k], lows[k + left]);
            highs[k] = std::max(highs[k], highs[k + left]);
        }
    }
    Range range;
    std::memcpy(range.low, lows, 3);
    std::memcpy(range.high, highs, 3);
    for (; i < bytes; ++i) {
        range.low[i % 3] = std::min(range.low[i % 3], in[i]);
        range.high[i % 3] = std::max(range.high[i % 3], in[i]);
    }
    return range;
}

Table stretching(int low, int high) {
    if (high <= low) return identity();
    const double scale = 255.0 / (high - low);
    const double offset = -low * scale;
    return table_of([=](int level) {
        const Doubles stretched = (level + kAscending<double>) * scale + offset;
        const Doubles positive = stretched < 0.0 ? Doubles{} : stretched;
        return positive > 255.0 ? broadcast(255.0) : positive;
    });
}

void autocontrast(const std::uint8_t* in, std::uint8_t* out, std::size_t pixels) {
    const Range range = range_of(in, 3 * pixels);
    Tables tables;
    for (int c = 0; c < 3; ++c) tables[c] = stretching(range.low[c], range.high[c]);
    look_up(tables, in, out, pixels);
}

using Counts = std::array<std::uint32_t, 256>;

// How many pixels are darker than each level, in three channels: side by side the sums do not wait for each other.
void accumulate(const Counts* counts, Counts* darker) {
    std::uint32_t sum[3] = {};
    for (int level = 0; level < 256; ++level) {
#pragma GCC unroll 3
        for (int c = 0; c < 3; ++c) {
            darker[c][level] = sum[c];
            sum[c] += counts[c][level];
        }
    }
}

Table flattening(const Counts& counts, const Counts& darker, std::size_t pixels) {
    int brightest = 255;
    while (counts[brightest] == 0) --brightest;
    const std::size_t step = (pixels - counts[brightest]) / 255;
    if (step == 0) return identity();
    // The whole part of (step / 2 + darker) / step: half a step's part more is never the next one, and makes up for all
    // roundings.
    const double inverse = 1.0 / static_cast<double>(step);
    const double before = static_cast<double>(step / 2) + 0.5;
    return table_of([&](int level) {
        Vector<std::int32_t, kVectorBytes / 2> pixels_darker;
        std::memcpy(&pixels_darker, darker.data() + level, sizeof(pixels_darker));
        const Doubles quotient = (__builtin_convertvector(pixels_darker, Doubles) + before) * inverse;
        return quotient > 255.0 ? broadcast(255.0) : quotient;
    });
}

void equalize(const std::uint8_t* in, std::uint8_t* out, std::size_t pixels) {
    Counts counts[3] = {}, darker[3];
    for (std::size_t i = 0; i < 3 * pixels; i += 3) {
        for (int c = 0; c < 3; ++c) ++counts[c][in[i + c]];
    }
    accumulate(counts, darker);
    Tables tables;
    for (int c = 0; c < 3; ++c) tables[c] = flattening(counts[c], darker[c], pixels);
    look_up(tables, in, out, pixels);
}

void posterize(int bits, const std::uint8_t* in, std::uint8_t* out, std::size_t pixels) {
    const auto mask = static_cast<std::uint8_t>(256 - (1 << (8 - bits)));
    for (std::size_t i = 0; i < 3 * pixels; ++i) out[i] = in[i] & mask;
}

void solarize(double threshold, const std::uint8_t* in, std::uint8_t* out, std::size_t pixels) {
    // The levels below the threshold: none for NaN, as no level compares less.
    const int below = threshold > 0 ? static_cast<int>(std::ceil(std::min(threshold, 256.0))) : 0;
    for (std::size_t i = 0; i < 3 * pixels; ++i) out[i] = in[i] < below ? in[i] : static_cast<std::uint8_t>(255 - in[i]);
}

}  // namespace

void operate(Operation operation, const double* parameters, const std::uint8_t* in, std::uint8_t* out, int height,
             int width) {
    const std::size_t pixels = static_cast<std::size_t>(height) * width;
    switch (operation) {
        case Operation::kAutocontrast: return autocontrast(in, out, pixels);
        case Operation::kEqualize: return equalize(in, out, pixels);
        case Operation::kPosterize: return posterize(static_cast<int>(parameters[0]), in, out, pixels);
        case Operation::kSolarize: return solarize(parameters[0], in, out, pixels);
        default: return warp(parameters, in, out, height, width);
    }
}

}  // namespace apr
