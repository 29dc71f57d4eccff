// Noise: each level by itself.
#include <algorithm>
#include <cmath>

#include "corruptions.hpp"
#include "pixels.hpp"

namespace apr {
namespace {

// Levels that are made at a time, with their noise in the first cache.
inline constexpr std::size_t kChunk = 1024;
constexpr double kWords = 0x1p32;  // how many words there are

// Calls make(first, count) for pieces of the levels.
template <class Make>
void in_chunks(std::size_t count, const Make& make) {
    for (std::size_t first = 0; first < count; first += kChunk) make(first, std::min(kChunk, count - first));
}

// Times: whether the noise grows with the level.
template <bool Times>
class NormalNoise final : public Corruption {
   public:
    NormalNoise(Extent extent, double scale) : count_(extent.bytes()), scale_(static_cast<float>(scale)) {}

    std::vector<std::size_t> fields() const override { return {count_}; }
    std::size_t scratch() const override { return kChunk * sizeof(float); }

    void run(const std::uint8_t* in, const Draws& draws, std::uint8_t* out, std::byte* scratch) const override {
        float* noise = reinterpret_cast<float*>(scratch);
        in_chunks(count_, [&](std::size_t first, std::size_t count) {
            draws.normal(0, first, count, noise, scale_);
            for (std::size_t i = 0; i < count; ++i) {
                const float level = static_cast<float>(in[first + i]);
                const float noisy = level + (Times ? level : 255.0f) * noise[i];
                out[first + i] = static_cast<std::uint8_t>(
                    static_cast<std::int32_t>(std::min(std::max(noisy, 0.0f), 255.0f)));
            }
        });
    }

   private:
    std::size_t count_;
    float scale_;
};

// The quantile of a Poisson number for each level. A word is beyond "at most k" where it is larger than beyond_[k]; of
// its first eight bits the guide knows how many of those it is beyond in any case.
class ShotNoise final : public Corruption {
   public:
    ShotNoise(Extent extent, const Numbers& levels, const double* at_most)
        : count_(extent.bytes()), photons_(levels.size - 1), level_(levels.size), beyond_(256 * levels.size),
          guide_(256 * 256) {
        std::copy_n(levels.data, levels.size, level_.get());
        for (int level = 0; level < 256; ++level) prepare(level, at_most + level * photons_);
    }

    std::vector<std::size_t> fields() const override { return {count_}; }
    std::size_t scratch() const override { return kChunk * sizeof(std::uint32_t); }

    void run(const std::uint8_t* in, const Draws& draws, std::uint8_t* out, std::byte* scratch) const override {
        if (const double* photons = draws.given(0)) {
            const double most = static_cast<double>(photons_);
            for (std::size_t i = 0; i < count_; ++i) {
                out[i] = level_[photons[i] > 0 ? static_cast<std::size_t>(std::min(photons[i], most)) : 0];
            }
            return;
        }
        std::uint32_t* words = reinterpret_cast<std::uint32_t*>(scratch);
        in_chunks(count_, [&](std::size_t first, std::size_t count) {
            draws.words(0, first, count, words);
            for (std::size_t i = 0; i < count; ++i) {
                const std::size_t level = in[first + i];
                const std::uint32_t* beyond = beyond_.get() + level * (photons_ + 1);
                std::size_t k = guide_[256 * level + (words[i] >> 24)];
                while (words[i] > beyond[k]) ++k;
                out[first + i] = level_[k];
            }
        });
    }

   private:
    void prepare(int level, const double* at_most) {
        std::uint32_t* beyond = beyond_.get() + level * (photons_ + 1);
        std::uint16_t* guide = guide_.get() + 256 * level;
        const auto last_within = [&](std::size_t k) { return std::floor(at_most[k] * kWords - 0.5); };
        for (std::size_t k = 0; k < photons_; ++k) {
            beyond[k] = static_cast<std::uint32_t>(std::clamp(last_within(k), 0.0, kWords - 1));
        }
        beyond[photons_] = ~std::uint32_t{0};  // no word is larger: the search ends
        std::size_t k = 0;
        for (int bits = 0; bits < 256; ++bits) {
            while (k < photons_ && last_within(k) < bits * 0x1p24) ++k;
            guide[bits] = static_cast<std::uint16_t>(k);
        }
    }

    std::size_t count_, photons_;
    Buffer<std::uint8_t> level_;
    Buffer<std::uint32_t> beyond_;
    Buffer<std::uint16_t> guide_;
};

class ImpulseNoise final : public Corruption {
   public:
    ImpulseNoise(Extent extent, double share) : count_(extent.bytes()), share_(share) {}

    std::vector<std::size_t> fields() const override { return {count_, count_}; }
    std::size_t scratch() const override { return 2 * kChunk; }

    void run(const std::uint8_t* in, const Draws& draws, std::uint8_t* out, std::byte* scratch) const override {
        std::uint8_t* flipped = reinterpret_cast<std::uint8_t*>(scratch);
        std::uint8_t* salted = flipped + kChunk;
        in_chunks(count_, [&](std::size_t first, std::size_t count) {
            draws.choice(0, first, count, flipped, share_);
            draws.choice(1, first, count, salted, 0.5);
            for (std::size_t i = 0; i < count; ++i) {
                out[first + i] = static_cast<std::uint8_t>((in[first + i] & ~flipped[i]) |
                                                           (flipped[i] & salted[i]));
            }
        });
    }

   private:
    std::size_t count_;
    double share_;
};

}  // namespace

Made make_gaussian_noise(Extent extent, const Constants& constants) {
    return std::make_unique<NormalNoise<false>>(extent, *constants_at(constants, 0, 1));
}
Made make_speckle_noise(Extent extent, const Constants& constants) {
    return std::make_unique<NormalNoise<true>>(extent, *constants_at(constants, 0, 1));
}
Made make_shot_noise(Extent extent, const Constants& constants) {
    const Numbers levels = numbers_at(constants, 0, 2, 1 << 15);
    return std::make_unique<ShotNoise>(extent, levels, constants_at(constants, 1, 256 * (levels.size - 1)));
}
Made make_impulse_noise(Extent extent, const Constants& constants) {
    return std::make_unique<ImpulseNoise>(extent, *constants_at(constants, 0, 1));
}

}  // namespace apr
