#include "tables.hpp"

#include <cstring>

#if defined(__AVX512BW__)
#include <immintrin.h>
#endif

namespace apr {
namespace {

void look_up_words(const Tables& tables, const std::uint8_t* in, std::uint8_t* out, std::size_t pixels) {
    const auto mapped = [&](std::size_t i) {
        const std::uint8_t* levels = in + 3 * i;
        return static_cast<std::uint32_t>(tables[0][levels[0]] | tables[1][levels[1]] << 8 | tables[2][levels[2]] << 16);
    };
    const auto put = [](std::uint32_t word, std::uint8_t* to) { std::memcpy(to, &word, sizeof(word)); };
    // Four pixels in three words take half the time of twelve levels one by one.
    std::size_t i = 0;
    for (; i + 4 <= pixels; i += 4) {
        const std::uint32_t a = mapped(i), b = mapped(i + 1), c = mapped(i + 2), d = mapped(i + 3);
        put(a | b << 24, out + 3 * i);
        put(b >> 8 | c << 16, out + 3 * i + 4);
        put(c >> 16 | d << 8, out + 3 * i + 8);
    }
    for (; i < pixels; ++i) {
        const std::uint32_t pixel = mapped(i);
        std::memcpy(out + 3 * i, &pixel, 3);
    }
}

#if defined(__AVX512BW__)
// A table fits four registers, and processors since Ice Lake and Zen 4 look up 64 levels in two of them at a time: a
// fifth of the time. They are fewer than those that this file is compiled for, so these functions are compiled for
// them alone.
#define APR_VBMI [[gnu::target("avx512vbmi")]]

struct Registers {
    __m512i quarter[4];
};

APR_VBMI Registers registers(const Table& table) {
    Registers out;
    std::memcpy(&out, table.data(), sizeof(out));
    return out;
}

APR_VBMI inline __m512i looked_up(const Registers& table, __m512i levels) {
    const __m512i dark = _mm512_permutex2var_epi8(table.quarter[0], levels, table.quarter[1]);
    const __m512i bright = _mm512_permutex2var_epi8(table.quarter[2], levels, table.quarter[3]);
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(levels), dark, bright);
}

// Three vectors hold 64 pixels; returns how many pixels were looked up.
APR_VBMI std::size_t look_up_vectors(const Tables& tables, const std::uint8_t* in, std::uint8_t* out,
                                     std::size_t pixels) {
    const Registers red = registers(tables[0]), green = registers(tables[1]), blue = registers(tables[2]);
    // Every third lane, from the first, the second and the third on. 64 is one more than a multiple of three: each vector
    // begins with the next channel.
    constexpr std::uint64_t third[] = {0x9249249249249249, 0x2492492492492492, 0x4924924924924924};
    std::size_t done = 0;
    for (; done + 64 <= pixels; done += 64, in += 192, out += 192) {
#pragma GCC unroll 3
        for (int k = 0; k < 3; ++k) {
            const __m512i levels = _mm512_loadu_si512(in + 64 * k);
            __m512i mapped = looked_up(red, levels);
            mapped = _mm512_mask_mov_epi8(mapped, third[(4 - k) % 3], looked_up(green, levels));
            mapped = _mm512_mask_mov_epi8(mapped, third[(5 - k) % 3], looked_up(blue, levels));
            _mm512_storeu_si512(out + 64 * k, mapped);
        }
    }
    return done;
}
#endif

}  // namespace

void look_up(const Tables& tables, const std::uint8_t* in, std::uint8_t* out, std::size_t pixels) {
    std::size_t done = 0;
#if defined(__AVX512BW__)
    static const bool has_vectors = __builtin_cpu_supports("avx512vbmi");
    if (has_vectors) done = look_up_vectors(tables, in, out, pixels);
#endif
    look_up_words(tables, in + 3 * done, out + 3 * done, pixels - done);
}

}  // namespace apr
