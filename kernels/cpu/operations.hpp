// The nine operations of APR-S on one image, bit for bit as Pillow computes them; see apr_dali.pillow_ops.
#pragma once

#include <cstddef>
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

// Bytes that must be there to read after an image that is operated on; whatever they hold, the result is the same.
constexpr std::size_t bytes_beyond(int width) { return 3 * static_cast<std::size_t>(width) + 8; }

// `in` and `out` are (height, width, 3) and do not overlap; `parameters` are the six of a row of SingleDraws.parameters.
void operate(Operation operation, const double* parameters, const std::uint8_t* in, std::uint8_t* out, int height,
             int width);

}  // namespace apr
