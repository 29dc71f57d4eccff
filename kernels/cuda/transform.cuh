// Complex transforms of SIZE = FIRST · SECOND points, each by TEAM threads. They hold the points in registers and
// exchange them once, through shared memory: the transforms of FIRST points come before it, those of SECOND after it.
// The way back runs through the same steps the other way round, so that what is done to a bin, is done in registers.
//
// What a transform gives depends on the points alone: equal channels have bit-equal spectra.
#pragma once
#include "complex.cuh"

// SIZE, FIRST, SECOND, TEAM and PITCH, the room of a transform in shared memory in points, are definitions of the
// compiler's: see launch.py, which launches by the same numbers.
#if FIRST * SECOND != SIZE
#error "compile with the definitions of launch.py"
#endif

// Groups of FIRST points are one point apart: threads beside each other, which write groups, meet in no bank.
#define GROUP (FIRST + 1)
#if PITCH < SECOND * GROUP || PITCH < SIZE
#error "PITCH is too small for a transform"
#endif

// ---- Transforms of a few points in registers ----

template <int Radix> __device__ constexpr float cosine(int k) {  // cos(2πk/Radix), k <= Radix/2
    return Radix == 3   ? -0.5f
           : Radix == 5 ? (k == 1 ? 0.30901699437494742f : -0.80901699437494742f)
                        : (k == 1   ? 0.62348980185873353f
                           : k == 2 ? -0.22252093395631440f
                                    : -0.90096886790241913f);
}

template <int Radix> __device__ constexpr float sine(int k) {
    return Radix == 3   ? 0.86602540378443865f
           : Radix == 5 ? (k == 1 ? 0.95105651629515357f : 0.58778525229247313f)
                        : (k == 1   ? 0.78183148246802981f
                           : k == 2 ? 0.97492791218182361f
                                    : 0.43388373911755812f);
}

// For 3, 5 and 7: from sums and differences of the points that mirror each other.
template <int Radix, int Sign> INLINE void butterfly_odd(float2* v) {
    constexpr int kHalf = Radix / 2;
    float2 plus[kHalf + 1], minus[kHalf + 1];
    const float2 zero = v[0];
#pragma unroll
    for (int j = 1; j <= kHalf; ++j) {
        plus[j] = sum(v[j], v[Radix - j]);
        minus[j] = difference(v[j], v[Radix - j]);
        v[0] = sum(v[0], plus[j]);
    }
#pragma unroll
    for (int k = 1; k <= kHalf; ++k) {
        float2 even = zero, odd = make_float2(0.f, 0.f);
#pragma unroll
        for (int j = 1; j <= kHalf; ++j) {
            const int turns = j * k % Radix;
            const bool mirrored = turns > kHalf;
            const int nearest = mirrored ? Radix - turns : turns;
            even = sum(even, scaled(plus[j], cosine<Radix>(nearest)));
            odd = sum(odd, scaled(minus[j], mirrored ? -sine<Radix>(nearest) : sine<Radix>(nearest)));
        }
        odd = turned<Sign>(odd);
        v[k] = sum(even, odd);
        v[Radix - k] = difference(even, odd);
    }
}

INLINE void butterfly2(float2& a, float2& b) {
    const float2 s = sum(a, b);
    b = difference(a, b);
    a = s;
}

template <int Sign> INLINE void butterfly4(float2& a, float2& b, float2& c, float2& d) {
    const float2 s0 = sum(a, c), d0 = difference(a, c);
    const float2 s1 = sum(b, d), d1 = turned<Sign>(difference(b, d));
    a = sum(s0, s1);
    b = sum(d0, d1);
    c = difference(s0, s1);
    d = difference(d0, d1);
}

template <int Sign> INLINE void butterfly8(float2* v) {
    constexpr float kDiagonal = 0.70710678118654752f;
    butterfly4<Sign>(v[0], v[2], v[4], v[6]);
    butterfly4<Sign>(v[1], v[3], v[5], v[7]);
    const float2 even[4] = {v[0], v[2], v[4], v[6]};
    const float2 odd[4] = {
        v[1],
        scaled(sum(v[3], turned<Sign>(v[3])), kDiagonal),
        turned<Sign>(v[5]),
        scaled(difference(turned<Sign>(v[7]), v[7]), kDiagonal),
    };
#pragma unroll
    for (int k = 0; k < 4; ++k) {
        v[k] = sum(even[k], odd[k]);
        v[k + 4] = difference(even[k], odd[k]);
    }
}

// a·exp(Sign·2πi·turns/16), for the turns that 16 = 4·4 points have between their two steps.
template <int Sign> INLINE float2 turned_by_sixteenths(float2 a, int turns) {
    constexpr float kCosine = 0.92387953251128676f, kSine = 0.38268343236508977f, kDiagonal = 0.70710678118654752f;
    if (turns == 4) return turned<Sign>(a);
    const float x = turns == 1   ? kCosine
                    : turns == 3 ? kSine
                    : turns == 9 ? -kCosine
                    : turns == 2 ? kDiagonal
                                 : -kDiagonal;
    const float y = turns == 1 ? kSine : turns == 3 ? kCosine : turns == 9 ? -kSine : kDiagonal;
    return product(a, make_float2(x, Sign * y));
}

template <int Sign> INLINE void butterfly16(float2* v) {
#pragma unroll
    for (int n = 0; n < 4; ++n) {
        butterfly4<Sign>(v[n], v[n + 4], v[n + 8], v[n + 12]);
#pragma unroll
        for (int k = 1; k < 4 && n > 0; ++k) v[n + 4 * k] = turned_by_sixteenths<Sign>(v[n + 4 * k], n * k);
    }
    float2 w[16];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
        butterfly4<Sign>(v[4 * k], v[4 * k + 1], v[4 * k + 2], v[4 * k + 3]);
#pragma unroll
        for (int n = 0; n < 4; ++n) w[k + 4 * n] = v[4 * k + n];
    }
