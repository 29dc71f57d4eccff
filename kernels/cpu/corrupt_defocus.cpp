// Defocus blur: a disk, in whole numbers.
//
// The levels are whole numbers, and a weight is float32: two numbers of 16 bits hold all of it that counts, so that
// products of 16 bits and sums of 32 make what float64 would, at four times the lanes.
#include <cmath>

#include "corruptions.hpp"
#include "filters.hpp"

namespace apr {
namespace {

inline constexpr int kVectors = 3;  // that are summed at a time: their sums stay in registers
static_assert(kVectors <= kFilterSpan<std::int32_t> / kLanes<std::int32_t>);

// weight ≈ (high·2^low_bits + low) / 2^(low_bits + shift), both of 16 bits, and small enough that no sum over a disk of
// levels leaves 32 bits.
struct FixedPoint {
    int low_bits = 15, shift;

    FixedPoint(const double* weights, std::size_t count) {
        double sum = 0, largest = 0;
        for (std::size_t i = 0; i < count; ++i) {
            expect(weights[i] >= 0, "a disk must have no weights below 0");
            sum += weights[i];
            largest = std::max(largest, weights[i]);
        }
        expect(sum > 0x1p-8 && sum < 0x1p8, "the weights of a disk must add up to about 1");
        while (255.0 * static_cast<double>(count) * std::ldexp(0.5, low_bits) >= 0x1p31) --low_bits;
        shift = std::min(std::ilogb(0x1p31 / (255 * sum)), std::ilogb(0x1p15 / largest)) - 1;
    }

    struct Parts {
        int high, low;
    };
    Parts parts(double weight) const {
        const long long whole = std::llround(std::ldexp(weight, low_bits + shift));
        const long long high = (whole + (1LL << (low_bits - 1))) >> low_bits;
        return {static_cast<int>(high), static_cast<int>(whole - (high << low_bits))};
    }
};

// The disk weighs what is above and below alike: rows are added in pairs first. Two such rows, of neighboring distances,
// share integers of 32 bits.
class DefocusBlur final : public Corruption {
   public:
    // weights: (2·reach + 1)².
    DefocusBlur(Extent extent, int reach, const double* weights)
        : extent_(extent), reach_(reach), fixed_(weights, (2 * reach + 1) * static_cast<std::size_t>(2 * reach + 1)) {
        const int side = 2 * reach + 1;
        const auto parts = [&](int down, int right) {
            if (down > reach) return FixedPoint::Parts{0, 0};
            const double weight = weights[(reach + down) * side + reach + right];
            expect(weight == weights[(reach - down) * side + reach + right], "a disk must be symmetric");
            return fixed_.parts(weight);
        };
        for (int down = 0; down <= reach; down += 2) {
            for (int right = -reach; right <= reach; ++right) {
                const auto one = parts(down, right), other = parts(down + 1, right);
                const Tap tap{down / 2, 3 * right, paired(one.high, other.high), paired(one.low, other.low)};
                if (tap.high != 0 || tap.low != 0) taps_.push_back(tap);
            }
        }
    }

    std::vector<std::size_t> fields() const override { return {}; }
    std::size_t scratch() const override {
        return sizeof(std::int32_t) * (pairs() * row() + row_room<std::int32_t>(3 * extent_.width, 0)) +
               sizeof(std::int16_t) * Window::room(extent_.width, reach_, reach_, reach_);
    }

    void run(const std::uint8_t* in, const Draws&, std::uint8_t* out, std::byte* scratch) const override {
        const auto [height, width] = extent_;
        const int values = 3 * width;
        std::int32_t* rows = reinterpret_cast<std::int32_t*>(scratch);
        std::int32_t* sums = rows + pairs() * row();
        Window window(height, width, reach_, reach_, reach_,
                      reinterpret_cast<std::int16_t*>(sums + row_room<std::int32_t>(values, 0)));
        for (int y = 0; y < height; ++y, out += values) {
            window.move_to(y, in, [](std::uint8_t level) { return level; });
            for (std::size_t k = 0; k < pairs(); ++k) pair_up(window, y, static_cast<int>(2 * k), first(rows, k));
            sum(first(rows, 0), values, sums);
            to_bytes(sums, values, out);
        }
    }

   private:
    using Window = Rows<std::int16_t, 3, Mirrored>;
    struct Tap {
        int row, right;  // which row of pairs, how many numbers to the right
        std::int32_t high, low;  // weights of both of a pair
    };

    static std::int32_t paired(int one, int other) {
        return static_cast<std::int32_t>((one & 0xffffu) | static_cast<std::uint32_t>(other) << 16);
    }

    std::size_t pairs() const { return reach_ / 2 + 1; }
    std::size_t row() const { return row_room<std::int32_t>(3 * extent_.width, 3 * reach_); }
    std::int32_t* first(std::int32_t* rows, std::size_t k) const {
        return rows + k * row() + row_start<std::int32_t>(3 * reach_);
    }

    // The rows `down` above and below y, added, and in the upper halves of the integers those one farther.
    void pair_up(const Window& window, int y, int down, std::int32_t* to) const {
        const std::int16_t *above = window[y - down], *below = window[y + down];
        const std::int16_t *far_above = window[y - down - 1], *far_below = window[y + down + 1];
        const int end = 3 * (extent_.width + reach_), once = down == 0 ? 0 : -1;
        if (down == reach_) far_above = far_below = above;  // their weight is 0
        for (int i = -3 * reach_; i < end; ++i) {
            to[i] = (above[i] + (below[i] & once)) | (far_above[i] + far_below[i]) << 16;
        }
    }

    void sum(const std::int32_t* rows, int count, std::int32_t* to) const {
        constexpr int lanes = kLanes<std::int32_t>;
        const std::ptrdiff_t stride = static_cast<std::ptrdiff_t>(row());
        const int low_bits = fixed_.low_bits, shift = fixed_.shift;
        const Tap *begin = taps_.data(), *end = begin + taps_.size();
        for (int i = 0; i < count; i += kVectors * lanes) {
            Ints high[kVectors] = {}, low[kVectors] = {};
            for (const Tap* tap = begin; tap != end; ++tap) {
                const std::int32_t* from = rows + tap->row * stride + tap->right + i;
                const Ints of_high = broadcast(tap->high), of_low = broadcast(tap->low);
                for (int v = 0; v < kVectors; ++v) {
                    const Ints levels = load(from + v * lanes);
                    high[v] += multiply_pairs(levels, of_high);
                    low[v] += multiply_pairs(levels, of_low);
                }
            }
            for (int v = 0; v < kVectors; ++v) store(to + i + v * lanes, (high[v] + (low[v] >> low_bits)) >> shift);
        }
    }

    Extent extent_;
    int reach_;
    FixedPoint fixed_;
    std::vector<Tap> taps_;
};

}  // namespace

Made make_defocus_blur(Extent extent, const Constants& constants) {
    const Numbers weights = numbers_at(constants, 0, 1, 63 * 63);
    const int side = static_cast<int>(std::sqrt(static_cast<double>(weights.size)));
    constants_at(constants, 0, static_cast<std::size_t>(side) * side);
    return std::make_unique<DefocusBlur>(extent, side / 2, weights.data);
}

}  // namespace apr
