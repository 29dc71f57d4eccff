// Noise: each level by itself, eight of them and a block of random numbers a thread. The float32 arithmetic is that of the
// native operators, with no fused multiply-add (it is compiled so).
#include "levels.cuh"
#include "random.cuh"

// times: whether the noise grows with the level.
extern "C" __global__ void __launch_bounds__(256)
normal_noise(IMAGE_PARAMETERS, int parts, DRAW_PARAMETERS, const double* given, float scale, int times) {
    const Share<8> mine(height, width, parts);
    if (mine.none()) return;
    Levels<8> levels(mine.in(images), mine.first, mine.total);
    float noise[8];
    Field(PHILOX(mine.image), 0, given, mine.image, mine.total).normal(mine.first / 8, 0.f, scale, noise);
#pragma unroll
    for (int k = 0; k < 8; ++k) {
        const float level = static_cast<float>(levels.of[k]);
        const float noisy = level + (times ? level : 255.f) * noise[k];
        levels.of[k] = static_cast<unsigned>(fminf(fmaxf(noisy, 0.f), 255.f));
    }
    levels.write(mine.in(out), mine.first, mine.total);
}

// The quantile of a Poisson number for each level v: the first k for which a word is not beyond[v][k]; its last one is the
// largest word. shown: the level that k photons are; given: these numbers themselves.
extern "C" __global__ void __launch_bounds__(256)
shot_noise(IMAGE_PARAMETERS, int parts, DRAW_PARAMETERS, const double* given, const unsigned* beyond, const Level* shown,
           int photons) {
    const Share<8> mine(height, width, parts);
    if (mine.none()) return;
    Levels<8> levels(mine.in(images), mine.first, mine.total);
    const Field field(PHILOX(mine.image), 0, given, mine.image, mine.total);
    double counted[8];
    if (field.copied(mine.first / 8, counted)) {
#pragma unroll
        for (int k = 0; k < 8; ++k) {
            levels.of[k] = shown[static_cast<int>(fmax(0.0, fmin(static_cast<double>(photons), counted[k])))];
        }
    } else {
        unsigned words[8];
        field.words(mine.first / 8, words);
        int at[8];
        const unsigned* row[8];
#pragma unroll
        for (int k = 0; k < 8; ++k) at[k] = 0, row[k] = beyond + levels.of[k] * (photons + 1);
        // The eight searches side by side: each step waits for memory.
        for (int left = photons + 1; left > 1; left -= left / 2) {
#pragma unroll
            for (int k = 0; k < 8; ++k) at[k] += words[k] > row[k][at[k] + left / 2 - 1] ? left / 2 : 0;
        }
#pragma unroll
        for (int k = 0; k < 8; ++k) levels.of[k] = shown[at[k]];
    }
    levels.write(mine.in(out), mine.first, mine.total);
}

// flipped, salted: given, or null. within: how many of the 2^32 words flip a level.
extern "C" __global__ void __launch_bounds__(256)
impulse_noise(IMAGE_PARAMETERS, int parts, DRAW_PARAMETERS, const double* flipped, const double* salted, Long within) {
    const Share<8> mine(height, width, parts);
    if (mine.none()) return;
    Levels<8> levels(mine.in(images), mine.first, mine.total);
    bool flips[8], salts[8];
    Field(PHILOX(mine.image), 0, flipped, mine.image, mine.total).choice(mine.first / 8, within, flips);
    Field(PHILOX(mine.image), 1, salted, mine.image, mine.total).choice(mine.first / 8, 1ull << 31, salts);
#pragma unroll
    for (int k = 0; k < 8; ++k) levels.of[k] = flips[k] ? (salts[k] ? 255 : 0) : levels.of[k];
    levels.write(mine.in(out), mine.first, mine.total);
}
