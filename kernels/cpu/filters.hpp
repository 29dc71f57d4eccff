// What corruptions do to rows of numbers.
#pragma once

#include <vector>

#include "corrupt.hpp"
#include "rows.hpp"

namespace apr {

// Numbers in 0..255 as bytes, truncated; what is outside is clipped.
template <class T>
void to_bytes(const T* from, int count, std::uint8_t* to) {
    for (int i = 0; i < count; ++i) {
        to[i] = static_cast<std::uint8_t>(static_cast<std::int32_t>(std::min(std::max(from[i], T(0)), T(255))));
    }
}

// Where a row or column of an enlarged image comes from: source[at]·here + source[at + 1]·next.
struct Between {
    int at;
    double here, next;
};

// table: (count, 3), the sources in an image of `size` rows or columns.
std::vector<Between> between(const double* table, std::size_t count, int size);

// to[i] = Σ from[k][i]·weights[k], one after another; up to kFilterSpan more than `count` are made. `Fused`: product and
// sum may be rounded together.
template <bool Fused>
void weighted_sum(const double* const* from, const double* weights, std::size_t taps, int count, double* to);

// A symmetric filter in float64 over the columns of an image (H, W, 3) in 0..1 and then over its rows, the border
// repeated; summed in SciPy's order, so that the result is SciPy's.
class Smoother {
   public:
    // weights: the middle one and those to one side.
    Smoother(Extent extent, const Numbers& weights)
        : extent_(extent), reach_(static_cast<int>(weights.size) - 1),
          weights_(weights.data, weights.data + weights.size) {}

    // In bytes.
    std::size_t room() const {
        const int values = 3 * extent_.width;
        return sizeof(double) * (Window::room(extent_.width, reach_, reach_, 0) +
                                 row_room<double>(values, 3 * reach_) + row_room<double>(values, 0)) +
               sizeof(double*) * 2 * (reach_ + 1);
    }

    // From bytes to the truncated bytes of the result.
    void run(const std::uint8_t* in, std::uint8_t* out, std::byte* memory) const;

   private:
    using Window = Rows<double, 3, Repeated>;

    Extent extent_;
    int reach_;
    std::vector<double> weights_;
};

}  // namespace apr
