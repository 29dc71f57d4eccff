// Large fields of random numbers, which several kernels read.
#include "places.cuh"
#include "random.cuh"

// A thread draws eight numbers; the block writes them one beside the other. Shared: 9 float64 a thread.
struct Drawn {
    Place place;
    double eight[8];

    INLINE void write(int count, double* out) const {
        SHARED(double, staged);
#pragma unroll
        for (int i = 0; i < 8; ++i) staged[9 * threadIdx.x + i] = eight[i];
        __syncthreads();
        const int first = 8 * (place.at - static_cast<int>(threadIdx.x));
        for (int k = threadIdx.x; k < 8 * blockDim.x && first + k < count; k += blockDim.x) {
            place.in(out, count)[first + k] = staged[k / 8 * 9 + k % 8];
        }
    }
};

// Field number `field`, `count` numbers an image. Grid: n × parts.
extern "C" __global__ void __launch_bounds__(256)
uniform_field(DRAW_PARAMETERS, int field, int count, int parts, double low, double high, double* out) {
    Drawn drawn{Place(parts)};
    const int b = drawn.place.image;
    Field(PHILOX(b), field, nullptr, b, count).uniform(drawn.place.at, low, high, drawn.eight);
    drawn.write(count, out);
}

extern "C" __global__ void __launch_bounds__(256)
normal_field(DRAW_PARAMETERS, int field, int count, int parts, double location, double scale, double* out) {
    Drawn drawn{Place(parts)};
    const int b = drawn.place.image;
    Field(PHILOX(b), field, nullptr, b, count).normal(drawn.place.at, location, scale, drawn.eight);
    drawn.write(count, out);
}
