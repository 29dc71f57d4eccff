// The size of an image.
#pragma once

#include <cstddef>

namespace apr {

struct Shape {
    int channels, height, width;
    std::size_t plane() const { return static_cast<std::size_t>(height) * width; }
    std::size_t size() const { return plane() * channels; }
};

}  // namespace apr
