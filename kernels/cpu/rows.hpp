// The rows of an image around the one that is made, as numbers with a border, each converted once.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "simd.hpp"

namespace apr {

// Values that filters make at a time; past the end of a row they make as many too many at most.
template <class T>
inline constexpr int kFilterSpan = 4 * kLanes<T>;

// How an image goes on beyond its last pixel, which is `last`.
struct Repeated {
    APR_INLINE static int inside(int at, int last) { return std::clamp(at, 0, last); }
};
struct Mirrored {
    APR_INLINE static int inside(int at, int last) { return at < 0 ? -at : at > last ? 2 * last - at : at; }
};

// Room for rows of `values` numbers with `beside` more at either end, on the boundary of a vector.
template <class T>
constexpr std::size_t row_room(int values, int beside) {
    const int lanes = kLanes<T>;
    return static_cast<std::size_t>((beside + lanes - 1) / lanes + (values + beside + lanes - 1) / lanes) * lanes +
           kFilterSpan<T>;
}
template <class T>
constexpr int row_start(int beside) {
    return (beside + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
}

// Fills `beside` pixels of `Channels` numbers before and after a row of `width` pixels.
template <class Border, int Channels, class T>
void fill_border(T* row, int width, int beside) {
    for (int x = 1; x <= beside; ++x) {
        const T* left = row + Channels * Border::inside(-x, width - 1);
        const T* right = row + Channels * Border::inside(width - 1 + x, width - 1);
        std::copy_n(left, Channels, row - Channels * x);
        std::copy_n(right, Channels, row + Channels * (width - 1 + x));
    }
}

// Of an image (H, W, Channels) of bytes the rows from `above` before to `below` after the current one. `beside`: pixels.
template <class T, int Channels, class Border>
class Rows {
   public:
    static std::size_t room(int width, int above, int below, int beside) {
        return row_room<T>(Channels * width, Channels * beside) * (above + below + 1);
    }

    Rows(int height, int width, int above, int below, int beside, T* memory)
        : height_(height), width_(width), below_(below), beside_(beside), kept_(above + below + 1),
          stride_(row_room<T>(Channels * width, Channels * beside)),
          first_(memory + row_start<T>(Channels * beside)) {}

    // Makes all rows around row y ready; y grows by one with each call. `convert` is a function of a byte.
    template <class Convert>
    void move_to(int y, const std::uint8_t* image, const Convert& convert) {
        for (; next_ <= std::min(y + below_, height_ - 1); ++next_) {
            T* to = first_ + next_ % kept_ * stride_;
            const std::uint8_t* from = image + static_cast<std::size_t>(next_) * width_ * Channels;
            for (int i = 0; i < Channels * width_; ++i) to[i] = convert(from[i]);
            fill_border<Border, Channels>(to, width_, beside_);
        }
    }

    // Row y, which may lie outside of the image.
    const T* operator[](int y) const { return first_ + Border::inside(y, height_ - 1) % kept_ * stride_; }

   private:
    int height_, width_, below_, beside_, kept_, next_ = 0;
    std::size_t stride_;
    T* first_;
};

}  // namespace apr
