// A symmetric filter in float64 along the columns of images, the border repeated, in SciPy's order: the farthest first.
//
// It writes pixels with rows and columns exchanged, so that two passes smooth both ways. A block makes a tile of
// 32 × 32 values; a thread has four values below each other, whose neighbors slide through its registers.
#pragma once
#include "places.cuh"

constexpr int kTile = 32, kBelow = 4;

// The middle weight and those to one side, reach + 1.
struct Symmetric {
    const double* weights;
    int reach;
};

// Images of `channels` numbers a pixel.
struct Planes {
    int rows, columns, channels;

    INLINE size_t size() const { return static_cast<size_t>(rows) * columns * channels; }
};

// load(i) is number i of the images that come in, store(i, value) takes number i of those that go out. A block has
// kTile · kTile / kBelow threads, and kTile · (kTile + 2 · reach) float64 of shared memory.
// Grid: images × tiles down × tiles across.
template <typename Load, typename Store>
INLINE void smooth(const Symmetric& filter, const Planes& planes, Load load, Store store) {
    SHARED(double, tile);
    const int values = planes.columns * planes.channels, reach = filter.reach;
    const int across = (values + kTile - 1) / kTile, tiles = (planes.rows + kTile - 1) / kTile * across;
    const int top = blockIdx.x % tiles / across * kTile, left = blockIdx.x % across * kTile;
    const size_t image = blockIdx.x / tiles * planes.size();
    for (int k = threadIdx.x; k < kTile * (kTile + 2 * reach); k += blockDim.x) {
        const int row = repeated(top - reach + k / kTile, planes.rows);
        tile[k] = load(image + static_cast<size_t>(row) * values + min(left + k % kTile, values - 1));
    }
    __syncthreads();
    const int first = threadIdx.x / kTile * kBelow, value = left + threadIdx.x % kTile;
    const double* const middle = tile + (reach + first) * kTile + threadIdx.x % kTile;
    double sum[kBelow], before[kBelow], after[kBelow];
#pragma unroll
    for (int j = 0; j < kBelow; ++j) {
        sum[j] = middle[j * kTile] * filter.weights[0];
        before[j] = middle[(j - reach) * kTile];
        after[j] = middle[(j + reach) * kTile];
    }
    for (int k = reach; k > 0; --k) {
        const double weight = filter.weights[k];
#pragma unroll
        for (int j = 0; j < kBelow; ++j) sum[j] += (before[j] + after[j]) * weight;
#pragma unroll
        for (int j = 1; j < kBelow; ++j) before[j - 1] = before[j], after[kBelow - j] = after[kBelow - 1 - j];
        before[kBelow - 1] = middle[(kBelow - k) * kTile];
        after[0] = middle[(k - 1) * kTile];
    }
    if (value >= values) return;
    const size_t column = image + static_cast<size_t>(value / planes.channels) * planes.rows * planes.channels;
#pragma unroll
    for (int j = 0; j < kBelow; ++j) {
        const int row = top + first + j;
        if (row < planes.rows) store(column + row * planes.channels + value % planes.channels, sum[j]);
    }
}
