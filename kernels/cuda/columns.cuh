// Columns of spectra: forward, the exchange of the amplitude, and back, all on bins that are in registers.
#pragma once
#include "recombine.cuh"
#include "transform.cuh"

// The amplitudes of the thread's bins of a column; its places as those of Bins.
struct Amplitudes {
    float of[ROUNDS(FIRST)][SECOND];
};

// Whether no square of a bin has become so small or so large that digits are lost, nor 0.
INLINE bool are_safe(const Bins& bins, int lane) {
    float least = 1.f, most = 1.f;
    for_own<FIRST>(lane, [&](int round, int) {
#pragma unroll
        for (int k = 0; k < SECOND; ++k) {
            least = fminf(least, squares_of(bins.of[round][k]));
            most = fmaxf(most, squares_of(bins.of[round][k]));
        }
    });
    return least > 1e-30f && most < 1e30f;
}

INLINE void take_amplitudes(const Bins& bins, int lane, Amplitudes& amplitudes) {
    const bool safe = are_safe(bins, lane);
    for_own<FIRST>(lane, [&](int round, int) {
        if (safe) {
#pragma unroll
            for (int k = 0; k < SECOND; ++k) {
                const float squares = squares_of(bins.of[round][k]);
                amplitudes.of[round][k] = squares * rsqrtf(squares);
            }
        } else {
#pragma unroll
            for (int k = 0; k < SECOND; ++k) amplitudes.of[round][k] = amplitude_of(bins.of[round][k]);
        }
    });
}

INLINE void give_amplitudes(Bins& bins, const Amplitudes& amplitudes, int lane, float factor) {
    const bool safe = are_safe(bins, lane);
    for_own<FIRST>(lane, [&](int round, int) {
        if (safe) {
#pragma unroll
            for (int k = 0; k < SECOND; ++k) {
                float2& bin = bins.of[round][k];
                bin = scaled(bin, rsqrtf(squares_of(bin)) * (factor * amplitudes.of[round][k]));
            }
        } else {
#pragma unroll
            for (int k = 0; k < SECOND; ++k) {
                float2& bin = bins.of[round][k];
                bin = with_amplitude(bin, factor * amplitudes.of[round][k]);
            }
        }
    });
}
