// The images of a batch as planes of float32, and the results back.
#pragma once

#include <algorithm>
#include <vector>

#include "augment.hpp"
#include "pixels.hpp"

namespace apr {

// Levels by which truncation forgives rounding, see apr_dali.augmentations.functional.
inline constexpr float kSlack = 0x1p-10f;

struct Truncated {
    APR_INLINE Ints operator()(Floats value) const {
        const Floats low = value < 0.0f ? Floats{} : value;
        const Floats level = low > 255.0f ? Floats{} + 255.0f : low;
        return __builtin_convertvector(level + kSlack, Ints);
    }
};

// Bytes (H, W, C) of any number of channels.
template <class Convert>
struct BytesSink {
    std::uint8_t* image;
    Shape shape;

    APR_INLINE void write(int y, int x, int count, const Floats* v) const {
        std::uint8_t* to = image + (static_cast<std::size_t>(y) * shape.width + x) * shape.channels;
        for (int c = 0; c < shape.channels; ++c) {
            std::int32_t row[kSpan<float>];
            store(row, Convert{}(v[2 * c]));
            store(row + kLanes<float>, Convert{}(v[2 * c + 1]));
            for (int i = 0; i < count; ++i) to[i * shape.channels + c] = static_cast<std::uint8_t>(row[i]);
        }
    }
};

template <class Source, class Sink>
void copy_pixels(Shape shape, const Source& source, const Sink& sink) {
    const Buffer<Vector<float>> room(2 * shape.channels);
    for (int y = 0; y < shape.height; ++y) {
        for (int x = 0; x < shape.width; x += kSpan<float>) {
            const int count = std::min(kSpan<float>, shape.width - x);
            source.read(y, x, count, room.get());
            sink.write(y, x, count, room.get());
        }
    }
}

// The images of a batch for one thread.
class ImagePort {
   public:
    explicit ImagePort(const AugmentBatch& images)
        : images_(images), out_(images.bytes == nullptr ? 0 : images.shape.size()) {}

    // Image n as planes (C, H, W), as large as it is: where it lies, or in `room`, which has the size of an image.
    const float* read(int n, float* room) const {
        const Shape shape = images_.shape;
        if (images_.bytes == nullptr) return images_.planes + n * shape.size();
        const std::uint8_t* from = images_.bytes + n * shape.size();
        if (shape.channels == 3) {
            copy_pixels(shape, RgbSource{from, shape}, PlanesSink<float, 3, float, AsIs>{room, shape});
        } else {
            copy_pixels(shape, BytesSource{from, shape}, PlanesSink<float, 0, float, AsIs>{room, shape});
        }
        return room;
    }

    // Where the planes of result n go; `write` makes bytes of them.
    float* result(int n) const {
        return images_.bytes == nullptr ? images_.out_planes + n * images_.shape.size() : out_.get();
    }
    void write(int n) const {
        if (images_.bytes == nullptr) return;
        switch (images_.rounding) {
            case Rounding::kClamp: return write_as<Clamped>(n);
            case Rounding::kWrap: return write_as<Wrapped>(n);
            case Rounding::kTruncate: return write_as<Truncated>(n);
        }
    }

   private:
    template <class Convert>
    void write_as(int n) const {
        const Shape shape = images_.shape;
        std::uint8_t* to = images_.out_bytes + n * shape.size();
        if (shape.channels == 3) {
            copy_pixels(shape, PlanesSource<float, 3>{out_.get(), shape}, RgbSink<Convert>{to, shape});
        } else {
            copy_pixels(shape, PlanesSource<float, 0>{out_.get(), shape}, BytesSink<Convert>{to, shape});
        }
    }

    const AugmentBatch& images_;
    Buffer<float> out_;
};

inline std::vector<ImagePort> ports_for(const AugmentBatch& images, int workers) {
    std::vector<ImagePort> ports;
    for (int i = 0; i < workers; ++i) ports.emplace_back(images);
    return ports;
}

// A Buffer<float> for each of `workers`, of the size of an image where it is bytes that are read, or `always`.
inline std::vector<Buffer<float>> rooms_for(const AugmentBatch& images, int workers, bool always = false) {
    std::vector<Buffer<float>> rooms;
    for (int i = 0; i < workers; ++i) {
        rooms.emplace_back(always || images.bytes != nullptr ? images.shape.size() : 0);
    }
    return rooms;
}

}  // namespace apr
