// Pixels in and out: kSpan neighboring pixels of a row, two vectors per channel, from and to the formats of images,
// and the transform over the channels.
//
// The columns of a large image lie far apart, where the processor does not foresee the next access: each access asks
// for the memory that the next strip of the same row will need.
#pragma once

#include <cstdlib>
#include <new>
#include <utility>

#include "shape.hpp"
#include "simd.hpp"

namespace apr {

template <class T>
inline constexpr int kSpan = 2 * kLanes<T>;

// Memory on the boundary of a vector that is not initialized.
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

// ---- Sources: read(y, x, count, v) puts pixels x..x+count of row y into v[2·channel], v[2·channel + 1]; what lies
// past `count` is 0. ----

// `Channels` where it is known while compiling, so that the values stay in registers; 0 for any number.
template <class T, int Channels>
struct PlanesSource {
    const T* image;  // (C, H, W)
    Shape shape;

    APR_INLINE void read(int y, int x, int count, Vector<T>* v) const {
        const int channels = Channels > 0 ? Channels : shape.channels;
#pragma GCC unroll 3
        for (int c = 0; c < channels; ++c) {
            const T* from = image + c * shape.plane() + static_cast<std::size_t>(y) * shape.width + x;
            if (count == kSpan<T>) {
                __builtin_prefetch(from + kSpan<T>);
                v[2 * c] = load(from);
                v[2 * c + 1] = load(from + kLanes<T>);
            } else {
                T padded[kSpan<T>] = {};
                std::memcpy(padded, from, count * sizeof(T));
                v[2 * c] = load(padded);
                v[2 * c + 1] = load(padded + kLanes<T>);
            }
        }
    }
};

using Bytes = Vector<std::uint8_t>;

// Loads of 16 bytes every 12, or so many apart: four pixels of three bytes, and 4 bytes more, in each 16 bytes of the
// vector.
template <int Size = kVectorBytes, int Apart = 12>
APR_INLINE Vector<std::uint8_t, Size> load_pixels(const std::uint8_t* from) {
    if constexpr (Size == 16) {
        Vector<std::uint8_t, 16> four;
        std::memcpy(&four, from, 16);
        return four;
    } else {
        return join(load_pixels<Size / 2, Apart>(from), load_pixels<Size / 2, Apart>(from + Size / 2 / 16 * Apart),
                    std::make_integer_sequence<int, Size>{});
    }
}

// The same backwards: of every 16 bytes the first 12 stay. The other 4 are not written if `Exact`, except where the next
// ones overwrite them.
template <bool Exact, int Size = kVectorBytes, int Apart = 12>
APR_INLINE void store_pixels(Vector<std::uint8_t, Size> bytes, std::uint8_t* to) {
    if constexpr (Size == 16) {
        std::memcpy(to, &bytes, Exact ? 12 : 16);
    } else {
        constexpr std::make_integer_sequence<int, Size / 2> half;
        store_pixels<Exact && Apart != 12, Size / 2, Apart>(part<0>(bytes, half), to);
        store_pixels<Exact, Size / 2, Apart>(part<Size / 2>(bytes, half), to + Size / 2 / 16 * Apart);
    }
}

// Pixels of three bytes to one integer each, red in the low byte and nothing of meaning in the high one, and back.
template <int... Byte>
APR_INLINE Ints spread(Bytes packed, std::integer_sequence<int, Byte...>) {
    const Bytes out = __builtin_shufflevector(
        packed, packed, (Byte % 4 == 3 ? -1 : Byte / 16 * 16 + Byte % 16 / 4 * 3 + Byte % 4)...);
    return bits<Ints>(out);
}
template <int... Byte>
APR_INLINE Bytes pack(Ints pixels, std::integer_sequence<int, Byte...>) {
    const Bytes bytes = bits<Bytes>(pixels);
    return __builtin_shufflevector(
        bytes, bytes, (Byte % 16 >= 12 ? -1 : Byte / 16 * 16 + Byte % 16 / 3 * 4 + Byte % 16 % 3)...);
}
inline constexpr std::make_integer_sequence<int, kVectorBytes> kEachByte;

struct RgbSource {
    const std::uint8_t* image;  // (H, W, 3)
    Shape shape;

    APR_INLINE void read(int y, int x, int count, Floats* v) const {
        constexpr std::size_t taken = 3 * kSpan<float> + 4;  // a load of four pixels takes in 4 bytes after them
        const std::size_t offset = (static_cast<std::size_t>(y) * shape.width + x) * 3;
        if (count == kSpan<float> && offset + taken <= shape.size()) {
            __builtin_prefetch(image + offset + 2 * taken);
            return convert(image + offset, v);
        }
        std::uint8_t padded[taken] = {};
        std::memcpy(padded, image + offset, 3 * count);
        convert(padded, v);
    }

