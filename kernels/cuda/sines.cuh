// Sine and cosine in float32, within a few 1e-7, by the polynomials of kernels/cpu/sines.hpp: the same on every device.
#pragma once
#include "macros.cuh"

struct SinCos {
    float sin, cos;
};

// Of quarter turns and an angle of at most π/4.
INLINE SinCos sin_cos(int quarters, float angle) {
    const float square = angle * angle;
    float sin = fmaf(square, 2.7557319e-6f, -1.9841270e-4f);
    sin = fmaf(square, sin, 8.3333333e-3f);
    sin = fmaf(square, sin, -1.6666667e-1f);
    sin = fmaf(square * angle, sin, angle);
    float cos = fmaf(square, -2.7557319e-7f, 2.4801587e-5f);
    cos = fmaf(square, cos, -1.3888889e-3f);
    cos = fmaf(square, cos, 4.1666667e-2f);
    cos = fmaf(square, cos, -0.5f);
    cos = fmaf(square, cos, 1.f);
    const float first = quarters & 1 ? cos : sin, second = quarters & 1 ? sin : cos;
    return {quarters & 2 ? -first : first, (quarters + 1) & 2 ? -second : second};
}

// sin(πt) and cos(πt) for |t| < 2^21.
INLINE SinCos sin_cos_pi(float t) {
    const float quarters = rintf(2 * t);
    return sin_cos(static_cast<int>(quarters), fmaf(quarters, -0.5f, t) * 3.14159265f);
}

// The sine of a phase in 2^-32 turns: sums of phases wrap around and round nowhere.
INLINE float sine_of_phase(unsigned phase) {
    const unsigned quarters = (phase + (1u << 29)) >> 30;
    return sin_cos(quarters, static_cast<float>(static_cast<int>(phase - (quarters << 30))) * 1.4629181e-9f).sin;
}
