// Gaussian, defocus and glass blur.
#include "levels.cuh"
#include "random.cuh"
#include "smooth.cuh"

// ---- Gaussian: uint8 (n, rows, columns, 3) to float64 (n, columns, rows, 3), and a second time back to uint8 ----

extern "C" __global__ void __launch_bounds__(384)
smooth_levels(const Level* images, const double* weights, int reach, int rows, int columns, double* out) {
    smooth<3>(Symmetric{weights, reach}, rows, columns, [=](size_t i) { return unit_of(images[i]); },
           [=](size_t i, double value) { out[i] = value; });
}

extern "C" __global__ void __launch_bounds__(384)
smooth_to_levels(const double* halfway, const double* weights, int reach, int rows, int columns, Level* out) {
    smooth<3>(Symmetric{weights, reach}, rows, columns, [=](size_t i) { return halfway[i]; },
           [=](size_t i, double value) { out[i] = to_level(value); });
}

// ---- Defocus: a disk of (2 · reach + 1)² weights, the image mirrored at its edges ----

// A block makes kTile × kTile pixels of one channel; a thread has kBelow below each other, and reads each number that
// goes into them once. The reference sums by a Fourier transform: no order of roundings is to be kept.
// columns: the disk's, each with kBelow - 1 weights of 0 at its end. Shared: the columns and (kTile + 2 · reach)² float64.
// Grid: images × 3 × tiles down × tiles across.
extern "C" __global__ void __launch_bounds__(256)
defocus(IMAGE_PARAMETERS, const double* columns, int reach) {
    SHARED(double, weights);
    constexpr int kTile = DISK_TILE;
    const int side = 2 * reach + 1, pitch = kTile + 2 * reach, line = side + kBelow - 1;
    double* const tile = weights + side * line;
    const int across = (width + kTile - 1) / kTile, tiles = (height + kTile - 1) / kTile * across;
    const int top = blockIdx.x % tiles / across * kTile, left = blockIdx.x % across * kTile;
    const int c = blockIdx.x / tiles % 3;
    const size_t image = blockIdx.x / (3 * tiles) * (static_cast<size_t>(height) * width);
    for (int k = threadIdx.x; k < side * line; k += blockDim.x) weights[k] = columns[k];
    for (int k = threadIdx.x; k < pitch * pitch; k += blockDim.x) {
        // What lies past the neighbors of the last pixels goes into none.
        const int row = mirrored(min(top + k / pitch - reach, height - 1 + reach), height);
        const int column = mirrored(min(left + k % pitch - reach, width - 1 + reach), width);
        tile[k] = unit_of(images[3 * (image + static_cast<size_t>(row) * width + column) + c]);
    }
    __syncthreads();
    const int first = threadIdx.x / kTile * kBelow, x = threadIdx.x % kTile;
    double sum[kBelow] = {};
    for (int right = 0; right < side; ++right) {
        const double *from = tile + first * pitch + x + right, *next = weights + right * line;
        // Each pixel's weights lie one step behind those of the pixel above it.
        double weight[kBelow] = {};
#pragma unroll 4
        for (int down = 0; down < line; ++down, from += pitch) {
#pragma unroll
            for (int j = kBelow - 1; j > 0; --j) weight[j] = weight[j - 1];
            weight[0] = *next++;
#pragma unroll
            for (int j = 0; j < kBelow; ++j) sum[j] = fma(*from, weight[j], sum[j]);
        }
    }
    if (left + x >= width) return;
#pragma unroll
    for (int j = 0; j < kBelow; ++j) {
        const int y = top + first + j;
        if (y < height) out[3 * (image + static_cast<size_t>(y) * width + left + x) + c] = to_level(sum[j]);
    }
}

// ---- Glass: each pixel, from the last to the first, becomes what its neighbor is by then ----

// How far away in the image each pixel's neighbor is, (n, times · inner) in the order of the draws, where `inner` are
// the (height - 2 · reach) · (width - 2 · reach) pixels that are drawn for. Four a thread. Grid: n × parts.
extern "C" __global__ void __launch_bounds__(256)
glass_neighbors(DRAW_PARAMETERS, const double* given, int count, int parts, int reach, int width, int* neighbors) {
    const Place place(parts);
    if (4 * place.at >= count) return;
    int shift[8];
    Field(PHILOX(place.image), 0, given, place.image, 2 * count).integer(place.at, -reach, 2 * reach, shift);
    int* const out = place.in(neighbors, count);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        if (4 * place.at + i < count) out[4 * place.at + i] = shift[2 * i + 1] * width + shift[2 * i];
    }
}

// Where a pixel comes from in one pass: a neighbor that was changed before shows what it had become.
INLINE int glass_origin(int pixel, const int* neighbors, int reach, int height, int width) {
    const int rows = height - 2 * reach, columns = width - 2 * reach;
    for (;;) {
        // The last pixel is drawn for first.
        const int row = height - reach - pixel / width, column = width - reach - pixel % width;
        if (row < 0 || row >= rows || column < 0 || column >= columns) return pixel;
        const int neighbor = pixel + neighbors[row * columns + column];
        if (neighbor <= pixel) return neighbor;
        pixel = neighbor;
    }
}

extern "C" __global__ void __launch_bounds__(256)
glass_move(IMAGE_PARAMETERS, int parts, const int* neighbors, int reach, int times) {
    const Place place(parts);
    const int pixels = height * width, inner = (height - 2 * reach) * (width - 2 * reach);
    if (place.at >= pixels) return;
    const int* const mine = place.in(neighbors, times * inner);
    int origin = place.at;
    for (int time = times - 1; time >= 0; --time) origin = glass_origin(origin, mine + time * inner, reach, height, width);
    const Level* const from = place.in(images, 3 * pixels) + 3 * origin;
    Level* const to = place.in(out, 3 * pixels) + 3 * place.at;
#pragma unroll
    for (int c = 0; c < 3; ++c) to[c] = from[c];
}
