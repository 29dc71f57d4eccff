// Amplitudes mixed with another image's, and spectra scaled bin by bin: changes in the passes of APR-P.
#include <cmath>

#include "augment_images.hpp"
#include "choices.hpp"
#include "frequencies.hpp"
#include "walks.hpp"

namespace apr {
namespace {

using V = Vector<float>;

// A part of the partner's amplitude, as large as the product of two numbers of the row and two of the column.
struct Blend {
    V* amplitudes;
    V rows[2];
    const V* columns;  // two of each bin
    APR_INLINE void operator()(int k, Complex<float>& z) const {
        const V own = amplitude(z);
        const V given = amplitudes[k];
        amplitudes[k] = own;
        const V weight = fma(rows[0], columns[2 * k], rows[1] * columns[2 * k + 1]);
        give_amplitude(z, own, fma(weight, given - own, own));
    }
};

// The weight of a box of frequencies in the order of the passes. What a box that is not symmetric asks of k and -k is
// the mean of both: the other half of the amplitudes would not make a real image.
class BoxWeights {
   public:
    explicit BoxWeights(const Layout<float>& layout)
        : layout_(layout),
          frequencies_(layout),
          rows_(2 * static_cast<std::size_t>(layout.groups())),
          columns_(2 * static_cast<std::size_t>(layout.shape.width)),
          alone_(2 * static_cast<std::size_t>(layout.shape.width)) {}

    // box: the first and the last row, the first and the last column, signed.
    void set(double share, const std::int64_t* box) {
        const int height = layout_.shape.height;
        for (int group = 0; group < layout_.groups(); ++group) {
            for (int lane = 0; lane < kLanes<float>; ++lane) {
                const int k = frequencies_.row_frequency(frequencies_.row(group, lane));
                rows_[2 * group][lane] = static_cast<float>(share / 2) * inside(k, height, box);
                rows_[2 * group + 1][lane] =
                    static_cast<float>(share / 2) * inside(opposite_frequency(k, height), height, box);
            }
        }
        set_columns(0, columns_, box + 2);
        if (layout_.remainder) set_columns(layout_.groups() - 1, alone_, box + 2);
    }

    Blend of(int group, V* amplitudes) const {
        const auto& columns = frequencies_.is_remainder(group) ? alone_ : columns_;
        return {amplitudes, {rows_[2 * group], rows_[2 * group + 1]}, columns.get()};
    }

   private:
    static float inside(int k, int size, const std::int64_t* ends) {
        const int place = signed_frequency(k, size);
        return ends[0] <= place && place <= ends[1] ? 1.0f : 0.0f;
    }

    void set_columns(int group, const Buffer<V>& columns, const std::int64_t* ends) {
        const int width = layout_.shape.width;
        for (int k = 0; k < frequencies_.vectors(group); ++k) {
            for (int lane = 0; lane < kLanes<float>; ++lane) {
                const int column = frequencies_.column_frequency(group, k, lane);
                columns[2 * k][lane] = inside(column, width, ends);
                columns[2 * k + 1][lane] = inside(opposite_frequency(column, width), width, ends);
            }
        }
    }

    const Layout<float>& layout_;
    Frequencies<float> frequencies_;
    Buffer<V> rows_, columns_, alone_;
};

struct Scale {
    const Complex<float>* factors;
    APR_INLINE void operator()(int k, Complex<float>& z) const { z = times(z, factors[k]); }
};

// What bins are multiplied with, in the order of the passes, from gains on the half spectrum (H, W / 2 + 1). In the other
// half it is the conjugate; in the columns that mirror themselves the mean of k and, conjugate, -k: the real part.
class Factors {
   public:
    explicit Factors(const Layout<float>& layout)
        : layout_(layout), from_(layout.bins() * kLanes<float>), factors_(layout.bins()) {
        const Frequencies<float> frequencies(layout);
        for (int group = 0; group < layout.groups(); ++group) {
            for (int k = 0; k < frequencies.vectors(group); ++k) {
                for (int lane = 0; lane < kLanes<float>; ++lane) {
                    const int row = frequencies.row_frequency(frequencies.row(group, lane));
                    from_[bin(group, k) * kLanes<float> + lane] =
                        source(row, frequencies.column_frequency(group, k, lane));
                }
            }
            vectors_.push_back(frequencies.vectors(group));
        }
    }

