// Gaussian and glass blur.
#include <cstring>

#include "corruptions.hpp"
#include "filters.hpp"

namespace apr {
namespace {

class GaussianBlur final : public Corruption {
   public:
    GaussianBlur(Extent extent, const Numbers& weights) : smoother_(extent, weights) {}

    std::vector<std::size_t> fields() const override { return {}; }
    std::size_t scratch() const override { return smoother_.room(); }
    void run(const std::uint8_t* in, const Draws&, std::uint8_t* out, std::byte* scratch) const override {
        smoother_.run(in, out, scratch);
    }

   private:
    Smoother smoother_;
};

// Every pixel from the last to the first takes its neighbor's place, in the image itself as in the reference.
class GlassBlur final : public Corruption {
   public:
    GlassBlur(Extent extent, int reach, int times, const Numbers& weights)
        : extent_(extent), reach_(reach), times_(times), smoother_(extent, weights) {}

    std::vector<std::size_t> fields() const override { return {static_cast<std::size_t>(times_) * shifts()}; }
    std::size_t scratch() const override {
        return smoother_.room() + whole(extent_.bytes()) + 4 * whole(extent_.pixels()) +
               sizeof(std::int32_t) * (row_shifts() + kWordsOfBlock);
    }

    void run(const std::uint8_t* in, const Draws& draws, std::uint8_t* out, std::byte* scratch) const override {
        std::byte* memory = scratch + 4 * whole(extent_.pixels());
        std::uint8_t* blurred = reinterpret_cast<std::uint8_t*>(memory + smoother_.room());
        std::uint32_t* pixels = reinterpret_cast<std::uint32_t*>(scratch);
        std::int32_t* shifts = reinterpret_cast<std::int32_t*>(blurred + whole(extent_.bytes()));
        smoother_.run(in, blurred, memory);
        for (std::size_t i = 0; i < extent_.pixels(); ++i) {
            pixels[i] = static_cast<std::uint32_t>(blurred[3 * i] | blurred[3 * i + 1] << 8 | blurred[3 * i + 2] << 16);
        }
        std::size_t drawn = 0;
        for (int time = 0; time < times_; ++time) {
            for (int y = extent_.height - reach_; y > reach_; --y, drawn += row_shifts()) {
                exchange_row(draws, drawn, y, pixels, shifts);
            }
        }
        for (std::size_t i = 0; i < extent_.pixels(); ++i) std::memcpy(blurred + 3 * i, pixels + i, 3);
        smoother_.run(blurred, out, memory);
    }

   private:
    static std::size_t whole(std::size_t bytes) { return (bytes + 63) / 64 * 64; }
    std::size_t row_shifts() const { return 2 * static_cast<std::size_t>(extent_.width - 2 * reach_); }
    std::size_t shifts() const { return row_shifts() * (extent_.height - 2 * reach_); }

    void exchange_row(const Draws& draws, std::size_t drawn, int y, std::uint32_t* pixels, std::int32_t* shifts) const {
        // Whole blocks of numbers are drawn, and those before the first that is wanted are left out.
        const std::size_t early = drawn % kWordsOfBlock;
        draws.integer(0, drawn - early, row_shifts() + early, shifts, -reach_, 2 * reach_);
        const std::int32_t* shift = shifts + early;
        std::uint32_t* row = pixels + static_cast<std::ptrdiff_t>(y) * extent_.width;
        for (int x = extent_.width - reach_; x > reach_; --x, shift += 2) {
            row[x] = row[x + static_cast<std::ptrdiff_t>(shift[1]) * extent_.width + shift[0]];
        }
    }

    Extent extent_;
    int reach_, times_;
    Smoother smoother_;
};

}  // namespace

Made make_gaussian_blur(Extent extent, const Constants& constants) {
    return std::make_unique<GaussianBlur>(extent, numbers_at(constants, 0, 1, 1 << 10));
}
Made make_glass_blur(Extent extent, const Constants& constants) {
    const double* numbers = constants_at(constants, 0, 2);
    const int reach = static_cast<int>(numbers[0]), times = static_cast<int>(numbers[1]);
    expect(reach >= 1 && reach <= 15 && times >= 1 && times <= 100, "glass blur reaches 1 to 15 pixels, 1 to 100 times");
    return std::make_unique<GlassBlur>(extent, reach, times, numbers_at(constants, 1, 1, 1 << 10));
}

}  // namespace apr
