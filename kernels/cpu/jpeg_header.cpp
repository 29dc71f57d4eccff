#include "jpeg_header.hpp"

#include <cstring>

namespace apr {
namespace {

constexpr int kFrames[] = {0xC0, 0xC1, 0xC2};
constexpr int kScan = 0xDA, kApp1 = 0xE1;

int word(const std::uint8_t* at) { return at[0] << 8 | at[1]; }

bool is_frame(int marker) {
    for (const int frame : kFrames) {
        if (marker == frame) return true;
    }
    return false;
}

// Tables, application data and comments: what may stand before a frame and between it and its scan.
bool may_stand_between(int marker) {
    return marker == 0xC4 || marker == 0xDB || marker == 0xDD || marker == 0xFE || (marker >= 0xE0 && marker <= 0xEF);
}

Sides frame(const std::uint8_t* segment, int length) {
    if (length < 8) return {};
    const int components = segment[7];
    const bool usual = segment[2] == 8 && (components == 1 || components == 3) && length == 8 + 3 * components;
    if (!usual) return {};
    for (int k = 0; k < components; ++k) {
        const int sampling = segment[9 + 3 * k];
        const int horizontal = sampling >> 4, vertical = sampling & 15;
        if (horizontal < 1 || horizontal > 4 || vertical < 1 || vertical > 4) return {};
    }
    return {word(segment + 3), word(segment + 5)};
}

}  // namespace

Sides plain_jpeg(const std::uint8_t* content, std::size_t size) {
    if (size < 4 || word(content) != 0xFFD8) return {};
    Sides sides;
    std::size_t at = 2;
    // Each turn: a marker (two bytes) and its segment, which begins with its own length.
    while (at + 4 <= size && content[at] == 0xFF) {
        const int marker = content[at + 1];
        const std::uint8_t* segment = content + at + 2;
        const int length = word(segment);
        if (length < 2 || at + 2 + static_cast<std::size_t>(length) > size) return {};
        if (marker == kScan) return sides;
        if (is_frame(marker)) {
            if (sides.height > 0) return {};
            sides = frame(segment, length);
            if (sides.height < 1 || sides.width < 1) return {};
        } else if (!may_stand_between(marker)) {
            return {};
        } else if (marker == kApp1 && length >= 6 && std::memcmp(segment + 2, "Exif", 4) == 0) {
            return {};
        }
        at += 2 + static_cast<std::size_t>(length);
    }
    return {};
}

}  // namespace apr
