// Frost: a piece of a photograph laid over the image.
#include <stdexcept>

#include "corruptions.hpp"
#include "levels.hpp"

namespace apr {
namespace {

struct Photograph {
    const std::uint8_t* pixels;  // (H, W, 3)
    int height, width;
};

class Frost final : public Corruption {
   public:
    Frost(Extent extent, double of_image, double of_frost, std::vector<Photograph> photographs)
        : extent_(extent), of_image_(of_image), of_frost_(of_frost), photographs_(std::move(photographs)) {}

    std::vector<std::size_t> fields() const override { return {1, 1, 1}; }
    std::size_t scratch() const override { return 0; }

    void run(const std::uint8_t* in, const Draws& draws, std::uint8_t* out, std::byte*) const override {
        const auto one_of = [&](int field, int choices) {
            std::int32_t drawn;
            draws.integer(field, 0, 1, &drawn, 0, choices);
            return std::clamp(drawn, 0, choices - 1);  // given ones are not looked at before
        };
        const Photograph& photograph = photographs_[one_of(0, static_cast<int>(photographs_.size()))];
        const int top = one_of(1, photograph.height - extent_.height);
        const int left = one_of(2, photograph.width - extent_.width);
        const std::size_t columns = static_cast<std::size_t>(extent_.width);
        for (int y = 0; y < extent_.height; ++y) {
            const std::uint8_t* frost =
                photograph.pixels + 3 * (static_cast<std::size_t>(top + y) * photograph.width + left);
            change_levels(in, out, columns, [&, this](std::size_t first, Levels& levels) APR_LAMBDA {
                const Levels over = Levels::read(frost + 3 * first, columns - first);
#pragma GCC unroll 6
                for (int i = 0; i < 6; ++i) {
                    Doubles& level = levels.of[i / 2][i % 2];
                    level = clipped(of_image_ * level + of_frost_ * over.of[i / 2][i % 2], 255.0);
                }
            });
            in += 3 * columns;
            out += 3 * columns;
        }
    }

   private:
    Extent extent_;
    double of_image_, of_frost_;
    std::vector<Photograph> photographs_;
};

}  // namespace

// Constants: the two weights, and for each photograph its height and width, then its bytes in as many numbers as hold
// them.
Made make_frost(Extent extent, const Constants& constants) {
    const double* weights = constants_at(constants, 0, 2);
    std::vector<Photograph> photographs;
    for (std::size_t i = 1; i + 1 < constants.size(); i += 2) {
        const double* size = constants_at(constants, i, 2);
        const int height = static_cast<int>(size[0]), width = static_cast<int>(size[1]);
        if (height <= extent.height || width <= extent.width) {
            throw std::invalid_argument("a photograph of frost must be larger than the image");
        }
        const std::size_t bytes = Extent{height, width}.bytes();
        const double* pixels = constants_at(constants, i + 1, (bytes + sizeof(double) - 1) / sizeof(double));
        photographs.push_back({reinterpret_cast<const std::uint8_t*>(pixels), height, width});
    }
    if (photographs.empty()) throw std::invalid_argument("frost needs a photograph");
    return std::make_unique<Frost>(extent, weights[0], weights[1], std::move(photographs));
}

}  // namespace apr
