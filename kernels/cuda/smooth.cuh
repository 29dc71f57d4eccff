// A symmetric filter in float64 along the columns of images, the border repeated, in SciPy's order: the farthest first.
//
// It writes pixels with rows and columns exchanged, so that two passes smooth both ways. A block makes a tile of
// rows and values; a thread has a few values below each other, whose neighbors slide through its registers.
#pragma once
#include "places.cuh"

constexpr int kBelow = BELOW, kTileRows = TILE_ROWS, kTileValues = TILE_VALUES, kPitch = TILE_PITCH;
constexpr int kGroups = kTileRows / kBelow, kTileThreads = kGroups * kTileValues;
static_assert(kTileValues % 3 == 0 && kTileThreads % (3 * kTileRows) == 0, "a tile has whole pixels, dealt evenly");

// The middle weight and those to one side, reach + 1.
struct Symmetric {
    const double* weights;
    int reach;
};

// The thread's values; the first row that goes into them is at `tile`.
INLINE void filter_below(const double* tile, const Symmetric& filter, double (&sum)[kBelow]) {
    const int reach = filter.reach;
    const double* const middle = tile + reach * kPitch;
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

// Of images of `Channels` numbers a pixel; load(i) is number i of those that come in, store(i, value) takes number i of
// those that go out. A block has kTileThreads threads and kPitch · (kTileRows + 2 · reach) float64 of shared memory.
// Grid: images × tiles down × tiles across.
template <int Channels, typename Load, typename Store>
INLINE void smooth(const Symmetric& filter, int rows, int columns, Load load, Store store) {
    SHARED(double, tile);
    const int values = columns * Channels, reach = filter.reach;
    const int across = (values + kTileValues - 1) / kTileValues, tiles = (rows + kTileRows - 1) / kTileRows * across;
    const int top = blockIdx.x % tiles / across * kTileRows, left = blockIdx.x % across * kTileValues;
    const size_t image = blockIdx.x / tiles * (static_cast<size_t>(rows) * values);
    const int lane = threadIdx.x % kTileValues, group = threadIdx.x / kTileValues;
    const size_t above = image + min(left + lane, values - 1);
    for (int row = group; row < kTileRows + 2 * reach; row += kGroups) {
        const size_t from = above + static_cast<size_t>(repeated(top - reach + row, rows)) * values;
        tile[row * kPitch + lane] = load(from);
    }
    __syncthreads();
    double sum[kBelow];
    filter_below(tile + group * kBelow * kPitch + lane, filter, sum);
    __syncthreads();
#pragma unroll
    for (int j = 0; j < kBelow; ++j) tile[(group * kBelow + j) * kPitch + lane] = sum[j];
    __syncthreads();
    // Down the columns of the tile, pixel by pixel.
    constexpr int kLine = kTileRows * Channels;
    const int place = threadIdx.x % kLine, row = place / Channels, c = place % Channels;
    if (top + row >= rows) return;
    const size_t out = image + (static_cast<size_t>(left / Channels) * rows + top) * Channels + place;
    for (int pixel = threadIdx.x / kLine; pixel < kTileValues / Channels; pixel += kTileThreads / kLine) {
        const int value = pixel * Channels + c;
        if (left + value < values) store(out + static_cast<size_t>(pixel) * rows * Channels, tile[row * kPitch + value]);
    }
}
