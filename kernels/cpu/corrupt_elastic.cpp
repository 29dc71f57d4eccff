// Elastic transform: an affine map as OpenCV has it, then a smooth random displacement of every pixel.
//
// A Gaussian over a line that is mirrored at its ends is a matrix, and the numbers near its diagonal are all that is
// not 0: two products smooth a field. Where the Gaussian is longer than the image that is a fifth of the work.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <stdexcept>
#include <utility>

#include "corruptions.hpp"
#include "pixels.hpp"
#include "simd.hpp"

namespace apr {
namespace {

using Pixel = Vector<float, 16>;  // the fourth is nothing
using Wide = Vector<double, 32>;

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

// The matrix that smooths a line of `size` numbers, mirrored at its ends with the outer ones repeated.
struct Smoothing {
    std::size_t stride;
    std::vector<double> values;
    std::vector<Span> spans;  // of what goes into each number

    // By rows, or transposed, each place's numbers down a column.
    Smoothing(int size, const double* weights, int radius, bool transposed)
        : stride(padded(size)), values(size * stride), spans(size) {
        // The mirrored line comes again and again: a number counts with all weights that lie a period apart.
        const int period = 2 * size;
        std::vector<double> periodic(2 * period);
        for (int off = -radius; off <= radius; ++off) periodic[(off % period + period) % period] += weights[std::abs(off)];
        std::copy_n(periodic.data(), period, periodic.data() + period);
        for (int place = 0; place < size; ++place) {
            for (int from = 0; from < size; ++from) {
                const double itself = periodic[period + from - place], image = periodic[period - 1 - from - place];
                values[transposed ? from * stride + place : place * stride + from] = itself + image;
            }
            const bool all = radius >= size;
            spans[place] = all ? Span{0, size} : Span{std::max(0, place - radius), std::min(size, place + radius + 1)};
        }
    }
};

// Six equations by Gaussian elimination with the largest pivot of each column, in OpenCV's order.
void solve(double (&equations)[6][6], double (&values)[6]) {
    for (int i = 0; i < 6; ++i) {
        int pivot = i;
        for (int j = i + 1; j < 6; ++j) {
            if (std::abs(equations[j][i]) > std::abs(equations[pivot][i])) pivot = j;
        }
        std::swap(equations[i], equations[pivot]);
        std::swap(values[i], values[pivot]);
        const double inverse = -1 / equations[i][i];
        for (int j = i + 1; j < 6; ++j) {
            const double factor = equations[j][i] * inverse;
            for (int k = i + 1; k < 6; ++k) equations[j][k] += factor * equations[i][k];
            values[j] += factor * values[i];
        }
    }
    for (int i = 5; i >= 0; --i) {
        for (int j = i + 1; j < 6; ++j) values[i] -= equations[i][j] * values[j];
        values[i] /= equations[i][i];
    }
}

// From places in the result to places in the source.
struct Affine {
    float m[6];

    // Three corners about the middle, (row, column) taken as (x, y), are moved by `by`.
    Affine(Extent extent, const float* by) {
        const float middle[2] = {static_cast<float>(extent.height / 2), static_cast<float>(extent.width / 2)};
        const float reach = static_cast<float>(std::min(extent.height, extent.width) / 3);
        const float points[6] = {middle[0] + reach, middle[1] + reach, middle[0] + reach,
                                 middle[1] - reach, middle[0] - reach, middle[1] - reach};
        double equations[6][6] = {}, v[6];
        for (int i = 0; i < 6; ++i) {
            double* equation = equations[i] + (i % 2 == 0 ? 0 : 3);
            equation[0] = points[i / 2 * 2];
            equation[1] = points[i / 2 * 2 + 1];
            equation[2] = 1;
            v[i] = points[i] + by[i];
        }
        solve(equations, v);
        const double determinant = v[0] * v[4] - v[1] * v[3];
        const double scale = determinant != 0 ? 1 / determinant : 0;
        const double a = v[4] * scale, b = v[1] * -scale, d = v[3] * -scale, e = v[0] * scale;
        const double inverse[6] = {a, b, -a * v[2] - b * v[5], d, e, -d * v[2] - e * v[5]};
        std::copy_n(inverse, 6, m);
    }
};

// The edge not repeated.
int reflected(long place, int size) {
    const long period = 2L * size - 2;
    const long rest = std::abs(place) % period;
    return static_cast<int>(rest < size ? rest : period - rest);
}

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
        return 2 * field * sizeof(float) + (extent_.pixels() + kColumns + field) * sizeof(double) +
               2 * extent_.pixels() * sizeof(Pixel) + 64;
    }

