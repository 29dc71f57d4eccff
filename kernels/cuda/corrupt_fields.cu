// Large fields of random numbers, which several kernels read.
#include "places.cuh"
#include "random.cuh"

INLINE void write_eight(const double (&eight)[8], int block, int count, double* out) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        if (8 * block + i < count) out[8 * block + i] = eight[i];
    }
}

// Field number `field`, `count` numbers an image, eight a thread. Grid: n × parts.
extern "C" __global__ void __launch_bounds__(256)
uniform_field(DRAW_PARAMETERS, int field, int count, int parts, double low, double high, double* out) {
    const Place place(parts);
    if (8 * place.at >= count) return;
    double eight[8];
    Field(PHILOX(place.image), field, nullptr, place.image, count).uniform(place.at, low, high, eight);
    write_eight(eight, place.at, count, place.in(out, count));
}

extern "C" __global__ void __launch_bounds__(256)
normal_field(DRAW_PARAMETERS, int field, int count, int parts, double location, double scale, double* out) {
    const Place place(parts);
    if (8 * place.at >= count) return;
    double eight[8];
    Field(PHILOX(place.image), field, nullptr, place.image, count).normal(place.at, location, scale, eight);
    write_eight(eight, place.at, count, place.in(out, count));
}
