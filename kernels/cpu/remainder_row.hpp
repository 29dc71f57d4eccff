// One row's transform by itself.
//
// The spectra of images whose height is a multiple of 32 have a row or three more than fill their vectors: in a group
// like the others they would cost as much as kLanes of them. Here neighbors in the lanes are neighbors in the row: after a
// transform over its vectors and factors, a transform over the lanes of each vector makes the spectrum.
#pragma once

#include <bit>
#include <vector>

#include "transform.hpp"

namespace apr {

template <class T>
APR_INLINE Complex<T> times(const Complex<T>& a, const Complex<T>& b) {
    return {fma(a.re, b.re, -(a.im * b.im)), fma(a.re, b.im, a.im * b.re)};
}

template <int Half, class T, int... Lane>
APR_INLINE Vector<T> swap_lanes(Vector<T> a, std::integer_sequence<int, Lane...>) {
    return __builtin_shufflevector(a, a, (Lane ^ Half)...);
}

// The transform of the kLanes samples in one vector: decimation in frequency by two, the spectrum in bit-reversed order.
template <class T>
class OverLanes {
   public:
    // `roots` are those of a length that kLanes divides, see Plan.
    explicit OverLanes(const std::vector<double>& roots) {
        const int turn = static_cast<int>(roots.size() / 2);
        for (int half = kLanes<T> / 2; half > 0; half /= 2) {
            Stage& stage = stages_[std::countr_zero(static_cast<unsigned>(half))];
            for (int lane = 0; lane < kLanes<T>; ++lane) {
                const bool upper = (lane & half) != 0;
                const double* factor = roots.data() + (upper ? turn / half * (lane % half) : 0);
                stage.factors.re[lane] = static_cast<T>(factor[0]);
                stage.factors.im[lane] = static_cast<T>(factor[1]);
                stage.signs[lane] = static_cast<T>(upper ? -1 : 1);
            }
        }
    }

    template <Direction D>
    APR_INLINE Complex<T> run(const Complex<T>& z) const {
        constexpr int outer = kLanes<T> / 2;
        return D == Direction::kForward ? forward<outer>(z) : pick<D>(inverse<1>(pick<D>(z)));
    }

   private:
    // Lanes `Half` apart: the lower gets their sum, the upper the difference, which is multiplied by its factor.
    struct Stage {
        Complex<T> factors;
        Vector<T> signs;
    };
    template <int Half>
    const Stage& stage() const {
        return stages_[std::countr_zero(static_cast<unsigned>(Half))];
    }
    template <int Half>
    APR_INLINE Complex<T> sums(const Complex<T>& z) const {
        constexpr std::make_integer_sequence<int, kLanes<T>> lanes;
        const Vector<T> signs = stage<Half>().signs;
        return {fma(z.re, signs, swap_lanes<Half, T>(z.re, lanes)), fma(z.im, signs, swap_lanes<Half, T>(z.im, lanes))};
    }

    template <int Half>
    APR_INLINE Complex<T> forward(const Complex<T>& z) const {
        const Complex<T> out = times(sums<Half>(z), stage<Half>().factors);
        if constexpr (Half > 1) return forward<Half / 2>(out);
        return out;
    }
    template <int Half>
    APR_INLINE Complex<T> inverse(const Complex<T>& z) const {
        const Complex<T> out = sums<Half>(times(z, stage<Half>().factors));
        if constexpr (Half < kLanes<T> / 2) return inverse<2 * Half>(out);
        return out;
    }

    Stage stages_[std::bit_width(static_cast<unsigned>(kLanes<T>)) - 1];
};

template <class T>
class RemainderRow {
   public:
    // `width` must be a multiple of kLanes.
    explicit RemainderRow(int width)
        : over_vectors_(plan_for(width / kLanes<T>)),
          over_lanes_(plan_for(width)->roots),
          factors_(over_vectors_.plan().size) {
        const std::vector<double>& roots = plan_for(width)->roots;
        for (std::size_t k = 0; k < factors_.size(); ++k) {
            for (int lane = 0; lane < kLanes<T>; ++lane) {
                const double* factor = roots.data() + 2 * over_vectors_.plan().frequency[k] * lane;
                factors_[k].re[lane] = static_cast<T>(factor[0]);
                factors_[k].im[lane] = static_cast<T>(factor[1]);
            }
        }
    }

    int workspace() const { return over_vectors_.workspace(); }

    // `row` is the first of its vectors in the grid; the others are kLanes further each. take(k, bins) gets one vector
    // of bins after the other.
    template <class Take>
    void forward(const Complex<T>* row, Complex<T>* z, Complex<double>* workspace, const Take& take) const {
        over_vectors_forward(row, z, workspace);
        for (std::size_t k = 0; k < factors_.size(); ++k) {
            take(static_cast<int>(k), over_lanes_.template run<Direction::kForward>(times(z[k], factors_[k])));
        }
    }

    // There and back, the bins as `change` leaves them.
    template <class Change>
    void through(Complex<T>* row, Complex<T>* z, Complex<double>* workspace, const Change& change) const {
        constexpr auto back = Direction::kInverse;
        over_vectors_forward(row, z, workspace);
        for (std::size_t k = 0; k < factors_.size(); ++k) {
            Complex<T> bins = over_lanes_.template run<Direction::kForward>(times(z[k], factors_[k]));
            change(static_cast<int>(k), bins);
            z[k] = pick<back>(times(pick<back>(over_lanes_.template run<back>(bins)), factors_[k]));
        }
        over_vectors_.inverse(z, workspace, LoadBins<T>{z});
        for (std::size_t i = 0; i < factors_.size(); ++i) row[i * kLanes<T>] = z[over_vectors_.plan().place[i]];
    }

   private:
    // The same function as for the columns: a transform and the one over the lanes in one would be many more to compile.
    void over_vectors_forward(const Complex<T>* row, Complex<T>* z, Complex<double>* workspace) const {
        for (std::size_t i = 0; i < factors_.size(); ++i) z[over_vectors_.plan().place[i]] = row[i * kLanes<T>];
        over_vectors_.forward(z, workspace, StoreBins<T>{z});
    }

    Transform<T> over_vectors_;
    OverLanes<T> over_lanes_;
    std::vector<Complex<T>> factors_;  // of each bin of over_vectors_
};

}  // namespace apr
