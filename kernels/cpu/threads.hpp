// Work shared out to threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <functional>

namespace apr {

// Calls work(0) here and work(1), work(2), ... up to work(workers - 1) on other threads, as many of them as come
// before work(0) is done; returns when all are. `work` must not throw.
void share(int workers, const std::function<void(int)>& work) noexcept;

// Calls run(worker, task) for every task in 0..tasks-1, on at most workers() threads, this one among them.
class Team {
   public:
    Team(int threads, int tasks) : tasks_(tasks), workers_(std::max(1, std::min(threads, tasks))) {}

    int workers() const { return workers_; }

    template <class Run>
    void run(const Run& run) {
        std::atomic<int> next = 0;
        share(workers_, [&](int worker) {
            for (int task = next++; task < tasks_; task = next++) run(worker, task);
        });
    }

   private:
    int tasks_, workers_;
};

}  // namespace apr
