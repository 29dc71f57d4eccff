// Images whose pixels move: as OpenCV and SciPy compute them in float32, each pixel a vector.
#pragma once

#include "corrupt.hpp"
#include "simd.hpp"

namespace apr {

using Pixel = Vector<float, 16>;  // the fourth is nothing

// Levels in 0..1.
void to_pixels(const std::uint8_t* in, Extent extent, Pixel* image);

// OpenCV's affine map that moves three corners of a square about the middle by `by`, (row, column) taken as (x, y).
void warp(const Pixel* image, Extent extent, const float* by, Pixel* moved);

// SciPy's bilinear map_coordinates, each pixel displaced by what `across` and `down` have for it, to truncated bytes.
// Their rows are `stride` numbers long.
void displace(const Pixel* image, Extent extent, const float* across, const float* down, std::size_t stride,
              std::uint8_t* out);

}  // namespace apr
