// Two rows of an image, y and y + 1, as three complex transforms, a part each, and back.
//
// With ACROSS the transform over the channels comes first, on the pixels. Of three real channels its second and third
// bin are conjugates, so part 0 is the sums over the channels of both rows, as real and imaginary part, and parts 1 and
// 2 are the second bin of a row each: the exchange of amplitudes needs no other. Without ACROSS, part c is channel c of
// both rows, as real and imaginary part.
//
// Spectra have COLUMNS_IN_ALL columns of SIZE bins: halves of HALF columns where rows are real, SIZE where not.
#pragma once
#include "pixels.cuh"
#include "transform.cuh"

// Columns of a half spectrum; those from one half to the next, HALF, are up to the file that includes this.
#define COLUMNS (SIZE / 2 + 1)
#if ACROSS
#define COLUMNS_IN_ALL (HALF + SIZE)
#else
#define COLUMNS_IN_ALL (3 * HALF)
#endif

// Whether a part is two real rows; the same for all threads of a warp.
INLINE bool is_packed(int part) { return !ACROSS || part == 0; }

// The first column of a part.
INLINE int column_of(int part) { return ACROSS ? (part == 0 ? 0 : HALF) : part * HALF; }

// ---- Pixels ----

// Scaled pixels of an image, of Pixel: uint8 (H, W, C) or float32 (C, H, W).
template <typename Pixel> struct Image {
    const Pixel* data;
    float scale[3], bias[3];

    INLINE Image(const In& in, int slot) : data(static_cast<const Pixel*>(in.image(slot, 3 * SIZE * SIZE))) {
#pragma unroll
        for (int c = 0; c < 3; ++c) scale[c] = in.scale[c], bias[c] = in.bias[c];
    }
    // Without a look-up, which registers do not have.
    INLINE float affine(int c, float value) const {
        return c == 0 ? value * scale[0] + bias[0] : c == 1 ? value * scale[1] + bias[1] : value * scale[2] + bias[2];
    }
    INLINE float at(int c, int y, int x) const {
        return affine(c, data[sizeof(Pixel) == 1 ? (y * SIZE + x) * 3 + c : (c * SIZE + y) * SIZE + x]);
    }
    INLINE float sum_at(int y, int x) const { return at(2, y, x) + at(1, y, x) + at(0, y, x); }
    // The second bin of the transform over channels; 0 exactly where they are equal.
    INLINE float2 second_bin_at(int y, int x) const {
        const float g = at(1, y, x), b = at(2, y, x);
        return make_float2(at(0, y, x) - 0.5f * (g + b), 0.86602540378443865f * (b - g));
    }
    // Pixels x to x + 3, where x is a multiple of four.
    INLINE void four_at(int y, int x, float v[3][4]) const {
        if constexpr (sizeof(Pixel) == 1) {
            const uchar4* const words = reinterpret_cast<const uchar4*>(data) + (y * SIZE + x) * 3 / 4;
#pragma unroll
            for (int w = 0; w < 3; ++w) {
                const uchar4 word = words[w];
                const unsigned char levels[4] = {word.x, word.y, word.z, word.w};
#pragma unroll
                for (int k = 4 * w; k < 4 * w + 4; ++k) v[k % 3][k / 3] = affine(k % 3, levels[k - 4 * w]);
            }
        } else {
#pragma unroll
            for (int c = 0; c < 3; ++c) {
                const float4 four = reinterpret_cast<const float4*>(data)[((c * SIZE + y) * SIZE + x) / 4];
                v[c][0] = affine(c, four.x), v[c][1] = affine(c, four.y);
                v[c][2] = affine(c, four.z), v[c][3] = affine(c, four.w);
            }
        }
    }
};

template <typename Pixel> INLINE void read_points(const Image<Pixel>& image, int part, int y, int lane, Points& x) {
    if (!ACROSS) {
        take_points(x, lane, [&](int at) { return make_float2(image.at(part, y, at), image.at(part, y + 1, at)); });
    } else if (part == 0) {
        take_points(x, lane, [&](int at) { return make_float2(image.sum_at(y, at), image.sum_at(y + 1, at)); });
    } else {
        take_points(x, lane, [&](int at) { return image.second_bin_at(y + part - 1, at); });
    }
}

