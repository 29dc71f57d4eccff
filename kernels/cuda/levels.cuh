// Images of a batch, uint8 (n, height, width, 3), by a few levels a thread. Images start on a boundary of 16 bytes where
// the batch does and their size is a multiple of it, so that levels come and go in words where the size allows.
#pragma once
#include "macros.cuh"

typedef unsigned char Level;

#define IMAGE_PARAMETERS const Level *images, int height, int width, Level *out

// `Count` neighboring levels of an image of `total`.
template <int Count> struct Levels {
    static_assert(Count % 4 == 0, "levels are moved in words of four");
    static constexpr int kTogether = Count % 8 == 0 ? 8 : 4;
    unsigned of[Count];

    Levels() = default;
    // From `first` on, which is a multiple of Count; what lies past the end is 0.
    INLINE Levels(const Level* image, int first, int total) {
        if (whole(first, total)) {
#pragma unroll
            for (int k = 0; k < Count; k += kTogether) load(image + first + k, k);
        } else {
#pragma unroll
            for (int k = 0; k < Count; ++k) of[k] = first + k < total ? image[first + k] : 0;
        }
    }

    INLINE void write(Level* image, int first, int total) const {
        if (whole(first, total)) {
#pragma unroll
            for (int k = 0; k < Count; k += kTogether) store(image + first + k, k);
        } else {
#pragma unroll
            for (int k = 0; k < Count; ++k) {
                if (first + k < total) image[first + k] = static_cast<Level>(of[k]);
            }
        }
    }

   private:
    static INLINE bool whole(int first, int total) { return total % kTogether == 0 && first + Count <= total; }
    INLINE void load(const Level* from, int k) {
        if constexpr (kTogether == 8) {
            const uint2 words = *reinterpret_cast<const uint2*>(from);
            unpack(words.x, k);
            unpack(words.y, k + 4);
        } else {
            unpack(*reinterpret_cast<const unsigned*>(from), k);
        }
    }
    INLINE void store(Level* to, int k) const {
        if constexpr (kTogether == 8) {
            *reinterpret_cast<uint2*>(to) = make_uint2(packed(k), packed(k + 4));
        } else {
            *reinterpret_cast<unsigned*>(to) = packed(k);
        }
    }
    INLINE void unpack(unsigned word, int k) {
#pragma unroll
        for (int i = 0; i < 4; ++i) of[k + i] = word >> 8 * i & 255;
    }
    INLINE unsigned packed(int k) const { return of[k] | of[k + 1] << 8 | of[k + 2] << 16 | of[k + 3] << 24; }
};

// The thread's share of a batch: levels `first` to first + Count - 1 of an image; none where that is past its end.
// Grid: n × parts.
template <int Count> struct Share {
    int image, first, total;

    INLINE Share(int height, int width, int parts)
        : image(blockIdx.x / parts), first((blockIdx.x % parts * blockDim.x + threadIdx.x) * Count),
          total(3 * height * width) {}
    INLINE bool none() const { return first >= total; }
    // The first level of the thread's image in an array of images, or of anything that has as many entries.
    template <typename T> INLINE T* in(T* batch) const { return batch + static_cast<size_t>(image) * total; }
};

// A number in 0..1 or beyond as a level, truncated as NumPy does it.
template <typename Real> INLINE unsigned to_level(Real unit) {
    const Real positive = unit > Real(0) ? unit : Real(0);
    return static_cast<unsigned>((positive < Real(1) ? positive : Real(1)) * Real(255));
}

// level / 255 rounded as a division is, which would take three times as long: the product with 1 / 255, and what it lacks.
INLINE double unit_of(Level level) {
    const double nearly = level * (1 / 255.0);
    return fma(fma(-nearly, 255.0, static_cast<double>(level)), 1 / 255.0, nearly);
}
INLINE float float_unit_of(Level level) {
    const float nearly = level * (1 / 255.f);
    return fmaf(fmaf(-nearly, 255.f, static_cast<float>(level)), 1 / 255.f, nearly);
}
