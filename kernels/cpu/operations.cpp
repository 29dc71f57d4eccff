#include "operations.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "simd.hpp"

namespace apr {
namespace {

using Table = std::array<std::uint8_t, 256>;
using Tables = std::array<Table, 3>;

Table identity() {
    Table table;
    for (int level = 0; level < 256; ++level) table[level] = static_cast<std::uint8_t>(level);
    return table;
}

void look_up(const Tables& tables, const std::uint8_t* in, std::uint8_t* out, std::size_t pixels) {
    for (std::size_t i = 0; i < 3 * pixels; i += 3) {
        out[i] = tables[0][in[i]];
        out[i + 1] = tables[1][in[i + 1]];
        out[i + 2] = tables[2][in[i + 2]];
    }
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
    Range range{{255, 255, 255}, {0, 0, 0}};
    for (int k = 0; k < 3 * width; ++k) {
        range.low[k % 3] = std::min<std::uint8_t>(range.low[k % 3], low[k / width][k % width]);
        range.high[k % 3] = std::max<std::uint8_t>(range.high[k % 3], high[k / width][k % width]);
    }
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
    Table table;
    for (int level = 0; level < 256; ++level) {
        table[level] = static_cast<std::uint8_t>(std::clamp(level * scale + offset, 0.0, 255.0));
    }
    return table;
}

void autocontrast(const std::uint8_t* in, std::uint8_t* out, std::size_t pixels) {
    const Range range = range_of(in, 3 * pixels);
    Tables tables;
    for (int c = 0; c < 3; ++c) tables[c] = stretching(range.low[c], range.high[c]);
    look_up(tables, in, out, pixels);
}

Table flattening(const std::array<std::uint32_t, 256>& histogram, std::size_t pixels) {
    int brightest = 255;
    while (histogram[brightest] == 0) --brightest;
    const std::size_t step = (pixels - histogram[brightest]) / 255;
    if (step == 0) return identity();
    Table table;
    std::size_t sum = step / 2;
    for (int level = 0; level < 256; ++level) {
        table[level] = static_cast<std::uint8_t>(std::min<std::size_t>(sum / step, 255));
        sum += histogram[level];
    }
    return table;
}

void equalize(const std::uint8_t* in, std::uint8_t* out, std::size_t pixels) {
    // Two sets of counters in turn: one that is counted twice in a row would wait for itself.
    std::array<std::uint32_t, 256> counts[2][3] = {};
    std::size_t i = 0;
    for (; i + 2 <= pixels; i += 2) {
        for (int c = 0; c < 3; ++c) {
            ++counts[0][c][in[3 * i + c]];
            ++counts[1][c][in[3 * i + 3 + c]];
        }
    }
    for (int c = 0; i < pixels && c < 3; ++c) ++counts[0][c][in[3 * i + c]];
    Tables tables;
    for (int c = 0; c < 3; ++c) {
        for (int level = 0; level < 256; ++level) counts[0][c][level] += counts[1][c][level];
        tables[c] = flattening(counts[0][c], pixels);
    }
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

// One pixel as four float64 numbers; the fourth is nothing.
using Pixel = Vector<double, 32>;
using Levels = Vector<std::int32_t, 16>;

APR_INLINE Pixel pixel(const std::uint8_t* from) {
    return Pixel{static_cast<double>(from[0]), static_cast<double>(from[1]), static_cast<double>(from[2]), 0};
}

using Bytes16 = Vector<std::uint8_t, 16>;

// The pixel and its right neighbour, from a load of 8 bytes, 2 more than they have.
APR_INLINE void two_pixels(const std::uint8_t* from, Pixel& left, Pixel& right) {
    std::int64_t eight;
    std::memcpy(&eight, from, 8);
    const auto bytes = bits<Bytes16>(Vector<std::int64_t, 16>{eight, 0});
    const Bytes16 first = __builtin_shufflevector(bytes, bytes, 0, 8, 8, 8, 1, 8, 8, 8, 2, 8, 8, 8, 8, 8, 8, 8);
    const Bytes16 second = __builtin_shufflevector(bytes, bytes, 3, 8, 8, 8, 4, 8, 8, 8, 5, 8, 8, 8, 8, 8, 8, 8);
    left = __builtin_convertvector(bits<Levels>(first), Pixel);
    right = __builtin_convertvector(bits<Levels>(second), Pixel);
}

// The three levels as the low bytes of a word, truncated.
APR_INLINE std::int32_t packed(Pixel value) {
    const auto bytes = bits<Bytes16>(__builtin_convertvector(value, Levels));
    const Bytes16 low =
        __builtin_shufflevector(bytes, bytes, 0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    return bits<Levels>(low)[0];
}

// The affine warps. `Across` and `Down` say along which axes a source may lie between two pixels; along another one
// source and result have the same coordinate, the fraction is 0, and the interpolation changes nothing.
template <bool Across, bool Down>
struct Warp {
    static constexpr int kBlock = 8;

    const double* matrix;
    const std::uint8_t* in;
    int height, width;

    // Where pixel (x, y) of the result lies in the image.
    double source_x(int x, int y) const { return matrix[0] * (x + 0.5) + matrix[1] * (y + 0.5) + matrix[2]; }
    double source_y(int x, int y) const { return matrix[3] * (x + 0.5) + matrix[4] * (y + 0.5) + matrix[5]; }

    [[gnu::noinline]] void run(std::uint8_t* out) const {
        for (int y = 0; y < height; ++y) {
            int x = 0;
            while (x < width) {
                // Coordinates grow or fall steadily along a row: what holds at both ends holds between them.
                const bool block = x + kBlock <= width && is_inner(x, y) && is_inner(x + kBlock - 1, y);
                const int count = block ? kBlock : 1;
                block ? write_block(x, y, out) : write(x, y, out);
                x += count;
                out += 3 * count;
            }
        }
    }

    // All four neighbours are pixels, with a row below them that a load may run into.
    bool is_inner(int x, int y) const {
        const double sx = source_x(x, y);
        const double sy = source_y(x, y);
        return (!Across || (sx >= 0.5 && sx - 0.5 < width - 1)) && (Down ? sy >= 0.5 && sy - 0.5 < height - 2 : y < height - 1);
    }

    void write_block(int x, int y, std::uint8_t* to) const {
        // All of it before the first byte is written, which for all that the compiler knows could change the matrix.
        std::int32_t levels[kBlock];
#pragma GCC unroll 8
        for (int i = 0; i < kBlock; ++i) {
            const double sx = source_x(x + i, y) - 0.5;
            const double sy = source_y(x + i, y) - 0.5;
            const int left = static_cast<int>(sx);
            const int top = static_cast<int>(sy);
            levels[i] = packed(inner(Across ? left : x + i, Down ? top : y, sx - left, sy - top));
        }
        // Four bytes at once, of which the next pixel overwrites the last.
        for (int i = 0; i + 1 < kBlock; ++i) std::memcpy(to + 3 * i, &levels[i], 4);
        std::memcpy(to + 3 * (kBlock - 1), &levels[kBlock - 1], 3);
    }

    APR_INLINE Pixel inner(int left, int top, double dx, double dy) const {
        const std::uint8_t* from = in + (static_cast<std::size_t>(top) * width + left) * 3;
        Pixel value = mixed_across(from, dx);
        if constexpr (Down) {
            const Pixel lower = mixed_across(from + 3 * static_cast<std::size_t>(width), dx);
            value = value + (lower - value) * dy;
        }
        return value;
    }

    APR_INLINE static Pixel mixed_across(const std::uint8_t* from, double dx) {
        Pixel value, right;
        two_pixels(from, value, right);
        return Across ? value + (right - value) * dx : value;
    }

    // One pixel anywhere, word for word as Pillow has it.
    void write(int x, int y, std::uint8_t* to) const {
        const double sx = source_x(x, y);
        const double sy = source_y(x, y);
        if (!(sx >= 0 && sx < width && sy >= 0 && sy < height)) {
            std::memset(to, 0, 3);
            return;
        }
        const int left = static_cast<int>(std::floor(sx - 0.5));
        const int top = static_cast<int>(std::floor(sy - 0.5));
        const double dx = (sx - 0.5) - left;
        const double dy = (sy - 0.5) - top;
        const Pixel upper = pixel(at(left, top));
        const Pixel upper_mix = upper + (pixel(at(left + 1, top)) - upper) * dx;
        const Pixel lower = pixel(at(left, top + 1));
        // At the bottom the upper line counts twice.
        const Pixel lower_mix = top + 1 < height ? lower + (pixel(at(left + 1, top + 1)) - lower) * dx : upper_mix;
        const Pixel value = upper_mix + (lower_mix - upper_mix) * dy;
        for (int c = 0; c < 3; ++c) to[c] = static_cast<std::uint8_t>(value[c]);
    }

    const std::uint8_t* at(int x, int y) const {
        const int column = std::clamp(x, 0, width - 1);
        const int row = std::clamp(y, 0, height - 1);
        return in + (static_cast<std::size_t>(row) * width + column) * 3;
    }
};

// out(x, y) = in(x + dx, y + dy), black outside.
void translate(double dx, double dy, const std::uint8_t* in, std::uint8_t* out, int height, int width) {
    const int right = static_cast<int>(std::clamp<double>(dx, -width, width));
    const int down = static_cast<int>(std::clamp<double>(dy, -height, height));
    const std::size_t from = 3 * static_cast<std::size_t>(std::max(0, -right));
    const std::size_t kept = 3 * static_cast<std::size_t>(width - std::abs(right));
    const std::size_t row = 3 * static_cast<std::size_t>(width);
    for (int y = 0; y < height; ++y, out += row) {
        std::memset(out, 0, row);
        if (y + down < 0 || y + down >= height) continue;
        std::memcpy(out + from, in + (y + down) * row + 3 * static_cast<std::size_t>(std::max(0, right)), kept);
    }
}

void warp(const double* m, const std::uint8_t* in, std::uint8_t* out, int height, int width) {
    const bool same_x = m[0] == 1 && m[1] == 0 && m[2] == 0;
    const bool same_y = m[3] == 0 && m[4] == 1 && m[5] == 0;
    const bool shifted = m[0] == 1 && m[1] == 0 && m[3] == 0 && m[4] == 1;
    // A shift by whole pixels is a copy; infinity less itself is no number and equals nothing.
    if (shifted && m[2] - std::floor(m[2]) == 0 && m[5] - std::floor(m[5]) == 0) {
        return translate(m[2], m[5], in, out, height, width);
    }
    if (same_y) return Warp<true, false>{m, in, height, width}.run(out);
    if (same_x) return Warp<false, true>{m, in, height, width}.run(out);
    Warp<true, true>{m, in, height, width}.run(out);
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