    void run(const std::uint8_t* in, const Draws& draws, std::uint8_t* out, std::byte* scratch) const override {
        const std::size_t field = extent_.height * across_.stride;
        float* shifts[2] = {reinterpret_cast<float*>(scratch), reinterpret_cast<float*>(scratch) + field};
        double* noise = reinterpret_cast<double*>(shifts[1] + field);
        double* half_smooth = noise + (extent_.pixels() + kColumns) / 8 * 8 + 8;
        Pixel* image = reinterpret_cast<Pixel*>(half_smooth + field);
        Pixel* moved = image + extent_.pixels();
        for (int i = 0; i < 2; ++i) {
            draws.uniform(1 + i, 0, extent_.pixels(), noise, -1, 1);
            smooth(noise, half_smooth, shifts[i]);
        }
        for (std::size_t i = 0; i < extent_.pixels(); ++i) {
            const std::uint8_t* level = in + 3 * i;
            image[i] = Pixel{static_cast<float>(level[0]), static_cast<float>(level[1]), static_cast<float>(level[2])} /
                       255.0f;
        }
        double corners[6];
        float by[6];
        draws.uniform(0, 0, 6, corners, -reach_, reach_);
        std::copy_n(corners, 6, by);
        warp(image, Affine(extent_, by), moved);
        displace(moved, shifts[0], shifts[1], out);
    }

   private:
    void smooth(const double* noise, double* half_smooth, float* shift) const {
        const int height = extent_.height, width = extent_.width;
        const std::size_t stride = across_.stride;
        multiply(down_.values.data(), down_.stride, down_.spans.data(), noise, width, nullptr, height, height, width,
                 [=](int row, int column, Doubles sum) APR_LAMBDA { store(half_smooth + row * stride + column, sum); });
        multiply(half_smooth, stride, nullptr, across_.values.data(), stride, across_.spans.data(), height, width,
                 width, [=, this](int row, int column, Doubles sum) APR_LAMBDA {
                     using Halved = Vector<float, kVectorBytes / 2>;
                     store(shift + row * stride + column, __builtin_convertvector(sum * length_, Halved));
                 });
    }

    void warp(const Pixel* image, const Affine& affine, Pixel* moved) const {
        const float* m = affine.m;
        const int height = extent_.height, width = extent_.width;
        for (int y = 0; y < height; ++y) {
            const float start_x = static_cast<float>(y) * m[1] + m[2], start_y = static_cast<float>(y) * m[4] + m[5];
            for (int x = 0; x < width; ++x) {
                const float from_x = fma_lane(m[0], static_cast<float>(x), start_x);
                const float from_y = fma_lane(m[3], static_cast<float>(x), start_y);
                const float left = std::floor(from_x), above = std::floor(from_y);
                const long column = static_cast<long>(left), row = static_cast<long>(above);
                const Pixel* near[4];
                if (column >= 0 && row >= 0 && column + 1 < width && row + 1 < height) {
                    near[0] = image + row * width + column;
                    near[1] = near[0] + 1;
                    near[2] = near[0] + width;
                    near[3] = near[2] + 1;
                } else {
                    for (int i = 0; i < 4; ++i) {
                        near[i] = image + static_cast<std::size_t>(reflected(row + i / 2, height)) * width +
                                  reflected(column + i % 2, width);
                    }
                }
                const Pixel upper = between(*near[0], *near[1], from_x - left);
                const Pixel lower = between(*near[2], *near[3], from_x - left);
                *moved++ = between(upper, lower, from_y - above);
            }
        }
    }

    APR_INLINE static Pixel between(Pixel a, Pixel b, float share) {
        const Pixel apart = b - a;
        Pixel out;
        for (int i = 0; i < 4; ++i) out[i] = fma_lane(share, apart[i], a[i]);
        return out;
    }

    // A place along an axis, mirrored at the edges of the outer pixels: the two pixels about it, and the second's share.
    struct Place {
        std::ptrdiff_t first, second;
        double share;

        APR_INLINE Place(double at, int size) {
            if (at < 0 || at > size - 1) at = inside(at, size);
            const double whole = std::floor(at);
            share = at - whole;
            first = std::max<std::ptrdiff_t>(static_cast<std::ptrdiff_t>(whole), 0);
            second = std::min<std::ptrdiff_t>(static_cast<std::ptrdiff_t>(whole) + 1, size - 1);
        }

        static double inside(double at, int size) {
            const double period = 2.0 * size;
            at = std::fmod(at + 0.5, period);
            if (at < 0) at += period;
            return (at < size ? at : period - at) - 0.5;
        }
    };

    void displace(const Pixel* moved, const float* across, const float* down, std::uint8_t* out) const {
        const int width = extent_.width;
        for (int y = 0; y < extent_.height; ++y, across += across_.stride, down += across_.stride) {
            for (int x = 0; x < width; ++x, out += 3) {
                const Place row(y + static_cast<double>(down[x]), extent_.height);
                const Place column(x + static_cast<double>(across[x]), width);
                const Pixel *upper = moved + row.first * width, *lower = moved + row.second * width;
                Wide sum = wide(upper[column.first]) * (1 - row.share) * (1 - column.share);
                sum += wide(upper[column.second]) * (1 - row.share) * column.share;
                sum += wide(lower[column.first]) * row.share * (1 - column.share);
                sum += wide(lower[column.second]) * row.share * column.share;
                const Pixel unit = __builtin_convertvector(sum, Pixel);
                for (int c = 0; c < 3; ++c) {
                    out[c] = static_cast<std::uint8_t>(std::min(std::max(unit[c], 0.0f), 1.0f) * 255.0f);
                }
            }
        }
    }

    APR_INLINE static Wide wide(Pixel pixel) { return __builtin_convertvector(pixel, Wide); }

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
