// Pixels in and out: kSpan neighbouring pixels of a row, two vectors a channel, from and to the formats of images,
// and the transform over the channels.
#pragma once

#include <cstdlib>
#include <new>
#include <utility>

#include "simd.hpp"

namespace apr {

template <class T>
inline constexpr int kSpan = 2 * kLanes<T>;

// Memory on the boundary of a vector that is not initialised.
template <class Item>
class Buffer {
   public:
    explicit Buffer(std::size_t count = 0)
        : data_(static_cast<Item*>(::operator new(count * sizeof(Item), std::align_val_t{64}))) {}
    Buffer(Buffer&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}
    Buffer(const Buffer&) = delete;
    Buffer& operator=(Buffer other) noexcept {
        std::swap(data_, other.data_);
        return *this;
    }
    ~Buffer() { ::operator delete(data_, std::align_val_t{64}); }
    Item* get() const { return data_; }
    Item& operator[](std::size_t index) const { return data_[index]; }

   private:
    Item* data_;
};

struct Shape {
    int channels, height, width;
    std::size_t plane() const { return static_cast<std::size_t>(height) * width; }
    std::size_t size() const { return plane() * channels; }
};

// ---- Sources: read(y, x, count, v) puts pixels x..x+count of row y into v[2·channel], v[2·channel + 1]; what lies
// past `count` is 0. ----

// `Channels` where it is known while compiling, so that the values stay in registers; 0 for any number.
template <class T, int Channels>
struct PlanesSource {
    const T* image;  // (C, H, W)
    Shape shape;

    void read(int y, int x, int count, Vector<T>* v) const {
        const int channels = Channels > 0 ? Channels : shape.channels;
        for (int c = 0; c < channels; ++c) {
            const T* from = image + c * shape.plane() + static_cast<std::size_t>(y) * shape.width + x;
            T padded[kSpan<T>] = {};
            if (count < kSpan<T>) {
                std::memcpy(padded, from, count * sizeof(T));
                from = padded;
            }
            v[2 * c] = load(from);
            v[2 * c + 1] = load(from + kLanes<T>);
        }
    }
};

// kLanes<float> pixels of three bytes as one integer each, red in the low byte.
using Bytes16 = Vector<std::uint8_t, 16>;
template <int... Lane>
inline Ints packed_pixels(const std::uint8_t* from, std::integer_sequence<int, Lane...>) {
    Ints out;
    for (int part = 0; part < kVectorBytes / 16; ++part) {
        Bytes16 four;
        std::memcpy(&four, from + 12 * part, 16);
        four = __builtin_shufflevector(four, Bytes16{}, (Lane % 4 == 3 ? 16 : Lane / 4 * 3 + Lane % 4)...);
        std::memcpy(reinterpret_cast<char*>(&out) + 16 * part, &four, 16);
    }
    return out;
}

struct RgbSource {
    const std::uint8_t* image;  // (H, W, 3)
    Shape shape;

    void read(int y, int x, int count, Floats* v) const {
        constexpr int span = kSpan<float>;
        const std::size_t offset = (static_cast<std::size_t>(y) * shape.width + x) * 3;
        const std::uint8_t* from = image + offset;
        std::uint8_t padded[3 * span + 4] = {};
        // A load of four pixels takes in the 4 bytes after them.
        if (count < span || offset + sizeof(padded) > shape.size()) {
            std::memcpy(padded, from, 3 * count);
            from = padded;
        }
        for (int half = 0; half < 2; ++half) {
            const Ints pixels =
                packed_pixels(from + 3 * kLanes<float> * half, std::make_integer_sequence<int, 16>{});
            v[half] = __builtin_convertvector(pixels & 255, Floats);
            v[2 + half] = __builtin_convertvector((pixels >> 8) & 255, Floats);
            v[4 + half] = __builtin_convertvector(pixels >> 16, Floats);
        }
    }
};

// Bytes (H, W, C) of any number of channels.
struct BytesSource {
    const std::uint8_t* image;
    Shape shape;

    void read(int y, int x, int count, Floats* v) const {
        const std::uint8_t* from = image + (static_cast<std::size_t>(y) * shape.width + x) * shape.channels;
        for (int c = 0; c < shape.channels; ++c) {
            float row[kSpan<float>] = {};
            for (int i = 0; i < count; ++i) row[i] = from[i * shape.channels + c];
            v[2 * c] = load(row);
            v[2 * c + 1] = load(row + kLanes<float>);
        }
    }
};

// ---- Sinks: write(y, x, count, v), the same the other way round. ----

struct AsIs {
    template <class V>
    V operator()(V value) const {
        return value;
    }
};
struct AsHalf {
    Halves operator()(Floats value) const { return to_half(value); }
};
struct AsBfloat16 {
    Halves operator()(Floats value) const { return to_bfloat16(value); }
};

template <class T, int Channels, class Item, class Convert>
struct PlanesSink {
    Item* image;  // (C, H, W)
    Shape shape;

    void write(int y, int x, int count, const Vector<T>* v) const {
        const int channels = Channels > 0 ? Channels : shape.channels;
        for (int c = 0; c < channels; ++c) {
            Item* to = image + c * shape.plane() + static_cast<std::size_t>(y) * shape.width + x;
            if (count == kSpan<T>) {
                store(to, Convert{}(v[2 * c]));
                store(to + kLanes<T>, Convert{}(v[2 * c + 1]));
                continue;
            }
            Item padded[kSpan<T>];
            store(padded, Convert{}(v[2 * c]));
            store(padded + kLanes<T>, Convert{}(v[2 * c + 1]));
            std::memcpy(to, padded, count * sizeof(Item));
        }
    }
};

// Grey levels, see spectral.to_levels.
struct Wrapped {
    Ints operator()(Floats value) const { return __builtin_convertvector(value, Ints) & 255; }
};
struct Clamped {
    Ints operator()(Floats value) const {
        // Adding and taking away 1.5·2^23 rounds to whole numbers, ties to even.
        const Floats low = value < 0.0f ? Floats{} : value;
        const Floats level = low > 255.0f ? Floats{} + 255.0f : low;
        return __builtin_convertvector((level + 12582912.0f) - 12582912.0f, Ints);
    }
};

template <class Convert>
struct RgbSink {
    std::uint8_t* image;  // (H, W, 3)
    Shape shape;

    void write(int y, int x, int count, const Floats* v) const {
        // Four pixels are stored with 4 bytes after them that the next four overwrite.
        std::uint8_t row[3 * kSpan<float> + 4];
        for (int half = 0; half < 2; ++half) {
            const Ints pixels = Convert{}(v[half]) | Convert{}(v[2 + half]) << 8 | Convert{}(v[4 + half]) << 16;
            unpack(pixels, row + 3 * kLanes<float> * half);
        }
        std::uint8_t* to = image + (static_cast<std::size_t>(y) * shape.width + x) * 3;
        if (count == kSpan<float>) {
            std::memcpy(to, row, 3 * kSpan<float>);
        } else {
            std::memcpy(to, row, 3 * count);
        }
    }

    static void unpack(Ints pixels, std::uint8_t* to) {
        for (int part = 0; part < kVectorBytes / 16; ++part) {
            Bytes16 four;
            std::memcpy(&four, reinterpret_cast<const char*>(&pixels) + 16 * part, 16);
            four = __builtin_shufflevector(four, four, 0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
            std::memcpy(to + 12 * part, &four, 16);
        }
    }
};

}  // namespace apr
