// The small transforms: butterflies, and the passes of a Plan over them, kLanes transforms side by side.
#pragma once

#include "plan.hpp"
#include "simd.hpp"

namespace apr {

template <class T>
using Factor = const T*;  // cos, sin

template <class T>
inline Complex<T> operator+(Complex<T> a, Complex<T> b) {
    return {a.re + b.re, a.im + b.im};
}
template <class T>
inline Complex<T> operator-(Complex<T> a, Complex<T> b) {
    return {a.re - b.re, a.im - b.im};
}
template <class T>
inline Complex<T> times_minus_i(Complex<T> a) {
    return {a.im, -a.re};
}
template <class T>
inline Complex<T> times(Complex<T> a, Factor<T> factor) {
    const Vector<T> cos = broadcast(factor[0]);
    const Vector<T> sin = broadcast(factor[1]);
    return {fma(a.re, cos, -(a.im * sin)), fma(a.re, sin, a.im * cos)};
}

// cos and sin of 2πk/R for k = 1..R/2 of the odd radices.
template <int R>
struct OddRoots;
template <>
struct OddRoots<3> {
    static constexpr double cos[] = {-0.5};
    static constexpr double sin[] = {0.86602540378443864676};
};
template <>
struct OddRoots<5> {
    static constexpr double cos[] = {0.30901699437494742410, -0.80901699437494742410};
    static constexpr double sin[] = {0.95105651629515357212, 0.58778525229247312917};
};
template <>
struct OddRoots<7> {
    static constexpr double cos[] = {0.62348980185873353053, -0.22252093395631440429, -0.90096886790241912624};
    static constexpr double sin[] = {0.78183148246802980871, 0.97492791218182360702, 0.43388373911755812048};
};

// The transform of R points in place, R odd: legs j and R - j enter as their sum and their difference.
template <int R, class T>
    requires(R % 2 == 1)
inline void butterfly(Complex<T>* z) {
    constexpr int half = R / 2;
    Complex<T> sum[half], difference[half];
    Complex<T> total = z[0];
#pragma GCC unroll 8
    for (int j = 0; j < half; ++j) {
        sum[j] = z[j + 1] + z[R - 1 - j];
        difference[j] = z[j + 1] - z[R - 1 - j];
        total = total + sum[j];
    }
    const Complex<T> first = z[0];
    z[0] = total;
#pragma GCC unroll 8
    for (int k = 1; k <= half; ++k) {
        Complex<T> even = first;
        Complex<T> odd{};
#pragma GCC unroll 8
        for (int j = 1; j <= half; ++j) {
            const int turn = j * k % R;
            const bool beyond = turn > half;
            const int index = (beyond ? R - turn : turn) - 1;
            const Vector<T> cos = broadcast(static_cast<T>(OddRoots<R>::cos[index]));
            const Vector<T> sin = broadcast(static_cast<T>(beyond ? -OddRoots<R>::sin[index] : OddRoots<R>::sin[index]));
            even = {fma(sum[j - 1].re, cos, even.re), fma(sum[j - 1].im, cos, even.im)};
            odd = j == 1 ? Complex<T>{difference[0].re * sin, difference[0].im * sin}
                         : Complex<T>{fma(difference[j - 1].re, sin, odd.re), fma(difference[j - 1].im, sin, odd.im)};
        }
        z[k] = even + times_minus_i(odd);
        z[R - k] = even - times_minus_i(odd);
    }
}

template <int R, class T>
    requires(R == 2)
inline void butterfly(Complex<T>* z) {
    const Complex<T> sum = z[0] + z[1];
    z[1] = z[0] - z[1];
    z[0] = sum;
}

template <int R, class T>
    requires(R == 4)
inline void butterfly(Complex<T>* z) {
    const Complex<T> even = z[0] + z[2];
    const Complex<T> odd = z[1] + z[3];
    const Complex<T> even_turn = z[0] - z[2];
    const Complex<T> odd_turn = times_minus_i(z[1] - z[3]);
    z[0] = even + odd;
    z[1] = even_turn + odd_turn;
    z[2] = even - odd;
    z[3] = even_turn - odd_turn;
}

template <int R, class T>
    requires(R == 8)
inline void butterfly(Complex<T>* z) {
    Complex<T> even[4] = {z[0], z[2], z[4], z[6]};
    Complex<T> odd[4] = {z[1], z[3], z[5], z[7]};
    butterfly<4>(even);
    butterfly<4>(odd);
    const Vector<T> half_root = broadcast(static_cast<T>(0.70710678118654752440));
    odd[1] = {(odd[1].re + odd[1].im) * half_root, (odd[1].im - odd[1].re) * half_root};
    odd[2] = times_minus_i(odd[2]);
    odd[3] = {(odd[3].im - odd[3].re) * half_root, (odd[3].re + odd[3].im) * -half_root};
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
        z[k] = even[k] + odd[k];
        z[k + 4] = even[k] - odd[k];
    }
}


// An inverse transform is a forward one with the real and imaginary parts exchanged before and after it.
enum class Direction { kForward, kInverse };

template <Direction D, class T>
inline Complex<T> pick(const Complex<T>& z) {
    return D == Direction::kForward ? z : Complex<T>{z.im, z.re};
}