    APR_INLINE static void convert(const std::uint8_t* from, Floats* v) {
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {
            const Ints pixels = spread(load_pixels(from + 3 * kLanes<float> * half), kEachByte);
            v[half] = __builtin_convertvector(pixels & 255, Floats);
            v[2 + half] = __builtin_convertvector((pixels >> 8) & 255, Floats);
            v[4 + half] = __builtin_convertvector((pixels >> 16) & 255, Floats);
        }
    }
};

// Bytes (H, W, C) of any number of channels.
struct BytesSource {
    const std::uint8_t* image;
    Shape shape;

    APR_INLINE void read(int y, int x, int count, Floats* v) const {
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
    APR_INLINE V operator()(V value) const {
        return value;
    }
};
struct AsHalf {
    APR_INLINE Halves operator()(Floats value) const { return to_half(value); }
};
struct AsBfloat16 {
    APR_INLINE Halves operator()(Floats value) const { return to_bfloat16(value); }
};

template <class T, int Channels, class Item, class Convert>
struct PlanesSink {
    Item* image;  // (C, H, W)
    Shape shape;

    APR_INLINE void write(int y, int x, int count, const Vector<T>* v) const {
        const int channels = Channels > 0 ? Channels : shape.channels;
#pragma GCC unroll 3
        for (int c = 0; c < channels; ++c) {
            Item* to = image + c * shape.plane() + static_cast<std::size_t>(y) * shape.width + x;
            if (count == kSpan<T>) {
                __builtin_prefetch(to + kSpan<T>, 1);
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

// Lane i of vector `Part` of three is channel n % 3 of pixel n / 3, where n = Part·lanes + i: of a and b in one step, what
// is c's in a second, which leaves the others where they are.
template <int Part, class V, int... Lane>
APR_INLINE V interleaved(V a, V b, V c, std::integer_sequence<int, Lane...>) {
    constexpr int lanes = sizeof...(Lane);
    constexpr auto color = [](int lane) { return (Part * lanes + lane) % 3; };
    constexpr auto pixel = [](int lane) { return (Part * lanes + lane) / 3; };
    const V two =
        __builtin_shufflevector(a, b, (color(Lane) == 2 ? -1 : pixel(Lane) + (color(Lane) == 1 ? lanes : 0))...);
    return __builtin_shufflevector(two, c, (color(Lane) == 2 ? pixel(Lane) + lanes : Lane)...);
}

// Pixels (H, W, C): three channels are put in turns in the registers, before they are converted.
template <class T, int Channels, class Item, class Convert>
struct PixelsSink {
    Item* image;
    Shape shape;

    APR_INLINE void write(int y, int x, int count, const Vector<T>* v) const {
        const int channels = Channels > 0 ? Channels : shape.channels;
        Item* to = image + (static_cast<std::size_t>(y) * shape.width + x) * channels;
        if constexpr (Channels == 3) {
            if (count == kSpan<T>) {
#pragma GCC unroll 3
                for (int part = 1; part < 4; ++part) __builtin_prefetch(to + (2 + part) * kSpan<T>, 1);
                return put(to, v);
            }
            Item padded[3 * kSpan<T>];
            put(padded, v);
            std::memcpy(to, padded, 3 * count * sizeof(Item));
        } else {
            for (int c = 0; c < channels; ++c) {
                Item row[kSpan<T>];
                store(row, Convert{}(v[2 * c]));
                store(row + kLanes<T>, Convert{}(v[2 * c + 1]));
                for (int i = 0; i < count; ++i) to[i * channels + c] = row[i];
            }
        }
    }

   private:
    APR_INLINE static void put(Item* to, const Vector<T>* v) {
        constexpr std::make_integer_sequence<int, kLanes<T>> lanes;
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half, to += 3 * kLanes<T>) {
            store(to, Convert{}(interleaved<0>(v[half], v[2 + half], v[4 + half], lanes)));
            store(to + kLanes<T>, Convert{}(interleaved<1>(v[half], v[2 + half], v[4 + half], lanes)));
            store(to + 2 * kLanes<T>, Convert{}(interleaved<2>(v[half], v[2 + half], v[4 + half], lanes)));
        }
    }
};

// Gray levels, see spectral.to_levels.
struct Wrapped {
    APR_INLINE Ints operator()(Floats value) const { return __builtin_convertvector(value, Ints) & 255; }
};
struct Clamped {
    APR_INLINE Ints operator()(Floats value) const {
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

    APR_INLINE void write(int y, int x, int count, const Floats* v) const {
        std::uint8_t* to = image + (static_cast<std::size_t>(y) * shape.width + x) * 3;
        if (count == kSpan<float>) {
            // Straight to its place: what is written in small pieces waits when it is read in large ones.
            store_pixels<false>(packed(v), to);
            store_pixels<true>(packed(v + 1), to + 3 * kLanes<float>);
        } else {
            std::uint8_t row[3 * kSpan<float>];
            store_pixels<false>(packed(v), row);
            store_pixels<true>(packed(v + 1), row + 3 * kLanes<float>);
            std::memcpy(to, row, 3 * count);
        }
    }

    APR_INLINE static Bytes packed(const Floats* v) {
        return pack(Convert{}(v[0]) | Convert{}(v[2]) << 8 | Convert{}(v[4]) << 16, kEachByte);
    }
};

}  // namespace apr
