#include "warps.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "simd.hpp"

namespace apr {
namespace {

// Pixels, and levels, that are made at a time.
inline constexpr int kBlock = 8;
inline constexpr int kLevels = 3 * kBlock;

inline constexpr int kDoubles = kLanes<double>;
inline constexpr std::make_integer_sequence<int, kDoubles> kEachDouble;
using Whole = Vector<std::int32_t, 4 * kDoubles>;

// Numbers of kDoubles pixels as those of their levels, of which there are three times as many.
template <int Part, int... Lane>
APR_INLINE Doubles each_thrice(Doubles pixels, std::integer_sequence<int, Lane...>) {
    return __builtin_shufflevector(pixels, pixels, ((kDoubles * Part + Lane) / 3)...);
}

// Where the sources of a block lie along one axis: in whole pixels, and for every level how far beyond them.
struct Sources {
    std::int32_t whole[kBlock];
    double beyond[kLevels];
    Whole apart{};  // not 0 unless each source lies Step pixels after the one before

    template <int Step, class At>
    APR_INLINE void find(const At& at) {
        const Whole steps = __builtin_convertvector(Step * kAscending<double>, Whole);
        for (int i = 0; i < kBlock; i += kDoubles) {
            const Doubles source = at(i + kAscending<double>);
            const Whole nearest = __builtin_convertvector(source, Whole);
            std::memcpy(whole + i, &nearest, sizeof(nearest));
            apart |= nearest - (steps + (whole[0] + Step * i));
            const Doubles rest = source - __builtin_convertvector(nearest, Doubles);
            store(beyond + 3 * i, each_thrice<0>(rest, kEachDouble));
            store(beyond + 3 * i + kDoubles, each_thrice<1>(rest, kEachDouble));
            store(beyond + 3 * i + 2 * kDoubles, each_thrice<2>(rest, kEachDouble));
        }
    }
};

bool are_zero(Whole values) {
    std::uint64_t words[sizeof(values) / 8];
    std::memcpy(words, &values, sizeof(values));
    std::uint64_t any = 0;
    for (const std::uint64_t word : words) any |= word;
    return any == 0;
}

// `Across` and `Down` say along which axes a source may lie between two pixels; along another one source and result
// have the same coordinate, the fraction is 0, and the interpolation changes nothing.
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
        for (int y = 0; y < height_; ++y, out += 3 * static_cast<std::size_t>(width_)) {
            // Coordinates grow or fall steadily along a row: what holds at both ends holds between them.
            int begin = 0;
            int end = width_;
            while (begin < end && !is_inner(begin, y)) ++begin;
            while (begin < end && !is_inner(end - 1, y)) --end;
            for (int x = begin; x + kBlock < end; x += kBlock) own.write_block(x, y, out + 3 * x);
            // The last ones once more with some before them, or, where there are too few, one by one.
            const bool enough = end - begin >= kBlock;
            if (enough) own.write_block(end - kBlock, y, out + 3 * (end - kBlock));
            for (int x = 0; x < begin; ++x) write(x, y, out + 3 * x);
            for (int x = enough ? end : begin; x < width_; ++x) write(x, y, out + 3 * x);
        }
    }

   private:
    // Where pixel (x, y) of the result lies in the image.
    template <class X>
    APR_INLINE X source_x(X x, int y) const {
        return m_[0] * (x + 0.5) + m_[1] * (y + 0.5) + m_[2];
    }
    template <class X>
    APR_INLINE X source_y(X x, int y) const {
        return m_[3] * (x + 0.5) + m_[4] * (y + 0.5) + m_[5];
    }

    // All four neighbours are pixels.
    bool is_inner(int x, int y) const {
        const auto between_pixels = [](double source, int size) { return source >= 0.5 && source - 0.5 < size - 1; };
        return (!Across || between_pixels(source_x<double>(x, y), width_)) &&
               (!Down || between_pixels(source_y<double>(x, y), height_));
    }

    const std::uint8_t* at(int x, int y) const { return in_ + (static_cast<std::size_t>(y) * width_ + x) * 3; }

    // The levels that lie around the sources of a block, for each level of the result: above left, above right, below
    // left, below right.
    using Corners = std::array<const std::uint8_t*, 4>;

    // kBlock inner pixels.
    APR_INLINE void write_block(int x, int y, std::uint8_t* to) const {
        const double first = x;
        const double same = y;
        Sources across, down;
        across.find<1>([&](Doubles i) { return Across ? source_x(first + i, y) - 0.5 : first + i; });
        down.find<0>([&](Doubles i) { return Down ? source_y(first + i, y) - 0.5 : broadcast(same); });
        const std::size_t row = 3 * static_cast<std::size_t>(width_);
        // Mostly the sources of neighbours are neighbours too.
        if (are_zero(across.apart | down.apart)) {
            const std::uint8_t* from = at(across.whole[0], down.whole[0]);
            interpolate({from, from + 3, from + row, from + row + 3}, across.beyond, down.beyond, to);
        } else if (std::max(down.whole[0], down.whole[kBlock - 1]) + Down < height_ - 1) {
            std::uint8_t close[4][kLevels + 1];
            for (int i = 0; i < kBlock; ++i) {
                const std::uint8_t* from = at(across.whole[i], down.whole[i]);
                // A byte too many, which the next pixel overwrites; below there is a row for it.
                std::memcpy(close[0] + 3 * i, from, 4);
                if (Across) std::memcpy(close[1] + 3 * i, from + 3, 4);
                if (Down) std::memcpy(close[2] + 3 * i, from + row, 4);
                if (Across && Down) std::memcpy(close[3] + 3 * i, from + row + 3, 4);
            }
            interpolate({close[0], close[1], close[2], close[3]}, across.beyond, down.beyond, to);
        } else {
            for (int i = 0; i < kBlock; ++i) write(x + i, y, to + 3 * i);
        }
    }

    APR_INLINE static void interpolate(const Corners& corners, const double* dx, const double* dy, std::uint8_t* to) {
        for (int i = 0; i < kLevels; i += kDoubles) {
            const auto mixed = [&](const std::uint8_t* left, const std::uint8_t* right) {
                const Doubles a = load_bytes(left + i);
                return Across ? a + (load_bytes(right + i) - a) * load(dx + i) : a;
            };
            Doubles value = mixed(corners[0], corners[1]);
            if (Down) value = value + (mixed(corners[2], corners[3]) - value) * load(dy + i);
            store_bytes(to + i, value);
        }
    }

    // One pixel anywhere, word for word as Pillow has it.
    void write(int x, int y, std::uint8_t* to) const {
        const double sx = source_x<double>(x, y);
        const double sy = source_y<double>(x, y);
        if (!(sx >= 0 && sx < width_ && sy >= 0 && sy < height_)) {
            std::memset(to, 0, 3);
            return;
        }
        const int left = static_cast<int>(std::floor(sx - 0.5));
        const int top = static_cast<int>(std::floor(sy - 0.5));
        const double dx = (sx - 0.5) - left;
        const double dy = (sy - 0.5) - top;
        const auto column = [&](int x) { return std::clamp(x, 0, width_ - 1); };
        const int row = std::clamp(top, 0, height_ - 1);
        // At the bottom the upper line counts twice.
        const int below = top + 1 < height_ ? top + 1 : row;
        for (int c = 0; c < 3; ++c) {
            const auto mixed = [&](int row) {
                const double a = at(column(left), row)[c];
                return a + (at(column(left + 1), row)[c] - a) * dx;
            };
            const double upper = mixed(row);
            to[c] = static_cast<std::uint8_t>(upper + (mixed(below) - upper) * dy);
        }
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