INLINE void read_points(const In& in, int slot, int part, int y, int lane, Points& x) {
    if (in.kind == kLevelsIn) {
        read_points(Image<unsigned char>(in, slot), part, y, lane, x);
    } else {
        read_points(Image<float>(in, slot), part, y, lane, x);
    }
}

// Calls write(y, x, v) with the scaled pixels x to x + 3 of the rows y < count and y + 1, as v[row][c][k], until the
// threads of the block have had all. read(y, x, v) gives them unscaled.
template <typename Read, typename Write> INLINE void for_pixels(const Out& out, int count, Read read, Write write) {
    for (int i = threadIdx.x; i < count / 2 * (SIZE / 4); i += blockDim.x) {
        const int y = i / (SIZE / 4) * 2, x = i % (SIZE / 4) * 4;
        float v[2][3][4];
        read(y, x, v);
#pragma unroll
        for (int k = 0; k < 24; ++k) v[k / 12][k / 4 % 3][k % 4] = out.affine(v[k / 12][k / 4 % 3][k % 4], k / 4 % 3);
        write(y, x, v);
    }
}

// Rows y0..y0 + count - 1 as the clean view where one is wanted, and in the place of the mixed one where nothing is
// mixed. Levels have no clean view.
template <typename Pixel>
INLINE void write_clean(const Image<Pixel>& image, const Out& out, int b, bool mixed, int y0, int count) {
    const int views = mixed ? out.views - 1 : out.views;
    const auto read = [&](int y, int x, float v[2][3][4]) {
        image.four_at(y0 + y, x, v[0]);
        image.four_at(y0 + y + 1, x, v[1]);
    };
    for_pixels(out, views == 0 ? 0 : count, read, [&](int y, int x, const float v[2][3][4]) {
#pragma unroll
        for (int row = 0; row < 2; ++row) write_four<SIZE>(out, b, 0, views, y0 + y + row, x, v[row]);
    });
}

INLINE void write_clean(const In& in, int slot, const Out& out, int b, bool mixed, int y0, int count) {
    if (in.kind == kLevelsIn) {
        write_clean(Image<unsigned char>(in, slot), out, b, mixed, y0, count);
    } else {
        write_clean(Image<float>(in, slot), out, b, mixed, y0, count);
    }
}

// ---- Spectra ----
//
// Those who include this say how a spectrum lies in memory, as a type with at(column, row), a pointer to a bin,
// kNext, how far columns lie apart in the mean (the next is elsewhere, the one FIRST or TEAM further just there), and
// the functions that pack and unpack a bin.

// All bins of a part of the rows y and y + 1. `space`: the team's, of PITCH points.
template <typename Spectrum>
INLINE void put_rows(const Bins& bins, float2* space, int part, int y, int lane, Spectrum spectrum) {
    const int first = column_of(part);
    if (!is_packed(part)) {
        for_own<FIRST>(lane, [&](int round, int i) {
            auto* const to = spectrum.at(first + i, y + part - 1);
#pragma unroll
            for (int k = 0; k < SECOND; ++k) to[k * FIRST * Spectrum::kNext] = Spectrum::pack(bins.of[round][k]);
        });
        return;
    }
    __syncwarp();
    for_own<FIRST>(lane, [&](int round, int i) {
#pragma unroll
        for (int k = 0; k < SECOND; ++k) space[i + FIRST * k] = bins.of[round][k];
    });
    __syncwarp();
    // The even row's spectrum is what is symmetric of both, the odd row's what is not.
    auto* const even = spectrum.at(first + lane, y);
    auto* const odd = spectrum.at(first + lane, y + 1);
#pragma unroll
    for (int k = 0; k < (HALF + TEAM - 1) / TEAM; ++k) {
        const int at = lane + k * TEAM;
        if (at >= HALF) break;
        const float2 a = space[at], b = space[at == 0 ? 0 : SIZE - at];
        even[k * TEAM * Spectrum::kNext] = Spectrum::pack(make_float2(0.5f * (a.x + b.x), 0.5f * (a.y - b.y)));
        odd[k * TEAM * Spectrum::kNext] = Spectrum::pack(make_float2(0.5f * (a.y + b.y), 0.5f * (b.x - a.x)));
    }
}

