// APR-S with noise on the phases: a change in its passes.
#include <algorithm>
#include <vector>

#include "augment_images.hpp"
#include "choices.hpp"
#include "phase_noise.hpp"
#include "threads.hpp"
#include "views.hpp"

namespace apr {
namespace {

// The kept amplitude for a bin's own, and a turn and a gain of its phase.
struct ExchangeAndTurn {
    const Floats* amplitudes;
    const Complex<float>* factors;
    APR_INLINE void operator()(int k, Complex<float>& z) const {
        give_amplitude(z, amplitude(z), amplitudes[k]);
        z = times(z, factors[k]);
    }
};

void mix_noisily(Passes<float>& passes, const RgbSource& phase_of, const RgbSource& amplitude_of, PhaseNoise& noise,
                 const NoisyTask& task, int which) {
    const OverRgb<float> channels;
    passes.columns_forward(channels, amplitude_of, Unscaled{});
    passes.measure();
    passes.columns_forward(channels, phase_of, Unscaled{});
    noise.set(passes, task.noise + which * phase_of.shape.size(), task.vital, task.nonvital);
    passes.change_bins([&](int group, const Floats* amplitudes) {
        return ExchangeAndTurn{amplitudes, noise.of(group)};
    });
}

void write(Passes<float>& passes, const Scaling<float>& scale, Rounding rounding, std::uint8_t* out, Shape shape) {
    const OverRgb<float> channels;
    switch (rounding) {
        case Rounding::kClamp: return passes.columns_inverse(channels, RgbSink<Clamped>{out, shape}, scale);
        case Rounding::kWrap: return passes.columns_inverse(channels, RgbSink<Wrapped>{out, shape}, scale);
        case Rounding::kTruncate: return passes.columns_inverse(channels, RgbSink<Truncated>{out, shape}, scale);
    }
}

}  // namespace

void mix_noisy_views(const NoisyTask& task) {
    const SingleTask& views = task.views;
    const Shape shape{3, views.height, views.width};
    const OverRgb<float> channels;
    const Layout<float> layout(shape, channels.real_planes(), channels.complex_planes());
    const auto scale = scaled<float>(3, unit(channels, shape));
    Team team(views.threads, views.batch);
    auto passes = one_each(team.workers(), layout);
    const auto scratch = rooms_for_views(shape, team.workers());
    std::vector<PhaseNoise> noise;
    const bool is_noisy = std::any_of(task.which, task.which + views.batch, [](auto which) { return which >= 0; });
    for (int i = 0; is_noisy && i < team.workers(); ++i) noise.emplace_back(layout);
    team.run([&](int worker, int n) {
        const Views both = views_of(views, n, scratch[worker].get());
        if (!both.mixed) return;
        const RgbSource phase_of{both.phase_of, shape}, amplitude_of{both.amplitude_of, shape};
        Passes<float>& own = passes[worker];
        const int which = static_cast<int>(task.which[n]);
        if (which < 0) {
            mix_two(own, channels, phase_of, amplitude_of);
        } else {
            mix_noisily(own, phase_of, amplitude_of, noise[worker], task, which);
        }
        write(own, scale, task.rounding, views.out + n * shape.size(), shape);
    });
}

}  // namespace apr
