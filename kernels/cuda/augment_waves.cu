// AFA's plane waves: clip(x + strength·sin(phase), 0, top), a wave for each channel.
#include "sines.cuh"
#include "values.cuh"

// Phases in 2^-32 turns: of the first pixel, and from one row and column to the next. strength: of values, by which the
// wave's norm is divided already.
struct alignas(16) Wave {
    unsigned start, down, across;
    float strength;
};

// waves: (n, channels). Four values a thread.
extern "C" __global__ void __launch_bounds__(256)
add_waves(BATCH_PARAMETERS, int parts, const Wave* waves, float top) {
    const Batch batch = BATCH;
    const Quad mine(batch, parts);
    if (mine.none()) return;
    const Wave* const own = waves + static_cast<size_t>(mine.image) * channels;
    Spot spot = batch.spot(mine.first);
    float v[4];
    mine.read(batch, v);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
        // Past the end of the image there is no channel.
        const Wave wave = own[min(spot.c, channels - 1)];
        const float sine = sine_of_phase(wave.start + spot.y * wave.down + spot.x * wave.across);
        v[k] = clipped(fmaf(wave.strength, sine, v[k]), top);
        batch.advance(spot);
    }
    mine.write(batch, v);
}
