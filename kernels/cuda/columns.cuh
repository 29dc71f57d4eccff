// Columns of spectra: forward, a step of steps.cuh, and back, all on bins that are in registers.
#pragma once
#include "recombine.cuh"
#include "steps.cuh"
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

#if defined(STEP_BLEND)
// Of the amplitudes given those that the bins take.
INLINE void blend_amplitudes(const Bins& bins, const Weights& weights, int lane, Amplitudes& amplitudes) {
    const bool safe = are_safe(bins, lane);
    for_own<FIRST>(lane, [&](int round, int i) {
#pragma unroll
        for (int k = 0; k < SECOND; ++k) {
            const float squares = squares_of(bins.of[round][k]);
            const float own = safe ? squares * rsqrtf(squares) : amplitude_of(bins.of[round][k]);
            float& amplitude = amplitudes.of[round][k];
            amplitude = fmaf(weights.at(i + FIRST * k), amplitude - own, own);
        }
    });
}
#endif

// The bins of column `column` of the half spectra of result b after the step, with `factor`. transform(slot, bins) makes
// those of an image; `wait`: until the block is there.
template <typename Transform, typename Wait>
INLINE void make_column(const Route& route, int b, int column, const Step& step, float factor, int lane, Bins& bins,
                        Transform transform, Wait wait) {
#if defined(STEP_SCALE)
    transform(route.phase(b), bins);
    for_own<FIRST>(lane, [&](int round, int i) {
#pragma unroll
        for (int k = 0; k < SECOND; ++k) {
            float2& bin = bins.of[round][k];
            bin = scaled(product(bin, step.factor(b, i + FIRST * k, column)), factor);
        }
    });
#else
    const int amplitude_source = route.amplitude(b);
    Amplitudes amplitudes;
    factor = known_factor(amplitude_source, factor);
    transform(amplitude_source < 0 ? b : amplitude_source, bins);
    take_amplitudes(bins, lane, amplitudes);
    wait();
    transform(route.phase(b), bins);
#if defined(STEP_BLEND)
    blend_amplitudes(bins, step.weights(b, column), lane, amplitudes);
#endif
    give_amplitudes(bins, amplitudes, lane, factor);
#endif
}
