// Which image gives its phase and which its amplitude to each result, decided on the device.
//
// Images lie in one list of slots. APR-P has n images, and partner[b] gives its amplitude to b. Where two arrays are
// recombined, partner is null: the slots 0..n-1 are the first array's, n..2n-1 the second's.
#pragma once
#include "complex.cuh"

struct Route {
    const int* partner;          // (n,) or null
    const unsigned char* mix;    // whether results are mixed at all: one for the batch or one each, or null for all
    int mix_stride;              // 0: one for the batch, 1: one each
    const unsigned char* swap;   // (n,) of two arrays: the phase of the first (1) or of the second (0), or null for 1
    int n;

    INLINE bool mixed(int b) const { return mix == nullptr || mix[b * mix_stride] != 0; }
    INLINE bool first_is_phase(int b) const { return swap == nullptr || swap[b] != 0; }
    INLINE int phase(int b) const { return partner != nullptr || first_is_phase(b) ? b : n + b; }
    // -1 for a partner that is no image.
    INLINE int amplitude(int b) const {
        if (partner == nullptr) return first_is_phase(b) ? n + b : b;
        const int chosen = partner[b];
        return chosen >= 0 && chosen < n ? chosen : -1;
    }
};

// The factor of a result: without an image to take the amplitude from no number, rather than a wrong one.
template <typename Real> INLINE Real known_factor(int amplitude, Real factor) {
    return amplitude < 0 ? static_cast<Real>(__int_as_float(0x7fc00000)) : factor;
}

#define ROUTE_PARAMETERS \
    const int *partner, const unsigned char *mix, int mix_stride, const unsigned char *swap, int n
#define ROUTE \
    Route { partner, mix, mix_stride, swap, n }
