// Sine and cosine of half turns in float32.
#pragma once

#include "simd.hpp"

namespace apr {

struct SinCos {
    Floats sin, cos;
};

// sin(πt) and cos(πt) for |t| < 2^21: the quarter that t lies in, and polynomials of what is left of it.
APR_INLINE SinCos sin_cos_pi(Floats t) {
    constexpr float rounder = 12582912.0f;  // 1.5·2^23: adding and taking it away rounds to whole numbers
    const Floats quarter = (t * 2.0f + rounder) - rounder;
    const Floats angle = fma(quarter, broadcast(-0.5f), t) * 3.14159265f;
    const Floats square = angle * angle;
    Floats sin = fma(square, broadcast(2.7557319e-6f), broadcast(-1.9841270e-4f));
    sin = fma(square, sin, broadcast(8.3333333e-3f));
    sin = fma(square, sin, broadcast(-1.6666667e-1f));
    sin = fma(square * angle, sin, angle);
    Floats cos = fma(square, broadcast(-2.7557319e-7f), broadcast(2.4801587e-5f));
    cos = fma(square, cos, broadcast(-1.3888889e-3f));
    cos = fma(square, cos, broadcast(4.1666667e-2f));
    cos = fma(square, cos, broadcast(-0.5f));
    cos = fma(square, cos, broadcast(1.0f));
    const Ints turn = __builtin_convertvector(quarter, Ints);
    const auto swapped = (turn & 1) != 0;
    const Floats first = swapped ? cos : sin;
    const Floats second = swapped ? sin : cos;
    return {(turn & 2) != 0 ? -first : first, ((turn + 1) & 2) != 0 ? -second : second};
}

}  // namespace apr
