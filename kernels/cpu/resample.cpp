// Both directions multiply neighbors in pairs: a byte of an even place beside that of the next, so that one instruction
// multiplies and adds 16 bits of both. Rows come four at a time, each pair of them interleaved, which is what the columns
// take; few rows wait for them, so that all of it stays in the caches.
#include "resample.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "simd.hpp"

namespace apr {
namespace {

constexpr int kChannels = 4;
constexpr int kRows = 4;  // at a time
constexpr int kSums = kRows * kChannels;
constexpr int kParts = kSums / kLanes<std::int32_t>;

double cubic(double x) {
    constexpr double a = -0.5;
    x = std::abs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
    return 0;
}

// Along one axis: what each place of the result takes, in pairs of places that begin at an even one. Each takes as many,
// which a processor foresees; weights of 0 fill up.
class Taps {
   public:
    Taps(int from, int to) : from_(from), scale_(static_cast<double>(from) / to), stretch_(std::max(scale_, 1.0)) {
        const int most = 2 * static_cast<int>(std::ceil(2 * stretch_)) + 1;
        std::vector<double> weights(static_cast<std::size_t>(to) * static_cast<std::size_t>(most));
        double largest = 0;
        double* weight = weights.data();
        for (int place = 0; place < to; ++place, weight += most) {
            const int first = first_of(place), end = end_of(place);
            weigh(place, weight);
            largest = std::max(largest, *std::max_element(weight, weight + most));
            count_ = std::max(count_, (end + 1) / 2 - first / 2);
            firsts_.push_back(first / 2);
        }
        while (bits_ < 22 && static_cast<int>(0.5 + largest * (1 << (bits_ + 1))) < 1 << 15) ++bits_;
        pairs_.resize(static_cast<std::size_t>(to) * static_cast<std::size_t>(count_));
        weight = weights.data();
        for (int place = 0; place < to; ++place, weight += most) pack(place, weight);
    }

    int bits() const { return bits_; }
    int count() const { return count_; }  // pairs
    int first(int place) const { return firsts_[static_cast<std::size_t>(place)]; }
    // Two weights in each number: the first in its lower half.
    const std::int32_t* weights(int place) const {
        return pairs_.data() + static_cast<std::size_t>(place) * static_cast<std::size_t>(count_);
    }

   private:
    double center(int place) const { return scale_ * (place + 0.5); }
    int first_of(int place) const { return std::max(static_cast<int>(center(place) - 2 * stretch_ + 0.5), 0); }
    int end_of(int place) const { return std::min(static_cast<int>(center(place) + 2 * stretch_ + 0.5), from_); }

    void weigh(int place, double* weights) const {
        const int first = first_of(place), count = end_of(place) - first;
        double sum = 0;
        for (int i = 0; i < count; ++i) {
            weights[i] = cubic((i + first - center(place) + 0.5) * (1 / stretch_));
            sum += weights[i];
        }
        for (int i = 0; i < count; ++i) weights[i] /= sum;
    }

    void pack(int place, const double* weights) {
        const int first = first_of(place), count = end_of(place) - first;
        std::int32_t* to = pairs_.data() + static_cast<std::size_t>(place) * static_cast<std::size_t>(count_);
        for (int i = 0; i < count; ++i) {
            const double scaled = weights[i] * (1 << bits_);
            const int whole = static_cast<int>(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
            const int half = first % 2 + i;
            to[half / 2] |= half % 2 ? static_cast<int>(static_cast<unsigned>(whole) << 16) : whole & 0xffff;
        }
    }

    int from_;
    double scale_, stretch_;
    int bits_ = 0, count_ = 0;
    std::vector<int> firsts_;
    std::vector<std::int32_t> pairs_;
};

using Eight = Vector<std::uint16_t, 16>;

// The levels of kSums weighted sums of `count` pairs, or of Count if that is not 0; `at(i)`: the 2·kSums bytes of pair i.
template <int Count, class At>
APR_INLINE Sixteen weighted(At at, const std::int32_t* weights, int count, int bits_of_weight) {
    Ints sums[kParts];
    for (Ints& part : sums) part = broadcast(1 << (bits_of_weight - 1));
    for (int i = 0; i < (Count ? Count : count); ++i) {
        const std::uint8_t* from = at(i);
        for (Ints& part : sums) {
            part += multiply_pairs(widened(from), broadcast(weights[i]));
            from += kVectorBytes / 2;
        }
    }
    for (Ints& part : sums) part = part >> bits_of_weight;
    return as_levels(sums);
}

// Four pixels of a row with those of an even place beside the next, channel by channel.
APR_INLINE Eight paired(const std::uint8_t* from) {
    Sixteen four;
    std::memcpy(&four, from, sizeof(four));
    return bits<Eight>(__builtin_shufflevector(four, four, 0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15));
}

// Of kRows rows: for every two pixels 2·kSums bytes, (row pair, channel, row of the pair, pixel).
void pair_pixels(const std::uint8_t* const* rows, int width, std::uint8_t* to) {
    for (int x = 0; x < width; x += 4, to += 4 * kSums) {
        std::uint8_t last[kRows][16] = {};
        const std::uint8_t* four[kRows];
        for (int r = 0; r < kRows; ++r) {
            four[r] = rows[r] + kChannels * static_cast<std::ptrdiff_t>(x);
            if (width - x >= 4) continue;
            std::copy_n(four[r], kChannels * (width - x), last[r]);
            four[r] = last[r];
        }
        for (int r = 0; r < kRows; r += 2) {
            const Eight a = paired(four[r]), b = paired(four[r + 1]);
            store(to + 8 * r, __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11));
            store(to + 2 * kSums + 8 * r, __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15));
        }
    }
}

class Resampler {
   public:
    Resampler(const std::uint8_t* in, int in_height, int in_width, int height, int width)
        : in_(in),
          in_height_(in_height),
          in_width_(in_width),
          width_(width),
          across_(in_width, width),
          down_(in_height, height),
          // Two pairs of rows are made at a time.
          slots_((down_.count() + 3) / 2 * 2),
          // As many sums as are made at a time may reach beyond the last pixel.
          row_(2 * kChannels * static_cast<std::size_t>(width) + 2 * kSums),
          // Some of the last places' pairs, of weight 0, lie beyond it.
          pixels_(kSums * static_cast<std::size_t>(in_width + 4 + 2 * across_.count())),
          waiting_(row_ * static_cast<std::size_t>(slots_)),
          pairs_(static_cast<std::size_t>(down_.count())) {}

