// What happens to one bin of the spectrum: the transform over three channels, and the exchange of the amplitude.
#pragma once
#include "complex.cuh"

// The DFT over (r, g, b), in place. With t = g + b as r + t and r - t/2 ± ..., so that gray (r = g = b) gives zeros
// that are exact. Sign -1 is forward, +1 the inverse without its factor 1/3.
template <int Sign, typename C> INLINE void transform_channels(C* bin) {
    const C t = sum(bin[1], bin[2]);
    const C base = difference(bin[0], scaled(t, 0.5f));
    const C turn = scaled(turned<Sign>(difference(bin[1], bin[2])), 0.86602540378443864676);
    bin[0] = sum(bin[0], t);
    bin[1] = sum(base, turn);
    bin[2] = difference(base, turn);
}

// Divided by a power of two that is near the larger part of a, squares keep all of their digits.
struct Scaled {
    float2 by_power;
    float power, squares;

    INLINE explicit Scaled(float2 a) {
        const unsigned larger = __float_as_uint(fmaxf(fabsf(a.x), fabsf(a.y)));
        const unsigned exponent = min(larger & 0x7f800000u, 0x7e800000u);
        power = __uint_as_float(exponent);
        by_power = scaled(a, __uint_as_float(0x7f000000u - exponent));
        squares = squares_of(by_power);
    }
};

INLINE float amplitude_of(float2 a) {
    const Scaled s(a);
    return s.squares == 0.f ? 0.f : s.squares * rsqrtf(s.squares) * s.power;
}
INLINE double amplitude_of(double2 a) { return hypot(a.x, a.y); }

// amplitude·e^{i·∠own}; the phase of 0 is 0.
INLINE float2 with_amplitude(float2 own, float amplitude) {
    const Scaled s(own);
    return s.squares == 0.f ? make_float2(amplitude, 0.f) : scaled(s.by_power, rsqrtf(s.squares) * amplitude);
}
INLINE double2 with_amplitude(double2 own, double amplitude) {
    const double norm = hypot(own.x, own.y);
    return norm == 0 ? make_double2(amplitude, 0.) : scaled(scaled(own, 1 / norm), amplitude);
}

// One bin of three channels, transformed and back: change(c, own, given) of each of their frequencies, with `factor` for
// the inverse transforms.
template <typename C, typename Change>
INLINE void change_bin(C* own, C* given, decltype(C{}.x) factor, Change change) {
    transform_channels<-1>(own);
    transform_channels<-1>(given);
#pragma unroll
    for (int c = 0; c < 3; ++c) own[c] = scaled(change(c, own + c, given + c), factor);
    transform_channels<1>(own);
}
