#include "warps.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "pixels.hpp"
#include "simd.hpp"

namespace apr {
namespace {

// Pixels that are made at a time, in two vectors of float64.
inline constexpr int kBlock = kLanes<float>;
inline constexpr int kHalf = kLanes<double>;
// Blocks whose sources are found before the first is made: the processor would wait for each one's.
inline constexpr int kAhead = 8;

using Quads = Vector<std::uint64_t>;
using Whole = Vector<std::int32_t, 4 * kHalf>;
inline constexpr std::make_integer_sequence<int, kHalf> kEachHalf;
inline constexpr std::make_integer_sequence<int, kBlock> kEachPixel;

// The pixels of a block that are wanted, and where its sources lie.
struct Block {
    std::uint8_t* to;
    int count;
    std::int32_t pixel[kBlock];  // the one above and to the left, counted through the image
    Doubles dx[2], dy[2];        // how far beyond its center
    Ints inside;                 // -1, or 0 where the source is outside
};

// `Across` and `Down` say along which axes a source may lie between two pixels; along another one source and result
// have the same coordinate, the fraction is 0, and the interpolation changes nothing.
//
// Where Pillow takes a pixel of the edge for its neighbor, outside, too, interpolation changes nothing either: here
// the source is moved to the center of that pixel, with a fraction of 0, and any neighbor does.
template <bool Across, bool Down>
class Warp {
   public:
    Warp(const double* coefficients, const std::uint8_t* in, int height, int width)
        : in_(in), height_(height), width_(width) {
        std::copy_n(coefficients, 6, m_);
    }

    [[gnu::noinline]] void run(std::uint8_t* out) const {
        // A copy that nobody else knows: for all that the compiler sees, what is written could change this one.
        const Warp own = *this;
        Block ahead[kAhead];
        int found = 0;
        for (int y = 0; y < height_; ++y) {
            for (int x = 0; x < width_; x += kBlock) {
                if (found == kAhead) {
                    own.write(ahead, found);
                    found = 0;
                }
                Block& block = ahead[found++];
                block.to = out + 3 * (static_cast<std::size_t>(y) * width_ + x);
                block.count = std::min(kBlock, width_ - x);
                own.find(x, y, &block);
            }
        }
        own.write(ahead, found);
    }

   private:
    // Not before the first center nor beyond the last, and a number.
    APR_INLINE static Doubles within(Doubles source, int size) {
        const double last = size - 1;
        const Doubles positive = source > 0.0 ? source : Doubles{};
        return positive < last ? positive : broadcast(last);
    }

    APR_INLINE void find(int x, int y, Block* out) const {
        const double line = y + 0.5;
        Whole inside[2];
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {
            const Doubles column = (x + half * kHalf + 0.5) + kAscending<double>;
            Integers<double> is_inside = ~Integers<double>{};
            Doubles from_left = column - 0.5;
            Whole top = Whole{} + y;
            if (Across) {
                const Doubles sx = m_[0] * column + m_[1] * line + m_[2];
                is_inside &= (sx >= 0.0) & (sx < static_cast<double>(width_));
                from_left = sx - 0.5;
            }
            from_left = within(from_left, width_);
            const Whole left = __builtin_convertvector(from_left, Whole);
            if (Across) out->dx[half] = from_left - __builtin_convertvector(left, Doubles);
            if (Down) {
                const Doubles sy = m_[3] * column + m_[4] * line + m_[5];
                is_inside &= (sy >= 0.0) & (sy < static_cast<double>(height_));
                const Doubles from_top = within(sy - 0.5, height_);
                top = __builtin_convertvector(from_top, Whole);
                out->dy[half] = from_top - __builtin_convertvector(top, Doubles);
            }
            inside[half] = __builtin_convertvector(is_inside, Whole);
            store(out->pixel + half * kHalf, top * width_ + left);
        }
        out->inside = join(inside[0], inside[1], kEachPixel);
    }

