#include "corrupt.hpp"

#include <stdexcept>

#include "corruptions.hpp"
#include "pixels.hpp"
#include "threads.hpp"

namespace apr {
namespace {

struct Entry {
    const char* name;
    Made (*make)(Extent, const Constants&);
};
constexpr Entry kTable[] = {
    {"gaussian_noise", make_gaussian_noise},
    {"shot_noise", make_shot_noise},
    {"impulse_noise", make_impulse_noise},
    {"defocus_blur", make_defocus_blur},
    {"glass_blur", make_glass_blur},
    {"motion_blur", make_motion_blur},
    {"zoom_blur", make_zoom_blur},
    {"snow", make_snow},
    {"frost", make_frost},
    {"fog", make_fog},
    {"brightness", make_brightness},
    {"contrast", make_contrast},
    {"elastic_transform", make_elastic},
    {"pixelate", make_pixelate},
    {"jpeg_compression", make_jpeg},
    {"speckle_noise", make_speckle_noise},
    {"gaussian_blur", make_gaussian_blur},
    {"spatter", make_spatter},
    {"saturate", make_saturate},
};

}  // namespace

Made make_corruption(const std::string& name, Extent extent, const Constants& constants) {
    for (const Entry& entry : kTable) {
        if (name == entry.name) return entry.make(extent, constants);
    }
    throw std::invalid_argument("there is no native corruption named " + name);
}

void expect(bool holds, const char* otherwise) {
    if (!holds) throw std::invalid_argument(otherwise);
}

Numbers numbers_at(const Constants& constants, std::size_t number, std::size_t least, std::size_t most) {
    if (number >= constants.size() || constants[number].size < least || constants[number].size > most) {
        throw std::invalid_argument("constants " + std::to_string(number) + " must be " + std::to_string(least) +
                                    " to " + std::to_string(most) + " numbers");
    }
    return constants[number];
}
const double* constants_at(const Constants& constants, std::size_t number, std::size_t count) {
    return numbers_at(constants, number, count, count).data;
}

void corrupt(const Corruption& corruption, const CorruptTask& task) {
    const std::vector<std::size_t> fields = corruption.fields();
    Team team(task.threads, task.batch);
    std::vector<Buffer<std::byte>> scratch;
    std::vector<std::vector<const double*>> given(team.workers(), task.given);
    for (int i = 0; i < team.workers(); ++i) scratch.emplace_back(corruption.scratch());
    team.run([&](int worker, int n) {
        auto& own = given[worker];
        for (std::size_t i = 0; i < own.size(); ++i) own[i] = task.given[i] + n * fields[i];
        const Philox philox{{task.key[0], task.key[1]}, task.numbers[n]};
        const Draws draws(own.empty() ? nullptr : own.data(), philox);
        const std::size_t offset = n * task.extent.bytes();
        corruption.run(task.images + offset, draws, task.out + offset, scratch[worker].get());
    });
}

}  // namespace apr
