// The passes over one image: columns forward, rows forward and back around the recombination, columns back.
//
// Columns go first: then a vector holds neighboring pixels, and only the rows need a transposition. Spectra are never
// kept: a new image's bins are multiplied by the amplitudes of the image before it, of which one real number a bin
// stays in `amplitudes_`, and leave their own there for the next.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "remainder_row.hpp"
#include "pixels.hpp"
#include "transform.hpp"

namespace apr {

// Of each channel: value·scale + bias.
template <class T>
struct Scaling {
    std::vector<T> scale, bias;
};

template <class T>
APR_INLINE void apply(const Scaling<T>& scaling, int channels, Vector<T>* v) {
#pragma GCC unroll 3
    for (int c = 0; c < channels; ++c) {
        const Vector<T> scale = broadcast(scaling.scale[c]);
        const Vector<T> bias = broadcast(scaling.bias[c]);
        v[2 * c] = fma(v[2 * c], scale, bias);
        v[2 * c + 1] = fma(v[2 * c + 1], scale, bias);
    }
}

// Values as they are.
struct Unscaled {};
template <class V>
APR_INLINE void apply(Unscaled, int, V*) {}

template <class T>
APR_INLINE Vector<T> amplitude(const Complex<T>& z) {
    return square_root(fma(z.re, z.re, z.im * z.im));
}

// A bin of amplitude `own` gets another one. Where it is 0 its phase is 0, and the result is the amplitude given to it.
template <class T>
APR_INLINE void give_amplitude(Complex<T>& z, Vector<T> own, Vector<T> given) {
    const auto nothing = own == T(0);
    const Vector<T> gain = given / (nothing ? broadcast(T(1)) : own);
    z.re = nothing ? gain : z.re * gain;
    z.im = z.im * gain;
}

// The transforms of one image size and the planes that its channels become.
template <class T>
struct Layout {
    Shape shape;
    int real_planes, complex_planes;
    Transform<T> over_columns, over_rows;
    std::vector<int> half;  // positions in a column's spectrum of which the opposite ones are left out: real planes
    std::optional<RemainderRow<T>> remainder;  // for the last rows if they are few in their block
    std::vector<int> row_place;  // of each column of the strips in a row's transform; those past the image share one

    Layout(Shape of, int real, int complex)
        : shape(of),
          real_planes(real),
          complex_planes(complex),
          over_columns(plan_for(of.height)),
          over_rows(plan_for(of.width)),
          row_place(over_rows.plan().place) {
        row_place.resize(strips() * kLanes<T>, of.width);
        const std::vector<int>& opposite = over_columns.plan().opposite;
        for (int position = 0; position < shape.height; ++position) {
            if (position <= opposite[position]) half.push_back(position);
        }
        const int last = rows() % kLanes<T>;
        if (last > 0 && 3 * last <= kLanes<T> && shape.width % kLanes<T> == 0) remainder.emplace(shape.width);
    }

    int strips() const { return (shape.width + kLanes<T> - 1) / kLanes<T>; }
    // The rows of the spectra between the passes: those of the complex planes, then the half ones of the real planes.
    int rows() const { return complex_planes * shape.height + real_planes * static_cast<int>(half.size()); }
    int blocks() const { return (rows() + kLanes<T> - 1) / kLanes<T>; }
    // What is transformed at a time: the rows of a block, or one of the last few by itself.
    int groups() const { return remainder ? full_groups() + rows() % kLanes<T> : blocks(); }
    int full_groups() const { return remainder ? rows() / kLanes<T> : blocks(); }
    // Where the bins of a group begin among all of them.
    std::size_t offset(int group) const {
        const int full = std::min(group, full_groups());
        return (static_cast<std::size_t>(full) * kLanes<T> + (group - full)) * shape.width / kLanes<T>;
    }
    int first_row_of_real(int plane) const {
        return complex_planes * shape.height + plane * static_cast<int>(half.size());
    }
    std::size_t bins() const { return offset(groups()); }
    int workspace() const {
        return std::max({over_columns.workspace(), over_rows.workspace(), remainder ? remainder->workspace() : 0});
    }
};

// The passes with their memory, for one thread.
template <class T>
class Passes {
   public:
    explicit Passes(const Layout<T>& layout)
        : layout_(layout),
          grid_(static_cast<std::size_t>(layout.blocks()) * layout.strips() * kLanes<T>),
          amplitudes_(layout.bins()),
          columns_(static_cast<std::size_t>(layout.real_planes + 2 * layout.complex_planes) * layout.shape.height),
          row_(layout.shape.width + 1),
          workspace_(layout.workspace()),
          values_(4 * layout.shape.channels) {
        for (int row = layout.rows(); row < layout.blocks() * kLanes<T>; ++row) {
            for (int strip = 0; strip < layout.strips(); ++strip) at(row, strip) = {Vector<T>{}, Vector<T>{}};
        }
    }

