// The transform over the channels.
//
// It is taken first, on the real pixels, where it is a real C×C matrix: component C - k is the conjugate of component
// k in every pixel. So an image becomes `real_planes` real planes (component 0, and C/2 if C is even) and
// `complex_planes` complex ones (components 1, 2, ...), and the other components follow from these. Every bin of the
// whole spectrum is then in one of the planes once, ready for the recombination.
//
// `forward` makes of the values v[2·channel + half] of two vectors of pixels the parts v[2·part + half]: the real
// planes, then real and imaginary part of each complex plane. `inverse` undoes it but for `factor`, which the caller
// applies; it takes real planes that come in doubled, as the passes leave them.
#pragma once

#include <cmath>
#include <numbers>
#include <vector>

#include "simd.hpp"

namespace apr {

// No transform over the channels: C real planes. `Count` is C where it is known while compiling, else 0.
template <class T, int Count>
struct Separate {
    static constexpr int kChannels = Count;
    int channels;

    int real_planes() const { return Count > 0 ? Count : channels; }
    int complex_planes() const { return 0; }
    double factor() const { return 0.5; }
    APR_INLINE void forward(Vector<T>*) const {}
    APR_INLINE void inverse(Vector<T>*) const {}
};

// Three channels: with t = g + b they become r + t and (r - t/2, √3/2·(b - g)), which is exactly (0, 0) for gray.
template <class T>
struct OverRgb {
    static constexpr int kChannels = 3;
    static constexpr T kRootThree = T(std::numbers::sqrt3);

    static constexpr int real_planes() { return 1; }
    static constexpr int complex_planes() { return 1; }
    static constexpr double factor() { return 1.0 / 3; }

    APR_INLINE void forward(Vector<T>* v) const {
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {
            const Vector<T> red = v[half];
            const Vector<T> rest = v[2 + half] + v[4 + half];
            const Vector<T> turn = (v[4 + half] - v[2 + half]) * broadcast(kRootThree / 2);
            v[half] = red + rest;
            v[2 + half] = red - rest * broadcast(T(0.5));
            v[4 + half] = turn;
        }
    }

    APR_INLINE void inverse(Vector<T>* v) const {
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {
            const Vector<T> base = v[2 + half];
            const Vector<T> turn = v[4 + half] * broadcast(kRootThree);
            const Vector<T> sum = v[half] * broadcast(T(0.5));
            v[half] = sum + (base + base);
            const Vector<T> rest = sum - base;
            v[2 + half] = rest - turn;
            v[4 + half] = rest + turn;
        }
    }
};

// Any number of channels, by the matrix.
template <class T>
class OverChannels {
   public:
    static constexpr int kChannels = 0;

    explicit OverChannels(int channels) : channels_(channels), forward_(channels * channels), inverse_(forward_) {
        for (int part = 0; part < channels; ++part) {
            const bool real = part < real_planes();
            const int component = real ? part * (channels / 2) : (part - real_planes()) / 2 + 1;
            const bool imaginary = !real && (part - real_planes()) % 2 == 1;
            for (int c = 0; c < channels; ++c) {
                const double angle = 2 * std::numbers::pi * (component * c % channels) / channels;
                const double entry = imaginary ? -std::sin(angle) : std::cos(angle);
                forward_[part * channels + c] = static_cast<T>(entry);
                // A complex plane stands for two components, a real one comes in doubled.
                inverse_[c * channels + part] = static_cast<T>(real ? entry / 2 : entry * 2);
            }
        }
    }

    int real_planes() const { return 2 - channels_ % 2; }
    int complex_planes() const { return (channels_ - 1) / 2; }
    double factor() const { return 1.0 / channels_; }
    APR_INLINE void forward(Vector<T>* v) const { multiply(forward_, v); }
    APR_INLINE void inverse(Vector<T>* v) const { multiply(inverse_, v); }

   private:
    void multiply(const std::vector<T>& matrix, Vector<T>* v) const {
        Vector<T>* result = v + 2 * channels_;  // the caller's array has room for it
        for (int i = 0; i < 2 * channels_; ++i) {
            Vector<T> sum{};
            for (int k = 0; k < channels_; ++k) {
                sum = fma(broadcast(matrix[i / 2 * channels_ + k]), v[2 * k + i % 2], sum);
            }
            result[i] = sum;
        }
        for (int i = 0; i < 2 * channels_; ++i) v[i] = result[i];
    }

    int channels_;
    std::vector<T> forward_, inverse_;
};

}  // namespace apr
