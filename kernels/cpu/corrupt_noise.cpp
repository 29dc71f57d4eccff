// Noise: each level by itself.
#include <algorithm>

#include "corruptions.hpp"

namespace apr {
namespace {

// Levels that are made at a time, with their noise in the first cache.
inline constexpr std::size_t kChunk = 1024;

class GaussianNoise final : public Corruption {
   public:
    GaussianNoise(Extent extent, double scale) : count_(extent.bytes()), scale_(static_cast<float>(scale)) {}

    std::vector<std::size_t> fields() const override { return {count_}; }
    std::size_t scratch() const override { return kChunk * sizeof(float); }

    void run(const std::uint8_t* in, const Draws& draws, std::uint8_t* out, std::byte* scratch) const override {
        float* noise = reinterpret_cast<float*>(scratch);
        for (std::size_t first = 0; first < count_; first += kChunk) {
            const std::size_t count = std::min(kChunk, count_ - first);
            draws.normal(0, first, count, noise, scale_);
            for (std::size_t i = 0; i < count; ++i) {
                const float level = static_cast<float>(in[first + i]) + 255.0f * noise[i];
                out[first + i] = static_cast<std::uint8_t>(
                    static_cast<std::int32_t>(std::min(std::max(level, 0.0f), 255.0f)));
            }
        }
    }

   private:
    std::size_t count_;
    float scale_;
};

}  // namespace

Made make_gaussian_noise(Extent extent, const Constants& constants) {
    return std::make_unique<GaussianNoise>(extent, *constants_at(constants, 0, 1));
}

}  // namespace apr