    // Pixels to spectra along the columns.
    template <class Channels, class Source, class Scale>
    void columns_forward(const Channels& channels, const Source& source, const Scale& scaling) {
        for (int strip = 0; strip < layout_.strips(); strip += 2) {
            read_columns(channels, source, scaling, strip * kLanes<T>);
            Complex<T>* z = columns_.get();
            for (int plane = 0; plane < layout_.real_planes; ++plane, z += layout_.shape.height) {
                layout_.over_columns.forward(z, workspace_.get(), StoreBins<T>{z});
                split_pair(z, layout_.first_row_of_real(plane), strip);
            }
            for (int plane = 0; plane < layout_.complex_planes; ++plane, z += 2 * layout_.shape.height) {
                for (int half = 0; half < std::min(2, layout_.strips() - strip); ++half) {
                    Complex<T>* column = z + half * layout_.shape.height;
                    Descent to = descent(plane * layout_.shape.height, strip + half);
                    layout_.over_columns.forward(column, workspace_.get(), Put{to});
                }
            }
        }
    }

    // Spectra along the columns back to pixels.
    template <class Channels, class Sink>
    void columns_inverse(const Channels& channels, const Sink& sink, const Scaling<T>& scaling) {
        for (int strip = 0; strip < layout_.strips(); strip += 2) {
            Complex<T>* z = columns_.get();
            for (int plane = 0; plane < layout_.real_planes; ++plane, z += layout_.shape.height) {
                join_pair(z, layout_.first_row_of_real(plane), strip);
                layout_.over_columns.inverse(z, workspace_.get(), LoadBins<T>{z});
            }
            for (int plane = 0; plane < layout_.complex_planes; ++plane, z += 2 * layout_.shape.height) {
                for (int half = 0; half < std::min(2, layout_.strips() - strip); ++half) {
                    Complex<T>* column = z + half * layout_.shape.height;
                    Descent from = descent(plane * layout_.shape.height, strip + half);
                    layout_.over_columns.inverse(column, workspace_.get(), Take{from});
                }
            }
            write_columns(channels, sink, scaling, strip * kLanes<T>);
        }
    }

    // Keep the amplitudes of the image.
    void measure() {
        rows_forward([this](int group) { return Measure{amplitudes_of(group)}; }, [](int) {});
    }

    // done(group) for one group after another, when its amplitudes, which are not kept, are in `room`.
    template <class Done>
    void read_amplitudes(Vector<T>* room, const Done& done) {
        rows_forward([room](int) { return Measure{room}; }, done);
    }

    // Give the image the kept amplitudes and keep its own instead.
    void mix() {
        rows_through([this](int group) { return Exchange{amplitudes_of(group)}; });
    }

    // Each bin as change(group, amplitudes)(k, bin) leaves it; `amplitudes` are those kept of the group's bins.
    template <class Make>
    void change_bins(const Make& change) {
        rows_through([&](int group) { return change(group, amplitudes_of(group)); });
    }

    // Rows forward and back and nothing between: what the transforms alone cost.
    void leave() {
        rows_through([](int) { return [](int, Complex<T>&) APR_LAMBDA {}; });
    }

