#include "pixel_maps.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace apr {
namespace {

inline constexpr int kTogether = 64;  // pixels whose places are made by vectors of neighbors, before they are fetched

// Six equations by Gaussian elimination with the largest pivot of each column, in OpenCV's order.
void solve(double (&equations)[6][6], double (&values)[6]) {
    for (int i = 0; i < 6; ++i) {
        int pivot = i;
        for (int j = i + 1; j < 6; ++j) {
            if (std::abs(equations[j][i]) > std::abs(equations[pivot][i])) pivot = j;
        }
        std::swap(equations[i], equations[pivot]);
        std::swap(values[i], values[pivot]);
        const double inverse = -1 / equations[i][i];
        for (int j = i + 1; j < 6; ++j) {
            const double factor = equations[j][i] * inverse;
            for (int k = i + 1; k < 6; ++k) equations[j][k] += factor * equations[i][k];
            values[j] += factor * values[i];
        }
    }
    for (int i = 5; i >= 0; --i) {
        for (int j = i + 1; j < 6; ++j) values[i] -= equations[i][j] * values[j];
        values[i] /= equations[i][i];
    }
}

// From places in the result to places in the source.
struct Affine {
    float m[6];

    // Three corners about the middle, (row, column) taken as (x, y), are moved by `by`.
    Affine(Extent extent, const float* by) {
        const float middle[2] = {static_cast<float>(extent.height / 2), static_cast<float>(extent.width / 2)};
        const float reach = static_cast<float>(std::min(extent.height, extent.width) / 3);
        const float points[6] = {middle[0] + reach, middle[1] + reach, middle[0] + reach,
                                 middle[1] - reach, middle[0] - reach, middle[1] - reach};
        double equations[6][6] = {}, v[6];
        for (int i = 0; i < 6; ++i) {
            double* equation = equations[i] + (i % 2 == 0 ? 0 : 3);
            equation[0] = points[i / 2 * 2];
            equation[1] = points[i / 2 * 2 + 1];
            equation[2] = 1;
            v[i] = points[i] + by[i];
        }
        solve(equations, v);
        const double determinant = v[0] * v[4] - v[1] * v[3];
        const double scale = determinant != 0 ? 1 / determinant : 0;
        const double a = v[4] * scale, b = v[1] * -scale, d = v[3] * -scale, e = v[0] * scale;
        const double inverse[6] = {a, b, -a * v[2] - b * v[5], d, e, -d * v[2] - e * v[5]};
        std::copy_n(inverse, 6, m);
    }
};

// The edge not repeated.
int reflected(long place, int size) {
    const long period = 2L * size - 2;
    const long rest = std::abs(place) % period;
    return static_cast<int>(rest < size ? rest : period - rest);
}

APR_INLINE Pixel between(Pixel a, Pixel b, float share) {
    const Pixel apart = b - a;
    Pixel out;
    for (int i = 0; i < 4; ++i) out[i] = fma_lane(share, apart[i], a[i]);
    return out;
}

// Places in float32 along an axis: their whole parts and what they have above them.
struct Steps {
    float whole[kTogether], share[kTogether];

    APR_INLINE Steps(float slope, float start, int first, int count) {
        for (int i = 0; i < count; ++i) {
            const float at = fma_lane(slope, static_cast<float>(first + i), start);
            whole[i] = std::floor(at);
            share[i] = at - whole[i];
        }
    }
};

// Places along an axis, mirrored at the edges of the outer pixels: the two pixels about each, and the second's share.
struct Places {
    std::int32_t first[kTogether], second[kTogether];
    double share[kTogether];

    // Of start + apart·i + shift[i].
    APR_INLINE Places(int start, int apart, const float* shift, int count, int size) {
        double at[kTogether];
        bool outside = false;
        for (int i = 0; i < count; ++i) {
            at[i] = start + apart * i + static_cast<double>(shift[i]);
            outside |= !(at[i] >= 0 && at[i] <= size - 1);
        }
        if (outside) {
            for (int i = 0; i < count; ++i) at[i] = inside(at[i], size);
        }
        for (int i = 0; i < count; ++i) {
            const std::int32_t toward_0 = static_cast<std::int32_t>(at[i]);
            const std::int32_t whole = toward_0 - (at[i] < toward_0);
            share[i] = at[i] - whole;
            first[i] = std::clamp(whole, 0, size - 1);
            second[i] = std::clamp(whole + 1, 0, size - 1);
        }
    }

