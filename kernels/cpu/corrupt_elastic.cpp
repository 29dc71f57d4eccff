// Elastic transform: an affine map, then a smooth random displacement of every pixel.
//
// A Gaussian over a line that is mirrored at its ends is a matrix, and the numbers near its diagonal are all that is
// not 0: two products smooth a field. Where the Gaussian is longer than the image that is a fifth of the work.
#include <algorithm>
#include <cstdlib>
#include <stdexcept>

#include "corruptions.hpp"
#include "pixel_maps.hpp"

namespace apr {
namespace {

// Where a row or column of a matrix is not 0.
struct Span {
    int first, end;
};
Span together(const Span* spans, int first, int end) {
    Span all = spans[first];
    for (int i = first + 1; i < end; ++i) {
        all = {std::min(all.first, spans[i].first), std::max(all.end, spans[i].end)};
    }
    return all;
}

inline constexpr int kRows = 4;
inline constexpr int kColumns = 2 * kLanes<double>;

std::size_t padded(int columns) { return (columns + kColumns - 1) / static_cast<std::size_t>(kColumns) * kColumns; }

// Calls put(row, column, value) for kLanes<double> columns of a·b at a time, kColumns of them and a multiple of that.
// Of `a` (rows × inner) the rows, or of `b` (inner × columns) the columns, are 0 outside of their spans, if given.
template <class Put>
void multiply(const double* a, std::size_t a_stride, const Span* of_rows, const double* b, std::size_t b_stride,
              const Span* of_columns, int rows, int inner, int columns, const Put& put) {
    for (int block = 0; block < rows; block += kRows) {
        const int first = std::min(block, rows - kRows);
        const double* row = a + first * a_stride;
        const Span down = of_rows ? together(of_rows, first, first + kRows) : Span{0, inner};
        for (int column = 0; column < columns; column += kColumns) {
            const Span across =
                of_columns ? together(of_columns, column, std::min(columns, column + kColumns)) : Span{0, inner};
            Doubles sum[kRows][2] = {};
            for (int i = std::max(down.first, across.first); i < std::min(down.end, across.end); ++i) {
                const double* from = b + i * b_stride + column;
                const Doubles left = load(from), right = load(from + kLanes<double>);
#pragma GCC unroll 4
                for (int r = 0; r < kRows; ++r) {
                    const Doubles factor = broadcast(row[r * a_stride + i]);
                    sum[r][0] = fma(factor, left, sum[r][0]);
                    sum[r][1] = fma(factor, right, sum[r][1]);
                }
            }
            for (int r = 0; r < kRows; ++r) {
                put(first + r, column, sum[r][0]);
                put(first + r, column + kLanes<double>, sum[r][1]);
            }
        }
    }
}

// The sum of two rows in place of the first, and their difference in place of the second; done twice it doubles them.
void fold(double* one, double* other, int count) {
    for (int i = 0; i < count; ++i) {
        const double sum = one[i] + other[i], difference = one[i] - other[i];
        one[i] = sum;
        other[i] = difference;
    }
}

// The matrix that smooths a line of `size` numbers, mirrored at its ends with the outer ones repeated.
//
// It treats the line and the reversed line alike: sums of numbers as far from either end go into such sums alone, and
// differences into differences. A matrix that is not 0 far from its diagonal is `folded`: it is for these sums and
// differences, and half of it is 0.
struct Smoothing {
    std::size_t stride;
    std::vector<double> values;
    std::vector<Span> spans;  // of what goes into each number
    bool folded;

    // By rows, or transposed, each place's numbers down a column.
    Smoothing(int size, const double* weights, int radius, bool transposed)
        : stride(padded(size)), values(size * stride), folded(4 * radius >= size) {
        // The mirrored line comes again and again: a number counts with all weights that lie a period apart.
        const int period = 2 * size;
        std::vector<double> periodic(2 * period);
        for (int off = -radius; off <= radius; ++off) periodic[(off % period + period) % period] += weights[std::abs(off)];
        std::copy_n(periodic.data(), period, periodic.data() + period);
        const auto plain = [&](int place, int from) {
            return periodic[period + from - place] + periodic[period - 1 - from - place];
        };
        const auto value = [&](int place, int from) {
            const int mirrored = size - 1 - from, middle = size - 1 - place;
            if (!folded || place == middle || from == mirrored) return plain(place, from);
            return (plain(place, from) + (place < middle ? 1 : -1) * plain(place, mirrored)) / 2;
        };
        for (int place = 0; place < size; ++place) {
            const Span span = span_of(place, size, radius);
            spans.push_back(span);
            for (int from = span.first; from < span.end; ++from) {
                values[transposed ? from * stride + place : place * stride + from] = value(place, from);
            }
        }
    }

