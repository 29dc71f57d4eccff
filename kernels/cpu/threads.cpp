#include "threads.hpp"

#include <pthread.h>
#ifdef __linux__
#include <sched.h>
#endif

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace apr {
namespace {

// To start a thread takes as long as to recombine twenty images of 32²: those that are done wait this long for more.
constexpr std::chrono::seconds kPatience{1};
constexpr std::chrono::microseconds kAboutNow{50};
[[maybe_unused]] constexpr const char* kName = "apr_dali";  // that lists of threads show

// Work that others may join for as long as it is on the list of calls.
struct Call {
    const std::function<void(int)>* work;
    int places;  // for others
    int joined = 0;
    int busy = 0;
};

// Keeps sleeping threads off this core, on the others that this thread may use. Linux may wake them here, behind their
// caller: kernels of virtual machines do, to keep few cores awake, and part the two after milliseconds only.
void send_away([[maybe_unused]] const std::vector<pthread_t>& sleeping) {
#ifdef __linux__
    cpu_set_t cores;
    if (sched_getaffinity(0, sizeof cores, &cores) != 0) return;
    CPU_CLR(sched_getcpu(), &cores);
    if (CPU_COUNT(&cores) == 0) return;
    for (const pthread_t thread : sleeping) pthread_setaffinity_np(thread, sizeof cores, &cores);
#endif
}

class Helpers {
   public:
    void share(int workers, const std::function<void(int)>& work) {
        Call call{&work, workers - 1};
        if (call.places > 0) open(call);
        work(0);
        if (call.places > 0) close(call);
    }

   private:
    void open(Call& call) {
        {
            const std::lock_guard lock(guard_);
            calls_.push_back(&call);
            int wanted = 0;
            for (const Call* each : calls_) wanted += each->places - each->joined;
            try {
                while (static_cast<int>(waiting_.size()) < wanted) {
                    std::thread helper([this] { help(); });
                    waiting_.push_back(helper.native_handle());
                    helper.detach();
                }
            } catch (const std::system_error&) {
                // The system gives no more threads: those that are there do all of it.
            }
            send_away(waiting_);
        }
        for (int place = 0; place < call.places; ++place) called_.notify_one();
    }

    void close(Call& call) {
        std::unique_lock lock(guard_);
        std::erase(calls_, &call);
        const auto all_left = [&] { return call.busy == 0; };
        look_out(lock, all_left);
        left_.wait(lock, all_left);
    }

    // What is waited for comes about now: to sleep and be woken takes longer than most of it needs.
    template <class Happened>
    static void look_out(std::unique_lock<std::mutex>& lock, const Happened& happened) {
        const auto end = std::chrono::steady_clock::now() + kAboutNow;
        while (!happened() && std::chrono::steady_clock::now() < end) {
            lock.unlock();
            std::this_thread::yield();
            lock.lock();
        }
    }

    // The life of a thread; it is counted as waiting before it starts.
    void help() {
#ifdef __linux__
        pthread_setname_np(pthread_self(), kName);
#endif
        std::unique_lock lock(guard_);
        const auto called = [&] { return !calls_.empty(); };
        while (called_.wait_for(lock, kPatience, called)) {
            std::erase(waiting_, pthread_self());
            Call& call = *calls_.front();
            ++call.busy;
            const int worker = ++call.joined;
            if (call.joined == call.places) calls_.pop_front();
            lock.unlock();
            (*call.work)(worker);
            lock.lock();
            if (--call.busy == 0) left_.notify_all();
            waiting_.push_back(pthread_self());
            look_out(lock, called);
        }
        std::erase(waiting_, pthread_self());
    }

    std::mutex guard_;
    std::condition_variable called_, left_;
    std::deque<Call*> calls_;
    std::vector<pthread_t> waiting_;
};

// Never destroyed: threads may wait in it until the process ends.
Helpers* helpers = new Helpers;

// A forked process has none of the threads, and a lock may have been held: it begins anew.
const int watch_forks = pthread_atfork(nullptr, nullptr, [] { helpers = new Helpers; });

}  // namespace

void share(int workers, const std::function<void(int)>& work) noexcept { helpers->share(workers, work); }

}  // namespace apr