    static double inside(double at, int size) {
        if (at >= 0 && at <= size - 1) return at;
        const double period = 2.0 * size;
        at = std::fmod(at + 0.5, period);
        if (at < 0) at += period;
        return (at < size ? at : period - at) - 0.5;
    }
};

// Pixels of 0..1 to bytes. What is stored beyond a pixel, the next overwrites.
void to_levels(const Pixel* units, int count, std::uint8_t* out) {
    std::uint8_t levels[4 * kTogether];
    const float* unit = reinterpret_cast<const float*>(units);
    for (int i = 0; i < 4 * count; ++i) {
        levels[i] = static_cast<std::uint8_t>(static_cast<std::int32_t>(std::min(std::max(unit[i], 0.0f), 1.0f) * 255.0f));
    }
    for (int i = 0; i < count - 1; ++i) std::memcpy(out + 3 * i, levels + 4 * i, 4);
    std::memcpy(out + 3 * (count - 1), levels + 4 * (count - 1), 3);
}

// Calls visit(y, x, count) for the pixels of all rows, kTogether at a time.
template <class Visit>
void by_parts(Extent extent, const Visit& visit) {
    for (int y = 0; y < extent.height; ++y) {
        for (int x = 0; x < extent.width; x += kTogether) visit(y, x, std::min(kTogether, extent.width - x));
    }
}

}  // namespace

void to_pixels(const std::uint8_t* in, Extent extent, Pixel* image) {
    float* units = reinterpret_cast<float*>(image);
    std::uint8_t levels[4 * kTogether] = {};
    for (std::size_t done = 0; done < extent.pixels(); done += kTogether) {
        const int count = static_cast<int>(std::min<std::size_t>(kTogether, extent.pixels() - done));
        const std::uint8_t* from = in + 3 * done;
        for (int i = 0; i < count - 1; ++i) std::memcpy(levels + 4 * i, from + 3 * i, 4);
        std::memcpy(levels + 4 * (count - 1), from + 3 * (count - 1), 3);
        for (int i = 0; i < 4 * count; ++i) units[4 * done + i] = static_cast<float>(levels[i]) / 255.0f;
    }
}

void warp(const Pixel* image, Extent extent, const float* by, Pixel* moved) {
    const Affine affine(extent, by);
    const float* m = affine.m;
    const auto [height, width] = extent;
    by_parts(extent, [&, height = height, width = width](int y, int x, int count) {
        const Steps across(m[0], static_cast<float>(y) * m[1] + m[2], x, count);
        const Steps down(m[3], static_cast<float>(y) * m[4] + m[5], x, count);
        for (int i = 0; i < count; ++i) {
            const long column = static_cast<long>(across.whole[i]), row = static_cast<long>(down.whole[i]);
            const Pixel* near[4];
            if (column >= 0 && row >= 0 && column + 1 < width && row + 1 < height) {
                near[0] = image + row * width + column;
                near[1] = near[0] + 1;
                near[2] = near[0] + width;
                near[3] = near[2] + 1;
            } else {
                for (int k = 0; k < 4; ++k) {
                    near[k] = image + static_cast<std::size_t>(reflected(row + k / 2, height)) * width +
                              reflected(column + k % 2, width);
                }
            }
            const Pixel upper = between(*near[0], *near[1], across.share[i]);
            const Pixel lower = between(*near[2], *near[3], across.share[i]);
            *moved++ = between(upper, lower, down.share[i]);
        }
    });
}

void displace(const Pixel* image, Extent extent, const float* across, const float* down, std::size_t stride,
              std::uint8_t* out) {
    const auto [height, width] = extent;
    by_parts(extent, [&, height = height, width = width](int y, int x, int count) {
        const Places rows(y, 0, down + y * stride + x, count, height);
        const Places columns(x, 1, across + y * stride + x, count, width);
        Pixel units[kTogether];
        for (int i = 0; i < count; ++i) {
            const Pixel* upper = image + static_cast<std::ptrdiff_t>(rows.first[i]) * width;
            const Pixel* lower = image + static_cast<std::ptrdiff_t>(rows.second[i]) * width;
            const int left = columns.first[i], right = columns.second[i];
            const double here = 1 - rows.share[i], next = rows.share[i];
            const double of_left = 1 - columns.share[i], of_right = columns.share[i];
            FourDoubles sum = widened(upper[left]) * here * of_left;
            sum += widened(upper[right]) * here * of_right;
            sum += widened(lower[left]) * next * of_left;
            sum += widened(lower[right]) * next * of_right;
            units[i] = __builtin_convertvector(sum, Pixel);
        }
        to_levels(units, count, out);
        out += 3 * count;
    });
}

}  // namespace apr
