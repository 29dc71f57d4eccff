// PRIME: chains of diffeomorphisms, color transforms and filters of 3 × 3, mixed with the image. A pass does one step of
// all chains of a batch; the last steps are done where they are mixed, so that a chain of one step is written nowhere.
#include "levels.cuh"
#include "places.cuh"
#include "product.cuh"
#include "sines.cuh"
#include "values.cuh"

enum Primitive { kDiffeomorphism, kColor, kFilter };

// Where a pixel of a diffeomorphism comes from: the pixel up and left of that place, the way to those on its other
// sides, and how far it lies beyond.
struct alignas(16) Source {
    int at, ways;  // 1: to the right, 2: below
    float right, down;
};

// What a color transform is in a step: where its coefficients start, how many there are, and the first frequency.
struct Colors {
    int start, terms, first;
};

// n images in `count` chains of up to `steps` steps.
struct Chains {
    int count, steps;
    const int* plans;         // (n, count, 1 + steps): how many steps, and the primitives
    const float* shares;      // (n, 1 + count), of the image and of each chain
    const float* kernels;     // (n, count, steps, 9)
    const Colors* colors;     // (steps,)
    const float* coefficients;  // of each step (n, count, channels, terms)
    const float* tables;      // (n, count, channels, 256): a color transform of levels in the first step
    const Source* sources;    // (steps, height, width)

    INLINE const int* plan(int chain) const { return plans + chain * (1 + steps); }
};

#define CHAIN_PARAMETERS                                                                                         \
    int chains, int steps, const int *plans, const float *shares, const float *kernels, const Colors *colors,    \
        const float *coefficients, const float *tables, const Source *sources
#define CHAINS \
    Chains { chains, steps, plans, shares, kernels, colors, coefficients, tables, sources }

// The image in 0..1. Values are found by their place from the image's first on.
struct FromImage {
    const Batch& batch;
    int image;

    INLINE int place(int c, int pixel) const {
        return batch.is_levels() ? pixel * batch.channels + c : c * batch.height * batch.width + pixel;
    }
    INLINE int row_step() const { return batch.row_step(); }
    INLINE int column_step() const { return batch.column_step(); }
    INLINE Level level(int place) const { return static_cast<const Level*>(batch.images)[batch.start(image) + place]; }
    INLINE float operator()(int place) const {
        return batch.is_levels() ? float_unit_of(level(place))
                                 : static_cast<const float*>(batch.images)[batch.start(image) + place];
    }
};

// What the step before has made.
struct FromPlanes {
    const Batch& batch;
    const float* planes;

    INLINE int place(int c, int pixel) const { return c * batch.height * batch.width + pixel; }
    INLINE int row_step() const { return batch.width; }
    INLINE int column_step() const { return 1; }
    INLINE float operator()(int place) const { return planes[place]; }
};

// clip(x + Σ a_k·sin(π(first + k)x), 0, 1): a turn from term to term, whose rounding stays small.
INLINE float recolored(float x, const float* coefficients, int terms, int first) {
    const SinCos turn = sin_cos_pi(x);
    SinCos at = sin_cos_pi(x * first);
    float sum = x;
    for (int k = 0; k < terms; ++k) {
        sum = fmaf(coefficients[k], at.sin, sum);
        const float sin = fmaf(at.cos, turn.sin, at.sin * turn.cos);
        at.cos = fmaf(at.cos, turn.cos, -(at.sin * turn.sin));
        at.sin = sin;
    }
    return clipped(sum, 1);
}

INLINE float recolored(const Chains& all, int step, int chain, int c, int channels, float x) {
    const Colors color = all.colors[step];
    return recolored(x, all.coefficients + color.start + (chain * channels + c) * color.terms, color.terms, color.first);
}

// What a color transform makes of the first step's values, of which levels have 256.
INLINE float colored(const Chains& all, int step, int chain, int c, int place, FromImage from) {
    const Batch& batch = from.batch;
    if (!batch.is_levels()) return recolored(all, step, chain, c, batch.channels, from(place));
    return all.tables[(chain * batch.channels + c) * 256 + from.level(place)];
}
INLINE float colored(const Chains& all, int step, int chain, int c, int place, FromPlanes from) {
    return recolored(all, step, chain, c, from.batch.channels, from(place));
}

template <typename From> INLINE float warped(const Source& source, int c, From from) {
    const int place = from.place(c, source.at);
    const int right = source.ways & 1 ? from.column_step() : 0, below = source.ways & 2 ? from.row_step() : 0;
    const float a = from(place), b = from(place + below);
    const float upper = a + source.right * (from(place + right) - a);
    const float lower = b + source.right * (from(place + below + right) - b);
    return upper + source.down * (lower - upper);
}

// Zeros around the image.
template <typename From> INLINE float filtered(const float* kernel, const Spot& at, int place, From from) {
    const Batch& batch = from.batch;
    const bool rows[3] = {at.y > 0, true, at.y + 1 < batch.height};
    const bool columns[3] = {at.x > 0, true, at.x + 1 < batch.width};
    float sum = 0;
#pragma unroll
    for (int tap = 0; tap < 9; ++tap) {
        const int to = place + (tap / 3 - 1) * from.row_step() + (tap % 3 - 1) * from.column_step();
        if (rows[tap / 3] && columns[tap % 3]) sum = fmaf(kernel[tap], from(to), sum);
    }
    return clipped(sum, 1);
}

