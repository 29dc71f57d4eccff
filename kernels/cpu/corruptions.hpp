// The corruptions that there are: each by its name. A new one has a line here and one in the table of corrupt.cpp.
#pragma once

#include "corrupt.hpp"

namespace apr {

using Constants = std::vector<Numbers>;
using Made = std::unique_ptr<Corruption>;

Made make_gaussian_noise(Extent extent, const Constants& constants);
Made make_shot_noise(Extent extent, const Constants& constants);
Made make_impulse_noise(Extent extent, const Constants& constants);
Made make_defocus_blur(Extent extent, const Constants& constants);
Made make_glass_blur(Extent extent, const Constants& constants);
Made make_motion_blur(Extent extent, const Constants& constants);
Made make_zoom_blur(Extent extent, const Constants& constants);
Made make_snow(Extent extent, const Constants& constants);
Made make_frost(Extent extent, const Constants& constants);
Made make_fog(Extent extent, const Constants& constants);
Made make_brightness(Extent extent, const Constants& constants);
Made make_contrast(Extent extent, const Constants& constants);
Made make_elastic(Extent extent, const Constants& constants);
Made make_pixelate(Extent extent, const Constants& constants);
Made make_jpeg(Extent extent, const Constants& constants);
Made make_speckle_noise(Extent extent, const Constants& constants);
Made make_gaussian_blur(Extent extent, const Constants& constants);
Made make_spatter(Extent extent, const Constants& constants);
Made make_saturate(Extent extent, const Constants& constants);

}  // namespace apr
