// Fog: a cloud by the diamond-square algorithm, bit for bit as in NumPy.
#include <algorithm>
#include <bit>

#include "corruptions.hpp"
#include "levels.hpp"

namespace apr {
namespace {

// Random heights in their order, about the mean of four.
struct Heights {
    const double* uniform;
    double wibble;

    APR_INLINE double around(double sum, std::size_t place) const {
        return sum / 4 + wibble * (-wibble + 2 * wibble * uniform[place]);
    }
};

// A map of n × n points that wraps around, and the same map with a point between any two: 2n × 2n. `between` holds
// n × n numbers three times.
void refine(const double* coarse, std::size_t n, const Heights& heights, double* between, double* fine) {
    double *centers = between, *above = centers + n * n, *left = above + n * n;
    const auto row_of = [=](const double* map, std::size_t y) { return map + y % n * n; };
    // Calls each(x, the one before, the one after).
    const auto along = [=](const auto& each) {
        each(0, n - 1, 1 % n);
        for (std::size_t x = 1; x + 1 < n; ++x) each(x, x - 1, x + 1);
        if (n > 1) each(n - 1, n - 2, 0);
    };
    for (std::size_t y = 0; y < n; ++y) {
        const double *here = row_of(coarse, y), *below = row_of(coarse, y + 1);
        along([&](std::size_t x, std::size_t, std::size_t next) APR_LAMBDA {
            const double sum = (here[x] + below[x]) + (here[next] + below[next]);
            centers[y * n + x] = heights.around(sum, y * n + x);
        });
    }
    for (std::size_t y = 0; y < n; ++y) {
        const double *here = row_of(coarse, y), *below = row_of(coarse, y + 1);
        const double *center = row_of(centers, y), *before = row_of(centers, y + n - 1);
        const std::size_t row = y * n;
        along([&](std::size_t x, std::size_t last, std::size_t next) APR_LAMBDA {
            const double upper = (center[x] + before[x]) + (here[x] + here[next]);
            const double beside = (center[x] + center[last]) + (here[x] + below[x]);
            above[row + x] = heights.around(upper, n * n + row + x);
            left[row + x] = heights.around(beside, 2 * n * n + row + x);
        });
        double* to = fine + 4 * row;
        for (std::size_t x = 0; x < n; ++x) {
            to[2 * x] = here[x];
            to[2 * x + 1] = above[row + x];
        }
        to += 2 * n;
        for (std::size_t x = 0; x < n; ++x) {
            to[2 * x] = left[row + x];
            to[2 * x + 1] = center[x];
        }
    }
}

struct Range {
    double least, most;
};
Range range_of(const double* values, std::size_t count) {
    if (count < kLanes<double>) return {*std::min_element(values, values + count), *std::max_element(values, values + count)};
    Doubles low = load(values), high = low;
    // A power of two.
    for (std::size_t i = 0; i < count; i += kLanes<double>) {
        const Doubles value = load(values + i);
        low = value < low ? value : low;
        high = value > high ? value : high;
    }
    Range range{low[0], high[0]};
    for (int lane = 1; lane < kLanes<double>; ++lane) {
        range.least = std::min(range.least, low[lane]);
        range.most = std::max(range.most, high[lane]);
    }
    return range;
}

class Fog final : public Corruption {
   public:
    Fog(Extent extent, double thickness, double decay)
        : extent_(extent),
          side_(std::bit_ceil(static_cast<unsigned>(std::max(extent.height, extent.width)))),
          thickness_(thickness),
          decay_(decay) {}

    std::vector<std::size_t> fields() const override { return {side_ * side_ - 1}; }
    // The numbers drawn, two maps and what comes between their points.
    std::size_t scratch() const override { return (3 * side_ * side_ + 3 * side_ * side_ / 4) * sizeof(double); }

    void run(const std::uint8_t* in, const Draws& draws, std::uint8_t* out, std::byte* scratch) const override {
        double* uniform = reinterpret_cast<double*>(scratch);
        double* maps = uniform + side_ * side_;
        const double* map = cloud(drawn(draws, uniform), maps);
        const Range range = range_of(map, side_ * side_);
        const double brightest = *std::max_element(in, in + extent_.bytes()) / 255.0;
        const double width = range.most - range.least, after = brightest + thickness_;
        const std::size_t columns = static_cast<std::size_t>(extent_.width);
        for (int y = 0; y < extent_.height; ++y) {
            const double* row = map + y * side_;
            change_levels(in, out, columns, [&, this](std::size_t first, Levels& levels) APR_LAMBDA {
#pragma GCC unroll 2
                for (int half = 0; half < 2; ++half) {
                    const Doubles height = load(row + first + half * kLanes<double>);
                    const Doubles fog = thickness_ * ((height - range.least) / width);
#pragma GCC unroll 3
                    for (int c = 0; c < 3; ++c) {
                        Doubles& level = levels.of[c][half];
                        level = to_level((level / 255.0 + fog) * brightest / after);
                    }
                }
            });
            in += 3 * columns;
            out += 3 * columns;
        }
    }

   private:
    const double* drawn(const Draws& draws, double* to) const {
        if (const double* given = draws.given(0)) return given;
        draws.uniform(0, 0, side_ * side_ - 1, to, 0, 1);
        return to;
    }

    // A map of side × side, in one of the two places.
    const double* cloud(const double* uniform, double* maps) const {
        const std::size_t points = side_ * side_;
        double *coarse = maps, *fine = maps + points, *between = maps + 2 * points;
        Heights heights{uniform, 100};
        *coarse = 0;
        for (std::size_t n = 1; n < side_; n *= 2) {
            refine(coarse, n, heights, between, fine);
            std::swap(coarse, fine);
            heights.uniform += 3 * n * n;
            heights.wibble /= decay_;
        }
        return coarse;
    }

    Extent extent_;
    std::size_t side_;
    double thickness_, decay_;
};

}  // namespace

Made make_fog(Extent extent, const Constants& constants) {
    const double* numbers = constants_at(constants, 0, 2);
    return std::make_unique<Fog>(extent, numbers[0], numbers[1]);
}

}  // namespace apr
