// Work shared out to threads that live for one call: nothing stays behind that a fork of the process could break.
#pragma once

#include <algorithm>
#include <atomic>
#include <system_error>
#include <thread>
#include <vector>

namespace apr {

// Calls run(worker, task) for every task in 0..tasks-1, on at most workers() threads, this one among them.
class Team {
   public:
    Team(int threads, int tasks) : tasks_(tasks), workers_(std::max(1, std::min(threads, tasks))) {}

    int workers() const { return workers_; }

    template <class Run>
    void run(const Run& run) {
        std::atomic<int> next = 0;
        const auto work = [&](int worker) {
            for (int task = next++; task < tasks_; task = next++) run(worker, task);
        };
        std::vector<std::thread> others;
        try {
            for (int worker = 1; worker < workers_; ++worker) others.emplace_back(work, worker);
        } catch (const std::system_error&) {
            // The system gives no more threads: those that are there do all of it.
        }
        work(0);
        for (std::thread& other : others) other.join();
    }

   private:
    int tasks_, workers_;
};

}  // namespace apr
