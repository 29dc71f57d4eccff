// The corruptions that there are: each by its name. A new one has a line here and one in the table of corrupt.cpp.
#pragma once

#include "corrupt.hpp"

namespace apr {

using Constants = std::vector<Numbers>;
using Made = std::unique_ptr<Corruption>;

Made make_gaussian_noise(Extent extent, const Constants& constants);

}  // namespace apr
