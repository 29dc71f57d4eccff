// What happens to the bins of a column between its transforms. One thing is known while compiling:
//   nothing defined   the amplitude of another image for its own (APR);
//   STEP_BLEND        a part of the other's amplitude, in a box of frequencies (amplitude mix, FDA);
//   STEP_SCALE        a product with numbers for each bin of the half spectrum, and no other image (gains, masks).
// The last two are for real transforms of each channel.
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
    INLINE float of_bin(int b, int bin) const {
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
    INLINE float2 of_bin(int b, int bin) const { return factor(b, bin / (width / 2 + 1), bin % (width / 2 + 1)); }
};

INLINE float2 changed(const float2* own, const float2*, float2 factor) { return product(*own, factor); }

#define STEP_PARAMETERS , const float *step_gains, const float2 *step_turns
#define STEP(height, width) \
    Step { step_gains, step_turns, height, width }

#else

struct Step {
    INLINE Step of_bin(int, int) const { return {}; }
};
template <typename C> INLINE C changed(const C* own, const C* given, Step) {
    return with_amplitude(*own, amplitude_of(*given));
}
#define STEP_PARAMETERS
#define STEP(height, width) \
    Step {}

#endif

#if defined(STEP_BLEND) || defined(STEP_SCALE)
#define STEP_PARAMETERS_OF_ANY_SIZE , int height, int width STEP_PARAMETERS
#else
#define STEP_PARAMETERS_OF_ANY_SIZE
#endif
