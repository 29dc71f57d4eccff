// Images made smaller by the bicubic filter over all pixels that one is made of.
#pragma once

#include <cstdint>

namespace apr {

// From one uint8 image of four channels, (height, width, 4), to another, along rows and then along columns. Weights are
// Pillow's of BICUBIC, as whole numbers of 16 bits, and sums are rounded to levels after each of the two: bit for bit what
// torch's `interpolate(mode="bicubic", antialias=True)` makes of uint8.
void resample(const std::uint8_t* in, int in_height, int in_width, std::uint8_t* out, int height, int width);

}  // namespace apr
