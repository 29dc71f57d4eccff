// The augmentations beside APR on batches; apr_dali/augmentations/ has their definitions.
#pragma once

#include <cstdint>
#include <vector>

#include "batch.hpp"
#include "shape.hpp"

namespace apr {

// How values become levels, see apr_dali.augmentations.record.
enum class Rounding { kClamp, kWrap, kTruncate };

// A batch in and out: bytes (N, H, W, C) to the same, or, where `bytes` is null, planes (N, C, H, W) to the same.
struct AugmentBatch {
    Shape shape;
    int batch;
    const std::uint8_t* bytes;
    const float* planes;
    std::uint8_t* out_bytes;
    float* out_planes;
    Rounding rounding;
    int threads;

    // The value of a pixel that is 1 in 0..1.
    float top() const { return bytes == nullptr ? 1.0f : 255.0f; }
};

// The least and the greatest value of a batch, both NaN if one is, which those give back that take values in 0..1: they
// come by all of them.
struct Bounds {
    float least, greatest;
};

// Amplitude (1 - w)·A_i + w·A_j, each channel by itself; w is `share` in a box of signed frequencies and 0 around it.
struct AmplitudeTask {
    AugmentBatch images;
    const std::int64_t* partner;  // (N,)
    const double* share;          // (N,)
    const std::int64_t* box;      // (N, 4): the first and the last row, the first and the last column
};
void mix_amplitudes(const AmplitudeTask& task);

// Spectra times gain·e^{i·shift}, the same for all channels.
struct GainTask {
    AugmentBatch images;
    const double* gain;   // (N, H, W / 2 + 1), zero frequency first
    const double* shift;  // (N,), radians
};
void scale_spectra(const GainTask& task);

// The low frequencies of an image, with phase of its own and amplitude of another one's, and the high ones of a third.
struct HybridTask {
    AugmentBatch images;
    const std::int64_t* partner;      // (N,), who gives the high frequencies
    const std::int64_t* low_partner;  // (N,), who gives amplitude to the low ones, or null
    std::vector<float> window;        // of the blur, an odd number of weights
};
void mix_frequencies(const HybridTask& task);

// Plane waves: clip(x + strength·sin(π·(u·down + v·across + turn)) / ‖·‖, 0, top), u and v as linspace(-H/2, H/2, H).
struct WaveTask {
    AugmentBatch images;
    const double *down, *across;  // (N, C), half turns a pixel
    const double* strength;       // (N, C), of values in 0..1
    double turn, least_norm;
};
Bounds add_waves(const WaveTask& task);

// APR-S whose phases get noise, of these standard deviations at vital and at other bins.
struct NoisyTask {
    SingleTask views;
    Rounding rounding;  // in place of the overflow of `views`
    const std::int64_t* which;  // (N,), which noise is an image's; -1: none
    const float* noise;         // (K, 3, H, W), zero frequency first
    float vital, nonvital;
};
void mix_noisy_views(const NoisyTask& task);

// PRIME: chains of primitives on values in 0..1, N images in M chains of up to D steps.
struct PrimeTask {
    AugmentBatch images;
    int chains, steps;
    const double *mixture, *weight;        // (N,) and (N, M)
    const std::int64_t *depth, *operation;  // (N, M) and (D, N, M): 0 diffeomorphism, 1 color, 2 filter
    const double* displacement;            // (D, 2, H, W): how far a pixel's source lies to its left, and above it
    std::vector<const double*> color;      // of each step (N, M, C, terms)
    std::vector<int> terms;
    const std::int64_t* frequency;         // (D,), of the first term
    const double* kernel;                  // (D, N, M, 3, 3)
};
Bounds mix_chains(const PrimeTask& task);

}  // namespace apr
