// The nine operations of APR-S on one image, bit for bit as Pillow computes them; see apr_dali.pillow_ops.
#pragma once

#include <cstdint>

namespace apr {

// The order of apr_dali.draws.OPERATIONS.
enum class Operation {
    kAutocontrast,
    kEqualize,
    kPosterize,
    kRotate,
    kSolarize,
    kShearX,
    kShearY,
    kTranslateX,
    kTranslateY,
};
inline constexpr int kOperations = 9;

// `in` and `out` are (height, width, 3) and do not overlap; `parameters` are the six of a row of SingleDraws.parameters.
void operate(Operation operation, const double* parameters, const std::uint8_t* in, std::uint8_t* out, int height,
             int width);

}  // namespace apr
