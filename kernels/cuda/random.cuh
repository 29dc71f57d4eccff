// The random numbers of kernels/cpu/random.hpp, number by number: those that were given, or those of the counter-based
// stream that apr_dali/corruptions/counter.py defines. A thread makes a block of eight at a time.
//
// The float32 ones are equal to the native ones bit for bit where products and sums round by themselves.
#pragma once
#include "macros.cuh"

typedef unsigned long long Long;  // 64 bits, as NumPy's uint64

constexpr int kWordsOfBlock = 8;
constexpr double kWord = 1.0 / 4294967296.0;

// Philox 4 × 64 with 10 rounds, as NumPy has it.
struct Philox {
    Long key[2], image;

    INLINE void words(int field, Long block, unsigned (&out)[8]) const {
        Long c[4] = {block + 1, static_cast<Long>(field), image, 0}, k[2] = {key[0], key[1]};
#pragma unroll
        for (int round = 0; round < 10; ++round) {
            const Long low = 0xD2E7470EE14C6C93ull * c[0], high = __umul64hi(0xD2E7470EE14C6C93ull, c[0]);
            const Long other_low = 0xCA5A826395121157ull * c[2], other_high = __umul64hi(0xCA5A826395121157ull, c[2]);
            c[0] = other_high ^ c[1] ^ k[0];
            c[1] = other_low;
            c[2] = high ^ c[3] ^ k[1];
            c[3] = low;
            k[0] += 0x9E3779B97F4A7C15ull;
            k[1] += 0xBB67AE8584CAA73Bull;
        }
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            out[2 * i] = static_cast<unsigned>(c[i]);
            out[2 * i + 1] = static_cast<unsigned>(c[i] >> 32);
        }
    }
};

// -ln((word + 0.5) / 2^32) in float32: 2·atanh of the mantissa's distance from 1, between the roots of 1/2 and 2.
INLINE float minus_log(unsigned word) {
    const float value = static_cast<float>(word) + 0.5f;
    const int bits = static_cast<int>(__float_as_uint(value)) - 0x3f3504f3;
    const float exponent = static_cast<float>(bits >> 23);
    const float mantissa = __uint_as_float(static_cast<unsigned>((bits & 0x7fffff) + 0x3f3504f3));
    const float s = (mantissa - 1) / (mantissa + 1);
    const float t = s * s;
    const float series = 2 * s * (1 + t * (1.0f / 3 + t * (1.0f / 5 + t * (1.0f / 7 + t * (1.0f / 9)))));
    return (32 - exponent) * 0.693147180559945309f - series;
}

// Numbers of an eighth of a turn, put into the quarter that a word of the whole turn lies in.
template <typename Real> INLINE void into_quarter(unsigned word, Real& cosine, Real& sine) {
    const unsigned quarter = (word + 0x20000000u) >> 30;
    const Real across = quarter & 1 ? sine : cosine, up = quarter & 1 ? cosine : sine;
    cosine = quarter == 1 || quarter == 2 ? -across : across;
    sine = quarter >= 2 ? -up : up;
}

// cos and sin of 2π(word + 0.5) / 2^32.
INLINE void on_circle(unsigned word, float& cosine, float& sine) {
    const float x = (static_cast<float>(static_cast<int>(word << 2)) + 2) * static_cast<float>(1.57079632679489662 * kWord);
    const float t = x * x;
    sine = x * (1 + t * (-1.0f / 6 + t * (1.0f / 120 + t * (-1.0f / 5040 + t * (1.0f / 362880)))));
    cosine = 1 + t * (-0.5f + t * (1.0f / 24 + t * (-1.0f / 720 + t * (1.0f / 40320))));
    into_quarter(word, cosine, sine);
}
// cos and sin of an eighth of a turn at most, by Taylor's series to the 17th power: 1e-16.
INLINE void on_eighth(double x, double& cosine, double& sine) {
    const double t = x * x;
    sine = cosine = 0;
#pragma unroll
    for (int n = 16; n >= 2; n -= 2) {
        sine = t * (-1.0 / (n * (n + 1))) * (1 + sine);
        cosine = t * (-1.0 / (n * (n - 1))) * (1 + cosine);
    }
    sine = x * (1 + sine);
    cosine = 1 + cosine;
}
INLINE void on_circle(unsigned word, double& cosine, double& sine) {
    on_eighth((static_cast<double>(static_cast<int>(word << 2)) + 2) * (1.57079632679489662 * kWord), cosine, sine);
    into_quarter(word, cosine, sine);
}

