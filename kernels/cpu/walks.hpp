// The order in which the images of a batch are mixed with their partners, and its parts for the threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "threads.hpp"

namespace apr {

// An order in which each image, where possible, comes straight after the partner whose amplitudes it needs: walks
// along the partners, each run through from its end.
inline std::vector<int> partners_first(const std::int64_t* partner, int batch) {
    std::vector<int> order;
    std::vector<bool> seen(batch);
    for (int start = 0; start < batch; ++start) {
        const auto walk = order.size();
        for (int n = start; !seen[n]; n = static_cast<int>(partner[n])) {
            seen[n] = true;
            order.push_back(n);
        }
        std::reverse(order.begin() + static_cast<std::ptrdiff_t>(walk), order.end());
    }
    return order;
}

// Calls mix(image) for order[begin..end), and measure(partner) before it where the image before is not its partner. A
// walk that closes a cycle begins with the amplitudes of the image that it ends with: that one is transformed twice,
// which takes less time than to keep its spectrum until then.
template <class Measure, class Mix>
void mix_walk(const std::int64_t* partner, const std::vector<int>& order, int begin, int end, const Measure& measure,
              const Mix& mix) {
    int measured = -1;
    for (int i = begin; i < end; ++i) {
        const int image = order[i];
        const int amplitude_source = static_cast<int>(partner[image]);
        if (amplitude_source != measured) measure(amplitude_source);
        mix(image);
        measured = image;
    }
}

// `batch` places, parted among the threads: run(worker, begin, end) gets one part after another.
class Parts {
   public:
    Parts(int threads, int batch) : batch_(batch), parts_(std::min(threads, batch)), team_(threads, parts_) {}

    int workers() const { return team_.workers(); }

    template <class Run>
    void run(const Run& run) {
        const auto bound = [&](int k) { return static_cast<int>(static_cast<long long>(batch_) * k / parts_); };
        team_.run([&](int worker, int part) { run(worker, bound(part), bound(part + 1)); });
    }

   private:
    int batch_, parts_;
    Team team_;
};

}  // namespace apr
