// Zoom blur.
#include <algorithm>

#include "corruptions.hpp"
#include "filters.hpp"
#include "pixels.hpp"

namespace apr {
namespace {

// Whether rows or columns come from where they are.
bool is_identity(const Between* places, int size) {
    for (int i = 0; i < size; ++i) {
        const auto [at, here, next] = places[i];
        if (!(at == i && here == 1 && next == 0) && !(at + 1 == i && here == 0 && next == 1)) return false;
    }
    return true;
}

// kLanes<double> columns of an enlarged image, which lie between as many columns of the image and the one after them.
struct Columns {
    Doubles left, right;
    LaneOrder order;
};

// The mean of an image and of enlargements of its middle: SciPy's bilinear ones, each pixel in float64 and then rounded
// to float32, in which the reference sums them. The channels lie by themselves: what is mixed of two rows then comes into
// the order of the enlarged row by one instruction.
class ZoomBlur final : public Corruption {
   public:
    // down, across: for each enlargement where its rows and columns come from, (count, H, 3) and (count, W, 3).
    ZoomBlur(Extent extent, std::size_t count, const double* down, const double* across)
        : extent_(extent), down_(between(down, count * extent.height, extent.height)) {
        const std::vector<Between> places = between(across, count * extent.width, extent.width);
        for (std::size_t k = 0; k < count; ++k) {
            const Between* row = places.data() + k * extent.width;
            for (int x = 1; x < extent.width; ++x) {
                const int apart = row[x].at - row[x - 1].at;
                expect(apart == 0 || apart == 1, "the columns of an enlarged image must follow each other");
            }
            unchanged_.push_back(is_identity(row, extent.width) &&
                                 is_identity(down_.data() + k * extent.height, extent.height));
            for (int x = 0; x < extent.width; x += kStep) add_columns(row + x, std::min(kStep, extent.width - x));
        }
    }

    std::vector<std::size_t> fields() const override { return {}; }
    std::size_t scratch() const override {
        return stride() * (6 * sizeof(double) + 3 * (extent_.height + 1) * sizeof(float));
    }

    void run(const std::uint8_t* in, const Draws&, std::uint8_t* out, std::byte* scratch) const override {
        double* mixed = reinterpret_cast<double*>(scratch);
        float* sums = reinterpret_cast<float*>(mixed + 6 * stride());
        float* image = sums + 3 * stride();
        for (int y = 0; y < extent_.height; ++y) read(in, y, row_of(image, y));
        for (int y = 0; y < extent_.height; ++y) {
            std::fill_n(sums, 3 * stride(), 0.0f);
            for (std::size_t k = 0; k < unchanged_.size(); ++k) {
                if (unchanged_[k]) {
                    for (std::size_t i = 0; i < 3 * stride(); ++i) sums[i] += row_of(image, y)[i];
                } else {
                    mix(image, k, y, mixed);
                    add(mixed, k, sums);
                }
            }
            write(row_of(image, y), sums, y, out);
        }
    }

   private:
    static constexpr int kStep = kLanes<double>;
    using Narrow = Vector<float, kVectorBytes / 2>;  // as many numbers as Doubles

    struct Truncated {
        APR_INLINE Ints operator()(Floats unit) const {
            const Floats positive = unit > 0.0f ? unit : Floats{};
            return __builtin_convertvector((positive < 1.0f ? positive : broadcast(1.0f)) * 255.0f, Ints);
        }
    };

    // Numbers of a channel of a row: whole spans of pixels, and a vector from the last column on.
    std::size_t stride() const { return static_cast<std::size_t>(extent_.width / kSpan<float> + 2) * kSpan<float>; }
    // Three channels, one after another.
    float* row_of(float* image, int y) const { return image + 3 * stride() * y; }
    int steps() const { return (extent_.width + kStep - 1) / kStep; }