    // Fold the rows of a field, or the numbers of a row.
    void fold_rows(double* field, std::size_t apart, int width) const {
        const int size = static_cast<int>(spans.size());
        for (int i = 0; folded && i < size / 2; ++i) fold(field + i * apart, field + (size - 1 - i) * apart, width);
    }
    void fold_row(double* row) const {
        const int size = static_cast<int>(spans.size());
        for (int i = 0; folded && i < size / 2; ++i) fold(row + i, row + size - 1 - i, 1);
    }

   private:
    Span span_of(int place, int size, int radius) const {
        const int half = size - size / 2;
        const bool upper = folded && place >= half;
        return {std::max(upper ? half : 0, place - radius), std::min(folded && !upper ? half : size, place + radius + 1)};
    }
};

class Elastic final : public Corruption {
   public:
    Elastic(Extent extent, double length, double reach, const double* weights, int radius)
        : extent_(extent),
          length_(length),
          reach_(reach),
          down_(extent.height, weights, radius, false),
          across_(extent.width, weights, radius, true) {}

    std::vector<std::size_t> fields() const override { return {6, extent_.pixels(), extent_.pixels()}; }
    std::size_t scratch() const override {
        const std::size_t field = extent_.height * across_.stride;
        return 2 * field * sizeof(float) + (2 * field + kColumns) * sizeof(double) + 2 * extent_.pixels() * sizeof(Pixel);
    }

    void run(const std::uint8_t* in, const Draws& draws, std::uint8_t* out, std::byte* scratch) const override {
        const std::size_t field = extent_.height * across_.stride;
        float* shifts[2] = {reinterpret_cast<float*>(scratch), reinterpret_cast<float*>(scratch) + field};
        double* noise = reinterpret_cast<double*>(shifts[1] + field);
        double* half_smooth = noise + field + kColumns;
        Pixel* image = reinterpret_cast<Pixel*>(half_smooth + field);
        Pixel* moved = image + extent_.pixels();
        for (int i = 0; i < 2; ++i) {
            draws.uniform(1 + i, 0, extent_.pixels(), noise, -1, 1);
            smooth(noise, half_smooth, shifts[i]);
        }
        to_pixels(in, extent_, image);
        double corners[6];
        float by[6];
        draws.uniform(0, 0, 6, corners, -reach_, reach_);
        std::copy_n(corners, 6, by);
        warp(image, extent_, by, moved);
        displace(moved, extent_, shifts[0], shifts[1], across_.stride, out);
    }

   private:
    void smooth(double* noise, double* half_smooth, float* shift) const {
        const int height = extent_.height, width = extent_.width;
        const std::size_t stride = across_.stride;
        down_.fold_rows(noise, width, width);
        multiply(down_.values.data(), down_.stride, down_.spans.data(), noise, width, nullptr, height, height, width,
                 [=](int row, int column, Doubles sum) APR_LAMBDA { store(half_smooth + row * stride + column, sum); });
        down_.fold_rows(half_smooth, stride, width);
        for (int y = 0; y < height; ++y) across_.fold_row(half_smooth + y * stride);
        double* smooth = noise;
        multiply(half_smooth, stride, nullptr, across_.values.data(), stride, across_.spans.data(), height, width,
                 width, [=](int row, int column, Doubles sum) APR_LAMBDA { store(smooth + row * stride + column, sum); });
        for (int y = 0; y < height; ++y, smooth += stride, shift += stride) {
            across_.fold_row(smooth);
            for (int x = 0; x < width; ++x) shift[x] = static_cast<float>(smooth[x] * length_);
        }
    }

    Extent extent_;
    double length_, reach_;
    Smoothing down_, across_;
};

}  // namespace

// Constants: the length of the displacements and the reach of the corners; half a Gaussian, from its middle on.
Made make_elastic(Extent extent, const Constants& constants) {
    const double* numbers = constants_at(constants, 0, 2);
    const std::size_t count = constants.size() > 1 ? constants[1].size : 0;
    if (count == 0) throw std::invalid_argument("elastic_transform needs the weights of a Gaussian");
    return std::make_unique<Elastic>(extent, numbers[0], numbers[1], constants[1].data, static_cast<int>(count) - 1);
}

}  // namespace apr
