// Blocks of 8 × 8 levels through a JPEG file, without the file: DCT, quantization and both ways back, in the
// whole-number arithmetic of libjpeg's accurate method ("islow"), so that the levels are its own. (Loeffler, Ligtenberg
// and Moschytz, Practical fast 1-D DCT algorithms with 11 multiplications, ICASSP 1989, in the form with 12.)
#pragma once

#include <cstdint>

#include "simd.hpp"

namespace apr {

inline constexpr int kBlock = 8;                                      // levels along a side
inline constexpr int kParts = kLanes<std::int32_t> < kBlock ? 2 : 1;  // vectors of a line
inline constexpr int kAcross = kParts * kLanes<std::int32_t>;         // levels of a line: one block or two
inline constexpr int kCosineBits = 13, kMoreBits = 2;                 // of a cosine; kept between the two passes

constexpr std::int32_t cosine(double value) { return static_cast<std::int32_t>(value * (1 << kCosineBits) + 0.5); }

// Of the even half: two that are turned by 3π/8.
APR_INLINE void turn(Ints first, Ints second, std::int32_t half, Ints& two, Ints& six) {
    const Ints both = (first + second) * cosine(0.541196100) + half;
    two = both + first * cosine(0.765366865);
    six = both - second * cosine(1.847759065);
}

// The odd half, forward and back: from differences to points 7, 5, 3, 1, or from those to differences.
APR_INLINE void turn_odd(Ints& a, Ints& b, Ints& c, Ints& d, std::int32_t half) {
    const Ints all = (a + b + c + d) * cosine(1.175875602) + half;
    const Ints ad = (a + d) * cosine(0.899976223), bc = (b + c) * cosine(2.562915447);
    const Ints ac = all - (a + c) * cosine(1.961570560), bd = all - (b + d) * cosine(0.390180644);
    a = a * cosine(0.298631336) - ad + ac;
    b = b * cosine(2.053119869) - bc + bd;
    c = c * cosine(3.072711026) - bc + ac;
    d = d * cosine(1.501321110) - ad + bd;
}

// What is far out is clipped too, as by libjpeg-turbo's vectors.
APR_INLINE Ints to_level(Ints value) {
    const Ints positive = value > 0 ? value : Ints{};
    return positive < 255 ? positive : Ints{} + 255;
}

enum class Pass { kFirst, kSecond };

// The DCT of eight vectors, lane by lane: of levels less 128 in the first pass, and 8 times that with orthogonal rows
// after both.
template <Pass Which>
APR_INLINE void forward(Ints* v) {
    constexpr bool first = Which == Pass::kFirst;
    constexpr int bits = first ? kCosineBits - kMoreBits : kCosineBits + kMoreBits;
    constexpr std::int32_t half = 1 << (bits - 1), few = 1 << (kMoreBits - 1);
    Ints a = v[3] - v[4], b = v[2] - v[5], c = v[1] - v[6], d = v[0] - v[7];
    const Ints outer = v[0] + v[7], inner = v[3] + v[4], second = v[1] + v[6], third = v[2] + v[5];
    const Ints even = outer + inner, odd = second + third;
    v[0] = first ? (even + odd - 128 * kBlock) << kMoreBits : (even + odd + few) >> kMoreBits;
    v[4] = first ? (even - odd) << kMoreBits : (even - odd + few) >> kMoreBits;
    Ints two, six;
    turn(outer - inner, second - third, half, two, six);
    turn_odd(a, b, c, d, half);
    v[1] = d >> bits;
    v[2] = two >> bits;
    v[3] = c >> bits;
    v[5] = b >> bits;
    v[6] = six >> bits;
    v[7] = a >> bits;
}

// The way back, with the 128 in the second pass.
template <Pass Which>
APR_INLINE void inverse(Ints* v) {
    constexpr bool first = Which == Pass::kFirst;
    constexpr int bits = first ? kCosineBits - kMoreBits : kCosineBits + kMoreBits + 3;
    constexpr std::int32_t added = (first ? 0 : 128 << bits) + (1 << (bits - 1));
    Ints two, six;
    turn(v[2], v[6], 0, two, six);
    const Ints sum = ((v[0] + v[4]) << kCosineBits) + added, difference = ((v[0] - v[4]) << kCosineBits) + added;
    const Ints even[4] = {sum + two, difference + six, difference - six, sum - two};
    Ints odd[4] = {v[7], v[5], v[3], v[1]};
    turn_odd(odd[0], odd[1], odd[2], odd[3], 0);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        v[i] = (even[i] + odd[3 - i]) >> bits;
        v[7 - i] = (even[i] - odd[3 - i]) >> bits;
    }
}

// What is divided by, and multiplied with again, for the points of one line after another.
class Quantizer {
   public:
    // table: 64 steps of 1 to 255, row by row.
    explicit Quantizer(const double* table) {
        for (int v = 0; v < kBlock; ++v) {
            for (int u = 0; u < kAcross; ++u) {
                const float step = static_cast<float>(table[kBlock * v + u % kBlock]);
                step_[v][u] = static_cast<std::int32_t>(step);
                inverse_[v][u] = 1.0f / (8.0f * step);
                half_[v][u] = bits<std::int32_t>(4.0f * step + 0.5f);
            }
        }
    }