// The way back.
template <typename Spectrum> INLINE void get_rows(Bins& bins, int part, int y, int lane, Spectrum spectrum) {
    constexpr int kNext = FIRST * Spectrum::kNext;
    const int first = column_of(part);
    if (!is_packed(part)) {
        for_own<FIRST>(lane, [&](int round, int i) {
            const auto* const from = spectrum.at(first + i, y + part - 1);
#pragma unroll
            for (int k = 0; k < SECOND; ++k) bins.of[round][k] = Spectrum::unpack(from[k * kNext]);
        });
        return;
    }
    for_own<FIRST>(lane, [&](int round, int i) {
        const auto* const even = spectrum.at(first + i, y);
        const auto* const odd = spectrum.at(first + i, y + 1);
        const auto* const even_mirrored = spectrum.at(first + SIZE - i, y);
        const auto* const odd_mirrored = spectrum.at(first + SIZE - i, y + 1);
#pragma unroll
        for (int k = 0; k < SECOND; ++k) {
            const int at = i + FIRST * k;
            const bool mirrored = at > SIZE / 2;
            const float2 a = Spectrum::unpack(mirrored ? even_mirrored[-k * kNext] : even[k * kNext]);
            const float2 b = Spectrum::unpack(mirrored ? odd_mirrored[-k * kNext] : odd[k * kNext]);
            // A real row's first and middle bins are real: what they have else is rounding.
            const float sign = at == 0 || at == SIZE / 2 ? 0.f : mirrored ? -1.f : 1.f;
            bins.of[round][k] = make_float2(a.x - sign * b.y, sign * a.y + b.x);
        }
    });
}

// Points x to x + 3, x a multiple of four. Eight threads beside each other read 256 bytes in two steps, which would
// meet in all banks if the second half of them did not begin with its second two.
INLINE void four_points(const float2* points, int x, float2 v[4]) {
    const bool late = threadIdx.x & 4;
    const float4* const pairs = reinterpret_cast<const float4*>(points + x);
    const float4 one = pairs[late], other = pairs[!late];
    const float4 first = late ? other : one, second = late ? one : other;
    v[0] = make_float2(first.x, first.y), v[1] = make_float2(first.z, first.w);
    v[2] = make_float2(second.x, second.y), v[3] = make_float2(second.z, second.w);
}

// Pixels x to x + 3 of two rows, v[row][c][k], from the points of their parts, which are `stride` apart.
INLINE void four_pixels(const float2* points, int stride, int x, float v[2][3][4]) {
    float2 parts[3][4];
#pragma unroll
    for (int part = 0; part < 3; ++part) four_points(points + part * stride, x, parts[part]);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
#pragma unroll
        for (int row = 0; row < 2; ++row) {
#pragma unroll
            for (int c = 0; c < 3; ++c) v[row][c][k] = row == 0 ? parts[c][k].x : parts[c][k].y;
            if (!ACROSS) continue;
            const float sum = v[row][0][k];
            const float2 second = parts[1 + row][k];
            const float base = sum - second.x, turn = 1.7320508075688773f * second.y;
            v[row][0][k] = sum + 2 * second.x;
            v[row][1][k] = base - turn;
            v[row][2][k] = base + turn;
        }
    }
}

// Rows y0..y0 + count - 1 of the mixed view, from the points of their parts.
INLINE void write_mixed(const Out& out, int b, int y0, int count, const float2* spaces, int stride) {
    const auto read = [&](int y, int x, float v[2][3][4]) { four_pixels(spaces + y / 2 * PITCH, stride, x, v); };
    for_pixels(out, count, read, [&](int y, int x, const float v[2][3][4]) {
#pragma unroll
        for (int row = 0; row < 2; ++row) {
            if (out.is_levels()) {
                write_four_levels(out, ((static_cast<size_t>(b) * SIZE + y0 + y + row) * SIZE + x) * 3 / 4, v[row]);
            } else {
                write_four<SIZE>(out, b, out.views - 1, 1, y0 + y + row, x, v[row]);
            }
        }
    });
}
