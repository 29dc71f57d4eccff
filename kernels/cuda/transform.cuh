// Complex transforms of SIZE points in shared memory, each by TEAM lanes of a warp.
//
// Stockham's passes over the factors of SIZE, in place: every lane holds its points in registers while its team
// waits between reading and writing. The results are in order. All teams of a warp run the same code, and what it
// gives depends on the points alone: equal channels have bit-equal spectra.
#pragma once
#include "complex.cuh"

// Points a lane holds: 6 to 10.
#if SIZE == 32
#define TEAM 4
#elif SIZE == 64
#define TEAM 8
#elif SIZE == 96 || SIZE == 128 || SIZE == 160
#define TEAM 16
#else
#define TEAM 32
#endif

// From one transform to the next, in points: the four columns of a strip then start 8 banks apart.
#define PITCH (SIZE + 4)

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

// The transform of Radix points, for 3, 5 and 7: from sums and differences of the points that mirror each other.
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

template <int Radix, int Sign> INLINE void butterfly(float2* v) {
    if constexpr (Radix == 8) {
        butterfly8<Sign>(v);
    } else if constexpr (Radix == 4) {
        butterfly4<Sign>(v[0], v[1], v[2], v[3]);
    } else {
        butterfly_odd<Radix, Sign>(v);
    }
}

// One pass; the product of the radices before it is Done. roots[k] = exp(-2πik/SIZE).
template <int Radix, int Done, int Sign> INLINE void pass(float2* points, const float2* roots, int lane) {
    constexpr int kCount = SIZE / Radix, kRounds = (kCount + TEAM - 1) / TEAM;
    float2 v[kRounds][Radix];
#pragma unroll
    for (int round = 0; round < kRounds; ++round) {
        const int j = lane + round * TEAM;
        if (kCount % TEAM != 0 && j >= kCount) continue;
#pragma unroll
        for (int r = 0; r < Radix; ++r) v[round][r] = points[j + r * kCount];
        if constexpr (Done > 1) {
            const int step = j % Done * (kCount / Done);
#pragma unroll
            for (int r = 1; r < Radix; ++r) {
                float2 w = roots[r * step];
                if (Sign > 0) w.y = -w.y;
                v[round][r] = product(v[round][r], w);
            }
        }
        butterfly<Radix, Sign>(v[round]);
    }
    __syncwarp();
#pragma unroll
    for (int round = 0; round < kRounds; ++round) {
        const int j = lane + round * TEAM;
        if (kCount % TEAM != 0 && j >= kCount) continue;
        float2* to = points + j / Done * (Done * Radix) + j % Done;
#pragma unroll
        for (int r = 0; r < Radix; ++r) to[r * Done] = v[round][r];
    }
    __syncwarp();
}

// Sign -1: Σ x·exp(-2πi…), forward. Sign +1: back, without the factor 1/SIZE.
// An odd factor comes first: its writes then meet in no bank.
template <int Sign> INLINE void transform(float2* points, const float2* roots, int lane) {
#if SIZE == 32
    pass<4, 1, Sign>(points, roots, lane);
    pass<8, 4, Sign>(points, roots, lane);
#elif SIZE == 64
    pass<8, 1, Sign>(points, roots, lane);
    pass<8, 8, Sign>(points, roots, lane);
#elif SIZE == 128
    pass<4, 1, Sign>(points, roots, lane);
    pass<4, 4, Sign>(points, roots, lane);
    pass<8, 16, Sign>(points, roots, lane);
#elif SIZE == 256
    pass<4, 1, Sign>(points, roots, lane);
    pass<8, 4, Sign>(points, roots, lane);
    pass<8, 32, Sign>(points, roots, lane);
#elif SIZE == 96
    pass<3, 1, Sign>(points, roots, lane);
    pass<4, 3, Sign>(points, roots, lane);
    pass<8, 12, Sign>(points, roots, lane);
#elif SIZE == 160
    pass<5, 1, Sign>(points, roots, lane);
    pass<4, 5, Sign>(points, roots, lane);
    pass<8, 20, Sign>(points, roots, lane);
#elif SIZE == 192
    pass<3, 1, Sign>(points, roots, lane);
    pass<8, 3, Sign>(points, roots, lane);
    pass<8, 24, Sign>(points, roots, lane);
#elif SIZE == 224
    pass<7, 1, Sign>(points, roots, lane);
    pass<8, 7, Sign>(points, roots, lane);
    pass<4, 56, Sign>(points, roots, lane);
#else
#error "SIZE must be one of 32, 64, 96, 128, 160, 192, 224, 256"
#endif
}
