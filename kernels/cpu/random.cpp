#include "random.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>

namespace apr {
namespace {

// Numbers that are made at a time: they stay in the first cache. A multiple of the words of a block.
inline constexpr std::size_t kChunk = 512;

constexpr double kWord = 0x1p-32;

// The loops over words below become vector instructions, so that what they call has no branches.

// A word to float32, rounded once; not every processor converts unsigned words.
inline float to_float(std::uint32_t word) {
    return static_cast<float>(static_cast<std::int32_t>(word >> 16)) * 65536.0f +
           static_cast<float>(static_cast<std::int32_t>(word & 0xffff));
}
inline double to_double(std::uint32_t word) {
    return static_cast<double>(static_cast<std::int32_t>(word ^ 0x80000000u)) + 0x1p31;
}

// -ln((word + 0.5) / 2^32) in float32: 2·atanh of the mantissa's distance from 1, between the roots of 1/2 and 2.
inline float minus_log(std::uint32_t word) {
    const float value = to_float(word) + 0.5f;
    const std::int32_t bits = std::bit_cast<std::int32_t>(value) - 0x3f3504f3;
    const float exponent = static_cast<float>(bits >> 23);
    const float mantissa = std::bit_cast<float>((bits & 0x7fffff) + 0x3f3504f3);
    const float s = (mantissa - 1) / (mantissa + 1);
    const float t = s * s;
    const float series = 2 * s * (1 + t * (1.0f / 3 + t * (1.0f / 5 + t * (1.0f / 7 + t * (1.0f / 9)))));
    return (32 - exponent) * std::numbers::ln2_v<float> - series;
}

struct Point {
    float cos, sin;
};
// cos and sin of 2π(word + 0.5) / 2^32: of an eighth of a turn at most, put into the quarter that the word lies in.
inline Point on_circle(std::uint32_t word) {
    const std::int32_t rest = static_cast<std::int32_t>(word << 2);
    const std::uint32_t quarter = (word + 0x20000000u) >> 30;
    const float x = (static_cast<float>(rest) + 2) * static_cast<float>(std::numbers::pi / 2 * kWord);
    const float t = x * x;
    const float s = x * (1 + t * (-1.0f / 6 + t * (1.0f / 120 + t * (-1.0f / 5040 + t * (1.0f / 362880)))));
    const float c = 1 + t * (-0.5f + t * (1.0f / 24 + t * (-1.0f / 720 + t * (1.0f / 40320))));
    const float across = quarter & 1 ? s : c;
    const float up = quarter & 1 ? c : s;
    return {quarter == 1 || quarter == 2 ? -across : across, quarter >= 2 ? -up : up};
}

// Box and Muller in float32 and in float64.
void normals(const std::uint32_t* words, std::size_t count, float* out) {
    for (std::size_t i = 0; i < count; i += 2) {
        const float radius = std::sqrt(2 * minus_log(words[i]));
        const Point point = on_circle(words[i + 1]);
        out[i] = radius * point.cos;
        out[i + 1] = radius * point.sin;
    }
}
void normals(const std::uint32_t* words, std::size_t count, double* out) {
    for (std::size_t i = 0; i < count; i += 2) {
        const double radius = std::sqrt(-2 * std::log((to_double(words[i]) + 0.5) * kWord));
        const double angle = 2 * std::numbers::pi * ((to_double(words[i + 1]) + 0.5) * kWord);
        out[i] = radius * std::cos(angle);
        out[i + 1] = radius * std::sin(angle);
    }
}

}  // namespace

template <class T>
bool Draws::copied(int field, std::size_t first, std::size_t count, T* out) const {
    const double* from = given(field);
    if (from == nullptr) return false;
    for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<T>(from[first + i]);
    return true;
}

// Calls convert(words, count, to) for pieces of the stream; `count` is rounded up to whole blocks.
template <class T, class Convert>
void Draws::drawn(int field, std::size_t first, std::size_t count, T* out, const Convert& convert) const {
    std::uint32_t words[kChunk];
    T numbers[kChunk];
    for (std::size_t done = 0; done < count; done += kChunk) {
        const std::size_t wanted = std::min(kChunk, count - done);
        const std::size_t blocks = (wanted + kWordsOfBlock - 1) / kWordsOfBlock;
        philox_.words(field, (first + done) / kWordsOfBlock, blocks, words);
        if (wanted == kChunk) {
            convert(words, kChunk, out + done);
        } else {
            convert(words, blocks * kWordsOfBlock, numbers);
            std::copy_n(numbers, wanted, out + done);
        }
    }
}

void Draws::uniform(int field, std::size_t first, std::size_t count, float* out) const {
    if (copied(field, first, count, out)) return;
    drawn(field, first, count, out, [](const std::uint32_t* words, std::size_t n, float* to) {
        for (std::size_t i = 0; i < n; ++i) to[i] = (to_float(words[i]) + 0.5f) * static_cast<float>(kWord);
    });
}

void Draws::uniform(int field, std::size_t first, std::size_t count, double* out, double low, double high) const {
    if (copied(field, first, count, out)) return;
    drawn(field, first, count, out, [=](const std::uint32_t* words, std::size_t n, double* to) {
        for (std::size_t i = 0; i < n; ++i) to[i] = low + (high - low) * ((to_double(words[i]) + 0.5) * kWord);
    });
}

void Draws::normal(int field, std::size_t first, std::size_t count, float* out, float scale) const {
    if (copied(field, first, count, out)) return;
    drawn(field, first, count, out, [=](const std::uint32_t* words, std::size_t n, float* to) {
        normals(words, n, to);
        for (std::size_t i = 0; i < n; ++i) to[i] *= scale;
    });
}

void Draws::normal(int field, std::size_t first, std::size_t count, double* out, double location,
                   double scale) const {
    if (copied(field, first, count, out)) return;
    drawn(field, first, count, out, [=](const std::uint32_t* words, std::size_t n, double* to) {
        normals(words, n, to);
        for (std::size_t i = 0; i < n; ++i) to[i] = location + scale * to[i];
    });
}

void Draws::choice(int field, std::size_t first, std::size_t count, std::uint8_t* out, double share) const {
    if (const double* from = given(field)) {
        for (std::size_t i = 0; i < count; ++i) out[i] = from[first + i] != 0 ? 255 : 0;
        return;
    }
    const double last = std::floor(share / kWord - 0.5);
    if (last < 0) {
        std::fill_n(out, count, std::uint8_t{0});
        return;
    }
    const std::uint32_t most = static_cast<std::uint32_t>(std::min(last, 0x1p32 - 1));
    drawn(field, first, count, out, [=](const std::uint32_t* words, std::size_t n, std::uint8_t* to) {
        for (std::size_t i = 0; i < n; ++i) to[i] = words[i] <= most ? 255 : 0;
    });
}

void Draws::words(int field, std::size_t first, std::size_t count, std::uint32_t* out) const {
    drawn(field, first, count, out, [](const std::uint32_t* words, std::size_t n, std::uint32_t* to) {
        std::copy_n(words, n, to);
    });
}

void Draws::integer(int field, std::size_t first, std::size_t count, std::int32_t* out, int low, int range) const {
    if (const double* from = given(field)) {
        // They become addresses: what is not in the range is put into it.
        for (std::size_t i = 0; i < count; ++i) {
            const double above = std::min<double>(range - 1, from[first + i] - low);
            out[i] = low + (above > 0 ? static_cast<std::int32_t>(above) : 0);
        }
        return;
    }
    drawn(field, first, count, out, [=](const std::uint32_t* words, std::size_t n, std::int32_t* to) {
        const std::uint64_t choices = static_cast<std::uint64_t>(range);
        for (std::size_t i = 0; i < n; ++i) to[i] = low + static_cast<std::int32_t>(words[i] * choices >> 32);
    });
}

}  // namespace apr
