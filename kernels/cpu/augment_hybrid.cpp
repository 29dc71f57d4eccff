// HybridAugment's images of batches: low frequencies by a Gaussian blur, high ones as what it leaves.
#include "augment_images.hpp"
#include "choices.hpp"
#include "walks.hpp"

namespace apr {
namespace {

int mirrored(int at, int size) {
    if (size == 1) return 0;
    const int period = 2 * size - 2;
    const int folded = (at % period + period) % period;
    return std::min(folded, period - folded);
}

// A separable filter over planes whose border is mirrored, again and again where the image is narrower than the window.
class Blur {
   public:
    Blur(Shape shape, const std::vector<float>& window)
        : shape_(shape),
          window_(window),
          reach_(static_cast<int>(window.size() / 2)),
          start_((reach_ + kLanes<float> - 1) / kLanes<float> * kLanes<float>),
          row_(start_ + shape.width + reach_ + 2 * kLanes<float>),
          result_(shape.width + kLanes<float>) {}

    // Calls take(offset, values) for the rows of all planes: where a row begins, and its blurred values.
    template <class Take>
    void run(const float* planes, const Take& take) const {
        for (int c = 0; c < shape_.channels; ++c, planes += shape_.plane()) {
            for (int y = 0; y < shape_.height; ++y) {
                over_rows(planes, y);
                border();
                over_columns();
                take(c * shape_.plane() + static_cast<std::size_t>(y) * shape_.width, result_.get());
            }
        }
    }

   private:
    float* row() const { return row_.get() + start_; }

    void over_rows(const float* plane, int y) const {
        const auto source = [&](int tap) {
            return plane + static_cast<std::size_t>(mirrored(y + tap - reach_, shape_.height)) * shape_.width;
        };
        float* to = row();
        const float* __restrict from = source(0);
        for (int x = 0; x < shape_.width; ++x) to[x] = window_[0] * from[x];
        for (int tap = 1; tap <= 2 * reach_; ++tap) add(window_[tap], source(tap), to);
    }

    void border() const {
        float* values = row();
        for (int i = 1; i <= reach_; ++i) {
            values[-i] = values[mirrored(-i, shape_.width)];
            values[shape_.width - 1 + i] = values[mirrored(shape_.width - 1 + i, shape_.width)];
        }
    }

    void over_columns() const {
        const float* __restrict from = row() - reach_;
        float* to = result_.get();
        for (int x = 0; x < shape_.width; ++x) to[x] = window_[0] * from[x];
        for (int tap = 1; tap <= 2 * reach_; ++tap) add(window_[tap], from + tap, to);
    }

    void add(float weight, const float* __restrict from, float* __restrict to) const {
        for (int x = 0; x < shape_.width; ++x) to[x] += weight * from[x];
    }

    Shape shape_;
    const std::vector<float>& window_;
    int reach_, start_;
    Buffer<float> row_, result_;
};

struct Worker {
    ImagePort port;
    Blur blur;
    Buffer<float> first, second, made;  // planes of two images of bytes; what is made of them

    explicit Worker(const HybridTask& task)
        : port(task.images),
          blur(task.images.shape, task.window),
          first(task.images.shape.size()),
          second(task.images.shape.size()),
          made(task.images.shape.size()) {}
};

std::vector<Worker> workers_for(const HybridTask& task, int count) {
    std::vector<Worker> workers;
    for (int i = 0; i < count; ++i) workers.emplace_back(task);
    return workers;
}

// L(x_i) + x_j - L(x_j) = x_j + L(x_i - x_j).
void mix_high(const HybridTask& task, const Worker& worker, int n) {
    const Shape shape = task.images.shape;
    const float* own = worker.port.read(n, worker.first.get());
    const float* other = worker.port.read(static_cast<int>(task.partner[n]), worker.second.get());
    float* __restrict apart = worker.made.get();
    for (std::size_t i = 0; i < shape.size(); ++i) apart[i] = own[i] - other[i];
    float* to = worker.port.result(n);
    worker.blur.run(apart, [&](std::size_t offset, const float* blurred) {
        for (int x = 0; x < shape.width; ++x) to[offset + x] = other[offset + x] + blurred[x];
    });
    worker.port.write(n);
}

// To the planes of result n what the blur leaves of its partner.
void add_high(const HybridTask& task, const Worker& worker, int n) {
    const int width = task.images.shape.width;
    const float* other = worker.port.read(static_cast<int>(task.partner[n]), worker.second.get());
    float* to = worker.port.result(n);
    worker.blur.run(other, [&](std::size_t offset, const float* blurred) {
        for (int x = 0; x < width; ++x) to[offset + x] += other[offset + x] - blurred[x];
    });
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
            float* low = worker.made.get();
            worker.blur.run(worker.port.read(n, worker.first.get()), [&](std::size_t offset, const float* blurred) {
                std::copy_n(blurred, shape.width, low + offset);
            });
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
