// The small transforms: butterflies, and the passes of a Plan over them, kLanes transforms side by side.
#pragma once

#include <algorithm>
#include <memory>
#include <type_traits>
#include <vector>

#include "plan.hpp"
#include "simd.hpp"

namespace apr {

template <class T>
using Factor = const T*;  // cos, sin

template <class T>
APR_INLINE Complex<T> operator+(Complex<T> a, Complex<T> b) {
    return {a.re + b.re, a.im + b.im};
}
template <class T>
APR_INLINE Complex<T> operator-(Complex<T> a, Complex<T> b) {
    return {a.re - b.re, a.im - b.im};
}
template <class T>
APR_INLINE Complex<T> times_minus_i(Complex<T> a) {
    return {a.im, -a.re};
}
template <class T>
APR_INLINE Complex<T> times(Complex<T> a, Factor<T> factor) {
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
    requires(R % 2 == 1 && R > 1)
APR_INLINE void butterfly(Complex<T>* z) {
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
        Complex<T> odd;
#pragma GCC unroll 8
        for (int j = 1; j <= half; ++j) {
            const int turn = j * k % R;
            const bool beyond = turn > half;
            const int index = (beyond ? R - turn : turn) - 1;
            const Vector<T> cos = broadcast(static_cast<T>(OddRoots<R>::cos[index]));
            const Vector<T> sin = broadcast(static_cast<T>(beyond ? -OddRoots<R>::sin[index] : OddRoots<R>::sin[index]));
            even = {fma(sum[j - 1].re, cos, even.re), fma(sum[j - 1].im, cos, even.im)};
            const Complex<T>& turned = difference[j - 1];
            odd = j == 1 ? Complex<T>{turned.re * sin, turned.im * sin}
                         : Complex<T>{fma(turned.re, sin, odd.re), fma(turned.im, sin, odd.im)};
        }
        z[k] = even + times_minus_i(odd);
        z[R - k] = even - times_minus_i(odd);
    }
}

template <int R, class T>
    requires(R == 1)
APR_INLINE void butterfly(Complex<T>*) {}

template <int R, class T>
    requires(R == 2)
APR_INLINE void butterfly(Complex<T>* z) {
    const Complex<T> sum = z[0] + z[1];
    z[1] = z[0] - z[1];
    z[0] = sum;
}

template <int R, class T>
    requires(R == 4)
APR_INLINE void butterfly(Complex<T>* z) {
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
APR_INLINE void butterfly(Complex<T>* z) {
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
APR_INLINE Complex<T> pick(const Complex<T>& z) {
    return D == Direction::kForward ? z : Complex<T>{z.im, z.re};
}

// One butterfly on legs `step` apart, its twiddle factors after it going forward and before it going back.
template <int R, Direction D, bool Twiddled, class T>
APR_INLINE void butterfly_at(Complex<T>* z, int step, Factor<T> factors) {
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

// The last pass forward and the first back, which have no factors and whose legs are neighbors, in one: `change` gets
// each bin between the two, the first of them at position `first`, and nothing of the spectrum is stored and read again.
template <int R, bool There, bool Back, class T, class Change>
APR_INLINE void run_turn(Complex<T>* z, int first, int blocks, const Change& change) {
    for (int block = 0; block < blocks; ++block, z += R, first += R) {
        Complex<T> leg[R];
        if (There) {
            std::copy_n(z, R, leg);
            butterfly<R>(leg);
        }
#pragma GCC unroll 8
        for (int j = 0; j < R; ++j) {
            change(first + j, leg[j]);
            leg[j] = pick<Direction::kInverse>(leg[j]);
        }
        if (Back) {
            butterfly<R>(leg);
#pragma GCC unroll 8
            for (int j = 0; j < R; ++j) z[j] = pick<Direction::kInverse>(leg[j]);
        }
    }
}

// float64 for one part of the lanes of T, of which there are one or two; and the lanes back from all the parts, which
// lie `apart` from each other.
template <class T, class Run>
inline void for_each_part(const Run& run) {
    run(std::integral_constant<int, 0>{});
    if constexpr (sizeof(T) < sizeof(double)) run(std::integral_constant<int, 1>{});
}
template <int Part>
APR_INLINE Complex<double> widen(const Complex<float>& z) {
    constexpr int n = kLanes<double>;
    constexpr std::make_integer_sequence<int, n> lanes;
    return {__builtin_convertvector(part<Part * n>(z.re, lanes), Vector<double>),
            __builtin_convertvector(part<Part * n>(z.im, lanes), Vector<double>)};
}
template <int Part>
APR_INLINE Complex<double> widen(const Complex<double>& z) {
    return z;
}
template <class T>
APR_INLINE Complex<T> narrow(const Complex<double>* parts, int apart) {
    if constexpr (sizeof(T) == sizeof(double)) {
        return *parts;
    } else {
        using Half = Vector<float, kVectorBytes / 2>;
        constexpr std::make_integer_sequence<int, kLanes<float>> lanes;
        const Complex<double>& a = parts[0];
        const Complex<double>& b = parts[apart];
        return {join(__builtin_convertvector(a.re, Half), __builtin_convertvector(b.re, Half), lanes),
                join(__builtin_convertvector(a.im, Half), __builtin_convertvector(b.im, Half), lanes)};
    }
}

// What is done to the bins, here and below, has a type of its own and is no lambda: a transform is compiled anew for each
// lambda, in every instance of the template that it stands in.

// Each bin as it is, in its place.
template <class T>
struct StoreBins {
    Complex<T>* z;
    APR_INLINE void operator()(int k, const Complex<T>& bin) const { z[k] = bin; }
};
template <class T>
struct LoadBins {
    const Complex<T>* z;
    APR_INLINE void operator()(int k, Complex<T>& bin) const { bin = z[k]; }
};
// Each bin times the one of the kernel of a convolution.
struct Filter {
    const double* kernel;
    APR_INLINE void operator()(int k, Complex<double>& bin) const { bin = times(bin, kernel + 2 * k); }
};

// A plan with its factors in the number type of the data.
template <class T>
class Transform {
   public:
    explicit Transform(std::shared_ptr<const Plan> plan)
        : plan_(std::move(plan)),
          twiddles_(plan_->twiddles.begin(), plan_->twiddles.end()) {
        if (plan_->convolution) wide_ = std::make_unique<Transform<double>>(plan_->convolution);
    }

    const Plan& plan() const { return *plan_; }

    // Elements of workspace that `run` needs beside its data.
    int workspace() const { return wide_ ? kParts * wide_->plan().size : 0; }

    // Samples at place[n] become a spectrum in the plan's order: take(position, bin) gets one bin after the other, and
    // `z` is left in disorder.
    template <class Take>
    [[gnu::noinline]] void forward(Complex<T>* z, Complex<double>* workspace, const Take& take) const {
        run<true, false>(z, workspace, take);
    }

    // The way back, unscaled: give(position, bin) sets one bin after the other.
    template <class Give>
    [[gnu::noinline]] void inverse(Complex<T>* z, Complex<double>* workspace, const Give& give) const {
        run<false, true>(z, workspace, give);
    }

    // Both ways, the bins as `change` leaves them.
    template <class Change>
    [[gnu::noinline]] void through(Complex<T>* z, Complex<double>* workspace, const Change& change) const {
        run<true, true>(z, workspace, change);
    }

   private:
    template <bool There, bool Back, class Change>
    APR_INLINE void run(Complex<T>* z, Complex<double>* workspace, const Change& change) const {
        if (wide_) {
            if (There) convolve<Direction::kForward>(z, workspace);
            for (int k = 0; k < plan_->size; ++k) change(k, z[k]);
            if (Back) convolve<Direction::kInverse>(z, workspace);
        } else if (plan_->size == 224) {
            run_224<There, Back>(z, change);
        } else if (plan_->size == 32) {
            run_32<There, Back>(z, 0, change);
        } else {
            run_any<There, Back>(z, change);
        }
    }

    template <bool There, bool Back, class Change>
    APR_INLINE void run_any(Complex<T>* z, const Change& change) const {
        const int last = static_cast<int>(plan_->passes.size()) - 1;
        for (int i = 0; There && i < last; ++i) run_one<Direction::kForward>(z, plan_->passes[i]);
        const auto turn = [&]<int R>(std::integral_constant<int, R>) {
            run_turn<R, There, Back>(z, 0, plan_->size / R, change);
        };
        switch (last < 0 ? 1 : plan_->passes[last].radix) {
            case 1: turn(std::integral_constant<int, 1>{}); break;
            case 2: turn(std::integral_constant<int, 2>{}); break;
            case 3: turn(std::integral_constant<int, 3>{}); break;
            case 4: turn(std::integral_constant<int, 4>{}); break;
            case 5: turn(std::integral_constant<int, 5>{}); break;
            case 7: turn(std::integral_constant<int, 7>{}); break;
            default: turn(std::integral_constant<int, 8>{});
        }
        for (int i = last - 1; Back && i >= 0; --i) run_one<Direction::kInverse>(z, plan_->passes[i]);
    }

    template <Direction D>
    [[gnu::noinline]] void run_one(Complex<T>* z, const Pass& pass) const {
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
    template <bool There, bool Back, class Change>
    APR_INLINE void run_32(Complex<T>* z, int first, const Change& change) const {
        if (There) run_pass<8, Direction::kForward>(z, 4, 1, 1, twiddles_.data());
        run_turn<4, There, Back>(z, first, 8, change);
        if (Back) run_pass<8, Direction::kInverse>(z, 4, 1, 1, twiddles_.data());
    }

    template <bool There, bool Back, class Change>
    APR_INLINE void run_224(Complex<T>* z, const Change& change) const {
        if (There) run_pass<7, Direction::kForward>(z, 1, 32, 1, twiddles_.data());
        for (int block = 0; block < 7; ++block) run_32<There, Back>(z + 32 * block, 32 * block, change);
        if (Back) run_pass<7, Direction::kInverse>(z, 1, 32, 1, twiddles_.data());
    }

    // The chirp's many terms cost digits, and these lengths are rare: in float64 whatever T is, a part of the lanes
    // after the other.
    template <Direction D>
    [[gnu::noinline]] void convolve(Complex<T>* z, Complex<double>* padded) const {
        const int* place = wide_->plan().place.data();
        const double* chirp = plan_->chirp.data();
        const int length = wide_->plan().size;
        for_each_part<T>([&](auto part) {
            Complex<double>* own = padded + part * length;
            for (int n = 0; n < length; ++n) {
                const bool given = n < plan_->size;
                own[place[n]] = given ? times(widen<part>(pick<D>(z[n])), chirp + 2 * n)
                                      : Complex<double>{Vector<double>{}, Vector<double>{}};
            }
            wide_->through(own, nullptr, Filter{plan_->kernel.data()});
            for (int n = 0; n < plan_->size; ++n) own[place[n]] = times(own[place[n]], chirp + 2 * n);
        });
        for (int n = 0; n < plan_->size; ++n) z[n] = pick<D>(narrow<T>(padded + place[n], length));
    }

    static constexpr int kParts = sizeof(double) / sizeof(T);

    std::shared_ptr<const Plan> plan_;
    std::vector<T> twiddles_;
    std::unique_ptr<Transform<double>> wide_;  // of the convolution, if the plan is one
};

}  // namespace apr
