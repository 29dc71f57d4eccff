// Recombination of images of any size around cuFFT's real transforms: what comes before, between and after them.
// REAL is float or double, COMPLEX its pair.
#include "pixels.cuh"
#include "recombine.cuh"
#include "steps.cuh"

// Blocks that registers are kept for. Without the number, some compilers keep fewer than `before` takes.
#define BLOCKS 4

INLINE size_t place(const Out& out, int b, int view, int c, int channels, int pixel, int pixels) {
    const size_t image = static_cast<size_t>(b) * out.views + view;
    if (kChannelsLast || out.is_levels()) return (image * pixels + pixel) * channels + c;
    return (image * channels + c) * pixels + pixel;
}

// Words of four pixels, as in pixels.cuh, whose sizes are known while compiling: with numbers instead, registers run short
// in the kernels for squares.

// Four pixels beside each other in `count` views of result b, from view `first` on: the `quad`-th four of an image of
// `quads`; v[c][k] for channel c.
INLINE void write_four(const Out& out, int b, int first, int count, int quad, int quads, const float v[3][4]) {
    const size_t step = 3 * static_cast<size_t>(quads), image = (static_cast<size_t>(b) * out.views + first) * step;
    if constexpr (kChannelsLast) {
        // Three stores one after the other fill what lies between those of the threads beside this one.
#pragma unroll
        for (int k = 0; k < 12; k += 4) {
            write_values(out, image + 3 * quad + k / 4, step, count, v[k % 3][k / 3], v[(k + 1) % 3][(k + 1) / 3],
                         v[(k + 2) % 3][(k + 2) / 3], v[(k + 3) % 3][(k + 3) / 3]);
        }
    } else {
#pragma unroll
        for (int c = 0; c < 3; ++c) {
            write_values(out, image + (c * quads + quad), step, count, v[c][0], v[c][1], v[c][2], v[c][3]);
        }
    }
}

// The other way round: v[c][k] of the `quad`-th four pixels of an image of `quads`.
INLINE void read_four(const unsigned char* image, int quad, int, float v[3][4]) {
    const uchar4* const words = reinterpret_cast<const uchar4*>(image) + 3 * quad;
#pragma unroll
    for (int w = 0; w < 3; ++w) {
        const uchar4 word = words[w];
        const unsigned char levels[4] = {word.x, word.y, word.z, word.w};
#pragma unroll
        for (int k = 4 * w; k < 4 * w + 4; ++k) v[k % 3][k / 3] = levels[k - 4 * w];
    }
}
INLINE void read_four(const float* image, int quad, int quads, float v[3][4]) {
#pragma unroll
    for (int c = 0; c < 3; ++c) {
        const float4 four = reinterpret_cast<const float4*>(image)[c * quads + quad];
        v[c][0] = four.x, v[c][1] = four.y, v[c][2] = four.z, v[c][3] = four.w;
    }
}

// For the four pixels of a thread. Of three channels, whose planes all begin with a word: four(quad, quads), neighbors.
// Else one(c, pixel) for each value, the pixels a block's width apart: threads beside each other take what lies side by
// side. Grid: images × parts.
template <typename Four, typename One>
INLINE void for_pixels(int channels, int pixels, int parts, Four four, One one) {
    constexpr int kOfABlock = 4 * ELEMENT_THREADS;
    const int thread = threadIdx.x, first = blockIdx.x % parts * kOfABlock, count = min(pixels - first, kOfABlock);
    if (channels == 3 && pixels % 4 == 0) {
        if (4 * thread < count) four(first / 4 + thread, pixels / 4);
        return;
    }
    for (int at = thread; at < count; at += ELEMENT_THREADS) {
        for (int c = 0; c < channels; ++c) one(c, first + at);
    }
}

