// Products of one matrix with many, float64.
#pragma once
#include "macros.cuh"

// Results of a block side by side and below each other, and of a thread below each other.
constexpr int kColumns = ACROSS, kDown = DOWN, kRows = EACH;

// Of images (terms, columns) the product of the matrix's columns with an image's, as (columns, rows). The matrix (terms,
// pitch) is 0 farther than `reach` from its diagonal and in the columns past `rows`; pitch is a multiple of kDown.
// A block has kDown / kRows · kColumns threads and kDown × (kColumns + 1) float64 of shared memory.
// Grid: images × blocks down × blocks across.
template <typename Store>
INLINE void multiply(const double* matrix, int pitch, int reach, const double* images, int terms, int rows, int columns,
                     Store store) {
    SHARED(double, tile);
    const int across = (columns + kColumns - 1) / kColumns, blocks = (rows + kDown - 1) / kDown * across;
    const int top = blockIdx.x % blocks / across * kDown, left = blockIdx.x % across * kColumns;
    const size_t number = blockIdx.x / blocks, image = number * rows * columns;
    const int first = threadIdx.x / kColumns * kRows, row = top + first, column = threadIdx.x % kColumns;
    const double* const from = images + number * terms * columns + min(left + column, columns - 1);
    const double2* const weights = reinterpret_cast<const double2*>(matrix + row);
    double sum[kRows] = {};
    const int end = min(terms, row + kRows + reach);
    for (int i = max(0, row - reach); i < end; ++i) {
        const double value = from[static_cast<size_t>(i) * columns];
#pragma unroll
        for (int r = 0; r < kRows; r += 2) {
            const double2 weight = weights[(static_cast<size_t>(i) * pitch + r) / 2];
            sum[r] = fma(weight.x, value, sum[r]);
            sum[r + 1] = fma(weight.y, value, sum[r + 1]);
        }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) tile[(first + r) * (kColumns + 1) + column] = sum[r];
    __syncthreads();
    for (int k = threadIdx.x; k < kDown * kColumns; k += blockDim.x) {
        const int x = left + k / kDown, y = top + k % kDown;
        if (x < columns && y < rows) {
            store(image + static_cast<size_t>(x) * rows + y, tile[k % kDown * (kColumns + 1) + k / kDown]);
        }
    }
}
