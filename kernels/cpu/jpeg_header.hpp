// The header of a JPEG file as cameras and libraries write it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace apr {

struct Sides {
    int height = 0, width = 0;
};

// The sides of the image, or zeros where the header is broken or holds anything out of the ordinary: another process
// than baseline, extended or progressive Huffman, other than 8 bits, 1 or 3 components, or EXIF data. (Specification:
// ITU-T T.81, Annex B.)
Sides plain_jpeg(const std::uint8_t* content, std::size_t size);

}  // namespace apr
