// Which frequencies the bins have that the passes leave in their order.
#pragma once

#include <bit>
#include <vector>

#include "passes.hpp"

namespace apr {

inline int opposite_frequency(int k, int size) { return k == 0 ? 0 : size - k; }
// 0, 1, ..., -2, -1, as numpy.fft.fftfreq has them.
inline int signed_frequency(int k, int size) { return k < (size + 1) / 2 ? k : k - size; }

template <class T>
class Frequencies {
   public:
    explicit Frequencies(const Layout<T>& layout) : layout_(layout) {
        if (layout.remainder) over_vectors_ = plan_for(layout.shape.width / kLanes<T>);
    }

    bool is_remainder(int group) const { return group >= layout_.full_groups(); }
    // Vectors of bins in a group: one for each column of the spectrum; or the one row that is a group by itself.
    int vectors(int group) const { return is_remainder(group) ? layout_.shape.width / kLanes<T> : layout_.shape.width; }

    // The row of all planes' spectra that a lane of a group holds. Lanes past the last row hold nothing: they show it.
    int row(int group, int lane) const {
        const int full = std::min(group, layout_.full_groups());
        return std::min(full * kLanes<T> + (is_remainder(group) ? group - full : lane), layout_.rows() - 1);
    }
    int plane(int row) const {
        const int complex_rows = layout_.complex_planes * layout_.shape.height;
        return row < complex_rows ? row / layout_.shape.height
                                  : layout_.complex_planes + (row - complex_rows) / half_rows();
    }
    int row_frequency(int row) const {
        const int complex_rows = layout_.complex_planes * layout_.shape.height;
        const int position = row < complex_rows ? row % layout_.shape.height
                                                : layout_.half[(row - complex_rows) % half_rows()];
        return layout_.over_columns.plan().frequency[position];
    }
    int column_frequency(int group, int k, int lane) const {
        if (!is_remainder(group)) return layout_.over_rows.plan().frequency[k];
        constexpr int bits = std::bit_width(static_cast<unsigned>(kLanes<T>)) - 1;
        int reversed = 0;
        for (int bit = 0; bit < bits; ++bit) reversed |= (lane >> bit & 1) << (bits - 1 - bit);
        return over_vectors_->frequency[k] + layout_.shape.width / kLanes<T> * reversed;
    }

   private:
    int half_rows() const { return static_cast<int>(layout_.half.size()); }

    const Layout<T>& layout_;
    std::shared_ptr<const Plan> over_vectors_;
};

}  // namespace apr
