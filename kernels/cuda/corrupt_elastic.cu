// Elastic transform: an affine map as OpenCV has it, then a smooth random displacement of every pixel.
//
// A Gaussian over a line that is mirrored at its ends is a matrix, and the numbers near its diagonal are all that is
// not 0: two products smooth a field. Where the Gaussian is longer than the image that is a fifth of the work.
#include "levels.cuh"
#include "places.cuh"
#include "product.cuh"
#include "random.cuh"

extern "C" __global__ void __launch_bounds__(256)
smooth_down(const double* matrix, int pitch, int reach, const double* noise, int rows, int columns, double* out) {
    multiply(matrix, pitch, reach, noise, rows, rows, columns, [=](size_t i, double value) { out[i] = value; });
}

extern "C" __global__ void __launch_bounds__(256)
smooth_across(const double* matrix, int pitch, int reach, const double* halfway, int rows, int columns, double length,
              float* out) {
    multiply(matrix, pitch, reach, halfway, rows, rows, columns,
             [=](size_t i, double value) { out[i] = static_cast<float>(value * length); });
}

// The maps (n, 6) from places in the result to places in the source. A map moves three corners of a square about the
// middle, (row, column) taken as (x, y), by the first field of the draws. Block × grid: at least n.
extern "C" __global__ void __launch_bounds__(64)
affine_maps(DRAW_PARAMETERS, const double* given, int n, int height, int width, double farthest, float* maps) {
    const int b = blockIdx.x * blockDim.x + threadIdx.x;
    if (b >= n) return;
    double by[8];
    Field(PHILOX(b), 0, given, b, 6).uniform(0, -farthest, farthest, by);
    const float x = height / 2, y = width / 2, reach = min(height, width) / 3;
    const float corner[6] = {x + reach, y + reach, x + reach, y - reach, x - reach, y - reach};
    double to[6];
#pragma unroll
    for (int i = 0; i < 6; ++i) to[i] = corner[i] + static_cast<float>(by[i]);
    // The corners differ in y alone, then in x alone: what they become shows where the axes go.
    const double side = 2.0 * reach;
    const double xx = (to[2] - to[4]) / side, xy = (to[0] - to[2]) / side;
    const double yx = (to[3] - to[5]) / side, yy = (to[1] - to[3]) / side;
    const double move_x = to[0] - xx * corner[0] - xy * corner[1];
    const double move_y = to[1] - yx * corner[0] - yy * corner[1];
    const double determinant = xx * yy - xy * yx, scale = determinant != 0 ? 1 / determinant : 0;
    const double back[4] = {yy * scale, xy * -scale, yx * -scale, xx * scale};
    float* const map = maps + 6 * b;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        map[3 * i] = back[2 * i], map[3 * i + 1] = back[2 * i + 1];
        map[3 * i + 2] = -back[2 * i] * move_x - back[2 * i + 1] * move_y;
    }
}

// However far outside, the edge not repeated.
INLINE int reflected(int at, int size) {
    const int period = 2 * size - 2, rest = abs(at) % period;
    return rest < size ? rest : period - rest;
}
// A whole number; one that is so far away that it cannot be meant, or none, becomes one that is not that far.
INLINE int whole_of(float value) { return static_cast<int>(fminf(fmaxf(value, -1e9f), 1e9f)); }

INLINE float between(float a, float b, float share) { return fmaf(share, b - a, a); }

// The images in 0..1 moved by their maps, float32 (n, H, W, 3).
extern "C" __global__ void __launch_bounds__(256)
warp(const Level* images, int height, int width, int parts, const float* maps, float* moved) {
    const Place place(parts);
    const int pixels = height * width;
    if (place.at >= pixels) return;
    const float* const m = place.in(maps, 6);
    const float x = place.at % width, y = place.at / width;
    const float from_x = fmaf(m[0], x, y * m[1] + m[2]), from_y = fmaf(m[3], x, y * m[4] + m[5]);
    const float left = floorf(from_x), above = floorf(from_y);
    const Level* near[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const int row = reflected(whole_of(above) + i / 2, height);
        const int column = reflected(whole_of(left) + i % 2, width);
        near[i] = place.in(images, 3 * pixels) + 3 * (row * width + column);
    }
    float* const to = place.in(moved, 3 * pixels) + 3 * place.at;
#pragma unroll
    for (int c = 0; c < 3; ++c) {
        float unit[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) unit[i] = float_unit_of(near[i][c]);
        const float upper = between(unit[0], unit[1], from_x - left), lower = between(unit[2], unit[3], from_x - left);
        to[c] = between(upper, lower, from_y - above);
    }
}

// A place along an axis, mirrored at the edges of the outer pixels: the two pixels about it, and the second's share.
struct Along {
    int first, second;
    double share;

    INLINE Along(double at, int size) {
        if (at < 0 || at > size - 1) {
            const double period = 2.0 * size, rest = at + 0.5 - floor((at + 0.5) / period) * period;
            at = (rest < size ? rest : period - rest) - 0.5;
        }
        const int whole = static_cast<int>(floor(at));
        share = at - whole;
        first = repeated(whole, size);
        second = repeated(whole + 1, size);
    }
};

// across, down: where a pixel comes from, float32 (n, H, W), to the right of it and below.
extern "C" __global__ void __launch_bounds__(256)
displace(const float* moved, int height, int width, int parts, const float* across, const float* down, Level* out) {
    const Place place(parts);
    const int pixels = height * width;
    if (place.at >= pixels) return;
    const Along column(place.at % width + static_cast<double>(place.in(across, pixels)[place.at]), width);
    const Along row(place.at / width + static_cast<double>(place.in(down, pixels)[place.at]), height);
    const float* const image = place.in(moved, 3 * pixels);
    const float *const upper = image + 3 * row.first * width, *const lower = image + 3 * row.second * width;
    Level* const to = place.in(out, 3 * pixels) + 3 * place.at;
#pragma unroll
    for (int c = 0; c < 3; ++c) {
        double sum = upper[3 * column.first + c] * (1 - row.share) * (1 - column.share);
        sum += upper[3 * column.second + c] * (1 - row.share) * column.share;
        sum += lower[3 * column.first + c] * row.share * (1 - column.share);
        sum += lower[3 * column.second + c] * row.share * column.share;
        to[c] = to_level(static_cast<float>(sum));
    }
}
