// Motion blur and snow.
#include <cmath>
#include <numbers>

#include "corruptions.hpp"
#include "filters.hpp"
#include "pixels.hpp"

namespace apr {
namespace {

struct Step {
    int down, right;
};

// Half a Gaussian along a line from each pixel on, as ImageMagick has it: sums of 16-bit levels in float64.
template <int Channels>
class Mover {
   public:
    Mover(Extent extent, const Numbers& weights)
        : extent_(extent), weights_(weights.data, weights.data + weights.size) {}

    // In bytes.
    std::size_t room() const {
        return sizeof(double) * (Window::room(extent_.width, reach(), reach(), reach()) +
                                 row_room<double>(Channels * extent_.width, 0)) +
               (sizeof(Step) + sizeof(double*)) * weights_.size();
    }

    void run(const std::uint8_t* in, double degrees, std::uint8_t* out, std::byte* memory) const {
        const auto [height, width] = extent_;
        const int values = Channels * width;
        double* rows = reinterpret_cast<double*>(memory);
        double* sums = rows + Window::room(width, reach(), reach(), reach());
        const double** from = reinterpret_cast<const double**>(sums + row_room<double>(values, 0));
        Step* steps = reinterpret_cast<Step*>(from + weights_.size());
        const auto [above, below] = find_steps(degrees, steps);
        Window window(height, width, above, below, reach(), rows);
        for (int y = 0; y < height; ++y, out += values) {
            window.move_to(y, in, [](std::uint8_t level) { return 257.0 * level; });
            for (std::size_t k = 0; k < weights_.size(); ++k) {
                from[k] = window[y + steps[k].down] + Channels * steps[k].right;
            }
            weighted_sum<false>(from, weights_.data(), weights_.size(), values, sums);
            for (int i = 0; i < values; ++i) {
                const double level = std::min(std::max(sums[i], 0.0), 65535.0) + 0.5;
                out[i] = static_cast<std::uint8_t>(static_cast<std::uint32_t>(static_cast<std::int32_t>(level)) / 257);
            }
        }
    }

   private:
    using Window = Rows<double, Channels, Repeated>;

    int reach() const { return static_cast<int>(weights_.size()); }

    // Fills the steps and gives how far they go up and down.
    std::pair<int, int> find_steps(double degrees, Step* steps) const {
        const double angle = degrees * (std::numbers::pi / 180);
        const double count = static_cast<double>(weights_.size());
        const double down = count * std::sin(angle), right = count * std::cos(angle);
        const double length = std::hypot(down, right);
        int above = 0, below = 0;
        for (std::size_t k = 0; k < weights_.size(); ++k) {
            const auto along = [&](double side) {
                return std::clamp(static_cast<int>(std::ceil(static_cast<double>(k) * side / length - 0.5)), -reach(),
                                  reach());
            };
            steps[k] = {along(down), along(right)};
            above = std::max(above, -steps[k].down);
            below = std::max(below, steps[k].down);
        }
        return {above, below};
    }

    Extent extent_;
    std::vector<double> weights_;
};

class MotionBlur final : public Corruption {
   public:
    MotionBlur(Extent extent, const Numbers& weights) : mover_(extent, weights) {}

    std::vector<std::size_t> fields() const override { return {1}; }
    std::size_t scratch() const override { return mover_.room(); }
    void run(const std::uint8_t* in, const Draws& draws, std::uint8_t* out, std::byte* scratch) const override {
        double degrees;
        draws.uniform(0, 0, 1, &degrees, -45, 45);
        mover_.run(in, degrees, out, scratch);
    }

   private:
    Mover<3> mover_;
};

struct Weather {
    double location, deviation, threshold, kept;
};

class Snow final : public Corruption {
   public:
    Snow(Extent extent, const Weather& weather, const Numbers& weights, const double* down, const double* across)
        : extent_(extent), weather_(weather), mover_(extent, weights), down_(between(down, extent.height, extent.height)),
          across_(between(across, extent.width, extent.width)) {}

    std::vector<std::size_t> fields() const override { return {extent_.pixels(), 1}; }
    std::size_t scratch() const override {
        return 2 * whole(extent_.pixels()) + std::max(mover_.room(), sizeof(double) * 2 * room_of_row());
    }

    void run(const std::uint8_t* in, const Draws& draws, std::uint8_t* out, std::byte* scratch) const override {
        std::uint8_t* still = reinterpret_cast<std::uint8_t*>(scratch);
        std::uint8_t* flakes = still + whole(extent_.pixels());
        std::byte* memory = reinterpret_cast<std::byte*>(flakes + whole(extent_.pixels()));
        let_fall(draws, still, reinterpret_cast<double*>(memory));
        double degrees;
        draws.uniform(1, 0, 1, &degrees, -135, -45);
        mover_.run(still, degrees, flakes, memory);
        cover(in, flakes, out);
    }

