// Brightness, contrast and saturation: in float64 and in NumPy's and scikit-image's order, so that the result is
// theirs bit for bit.
#include <algorithm>

#include "corruptions.hpp"
#include "levels.hpp"
#include "tables.hpp"

namespace apr {
namespace {

struct Hsv {
    Doubles hue, saturation, value;  // 0..1
};

APR_INLINE Hsv to_hsv(Doubles red, Doubles green, Doubles blue) {
    const Doubles more = green > blue ? green : blue, less = green > blue ? blue : green;
    const Doubles value = red > more ? red : more;
    const Doubles range = value - (red < less ? red : less);
    const auto is_gray = range == 0.0;
    // Of two channels that are both largest the last counts.
    const Doubles apart = blue == value ? red - green : green == value ? blue - red : green - blue;
    const Doubles start = blue == value ? broadcast(4.0) : green == value ? broadcast(2.0) : Doubles{};
    const Doubles turn = (start + apart / range) / 6.0;
    const Doubles hue = turn < 0.0 ? turn + 1.0 : turn;
    return {is_gray ? Doubles{} : hue, is_gray ? Doubles{} : range / value, value};
}

APR_INLINE void to_rgb(const Hsv& hsv, Doubles* red, Doubles* green, Doubles* blue) {
    constexpr double large = 4503599627370496;  // 2^52: adding and taking it away rounds to whole numbers
    const Doubles turn = hsv.hue * 6.0;
    const Doubles nearest = (turn + large) - large;
    const Doubles sixth = nearest > turn ? nearest - 1.0 : nearest;
    const Doubles rest = turn - sixth;
    const Doubles v = hsv.value;
    const Doubles p = v * (1.0 - hsv.saturation);
    const Doubles q = v * (1.0 - rest * hsv.saturation);
    const Doubles t = v * (1.0 - (1.0 - rest) * hsv.saturation);
    // The seventh is the first.
    const auto first = (sixth == 0.0) | (sixth == 6.0);
    *red = (first | (sixth == 5.0)) ? v : sixth == 1.0 ? q : sixth == 4.0 ? t : p;
    *green = first ? t : sixth <= 2.0 ? v : sixth == 3.0 ? q : p;
    *blue = (first | (sixth == 1.0)) ? p : sixth == 2.0 ? t : sixth == 5.0 ? q : v;
}

// One channel of the two, linearly changed.
enum class Channel { kSaturation, kValue };

template <Channel Changed>
class HsvChange final : public Corruption {
   public:
    HsvChange(Extent extent, double factor, double added) : pixels_(extent.pixels()), factor_(factor), added_(added) {}

    std::vector<std::size_t> fields() const override { return {}; }
    std::size_t scratch() const override { return 0; }

    void run(const std::uint8_t* in, const Draws&, std::uint8_t* out, std::byte*) const override {
        const double factor = factor_, added = added_;
        change_levels(in, out, pixels_, [=](std::size_t, Levels& levels) APR_LAMBDA {
#pragma GCC unroll 2
            for (int half = 0; half < 2; ++half) {
                Doubles &red = levels.of[0][half], &green = levels.of[1][half], &blue = levels.of[2][half];
                Hsv hsv = to_hsv(red / 255.0, green / 255.0, blue / 255.0);
                Doubles& changed = Changed == Channel::kValue ? hsv.value : hsv.saturation;
                changed = clipped(changed * factor + added, 1.0);
                to_rgb(hsv, &red, &green, &blue);
                red = to_level(red);
                green = to_level(green);
                blue = to_level(blue);
            }
        });
    }

   private:
    std::size_t pixels_;
    double factor_, added_;
};

class Contrast final : public Corruption {
   public:
    Contrast(Extent extent, double kept) : pixels_(extent.pixels()), kept_(kept) {
        for (int level = 0; level < 256; ++level) light_[level] = level / 255.0;
    }

    std::vector<std::size_t> fields() const override { return {}; }
    std::size_t scratch() const override { return 0; }

    void run(const std::uint8_t* in, const Draws&, std::uint8_t* out, std::byte*) const override {
        double sum[3] = {};
        for (std::size_t i = 0; i < pixels_; ++i) {
            for (int c = 0; c < 3; ++c) sum[c] += light_[in[3 * i + c]];
        }
        Tables tables;
        for (int c = 0; c < 3; ++c) {
            const double mean = sum[c] / static_cast<double>(pixels_);
            for (int level = 0; level < 256; ++level) {
                const double changed = (light_[level] - mean) * kept_ + mean;
                tables[c][level] = static_cast<std::uint8_t>(std::clamp(changed, 0.0, 1.0) * 255.0);
            }
        }
        look_up(tables, in, out, pixels_);
    }

   private:
    std::size_t pixels_;
    double kept_;
    double light_[256];
};

}  // namespace

Made make_brightness(Extent extent, const Constants& constants) {
    return std::make_unique<HsvChange<Channel::kValue>>(extent, 1.0, *constants_at(constants, 0, 1));
}

Made make_saturate(Extent extent, const Constants& constants) {
    const double* change = constants_at(constants, 0, 2);
    return std::make_unique<HsvChange<Channel::kSaturation>>(extent, change[0], change[1]);
}

Made make_contrast(Extent extent, const Constants& constants) {
    return std::make_unique<Contrast>(extent, *constants_at(constants, 0, 1));
}

}  // namespace apr
