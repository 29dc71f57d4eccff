// Noise on the phases of three channels' spectra, less of it at vital bins; apr_dali/augmentations/vipaug.py defines it.
//
// Windows of bins and draws have the frequencies in their order, the passes have not: amplitudes are put into order, made
// angles in place, and what these multiply the bins with goes back, group by group.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "frequencies.hpp"
#include "sines.hpp"

namespace apr {

class PhaseNoise {
   public:
    explicit PhaseNoise(const Layout<float>& layout)
        : layout_(layout),
          height_(layout.shape.height),
          width_(layout.shape.width),
          stride_((width_ + kLanes<float>) / kLanes<float> * kLanes<float>),
          field_(kLanes<float> + 3 * static_cast<std::size_t>(height_) * stride_),
          amplitudes_(width_ + 1),
          factors_(width_ + 1),
          row_(2 * static_cast<std::size_t>(stride_)),
          position_(stride_, width_) {
        std::fill_n(field_.get(), kLanes<float> + 3 * static_cast<std::size_t>(height_) * stride_, 0.0f);
        const std::vector<int>& frequency = layout.over_rows.plan().frequency;
        for (int k = 0; k < width_; ++k) position_[frequency[k]] = k;
        amplitudes_[width_] = Floats{};
        const Frequencies<float> frequencies(layout);
        for (int group = 0; group < layout.groups(); ++group) {
            for (int lane = 0; lane < kLanes<float>; ++lane) places_.push_back(place(frequencies, group, lane));
        }
        for (int i = 0; layout.remainder && i < width_; ++i) {
            column_.push_back(frequencies.column_frequency(layout.full_groups(), i / kLanes<float>, i % kLanes<float>));
        }
    }

    // Of the image whose columns the passes have transformed. noise: (3, H, W), of standard deviation 1.
    void set(Passes<float>& passes, const float* noise, float vital, float nonvital) {
        passes.read_amplitudes(amplitudes_.get(), [this](int group) { put_into_order(group); });
        for (int y = 0; y < height_; ++y) mirror(row(1, y), row(2, opposite_frequency(y, height_)));
        // Of rounding in float32, for bins that are equal but for it.
        const float slack = row(0, 0)[0] * 0x1p-21f / std::sqrt(3 * static_cast<float>(layout_.shape.plane()));
        Floats largest{};
        for (int c = 0; c < 3; ++c) {
            for (int y = 0; y < height_; y += 2) {
                const float* numbers = noise + (static_cast<std::size_t>(c) * height_ + y) * width_;
                set_rows(c, y, numbers, vital, nonvital, slack, largest);
            }
        }
        small_ = true;
        for (int lane = 0; lane < kLanes<float>; ++lane) small_ = small_ && largest[lane] < kSmall;
    }

    // What the bins of a group are multiplied with, until it is called for another one.
    const Complex<float>* of(int group) {
        small_ ? set_factors<true>(group) : set_factors<false>(group);
        return factors_.get();
    }

   private:
    // Bins whose amplitudes differ by less, relative, are equal: the first of equals is vital.
    static constexpr float kTie = 0x1p-18f;
    // Angles for which series alone give sine and cosine.
    static constexpr float kSmall = 0.78f;
    static constexpr std::make_integer_sequence<int, kLanes<float>> kEachLane{};

    // Where a row of the passes has its numbers, and those of the bins opposite to its own: in the same component of the
    // transform over the channels where that is real, which then is only half there, or in the conjugate one.
    struct Place {
        float *own, *opposite;
        bool is_half;
    };
    Place place(const Frequencies<float>& frequencies, int group, int lane) const {
        const int from = frequencies.row(group, lane), y = frequencies.row_frequency(from);
        const int opposite = opposite_frequency(y, height_);
        if (frequencies.plane(from) == 0) return {row(1, y), row(2, opposite), false};
        return {row(0, y), row(0, opposite), opposite != y};
    }
    const Place* places(int group) const { return places_.data() + group * kLanes<float>; }

    // Component c of the transform over the channels at row frequency y. What lies at [width] is what lies at [0].
    float* row(int c, int y) const {
        return field_.get() + kLanes<float> + (static_cast<std::size_t>(c) * height_ + y) * stride_;
    }

    template <int... Lane>
    APR_INLINE static Floats backwards(Floats a, std::integer_sequence<int, Lane...>) {
        return __builtin_shufflevector(a, a, (kLanes<float> - 1 - Lane)...);
    }
    // What a row has at -x, -x - 1, ...; only as far as there are columns.
    APR_INLINE Floats mirrored_at(const float* from, int x) const {
        return backwards(load(from + width_ - x - (kLanes<float> - 1)), kEachLane);
    }
    void mirror(float* from, float* to) const {
        from[width_] = from[0];
        for (int x = 0; x < width_; x += kLanes<float>) store(to + x, mirrored_at(from, x));
    }