    // Pixels to pixels, `in` and `out` applied, no transform.
    template <class Source, class Sink>
    void convert(const Source& source, const Sink& sink, const Scaling<T>& in, const Scaling<T>& out) {
        for (int y = 0; y < layout_.shape.height; ++y) {
            for (int x = 0; x < layout_.shape.width; x += kSpan<T>) {
                const int count = std::min(kSpan<T>, layout_.shape.width - x);
                source.read(y, x, count, values_.get());
                apply(in, layout_.shape.channels, values_.get());
                apply(out, layout_.shape.channels, values_.get());
                sink.write(y, x, count, values_.get());
            }
        }
    }

   private:
    // The grid is kept in blocks of kLanes rows by kLanes columns, the rows of a group of blocks one after another.
    Complex<T>& at(int row, int strip) const {
        constexpr int n = kLanes<T>;
        return grid_[(static_cast<std::size_t>(row / n) * layout_.strips() + strip) * n + row % n];
    }
    // A strip of the grid, row after row: computed anew for each, the places would cost as much as the bins.
    struct Descent {
        Complex<T>* bins;  // of the row; those of the next strip are kLanes further
        int left;          // rows of the block, this one among them
        std::size_t leap;  // from the last row of a block to the first of the block below

        APR_INLINE void next() {
            ++bins;
            if (--left == 0) {
                bins += leap;
                left = kLanes<T>;
            }
        }
    };
    Descent descent(int row, int strip) const {
        constexpr int n = kLanes<T>;
        return {&at(row, strip), n - row % n, static_cast<std::size_t>(layout_.strips() - 1) * n};
    }

    // The bins of a strip of the grid, to it and from it.
    struct Put {
        Descent& to;
        APR_INLINE void operator()(int, const Complex<T>& bin) const {
            *to.bins = bin;
            to.next();
        }
    };
    struct Take {
        Descent& from;
        APR_INLINE void operator()(int, Complex<T>& bin) const {
            bin = *from.bins;
            from.next();
        }
    };

    Vector<T>* amplitudes_of(int group) const { return amplitudes_.get() + layout_.offset(group); }

    template <class Channels, class Source, class Scale>
    void read_columns(const Channels& channels, const Source& source, const Scale& scaling, int x) {
        const int height = layout_.shape.height;
        const int* place = layout_.over_columns.plan().place.data();
        const int count = std::min(kSpan<T>, layout_.shape.width - x);
        const int colors = Channels::kChannels > 0 ? Channels::kChannels : layout_.shape.channels;
        for (int y = 0; y < height; ++y) {
            Vector<T> local[2 * Channels::kChannels + 1];
            Vector<T>* v = Channels::kChannels > 0 ? local : values_.get();
            source.read(y, x, count, v);
            apply(scaling, colors, v);
            channels.forward(v);
            Complex<T>* z = columns_.get() + place[y];
            for (int plane = 0; plane < channels.real_planes(); ++plane, v += 2, z += height) *z = {v[0], v[1]};
            for (int plane = 0; plane < channels.complex_planes(); ++plane, v += 4, z += 2 * height) {
                z[0] = {v[0], v[2]};
                z[height] = {v[1], v[3]};
            }
        }
    }

    template <class Channels, class Sink>
    void write_columns(const Channels& channels, const Sink& sink, const Scaling<T>& scaling, int x) {
        const int height = layout_.shape.height;
        const int* place = layout_.over_columns.plan().place.data();
        const int count = std::min(kSpan<T>, layout_.shape.width - x);
        const int colors = Channels::kChannels > 0 ? Channels::kChannels : layout_.shape.channels;
        for (int y = 0; y < height; ++y) {
            Vector<T> local[2 * Channels::kChannels + 1];
            Vector<T>* const v = Channels::kChannels > 0 ? local : values_.get();
            Vector<T>* part = v;
            const Complex<T>* z = columns_.get() + place[y];
            for (int plane = 0; plane < channels.real_planes(); ++plane, part += 2, z += height) {
                part[0] = z->re;
                part[1] = z->im;
            }
            for (int plane = 0; plane < channels.complex_planes(); ++plane, part += 4, z += 2 * height) {
                part[0] = z[0].re;
                part[1] = z[height].re;
                part[2] = z[0].im;
                part[3] = z[height].im;
            }
            channels.inverse(v);
            apply(scaling, colors, v);
            sink.write(y, x, count, v);
        }
    }