    void add_columns(const Between* places, int count) {
        Columns columns{};
        int order[kStep] = {};
        for (int i = 0; i < count; ++i) {
            order[i] = places[i].at - places[0].at;
            columns.left[i] = places[i].here;
            columns.right[i] = places[i].next;
        }
        columns.order = lane_order(order);
        columns_.push_back(columns);
        firsts_.push_back(places[0].at);
    }

    void read(const std::uint8_t* in, int y, float* row) const {
        const RgbSource source{in, {3, extent_.height, extent_.width}};
        for (int x = 0; x < extent_.width; x += kSpan<float>) {
            Floats v[6];
            source.read(y, x, std::min(kSpan<float>, extent_.width - x), v);
            for (int i = 0; i < 6; ++i) store(row + i / 2 * stride() + x + i % 2 * kLanes<float>, v[i] / 255.0f);
        }
    }

    // The two rows that row y of an enlargement lies between, with their weights: six rows of mixed[channel][row].
    void mix(float* image, std::size_t k, int y, double* mixed) const {
        const auto [at, here, next] = down_[k * extent_.height + y];
        const int first = firsts_[k * steps()] / kStep * kStep, end = firsts_[(k + 1) * steps() - 1] + kStep + 1;
        const std::size_t row = stride();
        for (int c = 0; c < 3; ++c, mixed += 2 * row) {
            const float *upper = row_of(image, at) + c * row, *lower = row_of(image, at + 1) + c * row;
            for (int x = first; x < end; x += kStep) {
                store(mixed + x, widened(upper + x) * here);
                store(mixed + row + x, widened(lower + x) * next);
            }
        }
    }

    void add(const double* mixed, std::size_t k, float* sums) const {
        // Copies: of what is stored the compiler cannot tell that it changes none of these.
        const int count = steps();
        const std::size_t row = stride();
        const Columns* columns = columns_.data() + k * count;
        const int* firsts = firsts_.data() + k * count;
        for (int step = 0; step < count; ++step, sums += kStep) {
            const auto [left, right, order] = columns[step];
            const double* from = mixed + firsts[step];
#pragma GCC unroll 3
            for (int c = 0; c < 3; ++c) {
                const double *upper = from + 2 * c * row, *lower = upper + row;
                const Doubles sum = reordered(upper, order) * left + reordered(upper + 1, order) * right +
                                    reordered(lower, order) * left + reordered(lower + 1, order) * right;
                Narrow total;
                std::memcpy(&total, sums + c * row, sizeof(total));
                store(sums + c * row, total + __builtin_convertvector(sum, Narrow));
            }
        }
    }

    void write(const float* image, const float* sums, int y, std::uint8_t* out) const {
        const RgbSink<Truncated> sink{out, {3, extent_.height, extent_.width}};
        const float parts = static_cast<float>(unchanged_.size() + 1);
        for (int x = 0; x < extent_.width; x += kSpan<float>) {
            Floats v[6];
            for (int i = 0; i < 6; ++i) {
                const std::size_t at = i / 2 * stride() + x + i % 2 * kLanes<float>;
                v[i] = (load(image + at) + load(sums + at)) / parts;
            }
            sink.write(y, x, std::min(kSpan<float>, extent_.width - x), v);
        }
    }

    Extent extent_;
    std::vector<Between> down_;
    std::vector<Columns> columns_;  // of one enlargement after another, as are:
    std::vector<int> firsts_;       // the first column of the image that they come from
    std::vector<bool> unchanged_;
};

}  // namespace

Made make_zoom_blur(Extent extent, const Constants& constants) {
    const Numbers down = numbers_at(constants, 0, 3, static_cast<std::size_t>(1) << 30);
    const std::size_t count = down.size / (3 * static_cast<std::size_t>(extent.height));
    constants_at(constants, 0, 3 * count * extent.height);
    return std::make_unique<ZoomBlur>(extent, count, down.data, constants_at(constants, 1, 3 * count * extent.width));
}

}  // namespace apr