    void put_into_order(int group) const {
        const Place* to = places(group);
        int rows = 1;
        if (group >= layout_.full_groups()) {
            for (int i = 0; i < width_; ++i) to->own[column_[i]] = amplitudes_[i / kLanes<float>][i % kLanes<float>];
        } else {
            rows = std::min(kLanes<float>, layout_.rows() - group * kLanes<float>);
            for (int x = 0; x < width_; x += kLanes<float>) {
                Floats square[kLanes<float>];
                for (int i = 0; i < kLanes<float>; ++i) square[i] = amplitudes_[position_[x + i]];
                transpose<float>(square);
                for (int lane = 0; lane < rows; ++lane) store(to[lane].own + x, square[lane]);
            }
        }
        for (int lane = 0; lane < rows; ++lane) {
            if (to[lane].is_half) mirror(to[lane].own, to[lane].opposite);
        }
    }

    // Amplitudes to angles, in two rows of windows, or in the last one that has none.
    void set_rows(int c, int y, const float* noise, float vital, float nonvital, float slack, Floats& largest) const {
        const bool windows = y + 1 < height_;
        float *first = row(c, y), *second = row(c, windows ? y + 1 : y);
        for (int x = 0; x < width_; x += kLanes<float>) {
            const int count = std::min(kLanes<float>, width_ - x);
            const Ints column = kAscending<std::int32_t> + x;
            const Floats a = load(first + x), b = load(second + x);
            const Floats beside_a = swap_lanes<1, float>(a, kEachLane), beside_b = swap_lanes<1, float>(b, kEachLane);
            const Floats most = greater(greater(a, beside_a), greater(b, beside_b));
            const Floats least = most * (1 - kTie) - slack;
            const Ints whole = column < width_ / 2 * 2 && Ints{} + windows != 0;
            const Ints left = (column & 1) == 0;
            const Ints of_a = (a >= least) & (left | ~(beside_a >= least)) & whole;
            const Ints of_b = (b >= least) & (left | ~(beside_b >= least)) & ~((a >= least) | (beside_a >= least)) & whole;
            put_angles(first + x, of_a, noise + x, count, vital, nonvital, largest);
            if (windows) put_angles(second + x, of_b, noise + width_ + x, count, vital, nonvital, largest);
        }
        first[width_] = first[0];
        second[width_] = second[0];
    }
    APR_INLINE static Floats greater(Floats a, Floats b) { return a > b ? a : b; }

    APR_INLINE static void put_angles(float* to, Ints is_vital, const float* noise, int count, float vital,
                                      float nonvital, Floats& largest) {
        Floats numbers;
        if (count == kLanes<float>) {
            numbers = load(noise);
        } else {
            float padded[kLanes<float>] = {};
            std::copy_n(noise, count, padded);
            numbers = load(padded);
        }
        const Floats angle = numbers * (is_vital ? broadcast(vital) : broadcast(nonvital));
        largest = greater(largest, angle < 0.0f ? -angle : angle);
        store(to, angle);
    }

    // (e^{ia} + e^{-ib}) / 2 = cos((a + b) / 2)·e^{i(a - b) / 2}, a the angle at a bin and b the one at its opposite.
    template <bool Small>
    APR_INLINE Complex<float> factor(const float* ahead, const float* behind, int x) const {
        const Floats a = load(ahead + x), b = mirrored_at(behind, x);
        const Floats sum = (a + b) * 0.5f, difference = (a - b) * 0.5f;
        if constexpr (Small) {
            const Floats square = difference * difference;
            const Floats size = series<float>(sum * sum, Series<float>::cos);
            const Floats sin = fma(square * difference, series<float>(square, Series<float>::sin), difference);
            return {size * series<float>(square, Series<float>::cos), size * sin};
        } else {
            constexpr float turns = 0.318309886f;
            const Floats size = sin_cos_pi<float>(sum * turns).cos;
            const SinCos<float> turn = sin_cos_pi<float>(difference * turns);
            return {size * turn.cos, size * turn.sin};
        }
    }

    template <bool Small>
    void set_factors(int group) {
        const Place* from = places(group);
        const bool alone = group >= layout_.full_groups();
        for (int x = 0; x < width_; x += kLanes<float>) {
            if (alone) {
                const Complex<float> each = factor<Small>(from->own, from->opposite, x);
                store(row_.get() + x, each.re);
                store(row_.get() + stride_ + x, each.im);
            } else {
                Complex<float> block[kLanes<float>];
                for (int lane = 0; lane < kLanes<float>; ++lane) {
                    block[lane] = factor<Small>(from[lane].own, from[lane].opposite, x);
                }
                transpose_to(block, factors_.get(), position_.data() + x);
            }
        }
        for (int i = 0; alone && i < width_; ++i) {
            factors_[i / kLanes<float>].re[i % kLanes<float>] = row_[column_[i]];
            factors_[i / kLanes<float>].im[i % kLanes<float>] = row_[stride_ + column_[i]];
        }
    }

    const Layout<float>& layout_;
    int height_, width_, stride_;
    Buffer<float> field_;  // amplitudes, then angles
    Buffer<Floats> amplitudes_;
    Buffer<Complex<float>> factors_;
    Buffer<float> row_;
    std::vector<int> position_;  // of each frequency of a row in the passes; those past the last share one
    std::vector<int> column_;    // of each bin of a row that is a group by itself
    std::vector<Place> places_;  // of each lane of each group
    bool small_ = false;
};

}  // namespace apr
