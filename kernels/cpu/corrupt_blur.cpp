// Gaussian, defocus and glass blur.
#include <cmath>
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

// A disk, which weighs what is above and below alike: rows are added in pairs, and the half of the weights that is not 0
// is left.
class DefocusBlur final : public Corruption {
   public:
    // weights: (2·reach + 1)².
    DefocusBlur(Extent extent, int reach, const double* weights) : extent_(extent), reach_(reach) {
        const int side = 2 * reach + 1;
        for (int down = 0; down <= reach; ++down) {
            for (int right = -reach; right <= reach; ++right) {
                const double weight = weights[(reach + down) * side + reach + right];
                expect(weight == weights[(reach - down) * side + reach + right], "a disk must be symmetric");
                if (weight == 0) continue;
                weights_.push_back(weight);
                places_.push_back({down, 3 * right});
            }
        }
    }

    std::vector<std::size_t> fields() const override { return {}; }
    std::size_t scratch() const override {
        return sizeof(double) * (Window::room(extent_.width, reach_, reach_, reach_) + reach_ * row() +
                                 row_room<double>(3 * extent_.width, 0)) +
               sizeof(double*) * places_.size();
    }

    void run(const std::uint8_t* in, const Draws&, std::uint8_t* out, std::byte* scratch) const override {
        const auto [height, width] = extent_;
        const int values = 3 * width;
        double* rows = reinterpret_cast<double*>(scratch);
        double* pairs = rows + Window::room(width, reach_, reach_, reach_);
        double* sums = pairs + reach_ * row();
        const double** from = reinterpret_cast<const double**>(sums + row_room<double>(values, 0));
        Window window(height, width, reach_, reach_, reach_, rows);
        for (int y = 0; y < height; ++y, out += values) {
            window.move_to(y, in, [](std::uint8_t level) { return level / 255.0; });
            for (int k = 1; k <= reach_; ++k) add(window[y - k], window[y + k], pair(pairs, k));
            for (std::size_t i = 0; i < places_.size(); ++i) {
                const auto [down, right] = places_[i];
                from[i] = (down == 0 ? window[y] : pair(pairs, down)) + right;
            }
            // The reference sums by a Fourier transform: no order of roundings is to be kept.
            weighted_sum<true>(from, weights_.data(), places_.size(), values, sums);
            for (int i = 0; i < values; ++i) sums[i] *= 255;
            to_bytes(sums, values, out);
        }
    }

   private:
    using Window = Rows<double, 3, Mirrored>;
    struct Place {
        int down, right;  // rows, numbers
    };

    std::size_t row() const { return row_room<double>(3 * extent_.width, 3 * reach_); }
    // The first pixel of the sums of the rows `down` above and below.
    double* pair(double* pairs, int down) const { return pairs + (down - 1) * row() + row_start<double>(3 * reach_); }

    void add(const double* above, const double* below, double* to) const {
        for (int i = -3 * reach_; i < 3 * (extent_.width + reach_); ++i) to[i] = above[i] + below[i];
    }

    Extent extent_;
    int reach_;
    std::vector<double> weights_;
    std::vector<Place> places_;
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
Made make_defocus_blur(Extent extent, const Constants& constants) {
    const Numbers weights = numbers_at(constants, 0, 1, 63 * 63);
    const int side = static_cast<int>(std::sqrt(static_cast<double>(weights.size)));
    constants_at(constants, 0, static_cast<std::size_t>(side) * side);
    return std::make_unique<DefocusBlur>(extent, side / 2, weights.data);
}
Made make_glass_blur(Extent extent, const Constants& constants) {
    const double* numbers = constants_at(constants, 0, 2);
    const int reach = static_cast<int>(numbers[0]), times = static_cast<int>(numbers[1]);
    expect(reach >= 1 && reach <= 15 && times >= 1 && times <= 100, "glass blur reaches 1 to 15 pixels, 1 to 100 times");
    return std::make_unique<GlassBlur>(extent, reach, times, numbers_at(constants, 1, 1, 1 << 10));
}

}  // namespace apr
