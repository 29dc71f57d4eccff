// Columns of half spectra in shared memory: `Count` of each channel, one every PITCH points.
#pragma once
#include "recombine.cuh"
#include "transform.cuh"

// What a spectrum is set to where there is no image to take the amplitude from: no number rather than a wrong one.
INLINE float no_number() { return __int_as_float(0x7fc00000); }

INLINE void load_roots(const float2* roots, float2* to) {
    for (int i = threadIdx.x; i < SIZE; i += blockDim.x) to[i] = roots[i];
}

// Gives `own` the amplitudes of `given`, bin by bin; `factor` is that of the inverse transforms.
template <int Count> INLINE void recombine_columns(float2* own, const float2* given, bool across_channels, float factor) {
    for (int i = threadIdx.x; i < SIZE * Count; i += blockDim.x) {
        const int at = i / SIZE * PITCH + i % SIZE;
        float2 a[3], p[3];
#pragma unroll
        for (int c = 0; c < 3; ++c) {
            a[c] = own[c * Count * PITCH + at];
            p[c] = given[c * Count * PITCH + at];
        }
        recombine_bin(a, p, across_channels, factor);
#pragma unroll
        for (int c = 0; c < 3; ++c) own[c * Count * PITCH + at] = a[c];
    }
}
