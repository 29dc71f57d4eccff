// Rows of an image in shared memory: two real rows as the real and the imaginary part of a complex one, which one
// transform serves. Row y of channel c among `Rows` is in packed[(c·Rows/2 + y/2)·PITCH], even y as the real part.
#pragma once
#include "pixels.cuh"
#include "transform.cuh"

// Columns of a half spectrum.
#define COLUMNS (SIZE / 2 + 1)

template <int Rows> INLINE float* packed_value(float2* packed, int c, int y, int x) {
    float2* point = packed + (c * (Rows / 2) + y / 2) * PITCH + x;
    return y % 2 == 0 ? &point->x : &point->y;
}

// Rows y0..y0 + Rows - 1 of an image, scaled. Four values a load.
template <int Rows> INLINE void read_rows(const In& in, int slot, int y0, float2* packed) {
    const void* image = in.image(slot, 3 * SIZE * SIZE);
    for (int i = threadIdx.x; i < 3 * Rows * SIZE / 4; i += blockDim.x) {
        if (in.kind == kLevelsIn) {
            const uchar4 four = static_cast<const uchar4*>(image)[y0 * (3 * SIZE / 4) + i];
            const unsigned char levels[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
            for (int k = 0; k < 4; ++k) {
                const int value = 4 * i + k, c = value % 3, x = value / 3 % SIZE, y = value / (3 * SIZE);
                *packed_value<Rows>(packed, c, y, x) = in.affine(levels[k], c);
            }
        } else {
            const int c = i / (Rows * SIZE / 4), y = i / (SIZE / 4) % Rows, x = i % (SIZE / 4) * 4;
            const float4 four = static_cast<const float4*>(image)[((c * SIZE + y0 + y) * SIZE + x) / 4];
            const float values[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
            for (int k = 0; k < 4; ++k) *packed_value<Rows>(packed, c, y, x + k) = in.affine(values[k], c);
        }
    }
}

// The packed rows, scaled, as rows y0.. of a view of result b.
template <int Rows> INLINE void write_rows(const Out& out, int b, int view, int y0, float2* packed) {
    if (out.is_levels()) {
        const size_t base = (static_cast<size_t>(b) * SIZE + y0) * (3 * SIZE);
        for (int i = threadIdx.x; i < 3 * Rows * SIZE; i += blockDim.x) {
            const int c = i % 3, x = i / 3 % SIZE, y = i / (3 * SIZE);
            write_pixel(out.data, out.kind, base + i, out.affine(*packed_value<Rows>(packed, c, y, x), c));
        }
        return;
    }
    for (int i = threadIdx.x; i < 3 * Rows * SIZE / 2; i += blockDim.x) {
        const int c = i / (Rows * SIZE / 2), y = i / (SIZE / 2) % Rows, x = i % (SIZE / 2) * 2;
        const size_t plane = (static_cast<size_t>(b) * out.views + view) * 3 + c;
        const float first = out.affine(*packed_value<Rows>(packed, c, y, x), c);
        const float second = out.affine(*packed_value<Rows>(packed, c, y, x + 1), c);
        write_two(out.data, out.kind, (plane * SIZE + y0 + y) * SIZE + x, first, second);
    }
}

// The clean view where one is wanted, and in the place of the mixed one where nothing is mixed.
template <int Rows> INLINE void write_clean(const Out& out, int b, bool mixed, int y0, float2* packed) {
    if (out.data == nullptr) return;
    if (out.views == 2) write_rows<Rows>(out, b, 0, y0, packed);
    if (!mixed) write_rows<Rows>(out, b, out.views - 1, y0, packed);
}

// Column k of the half spectra of the two rows, from the transform of both.
INLINE void split(const float2* row, int k, float2& even, float2& odd) {
    const float2 a = row[k], b = row[k == 0 ? 0 : SIZE - k];
    even = make_float2(0.5f * (a.x + b.x), 0.5f * (a.y - b.y));
    odd = make_float2(0.5f * (a.y + b.y), 0.5f * (b.x - a.x));
}

// The way back. A real row's first and middle columns are real: what they have else is rounding.
INLINE void join(float2* row, int k, float2 even, float2 odd) {
    if (k == 0 || k == SIZE / 2) {
        row[k] = make_float2(even.x, odd.x);
    } else {
        row[k] = make_float2(even.x - odd.y, even.y + odd.x);
        row[SIZE - k] = make_float2(even.x + odd.y, odd.x - even.y);
    }
}
