// A symmetric filter in float64 along the columns of images, the border repeated, in SciPy's order: the farthest first.
//
// It writes pixels with rows and columns exchanged, so that two passes smooth both ways. A block makes a tile of
// 32 × 48 values; a thread has four values below each other, whose neighbors slide through its registers.
#pragma once
#include "places.cuh"

constexpr int kBelow = 4, kTileRows = 32, kTileValues = 48;  // whole pixels of 1 or 3 channels
constexpr int kPitch = 51;  // threads beside each other, which go down columns at the end, meet in no bank

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

// The results of a block for its kBelow values of this thread, from number `first` of its rows on.
INLINE void filter_below(const double* tile, const Symmetric& filter, int first, double (&sum)[kBelow]) {
    const int reach = filter.reach;
    const double* const middle = tile + (reach + first) * kPitch + threadIdx.x % kTileValues;
    double before[kBelow], after[kBelow];
#pragma unroll
    for (int j = 0; j < kBelow; ++j) {
        sum[j] = middle[j * kPitch] * filter.weights[0];
        before[j] = middle[(j - reach) * kPitch];
        after[j] = middle[(j + reach) * kPitch];
    }
#pragma unroll 4
    for (int k = reach; k > 0; --k) {
        const double weight = filter.weights[k];
#pragma unroll
        for (int j = 0; j < kBelow; ++j) sum[j] += (before[j] + after[j]) * weight;
#pragma unroll
        for (int j = 1; j < kBelow; ++j) before[j - 1] = before[j], after[kBelow - j] = after[kBelow - 1 - j];
        before[kBelow - 1] = middle[(kBelow - k) * kPitch];
        after[0] = middle[(k - 1) * kPitch];
    }
}

// load(i) is number i of the images that come in, store(i, value) takes number i of those that go out. A block has
// kTileRows / kBelow · kTileValues threads, and kPitch · (kTileRows + 2 · reach) float64 of shared memory.
// Grid: images × tiles down × tiles across.
template <typename Load, typename Store>
INLINE void smooth(const Symmetric& filter, const Planes& planes, Load load, Store store) {
    SHARED(double, tile);
    const int values = planes.columns * planes.channels, reach = filter.reach;
    const int across = (values + kTileValues - 1) / kTileValues;
    const int tiles = (planes.rows + kTileRows - 1) / kTileRows * across;
    const int top = blockIdx.x % tiles / across * kTileRows, left = blockIdx.x % across * kTileValues;
    const size_t image = blockIdx.x / tiles * planes.size();
    for (int k = threadIdx.x; k < kTileValues * (kTileRows + 2 * reach); k += blockDim.x) {
        const int row = repeated(top - reach + k / kTileValues, planes.rows), value = k % kTileValues;
        const size_t from = image + static_cast<size_t>(row) * values + min(left + value, values - 1);
        tile[k / kTileValues * kPitch + value] = load(from);
    }
    __syncthreads();
    const int first = threadIdx.x / kTileValues * kBelow;
    double sum[kBelow];
    filter_below(tile, filter, first, sum);
    __syncthreads();
#pragma unroll
    for (int j = 0; j < kBelow; ++j) tile[(first + j) * kPitch + threadIdx.x % kTileValues] = sum[j];
    __syncthreads();
    // Down the columns of the tile, pixel by pixel.
    const int channels = planes.channels, line = kTileRows * channels;
    const size_t out = image + (static_cast<size_t>(left / channels) * planes.rows + top) * channels;
    for (int k = threadIdx.x; k < kTileRows * kTileValues; k += blockDim.x) {
        const int pixel = k / line, row = k % line / channels, value = pixel * channels + k % channels;
        if (top + row >= planes.rows || left + value >= values) continue;
        store(out + static_cast<size_t>(pixel) * planes.rows * channels + k % line, tile[row * kPitch + value]);
    }
}
