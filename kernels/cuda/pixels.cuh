// Reading and writing pixels of every kind that images come in and go out as.
#pragma once
#include "complex.cuh"

enum InKind { kLevelsIn, kFloatIn };  // uint8 (H, W, C) or float32 (C, H, W)
enum OutKind { kFloat32, kFloat16, kBfloat16, kWrapped, kClamped };  // the last two uint8 (H, W, C)

#ifndef HOST_SHIM
INLINE unsigned short float16_bits(float value) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}
INLINE float float_of_float16(unsigned short bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}
#endif

// Round to nearest, ties to even; what is no number stays none.
INLINE unsigned short bfloat16_bits(float value) {
    const unsigned bits = __float_as_uint(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<unsigned short>(bits >> 16 | 0x40);
    return static_cast<unsigned short>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

// Wrapped: towards zero, then modulo 256, as the published code. Clamped: to nearest, then into 0..255.
INLINE unsigned char level_of(float value, int kind) {
    if (kind == kWrapped) return static_cast<unsigned char>(static_cast<int>(value) & 255);
    return static_cast<unsigned char>(fminf(fmaxf(rintf(value), 0.f), 255.f));
}

INLINE float read_pixel(const void* image, int kind, size_t index) {
    return kind == kLevelsIn ? static_cast<const unsigned char*>(image)[index] : static_cast<const float*>(image)[index];
}

INLINE void write_pixel(void* out, int kind, size_t index, float value) {
    if (kind == kFloat32) {
        static_cast<float*>(out)[index] = value;
    } else if (kind == kFloat16) {
        static_cast<unsigned short*>(out)[index] = float16_bits(value);
    } else if (kind == kBfloat16) {
        static_cast<unsigned short*>(out)[index] = bfloat16_bits(value);
    } else {
        static_cast<unsigned char*>(out)[index] = level_of(value, kind);
    }
}

// How numbers are written is known while compiling: with both ways in one kernel, registers run short on older devices.
#ifdef CHANNELS_LAST
constexpr bool kChannelsLast = true;  // (H, W, C)
#else
constexpr bool kChannelsLast = false;  // (C, H, W)
#endif

// Where results go: `views` images per image, of `kind`, after scale and bias.
struct Out {
    void* data;  // null: nowhere
    int kind, views;
    const float *scale, *bias;  // (channels,)

    INLINE bool is_levels() const { return kind >= kWrapped; }
    INLINE float affine(float value, int c) const { return value * scale[c] + bias[c]; }
};

#define OUT_PARAMETERS void *out_data, int out_kind, int views, const float *out_scale, const float *out_bias
#define OUT \
    Out { out_data, out_kind, views, out_scale, out_bias }

INLINE unsigned two_halves(float first, float second) {
    return float16_bits(first) | unsigned(float16_bits(second)) << 16;
}
INLINE unsigned two_bfloats(float first, float second) {
    return bfloat16_bits(first) | unsigned(bfloat16_bits(second)) << 16;
}

// `four` to the same place in `count` views, `step` apart.
template <typename Four> INLINE void write_to_views(void* out, size_t at, size_t step, int count, Four four) {
    for (int view = 0; view < count; ++view) static_cast<Four*>(out)[at + view * step] = four;
}

// The same of four values as numbers of the kind.
INLINE void write_values(const Out& out, size_t at, size_t step, int count, float a, float b, float c, float d) {
    if (out.kind == kFloat32) {
        write_to_views(out.data, at, step, count, make_float4(a, b, c, d));
    } else if (out.kind == kFloat16) {
        write_to_views(out.data, at, step, count, make_uint2(two_halves(a, b), two_halves(c, d)));
    } else {
        write_to_views(out.data, at, step, count, make_uint2(two_bfloats(a, b), two_bfloats(c, d)));
    }
}

// Pixels x to x + 3 of row y in `count` square views of result b, from view `first` on; v[c][k] for channel c. x is a
// multiple of four.
template <int Size>
INLINE void write_four(const Out& out, int b, int first, int count, int y, int x, const float v[3][4]) {
    constexpr size_t kStep = 3 * Size * Size / 4;
    const size_t image = (static_cast<size_t>(b) * out.views + first) * kStep;
    if constexpr (kChannelsLast) {
        // Three stores one after the other fill what lies between those of the threads beside this one.
#pragma unroll
        for (int k = 0; k < 12; k += 4) {
            write_values(out, image + (y * Size + x) * 3 / 4 + k / 4, kStep, count, v[k % 3][k / 3],
                         v[(k + 1) % 3][(k + 1) / 3], v[(k + 2) % 3][(k + 2) / 3], v[(k + 3) % 3][(k + 3) / 3]);
        }
    } else {
#pragma unroll
        for (int c = 0; c < 3; ++c) {
            const size_t at = image + ((c * Size + y) * Size + x) / 4;
            write_values(out, at, kStep, count, v[c][0], v[c][1], v[c][2], v[c][3]);
        }
    }
}

// The same of an image of levels, whose three words begin with `word`.
INLINE void write_four_levels(const Out& out, size_t word, const float v[3][4]) {
    uchar4* const words = static_cast<uchar4*>(out.data) + word;
#pragma unroll
    for (int w = 0; w < 3; ++w) {
        unsigned char levels[4];
#pragma unroll
        for (int k = 0; k < 4; ++k) levels[k] = level_of(v[(4 * w + k) % 3][(4 * w + k) / 3], out.kind);
        words[w] = make_uchar4(levels[0], levels[1], levels[2], levels[3]);
    }
}

// What comes in: the first `n` images of one array, the others of a second, with scale and bias.
struct In {
    const void *first, *second;
    int kind, n;
    const float *scale, *bias;

    // `values`: in an image.
    INLINE const void* image(int slot, size_t values) const {
        const void* base = slot < n ? first : second;
        const size_t offset = static_cast<size_t>(slot < n ? slot : slot - n) * values;
        return kind == kLevelsIn ? static_cast<const void*>(static_cast<const unsigned char*>(base) + offset)
                                 : static_cast<const void*>(static_cast<const float*>(base) + offset);
    }
    INLINE float affine(float value, int c) const { return value * scale[c] + bias[c]; }
};

#define IN_PARAMETERS \
    const void *first, const void *second, int in_kind, const float *in_scale, const float *in_bias
#define IN \
    In { first, second, in_kind, n, in_scale, in_bias }