#pragma unroll
    for (int k = 0; k < 16; ++k) v[k] = w[k];
}

template <int Radix, int Sign> INLINE void butterfly(float2* v);

// Of A·B points, which have no common factor: without turns between the two steps (Good and Thomas).
template <int A, int B, int Sign> INLINE void butterfly_coprime(float2* v) {
    float2 w[A][B];
#pragma unroll
    for (int b = 0; b < B; ++b) {
        float2 column[A];
#pragma unroll
        for (int a = 0; a < A; ++a) column[a] = v[(B * a + A * b) % (A * B)];
        butterfly<A, Sign>(column);
#pragma unroll
        for (int a = 0; a < A; ++a) w[a][b] = column[a];
    }
#pragma unroll
    for (int a = 0; a < A; ++a) butterfly<B, Sign>(w[a]);
#pragma unroll
    for (int k = 0; k < A * B; ++k) v[k] = w[k % A][k % B];
}

template <int Radix, int Sign> INLINE void butterfly(float2* v) {
    if constexpr (Radix == 2) {
        butterfly2(v[0], v[1]);
    } else if constexpr (Radix == 4) {
        butterfly4<Sign>(v[0], v[1], v[2], v[3]);
    } else if constexpr (Radix == 8) {
        butterfly8<Sign>(v);
    } else if constexpr (Radix == 16) {
        butterfly16<Sign>(v);
    } else if constexpr (Radix == 12) {
        butterfly_coprime<3, 4, Sign>(v);
    } else if constexpr (Radix % 2 == 0) {
        butterfly_coprime<Radix / 2, 2, Sign>(v);
    } else {
        butterfly_odd<Radix, Sign>(v);
    }
}

// ---- Transforms by a team ----

// The same pointer, of which the compiler does not know it: else it loads what it has loaded once no second time, and
// a fourth of all registers is taken from one transform to the next.
INLINE const float2* anew(const float2* pointer) {
#ifndef HOST_SHIM
    asm volatile("" : "+l"(pointer));
#endif
    return pointer;
}

#define ROUNDS(count) ((count + TEAM - 1) / TEAM)

// What a thread holds of the points: x[j + SECOND·r] in of[round][r], j = lane + TEAM·round < SECOND.
struct Points {
    float2 of[ROUNDS(SECOND)][FIRST];
};

// What it holds of the transform: bin i + FIRST·k in of[round][k], i = lane + TEAM·round < FIRST.
struct Bins {
    float2 of[ROUNDS(FIRST)][SECOND];
};

// Calls use(round, j) for the numbers below Count that are the thread's; all in registers, since it is unrolled.
template <int Count, typename Use> INLINE void for_own(int lane, Use use) {
#pragma unroll
    for (int round = 0; round < ROUNDS(Count); ++round) {
        const int j = lane + round * TEAM;
        if (Count % TEAM == 0 || j < Count) use(round, j);
    }
}

// Σ x·exp(-2πi…). `twiddles`: exp(-2πi·ij/SIZE) for j < SECOND, i < FIRST, in this order.
// `wait`: until the team is there.
template <typename Wait>
INLINE void forward(Points& x, Bins& bins, float2* space, const float2* twiddles, int lane, Wait wait) {
    for_own<SECOND>(lane, [&](int round, int j) {
        butterfly<FIRST, -1>(x.of[round]);
#pragma unroll
        for (int r = 0; r < FIRST; ++r) space[j * GROUP + r] = x.of[round][r];
    });
    wait();
    const float2* const twiddle = anew(twiddles);
    for_own<FIRST>(lane, [&](int round, int i) {
#pragma unroll
        for (int j = 0; j < SECOND; ++j) {
            const float2 value = space[j * GROUP + i];
            bins.of[round][j] = j == 0 ? value : product(value, __ldg(twiddle + j * FIRST + i));
        }
        butterfly<SECOND, -1>(bins.of[round]);
    });
}

// Σ X·exp(+2πi…), without the factor 1/SIZE. It writes to `space` where the thread itself has read in `forward`.
template <typename Wait>
INLINE void back(Bins& bins, Points& x, float2* space, const float2* twiddles, int lane, Wait wait) {
    const float2* const twiddle = anew(twiddles);
    for_own<FIRST>(lane, [&](int round, int i) {
        butterfly<SECOND, 1>(bins.of[round]);
#pragma unroll
        for (int j = 0; j < SECOND; ++j) {
            const float2 value = bins.of[round][j];
            space[j * GROUP + i] = j == 0 ? value : product(value, conjugate(__ldg(twiddle + j * FIRST + i)));
        }
    });
    wait();
    for_own<SECOND>(lane, [&](int round, int j) {
#pragma unroll
        for (int r = 0; r < FIRST; ++r) x.of[round][r] = space[j * GROUP + r];
        butterfly<FIRST, 1>(x.of[round]);
    });
}

// The thread's points; point(k) gives point k.
template <typename Point> INLINE void take_points(Points& x, int lane, Point point) {
    for_own<SECOND>(lane, [&](int round, int j) {
#pragma unroll
        for (int r = 0; r < FIRST; ++r) x.of[round][r] = point(j + SECOND * r);
    });
}

// The points in their order, in memory of which the whole team has read what it needs.
INLINE void put_points(const Points& x, float2* space, int lane) {
    for_own<SECOND>(lane, [&](int round, int j) {
#pragma unroll
        for (int r = 0; r < FIRST; ++r) space[j + SECOND * r] = x.of[round][r];
    });
}