// A value of what a step of a chain makes.
template <typename From> INLINE float followed(const Chains& all, int chain, int step, const Spot& at, From from) {
    const int primitive = all.plan(chain)[1 + step], pixel = at.y * from.batch.width + at.x;
    const int pixels = from.batch.height * from.batch.width, place = from.place(at.c, pixel);
    if (primitive == kDiffeomorphism) return warped(all.sources[step * pixels + pixel], at.c, from);
    if (primitive == kColor) return colored(all, step, chain, at.c, place, from);
    return filtered(all.kernels + (chain * all.steps + step) * 9, at, place, from);
}

// How far a pixel's source lies, of the coefficients of the modes: a sum over those along an axis, then over the others.
// sines: (at least terms, pitch), of each mode along an axis, for `multiply`. A launch has one step's two directions,
// to the left and above. Blocks as `multiply` has them.
extern "C" __global__ void __launch_bounds__(256)
sum_down(const double* sines, int pitch, const double* modes, int terms, int height, double* out) {
    multiply(sines, pitch, terms + height, modes, terms, height, terms, [=](size_t i, double value) { out[i] = value; });
}

extern "C" __global__ void __launch_bounds__(256)
sum_across(const double* sines, int pitch, const double* halfway, int terms, int height, int width, double* out) {
    const size_t pixels = static_cast<size_t>(height) * width;
    multiply(sines, pitch, terms + width, halfway, terms, width, height,
             [=](size_t i, double value) { out[i] = value * (i < pixels ? width : height); });
}

// moved: (steps, 2, height, width), how far a pixel's source lies to its left, and above it. Grid: steps × parts.
extern "C" __global__ void __launch_bounds__(256)
find_sources(const double* moved, int parts, int height, int width, Source* sources) {
    const Place place(parts);
    const int pixels = height * width;
    if (place.at >= pixels) return;
    const double* const left = place.in(moved, 2 * pixels) + place.at;
    const double column = fmin(fmax(place.at % width - left[0], 0.0), width - 1.0);
    const double row = fmin(fmax(place.at / width - left[pixels], 0.0), height - 1.0);
    const int x = static_cast<int>(column), y = static_cast<int>(row);
    place.in(sources, pixels)[place.at] = Source{y * width + x, (column > x ? 1 : 0) + (row > y ? 2 : 0),
                                                 static_cast<float>(column - x), static_cast<float>(row - y)};
}

// What the levels of each channel become in the first step, where that is a color transform.
// Grid: chains of all images × channels, a level a thread.
extern "C" __global__ void __launch_bounds__(256) tabulate(CHAIN_PARAMETERS, int channels, float* out) {
    const int chain = blockIdx.x / channels, c = blockIdx.x % channels;
    const Chains all = CHAINS;
    if (all.plan(chain)[1] != kColor) return;
    out[blockIdx.x * 256 + threadIdx.x] =
        recolored(all, 0, chain, c, channels, float_unit_of(static_cast<Level>(threadIdx.x)));
}

// A step of all chains that have further ones. Images from `first` on; before, after: their planes (chains, channels,
// height, width); `before` is null in the first step. Grid: chains of these images × parts, a value a thread.
extern "C" __global__ void __launch_bounds__(256)
take_step(BATCH_PARAMETERS, CHAIN_PARAMETERS, int parts, int first, int step, const float* before, float* after) {
    const Place place(parts);
    const Chains all = CHAINS;
    const Batch batch = BATCH;
    const int chain = first * all.count + place.image, pixels = height * width;
    if (place.at >= batch.total() || all.plan(chain)[0] <= step + 1) return;
    const Spot at{place.at / pixels, place.at % pixels / width, place.at % width};
    float& to = place.in(after, batch.total())[place.at];
    if (step == 0) {
        to = followed(all, chain, step, at, FromImage{batch, chain / all.count});
    } else {
        to = followed(all, chain, step, at, FromPlanes{batch, place.in(before, batch.total())});
    }
}

// (1 - m)·x + m·Σ of what the last steps make. even, odd: what take_step has made in steps 0, 2, ... and 1, 3, ...
// Grid: images × parts, a value a thread.
extern "C" __global__ void __launch_bounds__(256)
mix_chains(BATCH_PARAMETERS, CHAIN_PARAMETERS, int parts, int first, const float* even, const float* odd) {
    const Place place(parts);
    const Chains all = CHAINS;
    const Batch batch = BATCH;
    if (place.at >= batch.total()) return;
    const Spot at = batch.spot(place.at);
    const FromImage from{batch, first + place.image};
    const float* const share = all.shares + from.image * (1 + all.count);
    float sum = share[0] * from(place.at);
    for (int i = 0; i < all.count; ++i) {
        const int chain = from.image * all.count + i, last = all.plan(chain)[0] - 1;
        float made;
        if (last == 0) {
            made = followed(all, chain, 0, at, from);
        } else {
            const size_t planes = (static_cast<size_t>(place.image) * all.count + i) * batch.total();
            made = followed(all, chain, last, at, FromPlanes{batch, (last % 2 == 1 ? even : odd) + planes});
        }
        sum = fmaf(share[1 + i], made, sum);
    }
    batch.write(batch.start(from.image) + place.at, batch.is_levels() ? sum * 255.f : sum);
}
