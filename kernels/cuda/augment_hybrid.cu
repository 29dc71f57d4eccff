// HybridAugment: low frequencies by a Gaussian blur whose border is mirrored, high ones as what it leaves.
#include "values.cuh"

// The place `at`, mirrored at the first and the last one, again and again where the image is narrower than the window.
INLINE int reflected(int at, int size) {
    if (at >= 0 && at < size) return at;
    if (size == 1) return 0;
    const int period = 2 * size - 2, folded = (at % period + period) % period;
    return min(folded, period - folded);
}

struct Blur {
    const float* window;  // the weights along an axis, 2 · reach + 1
    int reach;

    // Of value(place), places from the image's first on.
    template <typename Value> INLINE float at(const Batch& batch, const Spot& spot, Value value) const {
        return reach == 1 ? of_nine(batch, spot, value) : of_any(batch, spot, value);
    }

   private:
    // The published window, alike for all pixels: what is behind an edge is the neighbor on its other side.
    template <typename Value> INLINE float of_nine(const Batch& batch, const Spot& spot, Value value) const {
        const int down = batch.height > 1 ? batch.row_step() : 0, across = batch.width > 1 ? batch.column_step() : 0;
        const int rows[3] = {spot.y > 0 ? -down : down, 0, spot.y + 1 < batch.height ? down : -down};
        const int columns[3] = {spot.x > 0 ? -across : across, 0, spot.x + 1 < batch.width ? across : -across};
        const int middle = batch.place(spot);
        float sum = 0;
#pragma unroll
        for (int i = 0; i < 3; ++i) {
            float along = 0;
#pragma unroll
            for (int j = 0; j < 3; ++j) along = fmaf(window[j], value(middle + rows[i] + columns[j]), along);
            sum = fmaf(window[i], along, sum);
        }
        return sum;
    }
    template <typename Value> INLINE float of_any(const Batch& batch, const Spot& spot, Value value) const {
        float sum = 0;
#pragma unroll 1
        for (int i = 0; i <= 2 * reach; ++i) {
            const int y = reflected(spot.y + i - reach, batch.height);
            float along = 0;
#pragma unroll 1
            for (int j = 0; j <= 2 * reach; ++j) {
                const int x = reflected(spot.x + j - reach, batch.width);
                along = fmaf(window[j], value(batch.place({spot.c, y, x})), along);
            }
            sum = fmaf(window[i], along, sum);
        }
        return sum;
    }
};

// Sets v[k] = make(spot) for the thread's values, those past the end left out.
template <typename Make> INLINE void for_values(const Batch& batch, const Quad& mine, float v[4], Make make) {
    Spot spot = batch.spot(mine.first);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
        if (mine.first + k < mine.total) v[k] = make(spot, v[k]);
        batch.advance(spot);
    }
}

// Images as what they are, of Pixel.
template <typename Pixel> INLINE const Pixel* pixels_of(const Batch& batch, int image) {
    return static_cast<const Pixel*>(batch.images) + batch.start(image);
}

template <typename Pixel>
INLINE void add_low(const Batch& batch, const Quad& mine, const Quad& giver, const Blur& blur, float v[4]) {
    const Pixel *own = pixels_of<Pixel>(batch, mine.image), *other = pixels_of<Pixel>(batch, giver.image);
    const auto apart = [&](int place) { return static_cast<float>(own[place]) - static_cast<float>(other[place]); };
    for_values(batch, mine, v, [&](const Spot& spot, float high) { return high + blur.at(batch, spot, apart); });
}

// L(x) + y - L(y) = y + L(x - y), y the image's partner. Four values a thread. Grid: images × parts.
extern "C" __global__ void __launch_bounds__(256, 4)
mix_high(BATCH_PARAMETERS, int parts, const float* window, int reach, const int* partner) {
    const Batch batch = BATCH;
    const Quad mine(batch, parts);
    if (mine.none()) return;
    float v[4];
    Quad giver = mine;
    giver.image = partner[mine.image];
    giver.read(batch, v);
    if (batch.is_levels()) {
        add_low<unsigned char>(batch, mine, giver, Blur{window, reach}, v);
    } else {
        add_low<float>(batch, mine, giver, Blur{window, reach}, v);
    }
    mine.write(batch, v);
}

template <typename Pixel>
INLINE void write_low(const Batch& batch, const Quad& mine, const Blur& blur, float* low) {
    const Pixel* const own = pixels_of<Pixel>(batch, mine.image);
    const auto value = [&](int place) { return static_cast<float>(own[place]); };
    float v[4] = {};
    for_values(batch, mine, v, [&](const Spot& spot, float) {
        return low[batch.start(mine.image) + batch.plane_place(spot)] = blur.at(batch, spot, value);
    });
}

// low: L(x) as planes (n, channels, height, width). Four values a thread. Grid: images × parts.
extern "C" __global__ void __launch_bounds__(256)
blur(BATCH_PARAMETERS, int parts, const float* window, int reach, float* low) {
    const Batch batch = BATCH;
    const Quad mine(batch, parts);
    if (mine.none()) return;
    if (batch.is_levels()) {
        write_low<unsigned char>(batch, mine, Blur{window, reach}, low);
    } else {
        write_low<float>(batch, mine, Blur{window, reach}, low);
    }
}

// mixed + y - L(y), y the image's partner. low, mixed: planes. Four values a thread. Grid: images × parts.
extern "C" __global__ void __launch_bounds__(256)
add_high(BATCH_PARAMETERS, int parts, const int* partner, const float* low, const float* mixed) {
    const Batch batch = BATCH;
    const Quad mine(batch, parts);
    if (mine.none()) return;
    float v[4];
    Quad giver = mine;
    giver.image = partner[mine.image];
    giver.read(batch, v);
    for_values(batch, mine, v, [&](const Spot& spot, float value) {
        const int place = batch.plane_place(spot);
        return mixed[batch.start(mine.image) + place] + (value - low[batch.start(giver.image) + place]);
    });
    mine.write(batch, v);
}
