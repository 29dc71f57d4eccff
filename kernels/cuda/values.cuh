// The images of a batch by a few neighboring values a thread, whatever they are: uint8 (n, height, width, channels), or
// float32 (n, channels, height, width), and results of the same kind.
#pragma once
#include "pixels.cuh"

// The place of a value in its image.
struct Spot {
    int c, y, x;
};

struct Batch {
    const void* images;
    void* out;
    int kind, channels, height, width;  // kind: of results, an OutKind
    float bias;                         // of levels, before they become whole

    INLINE bool is_levels() const { return kind >= kWrapped; }
    INLINE int total() const { return channels * height * width; }
    INLINE float read(size_t at) const { return read_pixel(images, is_levels() ? kLevelsIn : kFloatIn, at); }
    INLINE void write(size_t at, float value) const { write_pixel(out, kind, at, value + bias); }
    // Where an image starts, and how far behind that a value lies: as it is, and in planes.
    INLINE size_t start(int image) const { return static_cast<size_t>(image) * total(); }
    INLINE int place(const Spot& spot) const {
        return is_levels() ? (spot.y * width + spot.x) * channels + spot.c : plane_place(spot);
    }
    INLINE int plane_place(const Spot& spot) const { return (spot.c * height + spot.y) * width + spot.x; }
    // From a value to that of the next row and column.
    INLINE int row_step() const { return is_levels() ? width * channels : width; }
    INLINE int column_step() const { return is_levels() ? channels : 1; }
    // The place as it is, the other way round.
    INLINE Spot spot(int place) const {
        const int pixel = is_levels() ? place / channels : place % (height * width);
        return {is_levels() ? place % channels : place / (height * width), pixel / width, pixel % width};
    }
    // The value behind it in memory.
    INLINE void advance(Spot& spot) const {
        if (is_levels()) {
            if (++spot.c < channels) return;
            spot.c = 0;
        }
        if (++spot.x < width) return;
        spot.x = 0;
        if (++spot.y < height || is_levels()) return;
        spot.y = 0, ++spot.c;
    }
};

#define BATCH_PARAMETERS \
    const void *images, void *out, int out_kind, int channels, int height, int width, float out_bias
#define BATCH \
    Batch { images, out, out_kind, channels, height, width, out_bias }

// In low..high; what is no number stays none.
INLINE float clipped(float value, float high) { return value < 0 ? 0 : value > high ? high : value; }

// The thread's four neighboring values of an image; none where that is past its end. Grid: n × parts.
struct Quad {
    int image, first, total;

    INLINE Quad(const Batch& batch, int parts)
        : image(blockIdx.x / parts), first((blockIdx.x % parts * blockDim.x + threadIdx.x) * 4), total(batch.total()) {}
    INLINE bool none() const { return first >= total; }

    // What lies past the end is 0.
    INLINE void read(const Batch& batch, float v[4]) const {
        const size_t at = batch.start(image) + first;
        if (whole() && batch.is_levels()) {
            const uchar4 four = static_cast<const uchar4*>(batch.images)[at / 4];
            v[0] = four.x, v[1] = four.y, v[2] = four.z, v[3] = four.w;
        } else if (whole()) {
            const float4 four = static_cast<const float4*>(batch.images)[at / 4];
            v[0] = four.x, v[1] = four.y, v[2] = four.z, v[3] = four.w;
        } else {
#pragma unroll
            for (int k = 0; k < 4; ++k) v[k] = first + k < total ? batch.read(at + k) : 0.f;
        }
    }
    INLINE void write(const Batch& batch, const float v[4]) const {
        const size_t at = batch.start(image) + first;
        if (whole() && batch.is_levels()) {
            unsigned char levels[4];
#pragma unroll
            for (int k = 0; k < 4; ++k) levels[k] = level_of(v[k] + batch.bias, batch.kind);
            static_cast<uchar4*>(batch.out)[at / 4] = make_uchar4(levels[0], levels[1], levels[2], levels[3]);
        } else if (whole()) {
            static_cast<float4*>(batch.out)[at / 4] = make_float4(v[0], v[1], v[2], v[3]);
        } else {
#pragma unroll
            for (int k = 0; k < 4; ++k) {
                if (first + k < total) batch.write(at + k, v[k]);
            }
        }
    }

   private:
    INLINE bool whole() const { return total % 4 == 0; }
};