    void set(const double* gain, double shift) {
        const double cos = std::cos(shift);
        const double sin = std::sin(shift);
        for (int group = 0; group < layout_.groups(); ++group) {
            for (std::size_t i = bin(group, 0); i < bin(group, vectors_[group]); ++i) {
                for (int lane = 0; lane < kLanes<float>; ++lane) {
                    const Source& from = from_[i * kLanes<float> + lane];
                    const double one = gain[from.bin];
                    const double other = gain[from.mirrored];
                    factors_[i].re[lane] = static_cast<float>(cos * (one + other) / 2);
                    factors_[i].im[lane] = static_cast<float>(sin * (from.one * one + from.other * other));
                }
            }
        }
    }

    Scale of(int group) const { return {factors_.get() + bin(group, 0)}; }

   private:
    // Real part (gain[bin] + gain[mirrored]) / 2, imaginary part one·gain[bin] + other·gain[mirrored].
    struct Source {
        int bin, mirrored;
        float one, other;
    };

    Source source(int row, int column) const {
        const int width = layout_.shape.width;
        const int columns = width / 2 + 1;
        const int opposite = opposite_frequency(row, layout_.shape.height) * columns;
        if (2 * column > width) {
            const int bin = opposite + width - column;
            return {bin, bin, -1, 0};
        }
        const int bin = row * columns + column;
        if (column == 0 || 2 * column == width) return {bin, opposite + column, 0.5f, -0.5f};
        return {bin, bin, 1, 0};
    }

    std::size_t bin(int group, int k) const { return static_cast<std::size_t>(group) * layout_.shape.width + k; }

    const Layout<float>& layout_;
    Buffer<Source> from_;
    Buffer<Complex<float>> factors_;
    std::vector<int> vectors_;
};

}  // namespace

void mix_amplitudes(const AmplitudeTask& task) {
    const Shape shape = task.images.shape;
    with_planes<float>(shape.channels, [&](const auto& channels) {
        constexpr int known = std::decay_t<decltype(channels)>::kChannels;
        const Layout<float> layout(shape, channels.real_planes(), 0);
        const auto scale = scaled<float>(shape.channels, unit(channels, shape));
        const std::vector<int> order = partners_first(task.partner, task.images.batch);
        Parts parts(task.images.threads, task.images.batch);
        auto passes = one_each(parts.workers(), layout);
        const auto ports = ports_for(task.images, parts.workers());
        const auto rooms = rooms_for(task.images, parts.workers());
        std::vector<BoxWeights> weights;
        for (int i = 0; i < parts.workers(); ++i) weights.emplace_back(layout);
        parts.run([&](int worker, int begin, int end) {
            Passes<float>& own = passes[worker];
            const auto forward = [&](int n) {
                const float* planes = ports[worker].read(n, rooms[worker].get());
                own.columns_forward(channels, PlanesSource<float, known>{planes, shape}, Unscaled{});
            };
            const auto measure = [&](int n) {
                forward(n);
                own.measure();
            };
            const auto mix = [&](int n) {
                forward(n);
                weights[worker].set(task.share[n], task.box + 4 * n);
                own.change_bins([&](int group, V* amplitudes) { return weights[worker].of(group, amplitudes); });
                own.columns_inverse(channels, PlanesSink<float, known, float, AsIs>{ports[worker].result(n), shape}, scale);
                ports[worker].write(n);
            };
            mix_walk(task.partner, order, begin, end, measure, mix);
        });
    });
}

void scale_spectra(const GainTask& task) {
    const Shape shape = task.images.shape;
    const std::size_t bins = static_cast<std::size_t>(shape.height) * (shape.width / 2 + 1);
    with_planes<float>(shape.channels, [&](const auto& channels) {
        constexpr int known = std::decay_t<decltype(channels)>::kChannels;
        const Layout<float> layout(shape, channels.real_planes(), 0);
        const auto scale = scaled<float>(shape.channels, unit(channels, shape));
        Team team(task.images.threads, task.images.batch);
        auto passes = one_each(team.workers(), layout);
        const auto ports = ports_for(task.images, team.workers());
        const auto rooms = rooms_for(task.images, team.workers());
        std::vector<Factors> factors;
        for (int i = 0; i < team.workers(); ++i) factors.emplace_back(layout);
        team.run([&](int worker, int n) {
            Passes<float>& own = passes[worker];
            const float* planes = ports[worker].read(n, rooms[worker].get());
            own.columns_forward(channels, PlanesSource<float, known>{planes, shape}, Unscaled{});
            factors[worker].set(task.gain + n * bins, task.shift[n]);
            own.change_bins([&](int group, V*) { return factors[worker].of(group); });
            own.columns_inverse(channels, PlanesSink<float, known, float, AsIs>{ports[worker].result(n), shape}, scale);
            ports[worker].write(n);
        });
    });
}

}  // namespace apr