    void run(int height, std::uint8_t* out) {
        for (int y = 0; y < height; ++y, out += line()) {
            for (int i = 0; i < down_.count(); ++i) pairs_[static_cast<std::size_t>(i)] = slot(down_.first(y) + i);
            while (2 * made_ < in_height_ && made_ < down_.first(y) + down_.count()) {
                with_count(across_.count(), [this]<int Count>() { make_rows<Count>(); });
            }
            with_count(down_.count(), [=, this]<int Count>() { column<Count>(down_.weights(y), out); });
        }
    }

   private:
    std::size_t line() const { return kChannels * static_cast<std::size_t>(width_); }
    std::uint8_t* slot(int pair) { return waiting_.data() + row_ * static_cast<std::size_t>(pair % slots_); }

    // The usual numbers of pairs are known to the compiler: those of images that become up to twice smaller.
    template <class Work>
    static void with_count(int count, Work work) {
        switch (count) {
            case 3: return work.template operator()<3>();
            case 4: return work.template operator()<4>();
            case 5: return work.template operator()<5>();
            default: return work.template operator()<0>();
        }
    }

    template <int Count>
    void make_rows() {
        const std::uint8_t* rows[kRows];
        for (int r = 0; r < kRows; ++r) {
            const int y = std::min(2 * made_ + r, in_height_ - 1);
            rows[r] = in_ + kChannels * static_cast<std::size_t>(in_width_) * static_cast<std::size_t>(y);
        }
        pair_pixels(rows, in_width_, pixels_.data());
        std::uint8_t *upper = slot(made_), *lower = slot(made_ + 1);
        for (int x = 0; x < width_; ++x, upper += kSums / 2, lower += kSums / 2) {
            const std::uint8_t* from = pixels_.data() + 2 * kSums * static_cast<std::size_t>(across_.first(x));
            const auto at = [=](int i) APR_LAMBDA { return from + 2 * kSums * i; };
            const Sixteen levels = weighted<Count>(at, across_.weights(x), across_.count(), across_.bits());
            std::memcpy(upper, &levels, kSums / 2);
            std::memcpy(lower, reinterpret_cast<const std::uint8_t*>(&levels) + kSums / 2, kSums / 2);
        }
        made_ += 2;
    }

    template <int Count>
    void column(const std::int32_t* weights, std::uint8_t* out) {
        const auto levels = [this, weights](std::size_t x) APR_LAMBDA {
            const std::uint8_t* const* pairs = pairs_.data();
            const auto at = [=](int i) APR_LAMBDA { return pairs[i] + 2 * x; };
            return weighted<Count>(at, weights, down_.count(), down_.bits());
        };
        std::size_t x = 0;
        for (; x + kSums <= line(); x += kSums) store(out + x, levels(x));
        if (x < line()) {
            const Sixteen last = levels(x);
            std::memcpy(out + x, &last, line() - x);
        }
    }

    const std::uint8_t* in_;
    int in_height_, in_width_, width_;
    Taps across_, down_;
    int slots_, made_ = 0;
    std::size_t row_;
    std::vector<std::uint8_t> pixels_, waiting_;
    std::vector<const std::uint8_t*> pairs_;
};

}  // namespace

void resample(const std::uint8_t* in, int in_height, int in_width, std::uint8_t* out, int height, int width) {
    Resampler(in, in_height, in_width, height, width).run(height, out);
}

}  // namespace apr
