// Points of spectra as they lie in the device's memory between kernels: as they are, or, with HALF_SPECTRA, as two
// float16 numbers in half the bytes. Those are scaled by PACKED_SCALE, so that none is larger than the largest pixel.
#pragma once
#include "pixels.cuh"

#ifdef HALF_SPECTRA
typedef unsigned Packed;
#define PACKED_SCALE (1.f / SIZE)
INLINE Packed pack(float2 point) { return float16_bits(point.x) | unsigned(float16_bits(point.y)) << 16; }
INLINE float2 unpack(Packed bits) {
    return make_float2(float_of_float16(static_cast<unsigned short>(bits)),
                       float_of_float16(static_cast<unsigned short>(bits >> 16)));
}
#else
typedef float2 Packed;
#define PACKED_SCALE 1.f
INLINE Packed pack(float2 point) { return point; }
INLINE float2 unpack(Packed point) { return point; }
#endif
