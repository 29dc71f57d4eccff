// The random numbers of a corruption: those that were given, or those of the counter-based stream that
// apr_dali/corruptions/counter.py defines. Any part of a stream is computed without what comes before it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace apr {

// Philox 4 × 64 with 10 rounds, as NumPy has it: `blocks` blocks of eight words from `first` on.
struct Philox {
    std::uint64_t key[2];
    std::uint64_t image;

    void words(int field, std::uint64_t first, std::size_t blocks, std::uint32_t* out) const;
};
inline constexpr std::size_t kWordsOfBlock = 8;

// The draws of one image. A field is one call for numbers, as in the corruption's `draw` in Python; `first` is a
// multiple of eight. Where numbers are given, these are copied out of them, and location and scale are in them already.
class Draws {
   public:
    // given: the numbers of this image for each field, or null.
    Draws(const double* const* given, const Philox& philox) : given_(given), philox_(philox) {}

    // Uniform in 0..1; in float32, 1 may be among them.
    void uniform(int field, std::size_t first, std::size_t count, float* out) const;
    void uniform(int field, std::size_t first, std::size_t count, double* out, double low, double high) const;
    void normal(int field, std::size_t first, std::size_t count, float* out, float scale) const;
    void normal(int field, std::size_t first, std::size_t count, double* out, double location, double scale) const;
    // 255 where a uniform number is `share` at most, else 0; where it is given, it is 1 or 0.
    void choice(int field, std::size_t first, std::size_t count, std::uint8_t* out, double share) const;
    // The words themselves; they are never given.
    void words(int field, std::size_t first, std::size_t count, std::uint32_t* out) const;
    // Whole numbers in low..low + range - 1.
    void integer(int field, std::size_t first, std::size_t count, std::int32_t* out, int low, int range) const;

    // The numbers themselves where they are given, else null.
    const double* given(int field) const { return given_ == nullptr ? nullptr : given_[field]; }

   private:
    template <class T, class Convert>
    void drawn(int field, std::size_t first, std::size_t count, T* out, const Convert& convert) const;
    template <class T>
    bool copied(int field, std::size_t first, std::size_t count, T* out) const;

    const double* const* given_;
    Philox philox_;
};

}  // namespace apr
