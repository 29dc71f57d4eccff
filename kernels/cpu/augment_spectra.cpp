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

// Signed frequencies, and whether they lie in an interval: of k and of -k in turns.
class Interval {
   public:
    explicit Interval(int vectors) : frequencies_(2 * vectors), inside_(2 * vectors) {}

    void place(int vector, int lane, int k, int size) {
        frequencies_[2 * vector][lane] = signed_frequency(k, size);
        frequencies_[2 * vector + 1][lane] = signed_frequency(opposite_frequency(k, size), size);
    }

    // Of all of them: `value` in ends[0]..ends[1], else 0.
    void set(const std::int64_t* ends, int count, float value) {
        // What is drawn may lie anywhere beyond the frequencies there are.
        const auto end = [](std::int64_t at) { return static_cast<int>(std::clamp<std::int64_t>(at, -kFar, kFar)); };
        const Ints first = Ints{} + end(ends[0]), last = Ints{} + end(ends[1]);
        for (int i = 0; i < 2 * count; ++i) {
            const Ints at = frequencies_[i];
            inside_[i] = ((at >= first) & (at <= last)) ? broadcast(value) : V{};
        }
    }

    const V* of(int vector) const { return inside_.get() + 2 * vector; }

   private:
    static constexpr std::int64_t kFar = 1 << 30;

    Buffer<Ints> frequencies_;
    Buffer<V> inside_;
};

// The weight of a box of frequencies in the order of the passes. What a box that is not symmetric asks of k and -k is
// the mean of both: the other half of the amplitudes would not make a real image.
class BoxWeights {
   public:
    explicit BoxWeights(const Layout<float>& layout)
        : layout_(layout),
          frequencies_(layout),
          rows_(layout.groups()),
          columns_(layout.shape.width),
          alone_(layout.remainder ? layout.shape.width / kLanes<float> : 0) {
        for (int lane = 0; lane < kLanes<float>; ++lane) {
            for (int group = 0; group < layout.groups(); ++group) {
                const int row = frequencies_.row(group, lane);
                rows_.place(group, lane, frequencies_.row_frequency(row), layout.shape.height);
            }
            place_columns(0, lane, columns_);
            if (layout.remainder) place_columns(layout.full_groups(), lane, alone_);
        }
    }

    // box: the first and the last row, the first and the last column, signed.
    void set(double share, const std::int64_t* box) {
        rows_.set(box, layout_.groups(), static_cast<float>(share / 2));
        columns_.set(box + 2, layout_.shape.width, 1);
        if (layout_.remainder) alone_.set(box + 2, layout_.shape.width / kLanes<float>, 1);
    }

    Blend of(int group, V* amplitudes) const {
        const V* rows = rows_.of(group);
        return {amplitudes, {rows[0], rows[1]}, (frequencies_.is_remainder(group) ? alone_ : columns_).of(0)};
    }

   private:
    void place_columns(int group, int lane, Interval& columns) const {
        for (int k = 0; k < frequencies_.vectors(group); ++k) {
            columns.place(k, lane, frequencies_.column_frequency(group, k, lane), layout_.shape.width);
        }
    }

    const Layout<float>& layout_;
    Frequencies<float> frequencies_;
    Interval rows_, columns_, alone_;
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

    std::size_t bin(int group, int k) const { return layout_.offset(group) + k; }

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