   private:
    static std::size_t whole(std::size_t bytes) { return (bytes + 63) / 64 * 64; }
    std::size_t room_of_row() const { return extent_.width + 2 * kWordsOfBlock; }

    // The enlarged middle of the noise, where it is above the threshold.
    void let_fall(const Draws& draws, std::uint8_t* out, double* memory) const {
        double* rows[2] = {memory, memory + room_of_row()};
        int held[2] = {-1, -1};
        for (const Between& row : down_) {
            for (int i = 0; i < 2; ++i) {
                const int wanted = row.at + i, slot = wanted % 2;
                if (held[slot] != wanted) draw_row(draws, wanted, rows[slot]);
                held[slot] = wanted;
            }
            const double* here = rows[row.at % 2] + offset(row.at);
            const double* next = rows[(row.at + 1) % 2] + offset(row.at + 1);
            for (int x = 0; x < extent_.width; ++x, ++out) {
                const Between& c = across_[x];
                const double flake = here[c.at] * row.here * c.here + here[c.at + 1] * row.here * c.next +
                                     next[c.at] * row.next * c.here + next[c.at + 1] * row.next * c.next;
                const double shown = flake < weather_.threshold ? 0 : std::min(std::max(flake, 0.0), 1.0);
                *out = static_cast<std::uint8_t>(shown * 255);
            }
        }
    }

    // Where column 0 of a row lies in what draw_row writes: it begins at a whole block of the stream.
    int offset(int y) const {
        return static_cast<int>(static_cast<std::size_t>(y) * extent_.width % kWordsOfBlock);
    }
    void draw_row(const Draws& draws, int y, double* to) const {
        const std::size_t first = static_cast<std::size_t>(y) * extent_.width - offset(y);
        const std::size_t left = across_.front().at + offset(y), right = across_.back().at + 2 + offset(y);
        const std::size_t skipped = left / kWordsOfBlock * kWordsOfBlock;
        draws.normal(0, first + skipped, right - skipped, to + skipped, weather_.location, weather_.deviation);
    }

    // Product and sum are rounded together, as OpenCV has it; float64 holds a product of float32 exactly.
    APR_INLINE static float gray(const float* unit) {
        const float green = unit[1] * 0.587f;
        const float yellow = static_cast<float>(static_cast<double>(unit[0]) * 0.299f + green);
        return static_cast<float>(static_cast<double>(unit[2]) * 0.114f + yellow);
    }

    // The flakes and the same turned by half, on an image that is whitened.
    void cover(const std::uint8_t* in, const std::uint8_t* flakes, std::uint8_t* out) const {
        const float kept = static_cast<float>(weather_.kept), rest = static_cast<float>(1 - weather_.kept);
        const std::size_t count = extent_.pixels();
        for (std::size_t i = 0; i < count; ++i) {
            float unit[3];
            for (int c = 0; c < 3; ++c) unit[c] = static_cast<float>(in[3 * i + c]) / 255.0f;
            const float light = gray(unit) * 1.5f + 0.5f;
            const double one = flakes[i] / 255.0, other = flakes[count - 1 - i] / 255.0;
            for (int c = 0; c < 3; ++c) {
                const float white = kept * unit[c] + rest * std::max(unit[c], light);
                const double level = std::min(std::max(white + one + other, 0.0), 1.0) * 255;
                out[3 * i + c] = static_cast<std::uint8_t>(static_cast<std::int32_t>(level));
            }
        }
    }

    Extent extent_;
    Weather weather_;
    Mover<1> mover_;
    std::vector<Between> down_, across_;
};

}  // namespace

Made make_motion_blur(Extent extent, const Constants& constants) {
    return std::make_unique<MotionBlur>(extent, numbers_at(constants, 0, 1, 1 << 8));
}
Made make_snow(Extent extent, const Constants& constants) {
    const double* numbers = constants_at(constants, 0, 4);
    const Weather weather{numbers[0], numbers[1], numbers[2], numbers[3]};
    const double* down = constants_at(constants, 2, 3 * static_cast<std::size_t>(extent.height));
    const double* across = constants_at(constants, 3, 3 * static_cast<std::size_t>(extent.width));
    return std::make_unique<Snow>(extent, weather, numbers_at(constants, 1, 1, 1 << 8), down, across);
}

}  // namespace apr