    // The multiple of the step that is nearest to an eighth of the value, of two the one further from 0. With the 0.5
    // the quotient stays further from whole numbers than float32 errs.
    APR_INLINE Ints operator()(Ints value, int v, int part) const {
        const int u = part * kLanes<std::int32_t>;
        const Floats exact = __builtin_convertvector(value, Floats);
        const Ints sign = bits<Ints>(exact) & INT32_MIN;
        const Floats half = bits<Floats>(sign | load(half_[v] + u));
        const Floats steps = (exact + half) * load(inverse_[v] + u);
        return __builtin_convertvector(steps, Ints) * load(step_[v] + u);
    }

   private:
    std::int32_t step_[kBlock][kAcross], half_[kBlock][kAcross];  // of the half the bits of a float
    float inverse_[kBlock][kAcross];
};

// Eight lines of kAcross levels.
class Tile {
   public:
    APR_INLINE void through(const Quantizer& quantized) {
#pragma GCC unroll 2
        for (Ints* v : v_) forward<Pass::kFirst>(v);
        transpose();
#pragma GCC unroll 2
        for (int part = 0; part < kParts; ++part) {
            Ints* v = v_[part];
            forward<Pass::kSecond>(v);
#pragma GCC unroll 8
            for (int y = 0; y < kBlock; ++y) v[y] = quantized(v[y], y, part);
            inverse<Pass::kFirst>(v);
        }
        transpose();
#pragma GCC unroll 2
        for (Ints* v : v_) inverse<Pass::kSecond>(v);
    }

    // Columns x of the blocks, a lane for each row.
    APR_INLINE void read(const std::uint8_t* from, std::size_t stride) {
#pragma GCC unroll 2
        for (int part = 0; part < kParts; ++part) {
            Longs rows[2];
#pragma GCC unroll 16
            for (int n = 0; n < 2 * kLongs; ++n) {
                std::int64_t row;
                std::memcpy(&row, place(from, stride, part, n), sizeof(row));
                rows[n / kLongs][n % kLongs] = row;
            }
            const Ints a = bits<Ints>(rows[0]), b = bits<Ints>(rows[1]);
            const Ints left = every_other<0>(a, b, kEach), right = every_other<1>(a, b, kEach);
#pragma GCC unroll 4
            for (int x = 0; x < 4; ++x) {
                v_[part][x] = (left >> (8 * x)) & 255;
                v_[part][4 + x] = (right >> (8 * x)) & 255;
            }
        }
    }
    APR_INLINE void write(std::uint8_t* to, std::size_t stride) const {
#pragma GCC unroll 2
        for (int part = 0; part < kParts; ++part) {
            const Ints left = four(v_[part]), right = four(v_[part] + 4);
            const Longs rows[2] = {bits<Longs>(in_turn<0>(left, right, kEach)),
                                   bits<Longs>(in_turn<kLongs>(left, right, kEach))};
#pragma GCC unroll 16
            for (int n = 0; n < 2 * kLongs; ++n) {
                const std::int64_t row = rows[n / kLongs][n % kLongs];
                std::memcpy(const_cast<std::uint8_t*>(place(to, stride, part, n)), &row, sizeof(row));
            }
        }
    }

   private:
    using Longs = Vector<std::int64_t>;
    static constexpr int kLongs = kLanes<std::int64_t>;
    static constexpr std::make_integer_sequence<int, kLanes<std::int32_t>> kEach{};

    // Where lane n of a part begins: its row, and its block.
    APR_INLINE static const std::uint8_t* place(const std::uint8_t* levels, std::size_t stride, int part, int n) {
        return levels + (part * kLanes<std::int32_t> + n) % kBlock * stride + n / kBlock * kBlock;
    }
    template <int First, int... Lane>
    APR_INLINE static Ints every_other(Ints a, Ints b, std::integer_sequence<int, Lane...>) {
        return __builtin_shufflevector(a, b, (2 * Lane + First)...);
    }
    template <int First, int... Lane>
    APR_INLINE static Ints in_turn(Ints a, Ints b, std::integer_sequence<int, Lane...>) {
        return __builtin_shufflevector(a, b, (First + Lane / 2 + Lane % 2 * kLanes<std::int32_t>)...);
    }
    APR_INLINE static Ints four(const Ints* v) {
        return to_level(v[0]) | to_level(v[1]) << 8 | to_level(v[2]) << 16 | to_level(v[3]) << 24;
    }

    // Each block by itself.
    APR_INLINE void transpose() {
#pragma GCC unroll 2
        for (Ints* v : v_) {
            transpose_units<std::int32_t, 4, 1>(v, 1);
            transpose_units<std::int32_t, 4, 1>(v + 4, 1);
        }
#pragma GCC unroll 4
        for (int y = 0; y < 4; ++y) {
            if constexpr (kParts == 2) {
                std::swap(v_[0][y + 4], v_[1][y]);
            } else {
                transpose_units<std::int32_t, 2, 4>(v_[0] + y, 4);
            }
        }
    }

    Ints v_[kParts][kBlock];
};

}  // namespace apr