// Box and Muller.
INLINE void normal_pair(const unsigned* words, float* out) {
    const float radius = sqrtf(2 * minus_log(words[0]));
    float cosine, sine;
    on_circle(words[1], cosine, sine);
    out[0] = radius * cosine;
    out[1] = radius * sine;
}
INLINE void normal_pair(const unsigned* words, double* out) {
    const double radius = sqrt(-2 * log((words[0] + 0.5) * kWord));
    double cosine, sine;
    on_circle(words[1], cosine, sine);
    out[0] = radius * cosine;
    out[1] = radius * sine;
}

#define DRAW_PARAMETERS Long key, Long key_of_corruption, const Long *numbers
#define PHILOX(image) (Philox{{key, key_of_corruption}, numbers[image]})

// One field of the draws of one image, eight numbers from 8·block on. `given` are the numbers of all images, `count` of
// each, or null; location and scale are in them already.
struct Field {
    Philox philox;
    int field;
    const double* given;
    int count;

    INLINE Field(const Philox& philox, int field, const double* given, int image, int count)
        : philox(philox), field(field), given(given == nullptr ? nullptr : given + static_cast<size_t>(image) * count),
          count(count) {}

    INLINE void words(int block, unsigned (&out)[8]) const { philox.words(field, block, out); }

    template <typename Real> INLINE void normal(int block, Real location, Real scale, Real (&out)[8]) const {
        if (copied(block, out)) return;
        unsigned drawn[8];
        words(block, drawn);
#pragma unroll
        for (int i = 0; i < 8; i += 2) normal_pair(drawn + i, out + i);
#pragma unroll
        for (int i = 0; i < 8; ++i) out[i] = location + scale * out[i];
    }

    INLINE void uniform(int block, double low, double high, double (&out)[8]) const {
        if (copied(block, out)) return;
        unsigned drawn[8];
        words(block, drawn);
#pragma unroll
        for (int i = 0; i < 8; ++i) out[i] = low + (high - low) * ((drawn[i] + 0.5) * kWord);
    }
    // 1 may be among those in 0..1.
    INLINE void uniform(int block, float (&out)[8]) const {
        if (copied(block, out)) return;
        unsigned drawn[8];
        words(block, drawn);
#pragma unroll
        for (int i = 0; i < 8; ++i) out[i] = (static_cast<float>(drawn[i]) + 0.5f) * static_cast<float>(kWord);
    }

    // Whole numbers in low..low + range - 1; given ones, which become addresses, are put into that.
    INLINE void integer(int block, int low, int range, int (&out)[8]) const {
        double from[8];
        unsigned drawn[8];
        if (copied(block, from)) {
#pragma unroll
            for (int i = 0; i < 8; ++i) out[i] = low + static_cast<int>(fmax(0.0, fmin(range - 1.0, from[i] - low)));
            return;
        }
        words(block, drawn);
#pragma unroll
        for (int i = 0; i < 8; ++i) out[i] = low + static_cast<int>(static_cast<Long>(drawn[i]) * range >> 32);
    }

    // Whether a uniform number is among the lowest `within` of the 2^32 that there are; a given one, whether it is not 0.
    INLINE void choice(int block, Long within, bool (&out)[8]) const {
        double from[8];
        unsigned drawn[8];
        if (copied(block, from)) {
#pragma unroll
            for (int i = 0; i < 8; ++i) out[i] = from[i] != 0;
            return;
        }
        words(block, drawn);
#pragma unroll
        for (int i = 0; i < 8; ++i) out[i] = drawn[i] < within;
    }

    // Whether there are given numbers; those past the end are 0.
    template <typename Real> INLINE bool copied(int block, Real (&out)[8]) const {
        if (given == nullptr) return false;
#pragma unroll
        for (int i = 0; i < 8; ++i) out[i] = 8 * block + i < count ? static_cast<Real>(given[8 * block + i]) : Real(0);
        return true;
    }
};
