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

void autocontrast(const std::uint8_t* in, std::uint8_t* out, std::size_t pixels) {
    // 96 bytes hold every channel equally often at fixed places: the compiler makes vectors of this loop.
    constexpr std::size_t period = 96;
    std::uint8_t low[period], high[period];
    std::fill_n(low, period, 255);
    std::fill_n(high, period, 0);
    std::size_t i = 0;
    for (; i + period <= 3 * pixels; i += period) {
        for (std::size_t k = 0; k < period; ++k) low[k] = std::min(low[k], in[i + k]);
        for (std::size_t k = 0; k < period; ++k) high[k] = std::max(high[k], in[i + k]);
    }
    for (std::size_t k = 0; i + k < 3 * pixels; ++k) {
        low[k] = std::min(low[k], in[i + k]);
        high[k] = std::max(high[k], in[i + k]);
    }
    Tables tables;
    for (int c = 0; c < 3; ++c) {
        for (std::size_t k = c; k < period; k += 3) {
            low[c] = std::min(low[c], low[k]);
            high[c] = std::max(high[c], high[k]);
        }
        tables[c] = identity();
        if (high[c] <= low[c]) continue;
        const double scale = 255.0 / (high[c] - low[c]);
        const double offset = -low[c] * scale;
        for (int level = 0; level < 256; ++level) {
            const double stretched = level * scale + offset;
            tables[c][level] = static_cast<std::uint8_t>(std::clamp(stretched, 0.0, 255.0));
        }
    }
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

APR_INLINE Pixel pixel(const std::uint8_t* from) {
    return Pixel{static_cast<double>(from[0]), static_cast<double>(from[1]), static_cast<double>(from[2]), 0};
}

struct Warp {
    const double* matrix;
    const std::uint8_t* in;
    int height, width;

    // Where pixel (x, y) of the result lies in the image.
    double source_x(int x, int y) const { return matrix[0] * (x + 0.5) + matrix[1] * (y + 0.5) + matrix[2]; }
    double source_y(int x, int y) const { return matrix[3] * (x + 0.5) + matrix[4] * (y + 0.5) + matrix[5]; }

    const std::uint8_t* at(int x, int y) const {
        const int column = std::clamp(x, 0, width - 1);
        const int row = std::clamp(y, 0, height - 1);
        return in + (static_cast<std::size_t>(row) * width + column) * 3;
    }

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
        const Pixel lower_mix =
            top + 1 < height ? lower + (pixel(at(left + 1, top + 1)) - lower) * dx : upper_mix;
        const Pixel value = upper_mix + (lower_mix - upper_mix) * dy;
        for (int c = 0; c < 3; ++c) to[c] = static_cast<std::uint8_t>(value[c]);
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

bool is_translation(const double* m) {
    return m[0] == 1 && m[1] == 0 && m[3] == 0 && m[4] == 1 && m[2] == std::floor(m[2]) && m[5] == std::floor(m[5]);
}

void warp(const double* matrix, const std::uint8_t* in, std::uint8_t* out, int height, int width) {
    // NaN and infinity are no translation: a comparison with them fails or their parts do.
    if (is_translation(matrix)) return translate(matrix[2], matrix[5], in, out, height, width);
    const Warp warp{matrix, in, height, width};
    for (int y = 0; y < height; ++y) {
        for (int x = 0; x < width; ++x, out += 3) warp.write(x, y, out);
    }
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
