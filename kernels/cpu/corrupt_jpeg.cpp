// JPEG compression: the pixels that come out of a JPEG file with halved chroma (4:2:0), without its Huffman code, which
// loses nothing. Colors, sampling and blocks are libjpeg's, bit for bit: as it writes by default, and as it reads.
#include <algorithm>
#include <cmath>

#include "corruptions.hpp"
#include "jpeg_blocks.hpp"
#include "pixels.hpp"

namespace apr {
namespace {

constexpr int kLongestSide = 65500;  // of libjpeg's files
constexpr int kSteps = kBlock * kBlock;
constexpr int kColorBits = 16;

constexpr std::int32_t share(double value) { return static_cast<std::int32_t>(value * (1 << kColorBits) + 0.5); }
constexpr std::int32_t kHalf = 1 << (kColorBits - 1);

constexpr int up(int count, int unit) { return (count + unit - 1) / unit * unit; }

// The levels of one component, with rows of whole vectors and whole blocks of them.
struct Plane {
    int height, width;
    std::uint8_t* levels = nullptr;

    std::size_t stride() const { return up(width, kVectorBytes); }
    int rows() const { return up(height, kBlock); }
    std::size_t size() const { return stride() * rows(); }
    std::uint8_t* row(int y) const { return levels + y * stride(); }

    // The last row downwards, to a whole block.
    void fill() const {
        for (int y = height; y < rows(); ++y) std::copy_n(row(height - 1), stride(), row(y));
    }
    void through(const Quantizer& quantizer) const {
        for (int y = 0; y < rows(); y += kBlock) {
            for (int x = 0; x < width; x += kAcross) {
                Tile tile;
                tile.read(row(y) + x, stride());
                tile.through(quantizer);
                tile.write(row(y) + x, stride());
            }
        }
    }
};

// Four neighboring pixels in each lane, or four levels.
struct Four {
    Ints of[4];

    APR_INLINE static Four levels(const std::uint8_t* from) {
        const Ints packed = bits<Ints>(load(from));
        return {{packed & 255, (packed >> 8) & 255, (packed >> 16) & 255, (packed >> 24) & 255}};
    }
    APR_INLINE void to_levels(std::uint8_t* to) const { store(to, of[0] | of[1] << 8 | of[2] << 16 | of[3] << 24); }

    // Three bytes a pixel; the load takes in 4 bytes after the last one.
    APR_INLINE static Four pixels(const std::uint8_t* from) {
        Four out;
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) out.of[i] = spread(load_pixels<kVectorBytes, 48>(from + 12 * i), kEachByte);
        transpose_units<std::int32_t, 4, 1>(out.of, 1);
        return out;
    }
    APR_INLINE void to_pixels(std::uint8_t* to) {
        transpose_units<std::int32_t, 4, 1>(of, 1);
#pragma GCC unroll 3
        for (int i = 0; i < 3; ++i) store_pixels<false, kVectorBytes, 48>(pack(of[i], kEachByte), to + 12 * i);
        store_pixels<true, kVectorBytes, 48>(pack(of[3], kEachByte), to + 36);
    }
};
constexpr int kFour = 4 * kLanes<std::int32_t>;  // pixels

// A row of luma and its two chromas, blue's first, at full width.
struct Ycc {
    std::uint8_t *y, *cb, *cr;

    Ycc operator+(int x) const { return {y + x, cb + x, cr + x}; }
};

APR_INLINE void split(const std::uint8_t* in, Ycc to) {
    constexpr std::int32_t middle = (128 << kColorBits) + kHalf - 1;
    const Four pixels = Four::pixels(in);
    Four y, cb, cr;
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        const Ints r = pixels.of[i] & 255, g = (pixels.of[i] >> 8) & 255, b = (pixels.of[i] >> 16) & 255;
        y.of[i] = (r * share(0.299) + g * share(0.587) + b * share(0.114) + kHalf) >> kColorBits;
        cb.of[i] = (b * share(0.5) - r * share(0.16874) - g * share(0.33126) + middle) >> kColorBits;
        cr.of[i] = (r * share(0.5) - g * share(0.41869) - b * share(0.08131) + middle) >> kColorBits;
    }
    y.to_levels(to.y);
    cb.to_levels(to.cb);
    cr.to_levels(to.cr);
}

