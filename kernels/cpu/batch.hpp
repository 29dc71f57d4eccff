// The three operators on batches, and the threads that they are spread over.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "shape.hpp"

namespace apr {

enum class Axes { kChannelsToo, kPlanesOnly };
enum class Overflow { kWrap, kClamp };
enum class Format { kFloat32, kFloat16, kBfloat16 };

struct PairTask {
    Shape shape;
    int batch;
    const std::uint8_t* bytes;  // (N, H, W, C), or null
    const float* planes;        // (N, C, H, W), where `bytes` is null
    const std::int64_t* partner;
    bool mix, both_views;
    const double *in_scale, *in_bias, *out_scale, *out_bias;  // (C,)
    Axes axes;
    Format format;
    bool channels_last;
    void* out;  // (N, C, H, W), or (N, 2, C, H, W) with both views; with channels_last C comes last
    int threads;
};
void pair(const PairTask& task);

struct SingleTask {
    int batch, height, width;
    const std::uint8_t* images;       // (N, H, W, 3), as is `out`
    const std::uint8_t* operation;    // (N, 2)
    const double* parameters;         // (N, 2, 6)
    const bool *mix, *amplitude_of_second;  // (N,)
    Overflow overflow;
    Axes axes;
    std::uint8_t* out;
    int threads;
};
void single(const SingleTask& task);

// phase_of, amplitude_of and out are (N, C, H, W), of float or double.
template <class T>
void recombine(Shape shape, int batch, const T* phase_of, const T* amplitude_of, Axes axes, T* out, int threads);

// Every image (N, C, H, W) forward and back over its rows and columns and nothing else: what the transforms cost.
void round_trip(Shape shape, int batch, const float* images, float* out, int threads);

}  // namespace apr
