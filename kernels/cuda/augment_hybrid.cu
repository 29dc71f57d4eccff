// HybridAugment: low frequencies by a Gaussian blur whose border is mirrored, high ones as what it leaves.
#include "values.cuh"

// `of` a place beyond the border, mirrored again and again where the image is narrower than the window.
INLINE int reflected(int at, int size) {
    if (static_cast<unsigned>(at) < static_cast<unsigned>(size)) return at;
    if (size == 1) return 0;
    const int period = 2 * size - 2, folded = (at % period + period) % period;
    return min(folded, period - folded);
}

// window: the weights along an axis, 2 · reach + 1. value(place) gives what lies there.
struct Blur {
    const float* window;
    int reach;

    template <typename Value> INLINE float at(const Batch& batch, const Spot& spot, Value value) const {
        float sum = 0;
        for (int i = -reach; i <= reach; ++i) {
            const int y = reflected(spot.y + i, batch.height);
            float along = 0;
            for (int j = -reach; j <= reach; ++j) {
                const int x = reflected(spot.x + j, batch.width);
                along = fmaf(window[reach + j], value(batch.place({spot.c, y, x})), along);
            }
            sum = fmaf(window[reach + i], along, sum);
        }
        return sum;
    }
};

#define VALUE(batch)                                                          \
    const int image = blockIdx.x / parts;                                     \
    const int index = blockIdx.x % parts * blockDim.x + threadIdx.x;          \
    if (index >= batch.total()) return;                                       \
    const Spot spot = batch.spot(index)

// L(x) + y - L(y) = y + L(x - y), y the image's partner. A value a thread. Grid: images × parts.
extern "C" __global__ void __launch_bounds__(256)
mix_high(BATCH_PARAMETERS, int parts, const float* window, int reach, const int* partner) {
    const Batch batch = BATCH;
    VALUE(batch);
    const size_t own = batch.start(image), other = batch.start(partner[image]);
    const float low = Blur{window, reach}.at(
        batch, spot, [&](int place) { return batch.read(own + place) - batch.read(other + place); });
    batch.write(own + index, batch.read(other + index) + low);
}

// low: L(x) as planes (n, channels, height, width). A value a thread. Grid: images × parts.
extern "C" __global__ void __launch_bounds__(256)
blur(BATCH_PARAMETERS, int parts, const float* window, int reach, float* low) {
    const Batch batch = BATCH;
    VALUE(batch);
    const size_t own = batch.start(image);
    low[own + batch.plane_place(spot)] =
        Blur{window, reach}.at(batch, spot, [&](int place) { return batch.read(own + place); });
}

// mixed + y - L(y), y the image's partner. low, mixed: planes. A value a thread. Grid: images × parts.
extern "C" __global__ void __launch_bounds__(256)
add_high(BATCH_PARAMETERS, int parts, const int* partner, const float* low, const float* mixed) {
    const Batch batch = BATCH;
    VALUE(batch);
    const size_t own = batch.start(image), other = batch.start(partner[image]);
    const int plane_place = batch.plane_place(spot);
    batch.write(own + index, mixed[own + plane_place] + (batch.read(other + index) - low[other + plane_place]));
}
