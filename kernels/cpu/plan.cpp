#include "plan.hpp"

#include <pthread.h>

#include <cmath>
#include <complex>
#include <map>
#include <mutex>
#include <numbers>

namespace apr {
namespace {

using Wide = std::complex<double>;

// exp(-2πi·numerator/denominator), the angle reduced first so that it is exact for large numerators.
Wide unit_root(long long numerator, long long denominator) {
    const double angle = -2 * std::numbers::pi * static_cast<double>(numerator % denominator) /
                         static_cast<double>(denominator);
    return {std::cos(angle), std::sin(angle)};
}

void push(std::vector<double>& out, Wide value) {
    out.push_back(value.real());
    out.push_back(value.imag());
}

struct PrimePower {
    int length;
    std::vector<int> radices;
};

// The coprime prime powers of `size`, outermost first, or nothing if it has another prime factor. Powers of two come
// last: they have the most passes, and innermost their blocks are small and stay in the nearest cache.
std::vector<PrimePower> split(int size) {
    std::vector<PrimePower> powers;
    for (const int prime : {7, 5, 3}) {
        PrimePower power{1, {}};
        for (; size % prime == 0; size /= prime) {
            power.radices.push_back(prime);
            power.length *= prime;
        }
        if (power.length > 1) powers.push_back(power);
    }
    PrimePower two{1, {}};
    for (const int radix : {8, 4, 2}) {
        // 16 = 4·4 rather than 8·2, and never a 2 where an 8 and a 4 can share.
        while (size % radix == 0 && !(radix == 8 && size == 16)) {
            two.radices.push_back(radix);
            two.length *= radix;
            size /= radix;
        }
    }
    if (two.length > 1) powers.push_back(two);
    return size == 1 ? powers : std::vector<PrimePower>{};
}

bool has_passes(int size) { return size == 1 || !split(size).empty(); }

void add_passes(Plan& plan, const PrimePower& power, int outer, int inner) {
    int length = power.length;
    int blocks = outer;
    for (const int radix : power.radices) {
        const int legs = length / radix;
        plan.passes.push_back({radix, legs, inner, blocks, static_cast<int>(plan.twiddles.size())});
        for (int p = 1; p < legs; ++p) {
            for (int k = 1; k < radix; ++k) push(plan.twiddles, unit_root(static_cast<long long>(p) * k, length));
        }
        blocks *= radix;
        length = legs;
    }
}

// The frequency that decimation with these radices leaves at a position: its digits reversed.
int reversed(int position, const PrimePower& power) {
    int length = power.length;
    int weight = 1;
    int frequency = 0;
    for (const int radix : power.radices) {
        length /= radix;
        frequency += position / length % radix * weight;
        weight *= radix;
    }
    return frequency;
}

// The mixed-radix digits (n_1, n_2, ...) of a position stand for the sample Σ n_a·size/L_a and, for frequencies, for
// the one that is k_a modulo L_a: the Good-Thomas maps.
void add_order(Plan& plan, const std::vector<PrimePower>& powers) {
    const int size = plan.size;
    plan.place.resize(size);
    plan.frequency.resize(size);
    std::vector<int> position_of(size);
    for (int position = 0; position < size; ++position) {
        long long sample = 0;
        long long frequency = 0;
        int inner = size;
        for (const PrimePower& power : powers) {
            inner /= power.length;
            const int digit = position / inner % power.length;
            const int others = size / power.length;
            sample += static_cast<long long>(digit) * others;
            int inverse = 1;  // of `others` modulo the length
            while (static_cast<long long>(others) * inverse % power.length != 1 % power.length) ++inverse;
            frequency += static_cast<long long>(reversed(digit, power)) * others % size * inverse;
        }
        plan.place[sample % size] = position;
        plan.frequency[position] = static_cast<int>(frequency % size);
        position_of[plan.frequency[position]] = position;
    }
    plan.opposite.resize(size);
    for (int position = 0; position < size; ++position) {
        plan.opposite[position] = position_of[(size - plan.frequency[position]) % size];
    }
}

// The transform of `plan` on one complex number an element, by its definition over the passes. Slow and simple: it
// serves to build the kernel of a chirp convolution.
void transform(const Plan& plan, std::vector<Wide>& data) {
    for (const Pass& pass : plan.passes) {
        const int leg = pass.legs * pass.inner;
        for (int butterfly = 0; butterfly < pass.blocks * leg; ++butterfly) {
            const int base = butterfly / leg * leg * pass.radix + butterfly % leg;
            const int p = butterfly % leg / pass.inner;
            std::vector<Wide> sums(pass.radix);
            for (int k = 0; k < pass.radix; ++k) {
                for (int j = 0; j < pass.radix; ++j) sums[k] += data[base + j * leg] * unit_root(j * k, pass.radix);
                sums[k] *= unit_root(static_cast<long long>(p) * k, static_cast<long long>(pass.legs) * pass.radix);
            }
            for (int k = 0; k < pass.radix; ++k) data[base + k * leg] = sums[k];
        }
    }
}

void add_convolution(Plan& plan) {
    const int size = plan.size;
    int padded = 2 * size - 1;
    while (!has_passes(padded)) ++padded;
    plan.convolution = plan_for(padded);
    std::vector<Wide> kernel(padded);
    for (int n = 0; n < size; ++n) {
        // n² modulo 2·size: the chirp has that period.
        const Wide value = unit_root(static_cast<long long>(n) * n % (2LL * size), 2LL * size);
        push(plan.chirp, value);
        kernel[plan.convolution->place[n]] = std::conj(value);
        kernel[plan.convolution->place[(padded - n) % padded]] = std::conj(value);
    }
    transform(*plan.convolution, kernel);
    // The inverse over the padded length comes unscaled; its factor goes here.
    for (const Wide& value : kernel) push(plan.kernel, value / static_cast<double>(padded));
    for (int n = 0; n < size; ++n) {
        plan.place.push_back(n);
        plan.frequency.push_back(n);
        plan.opposite.push_back((size - n) % size);
    }
}

std::shared_ptr<const Plan> build(int size) {
    auto plan = std::make_shared<Plan>();
    plan->size = size;
    for (int n = 0; n < size; ++n) push(plan->roots, unit_root(n, size));
    if (!has_passes(size)) {
        add_convolution(*plan);
        return plan;
    }
    const std::vector<PrimePower> powers = split(size);
    int outer = 1;
    for (const PrimePower& power : powers) {
        add_passes(*plan, power, outer, size / outer / power.length);
        outer *= power.length;
    }
    add_order(*plan, powers);
    return plan;
}

struct Plans {
    std::mutex guard;
    std::map<int, std::shared_ptr<const Plan>> by_size;
};
Plans* plans = new Plans;

// A process may be forked while another thread holds the lock: it begins anew.
const int watch_forks = pthread_atfork(nullptr, nullptr, [] { plans = new Plans; });

}  // namespace

std::shared_ptr<const Plan> plan_for(int size) {
    Plans& all = *plans;
    {
        const std::lock_guard lock(all.guard);
        if (const auto found = all.by_size.find(size); found != all.by_size.end()) return found->second;
    }
    auto built = build(size);  // outside the lock: a chirp needs another plan
    const std::lock_guard lock(all.guard);
    return all.by_size.emplace(size, std::move(built)).first->second;
}

}  // namespace apr
