// Recombination of images of any size around cuFFT's real transforms: what comes before, between and after them.
// REAL is float or double, COMPLEX its pair.
#include "pixels.cuh"
#include "recombine.cuh"
#include "steps.cuh"

INLINE size_t place(const Out& out, int b, int view, int c, int channels, int pixel, int pixels) {
    const size_t image = static_cast<size_t>(b) * out.views + view;
    if (kChannelsLast || out.is_levels()) return (image * pixels + pixel) * channels + c;
    return (image * channels + c) * pixels + pixel;
}

// Threads beside each other take what lies side by side where it is written: with CHANNELS_LAST the channels of a pixel.
INLINE void in_written_order(int channels, int pixels, int& c, int& pixel) {
    if (!kChannelsLast) return;
    const int at = c * pixels + pixel;
    c = at % channels;
    pixel = at / channels;
}

// The images as planes, scaled, and the clean view. planes: (slots, channels, pixels), or null for the view alone.
// Grid: slots × channels × parts.
extern "C" __global__ void before(IN_PARAMETERS, ROUTE_PARAMETERS, OUT_PARAMETERS, int channels, int pixels, int parts,
                                  float* planes) {
    const int slot = blockIdx.x / parts / channels;
    int c = blockIdx.x / parts % channels, pixel = blockIdx.x % parts * blockDim.x + threadIdx.x;
    if (pixel >= pixels) return;
    const In in = IN;
    const Out out = OUT;
    in_written_order(channels, pixels, c, pixel);
    const bool mixed = (ROUTE).mixed(slot % n);
    const size_t index = in.kind == kLevelsIn ? static_cast<size_t>(pixel) * channels + c
                                              : static_cast<size_t>(c) * pixels + pixel;
    // Where nothing is mixed nobody has written a second image.
    const bool given = slot < n || mixed;
    const void* const image = in.image(slot, static_cast<size_t>(channels) * pixels);
    const float value = given ? in.affine(read_pixel(image, in.kind, index), c) : 0.f;
    if (planes != nullptr) planes[(static_cast<size_t>(slot) * channels + c) * pixels + pixel] = value;
    if (out.data == nullptr) return;
    const float clean = out.affine(value, c);
    if (out.views == 2) write_pixel(out.data, out.kind, place(out, slot, 0, c, channels, pixel, pixels), clean);
    if (!mixed) write_pixel(out.data, out.kind, place(out, slot, out.views - 1, c, channels, pixel, pixels), clean);
}

// spectra: (slots, channels, bins) to (n, channels, bins). across_channels: of three channels that are not transformed
// yet. `factor` is that of the inverse transforms. Grid: n × parts.
extern "C" __global__ void between(const COMPLEX* spectra, ROUTE_PARAMETERS, int channels, int bins, int parts,
                                   int across_channels, REAL factor, COMPLEX* mixed_spectra STEP_PARAMETERS_OF_ANY_SIZE) {
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

// The mixed view from its planes (n, channels, pixels). Grid: n × channels × parts.
extern "C" __global__ void after(const float* planes, ROUTE_PARAMETERS, OUT_PARAMETERS, int channels, int pixels,
                                 int parts) {
    const int b = blockIdx.x / parts / channels;
    int c = blockIdx.x / parts % channels, pixel = blockIdx.x % parts * blockDim.x + threadIdx.x;
    if (pixel >= pixels || !(ROUTE).mixed(b)) return;
    const Out out = OUT;
    in_written_order(channels, pixels, c, pixel);
    const float value = out.affine(planes[(static_cast<size_t>(b) * channels + c) * pixels + pixel], c);
    write_pixel(out.data, out.kind, place(out, b, out.views - 1, c, channels, pixel, pixels), value);
}
