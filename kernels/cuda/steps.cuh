// What happens to the bins of a column between its transforms. One thing is known while compiling:
//   nothing defined   the amplitude of another image for its own (APR);
//   STEP_BLEND        a part of the other's amplitude, in a box of frequencies (amplitude mix, FDA);
//   STEP_SCALE        a product with numbers for each bin of the half spectrum, and no other image (gains, masks);
//   STEP_NOISE        APR, and noise on the phase that depends on the bins around (VIPAug-G).
// The second and the third are for real transforms of each channel, the last for three channels around cuFFT.
#pragma once
#include "recombine.cuh"
#include "route.cuh"

INLINE int opposite(int k, int size) { return k == 0 ? 0 : size - k; }

#if defined(STEP_BLEND)

// How much of the given amplitude the bins of one column take. What a box that is not symmetric asks of k and -k is the
// mean of both: the other half of the amplitudes would not make a real image.
struct Weights {
    float own, mirrored;  // in rows of the box; in rows whose opposite is in it
    int first, last, height;

    INLINE float at(int row) const { return (holds(row) ? own : 0.f) + (holds(opposite(row, height)) ? mirrored : 0.f); }

   private:
    INLINE bool holds(int row) const {
        const int k = row < (height + 1) / 2 ? row : row - height;
        return first <= k && k <= last;
    }
};

struct Step {
    const float* shares;  // (n,)
    const int* boxes;     // (n, 4): the first and the last row, the first and the last column, signed
    int height, width;

    INLINE Weights weights(int b, int column) const {
        const int* const box = boxes + 4 * b;
        // Columns of the half spectrum; the last one of an even width is its own opposite.
        const int k = 2 * column == width ? -column : column, other = 2 * column == width ? k : -column;
        const float half = 0.5f * shares[b];
        return {box[2] <= k && k <= box[3] ? half : 0.f, box[2] <= other && other <= box[3] ? half : 0.f, box[0], box[1],
                height};
    }
    INLINE float of_bin(int b, int bin, const float2*) const {
        return weights(b, bin % (width / 2 + 1)).at(bin / (width / 2 + 1));
    }
};

INLINE float2 changed(const float2* own, const float2* given, float weight) {
    const float amplitude = amplitude_of(*own);
    return with_amplitude(*own, fmaf(weight, amplitude_of(*given) - amplitude, amplitude));
}

#define STEP_PARAMETERS , const float *step_shares, const int *step_boxes
#define STEP(height, width) \
    Step { step_shares, step_boxes, height, width }

#elif defined(STEP_SCALE)

struct Step {
    const float* gains;   // (n, height, width / 2 + 1), zero frequency first
    const float2* turns;  // (n,): the cosine and the sine of a shift of all phases
    int height, width;

    // Where a bin's opposite is in the half spectrum too, the mean of what both ask for: the real part.
    INLINE float2 factor(int b, int row, int column) const {
        const int columns = width / 2 + 1;
        column = min(column, width / 2);  // the columns behind the last are nobody's
        const float* const image = gains + static_cast<size_t>(b) * height * columns + column;
        const bool alone = column != 0 && 2 * column != width;
        const float here = image[row * columns], there = alone ? here : image[opposite(row, height) * columns];
        const float2 turn = turns[b];
        return make_float2(turn.x * 0.5f * (here + there), turn.y * (alone ? here : 0.5f * (here - there)));
    }
    INLINE float2 of_bin(int b, int bin, const float2*) const {
        return factor(b, bin / (width / 2 + 1), bin % (width / 2 + 1));
    }
};

INLINE float2 changed(const float2* own, const float2*, float2 factor) { return product(*own, factor); }

#define STEP_PARAMETERS , const float *step_gains, const float2 *step_turns
#define STEP(height, width) \
    Step { step_gains, step_turns, height, width }

#elif defined(STEP_NOISE)

#include "sines.cuh"

// What the phases of three channels' frequencies are turned by, as the mean of two turns.
struct Turns {
    float2 of[3];
};

