// Sine and cosine of half turns.
#pragma once

#include "simd.hpp"

namespace apr {

template <class T>
struct SinCos {
    Vector<T> sin, cos;
};

// Of what is left of an angle, up to an eighth of a turn: the series of sine / angle and of cosine in its square, as many
// terms as the digits ask for.
template <class T>
struct Series;
template <>
struct Series<float> {
    static constexpr float sin[] = {2.7557319e-6f, -1.9841270e-4f, 8.3333333e-3f, -1.6666667e-1f};
    static constexpr float cos[] = {-2.7557319e-7f, 2.4801587e-5f, -1.3888889e-3f, 4.1666667e-2f, -0.5f, 1.0f};
    static constexpr float rounder = 12582912.0f;  // 1.5·2^23: adding and taking it away rounds to whole numbers
};
template <>
struct Series<double> {
    static constexpr double sin[] = {-7.6471637318198165e-13, 1.6059043836821613e-10, -2.5052108385441720e-8,
                                     2.7557319223985893e-6,   -1.9841269841269841e-4, 8.3333333333333333e-3,
                                     -1.6666666666666667e-1};
    static constexpr double cos[] = {4.7794773323873853e-14, -1.1470745597729725e-11, 2.0876756987868099e-9,
                                     -2.7557319223985891e-7, 2.4801587301587302e-5,   -1.3888888888888889e-3,
                                     4.1666666666666667e-2,  -0.5,                    1.0};
    static constexpr double rounder = 6755399441055744.0;  // 1.5·2^52
};

template <class T, int Terms>
APR_INLINE Vector<T> series(Vector<T> square, const T (&terms)[Terms]) {
    Vector<T> sum = broadcast(terms[0]);
#pragma GCC unroll 16
    for (int i = 1; i < Terms; ++i) sum = fma(square, sum, broadcast(terms[i]));
    return sum;
}

// sin(πt) and cos(πt): the quarter that t lies in, and series of what is left of it. |t| < 2^21, of doubles 2^50.
template <class T>
APR_INLINE SinCos<T> sin_cos_pi(Vector<T> t) {
    const Vector<T> rounder = broadcast(Series<T>::rounder);
    const Vector<T> shifted = t * T(2) + rounder;
    const Vector<T> angle = fma(shifted - rounder, broadcast(T(-0.5)), t) * T(3.14159265358979323846);
    const Vector<T> square = angle * angle;
    const Vector<T> sin = fma(square * angle, series(square, Series<T>::sin), angle);
    const Vector<T> cos = series(square, Series<T>::cos);
    const Integers<T> turn = bits<Integers<T>>(shifted);  // its last bits are those of the whole number
    const auto swapped = (turn & 1) != 0;
    const Vector<T> first = swapped ? cos : sin;
    const Vector<T> second = swapped ? sin : cos;
    return {(turn & 2) != 0 ? -first : first, ((turn + 1) & 2) != 0 ? -second : second};
}

}  // namespace apr
