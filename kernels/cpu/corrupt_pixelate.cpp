// Pixelate: Pillow's resize with a box, to a smaller image and back, in its whole-number arithmetic.
#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "corruptions.hpp"

namespace apr {
namespace {

constexpr int kBits = 22;  // of a weight, as Pillow has it for bytes

// Along one axis: each place of the result is a weighted sum of `count` neighbors from `first` on.
class Taps {
   public:
    Taps(int from, int to) : from_(from), longest_(0) {
        const double scale = static_cast<double>(from) / to;
        const double stretch = std::max(scale, 1.0);
        const int most = 2 * static_cast<int>(std::ceil(0.5 * stretch)) + 1;
        weights_.resize(static_cast<std::size_t>(to) * most);
        stride_ = most;
        for (int place = 0; place < to; ++place) add(place, scale, stretch);
    }

    int from() const { return from_; }
    int to() const { return static_cast<int>(spans_.size()); }
    int longest() const { return longest_; }
    struct Span {
        int first, count;
    };
    const Span& span(int place) const { return spans_[place]; }
    const std::int32_t* weights(int place) const { return weights_.data() + static_cast<std::size_t>(place) * stride_; }

   private:
    void add(int place, double scale, double stretch) {
        const double center = (place + 0.5) * scale, support = 0.5 * stretch;
        const int first = std::max(0, static_cast<int>(center - support + 0.5));
        const int end = std::min(from_, static_cast<int>(center + support + 0.5));
        std::vector<double> weight(end - first);
        double sum = 0;
        for (int i = 0; i < end - first; ++i) {
            const double off = (i + first - center + 0.5) / stretch;
            weight[i] = off > -0.5 && off <= 0.5 ? 1.0 : 0.0;
            sum += weight[i];
        }
        for (int i = 0; i < end - first; ++i) {
            weights_[static_cast<std::size_t>(place) * stride_ + i] =
                static_cast<std::int32_t>(0.5 + weight[i] / sum * (1 << kBits));
        }
        spans_.push_back({first, end - first});
        longest_ = std::max(longest_, end - first);
    }

    int from_, longest_, stride_;
    std::vector<Span> spans_;
    std::vector<std::int32_t> weights_;
};

constexpr std::int32_t kHalf = 1 << (kBits - 1);

std::uint8_t rounded(std::int32_t sum) { return static_cast<std::uint8_t>(std::clamp(sum >> kBits, 0, 255)); }

// Rows of `taps.from()` pixels to rows of `taps.to()`.
void along_rows(const std::uint8_t* in, int rows, const Taps& taps, std::uint8_t* out) {
    for (int y = 0; y < rows; ++y, in += 3 * static_cast<std::size_t>(taps.from())) {
        for (int x = 0; x < taps.to(); ++x, out += 3) {
            const Taps::Span span = taps.span(x);
            const std::int32_t* weight = taps.weights(x);
            const std::uint8_t* from = in + 3 * static_cast<std::size_t>(span.first);
            std::int32_t sum[3] = {kHalf, kHalf, kHalf};
            for (int i = 0; i < span.count; ++i, from += 3) {
                for (int c = 0; c < 3; ++c) sum[c] += from[c] * weight[i];
            }
            for (int c = 0; c < 3; ++c) out[c] = rounded(sum[c]);
        }
    }
}

// The same down the columns; `row` is the number of levels of a row.
void along_columns(const std::uint8_t* in, std::size_t row, const Taps& taps, std::uint8_t* out) {
    for (int y = 0; y < taps.to(); ++y, out += row) {
        const Taps::Span span = taps.span(y);
        const std::int32_t* weight = taps.weights(y);
        const std::uint8_t* from = in + span.first * row;
        if (span.count == 1) {  // with a weight of 1
            std::copy_n(from, row, out);
            continue;
        }
        for (std::size_t x = 0; x < row; ++x) {
            std::int32_t sum = kHalf;
            for (int i = 0; i < span.count; ++i) sum += from[i * row + x] * weight[i];
            out[x] = rounded(sum);
        }
    }
}

class Pixelate final : public Corruption {
   public:
    Pixelate(Extent extent, Extent small)
        : extent_(extent),
          small_(small),
          narrower_(extent.width, small.width),
          lower_(extent.height, small.height),
          wider_(small.width, extent.width),
          higher_(small.height, extent.height) {}

    std::vector<std::size_t> fields() const override { return {}; }
    std::size_t scratch() const override { return 3 * (tall() + small_.pixels() + low()); }

    void run(const std::uint8_t* in, const Draws&, std::uint8_t* out, std::byte* scratch) const override {
        std::uint8_t* narrow = reinterpret_cast<std::uint8_t*>(scratch);
        std::uint8_t* small = narrow + 3 * tall();
        std::uint8_t* wide = small + small_.bytes();
        along_rows(in, extent_.height, narrower_, narrow);
        along_columns(narrow, 3 * static_cast<std::size_t>(small_.width), lower_, small);
        along_rows(small, small_.height, wider_, wide);
        along_columns(wide, 3 * static_cast<std::size_t>(extent_.width), higher_, out);
    }

   private:
    std::size_t tall() const { return Extent{extent_.height, small_.width}.pixels(); }
    std::size_t low() const { return Extent{small_.height, extent_.width}.pixels(); }

    Extent extent_, small_;
    Taps narrower_, lower_, wider_, higher_;
};

}  // namespace

Made make_pixelate(Extent extent, const Constants& constants) {
    const double scale = *constants_at(constants, 0, 1);
    const Extent small{static_cast<int>(extent.height * scale), static_cast<int>(extent.width * scale)};
    if (small.height < 1 || small.width < 1) throw std::invalid_argument("pixelate would leave no pixel");
    return std::make_unique<Pixelate>(extent, small);
}

}  // namespace apr