struct Step {
    const float* noise;  // (noisy images, 3, height, width), zero frequency first
    const int* noisy;    // (n,): which of them an image is, or -1
    float vital, nonvital;  // what the noise is multiplied with at the largest of four bins, and at others
    int height, width;

    INLINE Turns of_bin(int b, int bin, const float2* spectrum) const {
        Turns turns;
        const int columns = width / 2 + 1, row = bin / columns, column = bin % columns;
        const bool quiet = noisy[b] < 0;
        const float* const image = noise + static_cast<size_t>(quiet ? 0 : noisy[b]) * 3 * height * width;
#pragma unroll
        for (int c = 0; c < 3; ++c) {
            turns.of[c] = make_float2(1.f, 0.f);
            if (quiet) continue;
            const SinCos here = turn(image, spectrum, c, row, column);
            const SinCos there = turn(image, spectrum, opposite(c, 3), opposite(row, height), opposite(column, width));
            turns.of[c] = make_float2(0.5f * (here.cos + there.cos), 0.5f * (here.sin - there.sin));
        }
        return turns;
    }

   private:
    INLINE SinCos turn(const float* image, const float2* spectrum, int c, int row, int column) const {
        const float deviation = is_vital(spectrum, c, row, column) ? vital : nonvital;
        return sin_cos_pi(0.31830989f * (deviation * image[(c * height + row) * width + column]));
    }
    // Whether a bin has the first largest amplitude of its two by two; what remains of an odd size has none.
    INLINE bool is_vital(const float2* spectrum, int c, int row, int column) const {
        const int top = row & ~1, left = column & ~1;
        if (top + 1 >= height || left + 1 >= width) return false;
        float amplitudes[4], most = 0;
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            amplitudes[k] = amplitude_at(spectrum, c, top + k / 2, left + k % 2);
            most = fmaxf(most, amplitudes[k]);
        }
        // Bins that differ by less are equal: rounding must not choose among them.
        const float enough = most * (1 - 1e-5f);
        int first = 0;
        while (first < 3 && !(amplitudes[first] >= enough)) ++first;
        return first == 2 * (row - top) + column - left;
    }
    INLINE float amplitude_at(const float2* spectrum, int c, int row, int column) const {
        const int columns = width / 2 + 1;
        const bool there = column < columns;  // else its opposite is, which is as large
        const size_t bins = static_cast<size_t>(height) * columns;
        const float2* const from =
            spectrum + (there ? row : opposite(row, height)) * columns + (there ? column : width - column);
        float2 bin[3] = {from[0], from[bins], from[2 * bins]};
        transform_channels<-1>(bin);
        c = there ? c : opposite(c, 3);
        return amplitude_of(c == 0 ? bin[0] : c == 1 ? bin[1] : bin[2]);
    }
};

INLINE float2 part_of_channel(const Turns& turns, int c) { return c == 0 ? turns.of[0] : c == 1 ? turns.of[1] : turns.of[2]; }
INLINE float2 changed(const float2* own, const float2* given, float2 turn) {
    return product(with_amplitude(*own, amplitude_of(*given)), turn);
}

#define STEP_PARAMETERS \
    , const float *step_noise, const int *step_noisy, float step_vital, float step_nonvital
#define STEP(height, width) \
    Step { step_noise, step_noisy, step_vital, step_nonvital, height, width }

#else

struct Step {
    template <typename C> INLINE Step of_bin(int, int, const C*) const { return {}; }
};
template <typename C> INLINE C changed(const C* own, const C* given, Step) {
    return with_amplitude(*own, amplitude_of(*given));
}
#define STEP_PARAMETERS
#define STEP(height, width) \
    Step {}

#endif

#ifndef STEP_NOISE
// The same for all channels.
template <typename Part> INLINE Part part_of_channel(Part part, int) { return part; }
#endif

#if defined(STEP_BLEND) || defined(STEP_SCALE) || defined(STEP_NOISE)
#define STEP_PARAMETERS_OF_ANY_SIZE , int height, int width STEP_PARAMETERS
#else
#define STEP_PARAMETERS_OF_ANY_SIZE
#endif