    APR_INLINE void write(const Block* blocks, int count) const {
        for (const Block* block = blocks; block < blocks + count; ++block) {
            const Ints pixels = join(half_of<0>(*block), half_of<1>(*block), kEachPixel) & block->inside;
            if (block->count == kBlock) {
                store_pixels<true>(pack(pixels, kEachByte), block->to);
            } else {
                std::uint8_t last[3 * kBlock];
                store_pixels<true>(pack(pixels, kEachByte), last);
                std::memcpy(block->to, last, 3 * block->count);
            }
        }
    }

    template <int Half>
    APR_INLINE Whole half_of(const Block& block) const {
        const std::int32_t* pixel = block.pixel + Half * kHalf;
        const Quads upper = fetch(pixel, 0, kEachHalf);
        const Quads lower = Down ? fetch(pixel, width_, kEachHalf) : upper;
        Whole pixels{};
#pragma GCC unroll 3
        for (int c = 0; c < 3; ++c) {
            const Doubles value = interpolate(upper, lower, c, block.dx[Half], block.dy[Half]);
            pixels |= __builtin_convertvector(value, Whole) << (8 * c);
        }
        return pixels;
    }

    APR_INLINE static Doubles interpolate(Quads upper, Quads lower, int channel, Doubles dx, Doubles dy) {
        // 2^52 and a whole number below it: the number is in the lowest bits.
        constexpr double large = 4503599627370496;
        const auto level = [&](Quads line, int pixel) {
            return bits<Doubles>(((line >> (24 * pixel + 8 * channel)) & 255) | 0x4330000000000000);
        };
        const auto mixed = [&](Quads line) {
            const Doubles a = level(line, 0);
            return Across ? (a - large) + (level(line, 1) - a) * dx : a - large;
        };
        const Doubles value = mixed(upper);
        return Down ? value + (mixed(lower) - value) * dy : value;
    }

    // Each pixel `below` after those and the one to its right: six levels, the first lowest.
    template <int... Lane>
    APR_INLINE Quads fetch(const std::int32_t* pixel, int below, std::integer_sequence<int, Lane...>) const {
        return Quads{two_pixels(static_cast<std::ptrdiff_t>(pixel[Lane]) + below)...};
    }

    APR_INLINE std::uint64_t two_pixels(std::ptrdiff_t pixel) const {
        std::uint64_t levels;
        std::memcpy(&levels, in_ + 3 * pixel, sizeof(levels));
        return levels;
    }

    double m_[6];
    const std::uint8_t* in_;
    int height_, width_;
};

// out(x, y) = in(x + dx, y + dy), black outside.
void translate(double dx, double dy, const std::uint8_t* in, std::uint8_t* out, int height, int width) {
    const int right = static_cast<int>(std::clamp<double>(dx, -width, width));
    const int down = static_cast<int>(std::clamp<double>(dy, -height, height));
    const std::size_t from = 3 * static_cast<std::size_t>(std::max(0, -right));
    const std::size_t kept = 3 * static_cast<std::size_t>(width - std::abs(right));
    const std::size_t row = 3 * static_cast<std::size_t>(width);
    for (int y = 0; y < height; ++y, out += row) {
        std::memset(out, 0, row);
        if (y + down < 0 || y + down >= height) continue;
        std::memcpy(out + from, in + (y + down) * row + 3 * static_cast<std::size_t>(std::max(0, right)), kept);
    }
}

}  // namespace

void warp(const double* m, const std::uint8_t* in, std::uint8_t* out, int height, int width) {
    const bool same_x = m[0] == 1 && m[1] == 0 && m[2] == 0;
    const bool same_y = m[3] == 0 && m[4] == 1 && m[5] == 0;
    const bool shifted = m[0] == 1 && m[1] == 0 && m[3] == 0 && m[4] == 1;
    // A shift by whole pixels is a copy; infinity less itself is no number and equals nothing.
    if (shifted && m[2] - std::floor(m[2]) == 0 && m[5] - std::floor(m[5]) == 0) {
        return translate(m[2], m[5], in, out, height, width);
    }
    if (same_y) return Warp<true, false>(m, in, height, width).run(out);
    if (same_x) return Warp<false, true>(m, in, height, width).run(out);
    Warp<true, true>(m, in, height, width).run(out);
}

}  // namespace apr