// `count` pixels; what is written are whole vectors.
void split_row(const std::uint8_t* in, int count, Ycc to) {
    int x = 0;
    for (; 3 * (count - x) >= 3 * kFour + 4; x += kFour) split(in + 3 * x, to + x);
    for (; x < count; x += kFour) {
        std::uint8_t last[3 * kFour + 4] = {};
        std::memcpy(last, in + 3 * x, 3 * std::min(count - x, kFour));
        split(last, to + x);
    }
}

APR_INLINE void join(Ycc from, std::uint8_t* out) {
    // Of chroma's 128, and half a level up.
    constexpr auto offset = [](std::int32_t weight) { return kHalf - 128 * weight; };
    constexpr std::int32_t red = share(1.402), green_blue = -share(0.34414), green_red = -share(0.71414),
                           blue = share(1.772);
    const Four y = Four::levels(from.y), cb = Four::levels(from.cb), cr = Four::levels(from.cr);
    Four pixels;
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        const Ints r = cr.of[i] * red + offset(red);
        const Ints g = cb.of[i] * green_blue + cr.of[i] * green_red + offset(green_blue + green_red);
        const Ints b = cb.of[i] * blue + offset(blue);
        pixels.of[i] = to_level(y.of[i] + (r >> kColorBits)) | to_level(y.of[i] + (g >> kColorBits)) << 8 |
                       to_level(y.of[i] + (b >> kColorBits)) << 16;
    }
    pixels.to_pixels(out);
}

// `count` pixels; what is read are whole vectors.
void join_row(Ycc from, int count, std::uint8_t* out) {
    int x = 0;
    for (; x + kFour <= count; x += kFour) join(from + x, out + 3 * x);
    if (x == count) return;
    std::uint8_t last[3 * kFour];
    join(from + x, last);
    std::memcpy(out + 3 * x, last, 3 * (count - x));
}

// The last of `count` levels to the right.
void widen(std::uint8_t* row, int count, std::size_t to) { std::fill(row + count, row + to, row[count - 1]); }

// The means of four levels, rounded down and up in turn.
void halve(const std::uint8_t* above, const std::uint8_t* below, std::size_t count, std::uint8_t* to) {
    for (std::size_t x = 0; x < count; ++x) {
        const int sum = above[2 * x] + above[2 * x + 1] + below[2 * x] + below[2 * x + 1];
        to[x] = static_cast<std::uint8_t>((sum + 1 + static_cast<int>(x & 1)) >> 2);
    }
}

// One row of chroma at twice the width: three quarters of the nearer level and one of the next, along both sides.
// `sums` has room for a level more at both ends; pairs of levels are written.
void enlarge(const std::uint8_t* near, const std::uint8_t* far, int count, std::uint16_t* sums, std::uint16_t* pairs) {
    if (count <= 2) {  // too narrow for libjpeg's filter
        for (int x = 0; x < count; ++x) pairs[x] = static_cast<std::uint16_t>(near[x] * 257);
        return;
    }
    for (int x = 0; x < count; ++x) sums[x] = static_cast<std::uint16_t>(3 * near[x] + far[x]);
    sums[-1] = sums[0];
    sums[count] = sums[count - 1];
    for (int x = 0; x < count; ++x) {
        const int even = (3 * sums[x] + sums[x - 1] + 8) >> 4, odd = (3 * sums[x] + sums[x + 1] + 7) >> 4;
        pairs[x] = static_cast<std::uint16_t>(even | odd << 8);
    }
}

