// HybridAugment's images of batches: low frequencies by a Gaussian blur, high ones as what it leaves.
#include "augment_images.hpp"
#include "blur.hpp"
#include "choices.hpp"
#include "walks.hpp"

namespace apr {
namespace {

struct Worker {
    ImagePort port;
    Blur blur;
    Buffer<float> first, second, low;  // planes of two images of bytes; what is made of them

    explicit Worker(const HybridTask& task)
        : port(task.images),
          blur(task.images.shape, task.window),
          first(task.images.bytes == nullptr ? 0 : task.images.shape.size()),
          second(task.images.bytes == nullptr ? 0 : task.images.shape.size()),
          low(task.low_partner == nullptr ? 0 : task.images.shape.size()) {}
};

std::vector<Worker> workers_for(const HybridTask& task, int count) {
    std::vector<Worker> workers;
    for (int i = 0; i < count; ++i) workers.emplace_back(task);
    return workers;
}

// L(x_i) + x_j - L(x_j) = x_j + L(x_i - x_j).
void mix_high(const HybridTask& task, const Worker& worker, int n) {
    const float* own = worker.port.read(n, worker.first.get());
    const float* other = worker.port.read(static_cast<int>(task.partner[n]), worker.second.get());
    worker.blur.run(Apart{own, other}, other, worker.port.result(n),
                    [](auto low, auto beside, auto) APR_LAMBDA { return beside + low; });
    worker.port.write(n);
}

// To the planes of result n what the blur leaves of its partner.
void add_high(const HybridTask& task, const Worker& worker, int n) {
    const float* other = worker.port.read(static_cast<int>(task.partner[n]), worker.second.get());
    worker.blur.run(Plain{other}, other, worker.port.result(n),
                    [](auto low, auto beside, auto out) APR_LAMBDA { return out + (beside - low); });
}

template <class Channels>
void mix_low(const HybridTask& task, const Channels& channels) {
    constexpr int known = Channels::kChannels;
    const Shape shape = task.images.shape;
    const Layout<float> layout(shape, channels.real_planes(), channels.complex_planes());
    const auto scale = scaled<float>(shape.channels, unit(channels, shape));
    const std::vector<int> order = partners_first(task.low_partner, task.images.batch);
    Parts parts(task.images.threads, task.images.batch);
    auto passes = one_each(parts.workers(), layout);
    const auto workers = workers_for(task, parts.workers());
    parts.run([&](int index, int begin, int end) {
        Passes<float>& own = passes[index];
        const Worker& worker = workers[index];
        const auto forward = [&](int n) {
            float* low = worker.low.get();
            const float* planes = worker.port.read(n, worker.first.get());
            worker.blur.run(Plain{planes}, planes, low, [](auto low, auto, auto) APR_LAMBDA { return low; });
            own.columns_forward(channels, PlanesSource<float, known>{low, shape}, Unscaled{});
        };
        const auto measure = [&](int n) {
            forward(n);
            own.measure();
        };
        const auto mix = [&](int n) {
            forward(n);
            own.mix();
            own.columns_inverse(channels, PlanesSink<float, known, float, AsIs>{worker.port.result(n), shape}, scale);
            add_high(task, worker, n);
            worker.port.write(n);
        };
        mix_walk(task.low_partner, order, begin, end, measure, mix);
    });
}

}  // namespace

void mix_frequencies(const HybridTask& task) {
    const AugmentBatch& images = task.images;
    if (task.low_partner != nullptr) {
        return with_channels<float>(Axes::kChannelsToo, images.shape.channels,
                                    [&](const auto& channels) { mix_low(task, channels); });
    }
    Team team(images.threads, images.batch);
    const auto workers = workers_for(task, team.workers());
    team.run([&](int worker, int n) { mix_high(task, workers[worker], n); });
}

}  // namespace apr
