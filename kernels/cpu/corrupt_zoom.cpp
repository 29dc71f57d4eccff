// Zoom blur.
#include <algorithm>

#include "corruptions.hpp"
#include "filters.hpp"

namespace apr {
namespace {

// Red, green, blue and nothing.
using Pixel = Vector<float, 16>;
using WidePixel = Vector<double, 32>;

// The mean of an image and of enlargements of its middle: SciPy's bilinear ones, each pixel in float64 and then rounded
// to float32, in which the reference sums them.
class ZoomBlur final : public Corruption {
   public:
    // down, across: for each enlargement where its rows and columns come from, (count, H, 3) and (count, W, 3).
    ZoomBlur(Extent extent, std::size_t count, const double* down, const double* across)
        : extent_(extent), count_(count), down_(between(down, count * extent.height, extent.height)),
          across_(between(across, count * extent.width, extent.width)) {}

    std::vector<std::size_t> fields() const override { return {}; }
    std::size_t scratch() const override {
        return 2 * sizeof(WidePixel) * extent_.width + sizeof(Pixel) * (extent_.pixels() + extent_.width);
    }

    void run(const std::uint8_t* in, const Draws&, std::uint8_t* out, std::byte* scratch) const override {
        const auto [height, width] = extent_;
        WidePixel* mixed = reinterpret_cast<WidePixel*>(scratch);
        Pixel* sums = reinterpret_cast<Pixel*>(mixed + 2 * width);
        Pixel* image = sums + width;
        for (std::size_t i = 0; i < extent_.pixels(); ++i) {
            const auto unit = [&](int c) { return static_cast<float>(in[3 * i + c] / 255.0); };
            image[i] = Pixel{unit(0), unit(1), unit(2), 0};
        }
        for (int y = 0; y < height; ++y, out += 3 * width) {
            std::fill_n(sums, width, Pixel{});
            for (std::size_t k = 0; k < count_; ++k) {
                add_row(image, down_[k * height + y], across_.data() + k * width, mixed, sums);
            }
            finish(image + static_cast<std::size_t>(y) * width, sums, out);
        }
    }

   private:
    void add_row(const Pixel* image, const Between& row, const Between* columns, WidePixel* mixed, Pixel* sums) const {
        const int width = extent_.width;
        const Pixel* from = image + static_cast<std::size_t>(row.at) * width;
        WidePixel* here = mixed;
        WidePixel* next = mixed + width;
        for (int x = columns[0].at; x < columns[width - 1].at + 2; ++x) {
            here[x] = __builtin_convertvector(from[x], WidePixel) * row.here;
            next[x] = __builtin_convertvector(from[x + width], WidePixel) * row.next;
        }
        for (int x = 0; x < width; ++x) {
            const auto [at, left, right] = columns[x];
            const WidePixel sum = here[at] * left + here[at + 1] * right + next[at] * left + next[at + 1] * right;
            sums[x] += __builtin_convertvector(sum, Pixel);
        }
    }

    void finish(const Pixel* image, const Pixel* sums, std::uint8_t* out) const {
        const float parts = static_cast<float>(count_ + 1);
        for (int x = 0; x < extent_.width; ++x) {
            const Pixel mean = (image[x] + sums[x]) / parts;
            for (int c = 0; c < 3; ++c) {
                const float level = std::min(std::max(mean[c], 0.0f), 1.0f) * 255.0f;
                out[3 * x + c] = static_cast<std::uint8_t>(static_cast<std::int32_t>(level));
            }
        }
    }

    Extent extent_;
    std::size_t count_;
    std::vector<Between> down_, across_;
};

}  // namespace

Made make_zoom_blur(Extent extent, const Constants& constants) {
    const Numbers down = numbers_at(constants, 0, 3, static_cast<std::size_t>(1) << 30);
    const std::size_t count = down.size / (3 * static_cast<std::size_t>(extent.height));
    constants_at(constants, 0, 3 * count * extent.height);
    return std::make_unique<ZoomBlur>(extent, count, down.data, constants_at(constants, 1, 3 * count * extent.width));
}

}  // namespace apr