class Jpeg final : public Corruption {
   public:
    Jpeg(Extent extent, const double* luma_steps, const double* chroma_steps)
        : extent_(extent),
          luma_{extent.height, extent.width},
          chroma_{(extent.height + 1) / 2, (extent.width + 1) / 2},
          for_luma_(luma_steps),
          for_chroma_(chroma_steps) {}

    std::vector<std::size_t> fields() const override { return {}; }
    std::size_t scratch() const override { return luma_.size() + 2 * chroma_.size() + 4 * line(); }

    void run(const std::uint8_t* in, const Draws&, std::uint8_t* out, std::byte* scratch) const override {
        Plane y = luma_, cb = chroma_, cr = chroma_;
        y.levels = reinterpret_cast<std::uint8_t*>(scratch);
        cb.levels = y.levels + y.size();
        cr.levels = cb.levels + cb.size();
        std::uint8_t* lines = cr.levels + cr.size();
        take_apart(in, y, cb, cr, lines);
        y.through(for_luma_);
        cb.through(for_chroma_);
        cr.through(for_chroma_);
        put_together(y, cb, cr, lines, out);
    }

   private:
    // Bytes of a row of chroma at full width.
    std::size_t line() const { return 2 * chroma_.stride(); }
    std::size_t pixels(int y) const { return 3 * static_cast<std::size_t>(y) * extent_.width; }

    void take_apart(const std::uint8_t* in, const Plane& luma, const Plane& blue, const Plane& red,
                    std::uint8_t* lines) const {
        std::uint8_t *cb[] = {lines, lines + line()}, *cr[] = {cb[1] + line(), cb[1] + 2 * line()};
        for (int y = 0; y < extent_.height; ++y) {
            const Ycc row{luma.row(y), cb[y % 2], cr[y % 2]};
            split_row(in + pixels(y), extent_.width, row);
            widen(row.y, extent_.width, luma.stride());
            widen(row.cb, extent_.width, line());
            widen(row.cr, extent_.width, line());
            if (y % 2 == 0 && y + 1 < extent_.height) continue;
            // An odd last row is its own neighbor.
            halve(cb[0], row.cb, chroma_.stride(), blue.row(y / 2));
            halve(cr[0], row.cr, chroma_.stride(), red.row(y / 2));
        }
        for (const Plane* plane : {&luma, &blue, &red}) plane->fill();
    }

    void put_together(const Plane& luma, const Plane& blue, const Plane& red, std::uint8_t* lines,
                      std::uint8_t* out) const {
        std::uint8_t *cb = lines, *cr = lines + line();
        std::uint16_t* sums = reinterpret_cast<std::uint16_t*>(cr + line()) + 1;
        for (int y = 0; y < extent_.height; ++y) {
            const int near = y / 2, far = std::clamp(y % 2 ? near + 1 : near - 1, 0, chroma_.height - 1);
            enlarge(blue.row(near), blue.row(far), chroma_.width, sums, reinterpret_cast<std::uint16_t*>(cb));
            enlarge(red.row(near), red.row(far), chroma_.width, sums, reinterpret_cast<std::uint16_t*>(cr));
            join_row({luma.row(y), cb, cr}, extent_.width, out + pixels(y));
        }
    }

    Extent extent_;
    Plane luma_, chroma_;
    Quantizer for_luma_, for_chroma_;
};

}  // namespace

Made make_jpeg(Extent extent, const Constants& constants) {
    expect(std::max(extent.height, extent.width) <= kLongestSide, "the sides of a JPEG file must be at most 65500");
    const double *luma = constants_at(constants, 0, kSteps), *chroma = constants_at(constants, 1, kSteps);
    const auto holds = [](double step) { return step >= 1 && step <= 255 && step == std::floor(step); };
    expect(std::all_of(luma, luma + kSteps, holds) && std::all_of(chroma, chroma + kSteps, holds),
           "the steps of a JPEG file must be whole numbers from 1 to 255");
    return std::make_unique<Jpeg>(extent, luma, chroma);
}

}  // namespace apr
