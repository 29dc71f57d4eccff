// ImageNet-C's corruptions on batches: what they have in common.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "random.hpp"

namespace apr {

// Numbers that Python gives.
struct Numbers {
    const double* data;
    std::size_t size;
};

struct Extent {
    int height, width;

    std::size_t pixels() const { return static_cast<std::size_t>(height) * width; }
    std::size_t bytes() const { return 3 * pixels(); }
};

// One corruption at one severity for images of one size. It is made once per call, and several threads run it.
class Corruption {
   public:
    virtual ~Corruption() = default;
    // How many numbers each field of its draws has for an image.
    virtual std::vector<std::size_t> fields() const = 0;
    // Bytes that a run needs beside the image; they come on the boundary of a vector.
    virtual std::size_t scratch() const = 0;
    // From one image to another, (H, W, 3) both; `scratch` holds anything. Must not throw.
    virtual void run(const std::uint8_t* in, const Draws& draws, std::uint8_t* out, std::byte* scratch) const = 0;
};

// The corruption of that name; `constants` are what its record in Python gives. Throws std::invalid_argument where
// there is none, or where the constants are not those of this corruption.
std::unique_ptr<Corruption> make_corruption(const std::string& name, Extent extent,
                                            const std::vector<Numbers>& constants);

struct CorruptTask {
    int batch;
    Extent extent;
    const std::uint8_t* images;         // (N, H, W, 3), as is `out`
    std::vector<const double*> given;   // for each field the numbers of all images; empty where they are drawn
    std::uint64_t key[2];               // of the stream that they are drawn from
    const std::uint64_t* numbers;       // of the images in that stream, (N,)
    std::uint8_t* out;
    int threads;
};
void corrupt(const Corruption& corruption, const CorruptTask& task);

// Throws std::invalid_argument.
void expect(bool holds, const char* otherwise);

// Constants number `number`; throws unless they are there, `least` to `most` of them, or `count`.
Numbers numbers_at(const std::vector<Numbers>& constants, std::size_t number, std::size_t least, std::size_t most);
const double* constants_at(const std::vector<Numbers>& constants, std::size_t number, std::size_t count);

}  // namespace apr