// One butterfly on legs `step` apart, its twiddle factors after it going forward and before it going back.
template <int R, Direction D, bool Twiddled, class T>
inline void butterfly_at(Complex<T>* z, int step, Factor<T> factors) {
    Complex<T> leg[R];
#pragma GCC unroll 8
    for (int j = 0; j < R; ++j) {
        leg[j] = pick<D>(z[j * step]);
        if (Twiddled && D == Direction::kInverse && j > 0) leg[j] = times(leg[j], factors + 2 * (j - 1));
    }
    butterfly<R>(leg);
#pragma GCC unroll 8
    for (int j = 0; j < R; ++j) {
        if (Twiddled && D == Direction::kForward && j > 0) leg[j] = times(leg[j], factors + 2 * (j - 1));
        z[j * step] = pick<D>(leg[j]);
    }
}

template <int R, Direction D, class T>
inline void run_pass(Complex<T>* z, int legs, int inner, int blocks, Factor<T> factors) {
    const int step = legs * inner;
    for (int block = 0; block < blocks; ++block, z += R * step) {
        for (int s = 0; s < inner; ++s) butterfly_at<R, D, false>(z + s, step, factors);
        for (int p = 1; p < legs; ++p) {
            for (int s = 0; s < inner; ++s) {
                butterfly_at<R, D, true>(z + p * inner + s, step, factors + 2 * (R - 1) * (p - 1));
            }
        }
    }
}

// A plan with its factors in the number type of the data.
template <class T>
class Transform {
   public:
    explicit Transform(std::shared_ptr<const Plan> plan)
        : plan_(std::move(plan)),
          twiddles_(plan_->twiddles.begin(), plan_->twiddles.end()),
          chirp_(plan_->chirp.begin(), plan_->chirp.end()),
          kernel_(plan_->kernel.begin(), plan_->kernel.end()) {
        if (plan_->convolution) inner_ = std::make_unique<Transform>(plan_->convolution);
    }

    const Plan& plan() const { return *plan_; }

    // Elements of workspace that `run` needs beside its data.
    int workspace() const { return inner_ ? inner_->plan().size : 0; }

    // Samples at place[n] become a spectrum in the plan's order (forward), or back, unscaled (inverse).
    template <Direction D>
    [[gnu::noinline]] void run(Complex<T>* z, Complex<T>* workspace) const {
        if (inner_) return convolve<D>(z, workspace);
        if (plan_->size == 224) return run_224<D>(z);
        if (plan_->size == 32) return run_32<D>(z);
        const int count = static_cast<int>(plan_->passes.size());
        for (int i = 0; i < count; ++i) run_any<D>(z, plan_->passes[D == Direction::kForward ? i : count - 1 - i]);
    }

   private:
    template <Direction D>
    void run_any(Complex<T>* z, const Pass& pass) const {
        Factor<T> factors = twiddles_.data() + pass.twiddles;
        switch (pass.radix) {
            case 2: return run_pass<2, D>(z, pass.legs, pass.inner, pass.blocks, factors);
            case 3: return run_pass<3, D>(z, pass.legs, pass.inner, pass.blocks, factors);
            case 4: return run_pass<4, D>(z, pass.legs, pass.inner, pass.blocks, factors);
            case 5: return run_pass<5, D>(z, pass.legs, pass.inner, pass.blocks, factors);
            case 7: return run_pass<7, D>(z, pass.legs, pass.inner, pass.blocks, factors);
            default: return run_pass<8, D>(z, pass.legs, pass.inner, pass.blocks, factors);
        }
    }

    // The plans of the two usual lengths with every loop bound known to the compiler.
    template <Direction D>
    void run_32(Complex<T>* z) const {
        if (D == Direction::kInverse) run_pass<4, D>(z, 1, 1, 8, twiddles_.data());
        run_pass<8, D>(z, 4, 1, 1, twiddles_.data());
        if (D == Direction::kForward) run_pass<4, D>(z, 1, 1, 8, twiddles_.data());
    }

    template <Direction D>
    void run_224(Complex<T>* z) const {
        if (D == Direction::kForward) run_pass<7, D>(z, 1, 32, 1, twiddles_.data());
        for (int block = 0; block < 7; ++block) run_32<D>(z + 32 * block);
        if (D == Direction::kInverse) run_pass<7, D>(z, 1, 32, 1, twiddles_.data());
    }

    template <Direction D>
    void convolve(Complex<T>* z, Complex<T>* padded) const {
        const int size = plan_->size;
        const std::vector<int>& place = inner_->plan().place;
        const int length = inner_->plan().size;
        for (int n = 0; n < length; ++n) {
            padded[place[n]] = n < size ? times(pick<D>(z[n]), chirp_.data() + 2 * n) : Complex<T>{};
        }
        inner_->template run<Direction::kForward>(padded, nullptr);
        for (int k = 0; k < length; ++k) padded[k] = times(padded[k], kernel_.data() + 2 * k);
        inner_->template run<Direction::kInverse>(padded, nullptr);
        for (int n = 0; n < size; ++n) z[n] = pick<D>(times(padded[place[n]], chirp_.data() + 2 * n));
    }

    std::shared_ptr<const Plan> plan_;
    std::vector<T> twiddles_, chirp_, kernel_;
    std::unique_ptr<Transform> inner_;
};

}  // namespace apr