// The images as planes, scaled, and the clean view. planes: (slots, channels, pixels), or null for the view alone.
// Grid: slots × parts.
extern "C" __global__ void __launch_bounds__(ELEMENT_THREADS, BLOCKS)
before(IN_PARAMETERS, ROUTE_PARAMETERS, OUT_PARAMETERS, int channels, int pixels, int parts, float* planes) {
    const int slot = blockIdx.x / parts;
    const In in = IN;
    const Out out = OUT;
    const bool mixed = (ROUTE).mixed(slot % n);
    // Where nothing is mixed nobody has written a second image.
    const bool given = slot < n || mixed;
    const size_t values = static_cast<size_t>(channels) * pixels;
    const void* const image = in.image(slot, values);
    float* const plane = planes == nullptr ? nullptr : planes + slot * values;
    const int count = out.data == nullptr ? 0 : mixed ? out.views - 1 : out.views;
    const auto four = [&](int quad, int quads) {
        float v[3][4] = {};
        if (given && in.kind == kLevelsIn) read_four(static_cast<const unsigned char*>(image), quad, quads, v);
        if (given && in.kind == kFloatIn) read_four(static_cast<const float*>(image), quad, quads, v);
#pragma unroll
        for (int k = 0; k < 12; ++k) v[k / 4][k % 4] = given ? in.affine(v[k / 4][k % 4], k / 4) : 0.f;
        if (plane != nullptr) {
#pragma unroll
            for (int c = 0; c < 3; ++c) {
                reinterpret_cast<float4*>(plane)[c * quads + quad] = make_float4(v[c][0], v[c][1], v[c][2], v[c][3]);
            }
        }
        if (count == 0) return;
#pragma unroll
        for (int k = 0; k < 12; ++k) v[k / 4][k % 4] = out.affine(v[k / 4][k % 4], k / 4);
        write_four(out, slot, 0, count, quad, quads, v);
    };
    for_pixels(channels, pixels, parts, four, [&](int c, int pixel) {
        const size_t planar = static_cast<size_t>(c) * pixels + pixel;
        const size_t index = in.kind == kLevelsIn ? static_cast<size_t>(pixel) * channels + c : planar;
        const float value = given ? in.affine(read_pixel(image, in.kind, index), c) : 0.f;
        if (plane != nullptr) plane[planar] = value;
        for (int view = 0; view < count; ++view) {
            write_pixel(out.data, out.kind, place(out, slot, view, c, channels, pixel, pixels), out.affine(value, c));
        }
    });
}

// spectra: (slots, channels, bins) to (n, channels, bins). across_channels: of three channels that are not transformed
// yet. `factor` is that of the inverse transforms. Grid: n × parts.
extern "C" __global__ void __launch_bounds__(ELEMENT_THREADS, BLOCKS)
between(const COMPLEX* spectra, ROUTE_PARAMETERS, int channels, int bins, int parts, int across_channels, REAL factor,
        COMPLEX* mixed_spectra STEP_PARAMETERS_OF_ANY_SIZE) {
    const int b = blockIdx.x / parts, bin = blockIdx.x % parts * blockDim.x + threadIdx.x;
    const Route route = ROUTE;
    if (bin >= bins) return;
    const size_t image = static_cast<size_t>(channels) * bins;
    COMPLEX* to = mixed_spectra + b * image + bin;
    if (!route.mixed(b)) {
        // Transformed with the others, though nobody looks at it.
        for (int c = 0; c < channels; ++c) to[c * static_cast<size_t>(bins)] = complex_of(REAL(0), REAL(0));
        return;
    }
    const int amplitude_source = route.amplitude(b);
    const COMPLEX* own = spectra + route.phase(b) * image + bin;
    const COMPLEX* given = spectra + (amplitude_source < 0 ? 0 : amplitude_source) * image + bin;
    factor = known_factor(amplitude_source, factor);
    const auto part = STEP(height, width).of_bin(b, bin, spectra + route.phase(b) * image);
    if (!across_channels) {
        for (int c = 0; c < channels; ++c, own += bins, given += bins, to += bins) {
            *to = scaled(changed(own, given, part_of_channel(part, c)), factor);
        }
        return;
    }
    COMPLEX a[3] = {own[0], own[bins], own[2 * static_cast<size_t>(bins)]};
    COMPLEX p[3] = {given[0], given[bins], given[2 * static_cast<size_t>(bins)]};
    change_bin(a, p, factor, [&](int c, const COMPLEX* own, const COMPLEX* given) {
        return changed(own, given, part_of_channel(part, c));
    });
#pragma unroll
    for (int c = 0; c < 3; ++c) to[c * static_cast<size_t>(bins)] = a[c];
}

// The mixed view from its planes (n, channels, pixels). Grid: n × parts.
extern "C" __global__ void __launch_bounds__(ELEMENT_THREADS, BLOCKS)
after(const float* planes, ROUTE_PARAMETERS, OUT_PARAMETERS, int channels, int pixels, int parts) {
    const int b = blockIdx.x / parts;
    if (!(ROUTE).mixed(b)) return;
    const Out out = OUT;
    const float* const plane = planes + static_cast<size_t>(b) * channels * pixels;
    const auto four = [&](int quad, int quads) {
        float v[3][4];
        read_four(plane, quad, quads, v);
#pragma unroll
        for (int k = 0; k < 12; ++k) v[k / 4][k % 4] = out.affine(v[k / 4][k % 4], k / 4);
        if (out.is_levels()) {
            write_four_levels(out, (static_cast<size_t>(b) * quads + quad) * 3, v);
        } else {
            write_four(out, b, out.views - 1, 1, quad, quads, v);
        }
    };
    for_pixels(channels, pixels, parts, four, [&](int c, int pixel) {
        const float value = out.affine(plane[static_cast<size_t>(c) * pixels + pixel], c);
        write_pixel(out.data, out.kind, place(out, b, out.views - 1, c, channels, pixel, pixels), value);
    });
}