    // Two real columns were transformed as the real and the imaginary part of one: take their spectra, doubled, apart.
    void split_pair(const Complex<T>* z, int row, int strip) {
        const int* opposite = layout_.over_columns.plan().opposite.data();
        const bool second = strip + 1 < layout_.strips();
        Descent to = descent(row, strip);
        for (const int position : layout_.half) {
            const Complex<T> a = z[position];
            const Complex<T> b = z[opposite[position]];
            to.bins[0] = {a.re + b.re, a.im - b.im};
            if (second) to.bins[kLanes<T>] = {a.im + b.im, b.re - a.re};
            to.next();
        }
    }

    // The other way round. Of a bin that is its own opposite only the real part counts.
    void join_pair(Complex<T>* z, int row, int strip) {
        const int* opposite = layout_.over_columns.plan().opposite.data();
        const bool second = strip + 1 < layout_.strips();
        Descent from = descent(row, strip);
        for (const int position : layout_.half) {
            const Complex<T> a = from.bins[0];
            const Complex<T> b = second ? from.bins[kLanes<T>] : Complex<T>{Vector<T>{}, Vector<T>{}};
            const bool own = position == opposite[position];
            z[opposite[position]] = {a.re + b.im, b.re - a.im};
            z[position] = own ? Complex<T>{a.re, b.re} : Complex<T>{a.re - b.im, a.im + b.re};
            from.next();
        }
    }

    // To spectra: take(group) gets the bins of a group, then done(group) is called.
    template <class Take, class Done>
    void rows_forward(const Take& take, const Done& done) {
        int group = 0;
        for (; group < layout_.full_groups(); ++group) {
            take_rows(group);
            layout_.over_rows.forward(row_.get(), workspace_.get(), take(group));
            done(group);
        }
        for (; group < layout_.groups(); ++group) {
            layout_.remainder->forward(lone_row(group), row_.get(), workspace_.get(), take(group));
            done(group);
        }
    }

    // There and back, the bins of a group as change(group) leaves them.
    template <class Change>
    void rows_through(const Change& change) {
        int group = 0;
        for (; group < layout_.full_groups(); ++group) {
            take_rows(group);
            layout_.over_rows.through(row_.get(), workspace_.get(), change(group));
            put_rows(group);
        }
        for (; group < layout_.groups(); ++group) {
            layout_.remainder->through(lone_row(group), row_.get(), workspace_.get(), change(group));
        }
    }

    Complex<T>* lone_row(int group) const {
        const int full = layout_.full_groups();
        return &at(full * kLanes<T> + group - full, 0);
    }

    void take_rows(int group) {
        const Complex<T>* block = &at(group * kLanes<T>, 0);
        for (int x = 0; x < layout_.shape.width; x += kLanes<T>, block += kLanes<T>) {
            transpose_to(block, row_.get(), layout_.row_place.data() + x);
        }
    }

    void put_rows(int group) {
        Complex<T>* block = &at(group * kLanes<T>, 0);
        for (int x = 0; x < layout_.shape.width; x += kLanes<T>, block += kLanes<T>) {
            transpose_from(row_.get(), layout_.row_place.data() + x, block);
        }
    }

    struct Measure {
        Vector<T>* amplitudes;
        APR_INLINE void operator()(int k, const Complex<T>& z) const { amplitudes[k] = amplitude(z); }
    };

    struct Exchange {
        Vector<T>* amplitudes;
        APR_INLINE void operator()(int k, Complex<T>& z) const {
            const Vector<T> own = amplitude(z);
            const Vector<T> given = amplitudes[k];
            amplitudes[k] = own;
            give_amplitude(z, own, given);
        }
    };

    const Layout<T>& layout_;
    Buffer<Complex<T>> grid_;
    Buffer<Vector<T>> amplitudes_;
    Buffer<Complex<T>> columns_, row_;
    Buffer<Complex<double>> workspace_;
    Buffer<Vector<T>> values_;
};

}  // namespace apr
