#include "filters.hpp"

namespace apr {
namespace {

// out[i] = center[i]·w[0] + Σ (before[k][i] + after[k][i])·w[k], the farthest first.
void symmetric(const double* center, const double* const* before, const double* const* after, const double* weights,
               int reach, int count, double* out) {
    constexpr int vectors = kFilterSpan<double> / kLanes<double>;
    for (int i = 0; i < count; i += kFilterSpan<double>) {
        Vector<double> sum[vectors];
        for (int v = 0; v < vectors; ++v) sum[v] = load(center + i + v * kLanes<double>) * weights[0];
        for (int k = reach; k > 0; --k) {
            for (int v = 0; v < vectors; ++v) {
                const int at = i + v * kLanes<double>;
                sum[v] += (load(before[k] + at) + load(after[k] + at)) * weights[k];
            }
        }
        for (int v = 0; v < vectors; ++v) store(out + i + v * kLanes<double>, sum[v]);
    }
}

}  // namespace

std::vector<Between> between(const double* table, std::size_t count, int size) {
    std::vector<Between> out;
    for (std::size_t i = 0; i < count; ++i, table += 3) {
        expect(table[0] >= 0 && table[0] < size - 1, "a source lies outside of the image");
        out.push_back({static_cast<int>(table[0]), table[1], table[2]});
    }
    return out;
}

template <bool Fused>
void weighted_sum(const double* const* from, const double* weights, std::size_t taps, int count, double* to) {
    constexpr int vectors = kFilterSpan<double> / kLanes<double>;
    for (int i = 0; i < count; i += kFilterSpan<double>) {
        Doubles sum[vectors] = {};
        for (std::size_t k = 0; k < taps; ++k) {
            const Doubles weight = broadcast(weights[k]);
            for (int v = 0; v < vectors; ++v) {
                const Doubles values = load(from[k] + i + v * kLanes<double>);
                sum[v] = Fused ? fma(values, weight, sum[v]) : sum[v] + values * weight;
            }
        }
        for (int v = 0; v < vectors; ++v) store(to + i + v * kLanes<double>, sum[v]);
    }
}
template void weighted_sum<true>(const double* const*, const double*, std::size_t, int, double*);
template void weighted_sum<false>(const double* const*, const double*, std::size_t, int, double*);

void Smoother::run(const std::uint8_t* in, std::uint8_t* out, std::byte* memory) const {
    const auto [height, width] = extent_;
    const int values = 3 * width;
    double* rows = reinterpret_cast<double*>(memory);
    double* column_sums = rows + Window::room(width, reach_, reach_, 0) + row_start<double>(3 * reach_);
    double* sums = column_sums - row_start<double>(3 * reach_) + row_room<double>(values, 3 * reach_);
    const double** before = reinterpret_cast<const double**>(sums + row_room<double>(values, 0));
    const double** after = before + reach_ + 1;
    Window window(height, width, reach_, reach_, 0, rows);
    for (int y = 0; y < height; ++y, out += values) {
        window.move_to(y, in, [](std::uint8_t level) { return level / 255.0; });
        for (int k = 1; k <= reach_; ++k) {
            before[k] = window[y - k];
            after[k] = window[y + k];
        }
        symmetric(window[y], before, after, weights_.data(), reach_, values, column_sums);
        fill_border<Repeated, 3>(column_sums, width, reach_);
        for (int k = 1; k <= reach_; ++k) {
            before[k] = column_sums - 3 * k;
            after[k] = column_sums + 3 * k;
        }
        symmetric(column_sums, before, after, weights_.data(), reach_, values, sums);
        for (int i = 0; i < values; ++i) sums[i] *= 255;
        to_bytes(sums, values, out);
    }
}

}  // namespace apr
