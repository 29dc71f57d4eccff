// Complex numbers as CUDA's vector types, x + iy, in single and in double precision.
#pragma once

#include "macros.cuh"

INLINE float2 complex_of(float x, float y) { return make_float2(x, y); }
INLINE double2 complex_of(double x, double y) { return make_double2(x, y); }

template <typename C> INLINE C sum(C a, C b) { return complex_of(a.x + b.x, a.y + b.y); }
template <typename C> INLINE C difference(C a, C b) { return complex_of(a.x - b.x, a.y - b.y); }
template <typename C> INLINE C product(C a, C b) { return complex_of(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x); }
template <typename C> INLINE C scaled(C a, decltype(C{}.x) factor) { return complex_of(a.x * factor, a.y * factor); }

// a times Sign·i.
template <int Sign, typename C> INLINE C turned(C a) {
    return Sign > 0 ? complex_of(-a.y, a.x) : complex_of(a.y, -a.x);
}
template <typename C> INLINE C conjugate(C a) { return complex_of(a.x, -a.y); }
template <typename C> INLINE auto squares_of(C a) { return a.x * a.x + a.y * a.y; }
