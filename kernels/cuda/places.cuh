// Where a thread is in a batch, and what lies past the edges of an image.
#pragma once
#include "macros.cuh"

// The thread's pixel of an image, or another of `count` things; none where that is past the end. Grid: n × parts.
struct Place {
    int image, at;

    explicit INLINE Place(int parts)
        : image(blockIdx.x / parts), at(blockIdx.x % parts * blockDim.x + threadIdx.x) {}
    // Where the image starts in an array that has `count` entries for each.
    template <typename T> INLINE T* in(T* batch, int count) const { return batch + static_cast<size_t>(image) * count; }
};

// The pixel at the edge again and again.
INLINE int repeated(int at, int size) { return min(max(at, 0), size - 1); }
// The pixels before the edge once more, without the one at the edge; `at` is less than an image away.
INLINE int mirrored(int at, int size) { return at < 0 ? -at : at < size ? at : 2 * size - 2 - at; }
