// What happens to one bin of the spectrum: the transform over three channels, and the exchange of the amplitude.
#pragma once
#include "complex.cuh"

// The DFT over (r, g, b), in place. With t = g + b as r + t and r - t/2 ± ..., so that grey (r = g = b) gives zeros
// that are exact. Sign -1 is forward, +1 the inverse without its factor 1/3.
template <int Sign, typename C> INLINE void transform_channels(C* bin) {
    const C t = sum(bin[1], bin[2]);
    const C base = difference(bin[0], scaled(t, 0.5f));
    const C turn = scaled(turned<Sign>(difference(bin[1], bin[2])), 0.86602540378443864676);
    bin[0] = sum(bin[0], t);
    bin[1] = sum(base, turn);
    bin[2] = difference(base, turn);
}

INLINE float length(float2 a) { return hypotf(a.x, a.y); }
INLINE double length(double2 a) { return hypot(a.x, a.y); }
INLINE float root(float value) { return sqrtf(value); }
INLINE double root(double value) { return sqrt(value); }

// |given|·e^{i·∠own}; the phase of 0 is 0.
template <typename C> INLINE C give_amplitude(C own, C given) {
    const auto mine = own.x * own.x + own.y * own.y;
    const auto theirs = given.x * given.x + given.y * given.y;
    // Beyond, squares may have lost digits, or have become 0 or infinite where the numbers are not.
    if (mine > 1e-30f && theirs > 1e-30f && mine < 1e30f && theirs < 1e30f) return scaled(own, root(theirs / mine));
    const auto amplitude = length(given), norm = length(own);
    return norm == 0 ? complex_of(amplitude, decltype(amplitude)(0)) : scaled(scaled(own, 1 / norm), amplitude);
}

// One bin of three channels: the amplitudes of `given` for `own`, with `factor` for the inverse transforms.
template <typename C>
INLINE void recombine_bin(C* own, C* given, bool across_channels, decltype(C{}.x) factor) {
    if (across_channels) {
        transform_channels<-1>(own);
        transform_channels<-1>(given);
    }
#pragma unroll
    for (int c = 0; c < 3; ++c) own[c] = scaled(give_amplitude(own[c], given[c]), factor);
    if (across_channels) transform_channels<1>(own);
}
