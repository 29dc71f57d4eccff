// The affine warp of an image, bit for bit as Pillow computes it with bilinear interpolation.
#pragma once

#include <cstdint>

namespace apr {

// out(x, y) = in(ax + by + c, dx + ey + f) for the coefficients (a, ..., f), black outside. Images are
// (height, width, 3) and do not overlap; after `in` there are 3·width + 8 more bytes to read.
void warp(const double* coefficients, const std::uint8_t* in, std::uint8_t* out, int height, int width);

}  // namespace apr
