// Compiles a .cu file for the CPU: each thread of a block is a fiber. Between two barriers the fibers run one after
// the other, in an order that is shuffled anew each time; warps run ahead of each other; shared memory starts as NaN.
// A kernel that leaves out a barrier, or reads what nobody wrote, gives another result. Only what our kernels use is here.
#pragma once
#undef _FORTIFY_SOURCE  // its longjmp takes another stack for a fault
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <numeric>
#include <random>
#include <tuple>
#include <utility>
#include <vector>

#define HOST_SHIM
#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define SHARED(T, name) T* const name = reinterpret_cast<T*>(shim::shared)

struct float2 { float x, y; };
struct double2 { double x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct uchar4 { unsigned char x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline double2 make_double2(double x, double y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uchar4 make_uchar4(int x, int y, int z, int w) {
    return {static_cast<unsigned char>(x), static_cast<unsigned char>(y), static_cast<unsigned char>(z),
            static_cast<unsigned char>(w)};
}
inline float2 __ldg(const float2* at) { return *at; }
inline float rsqrtf(float value) { return 1 / std::sqrt(value); }
inline double rsqrt(double value) { return 1 / std::sqrt(value); }
struct Index { int x; };
static Index threadIdx, blockIdx, blockDim;

using std::max;
using std::min;
inline int min(int a, unsigned char b) { return std::min<int>(a, b); }
inline int max(int a, unsigned char b) { return std::max<int>(a, b); }
inline int atomicMin(int* at, int value) { return std::exchange(*at, std::min(*at, value)); }
inline int atomicMax(int* at, int value) { return std::exchange(*at, std::max(*at, value)); }
inline unsigned atomicAdd(unsigned* at, unsigned value) { return std::exchange(*at, *at + value); }
template <typename To, typename From> inline To bits_as(From from) {
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}
inline unsigned __float_as_uint(float value) { return bits_as<unsigned>(value); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}
inline float __uint_as_float(unsigned bits) { return bits_as<float>(bits); }
inline float __int_as_float(int bits) { return bits_as<float>(bits); }
inline unsigned short float16_bits(float value) { return bits_as<unsigned short>(static_cast<_Float16>(value)); }
inline float float_of_float16(unsigned short bits) { return static_cast<float>(bits_as<_Float16>(bits)); }

namespace shim {

enum State { kRunning, kAtBlockBarrier, kAtWarpBarrier, kDone };

struct Fiber {
    jmp_buf place;
    std::vector<char> stack = std::vector<char>(1 << 16);
    State state;
};

static std::vector<Fiber> fibers;
static jmp_buf scheduler;
static int current;
static std::function<void()> body;
static char* shared;

// Without the signal mask, which swapcontext takes a system call for.
inline void leave(jmp_buf& from, jmp_buf& to) {
    if (_setjmp(from) == 0) _longjmp(to, 1);
}

inline void wait(State state) {
    Fiber& mine = fibers[current];
    mine.state = state;
    leave(mine.place, scheduler);
}

inline void enter() {
    for (;;) {
        wait(kDone);
        body();
    }
}

inline void make_fibers(int threads) {
    static ucontext_t start;
    fibers.resize(threads);
    for (current = 0; current < threads; ++current) {
        getcontext(&start);
        start.uc_stack.ss_sp = fibers[current].stack.data();
        start.uc_stack.ss_size = fibers[current].stack.size();
        makecontext(&start, enter, 0);
        if (_setjmp(scheduler) == 0) setcontext(&start);
    }
}

inline int count(int first, int last, State state) {
    return std::count_if(&fibers[first], &fibers[0] + last, [=](const Fiber& f) { return f.state == state; });
}

inline void release(int first, int last, State waiting) {
    for (int i = first; i < last; ++i) {
        if (fibers[i].state == waiting) fibers[i].state = kRunning;
    }
}

// One block; 0, or 1 where some threads wait for others that have ended or wait elsewhere.
inline int run_block(int threads, std::mt19937& random) {
    std::vector<int> order(threads);
    std::iota(order.begin(), order.end(), 0);
    release(0, threads, kDone);
    for (;;) {
        // Warps run ahead of each other: a coin for each whether it moves in this round.
        const unsigned awake = random();
        std::shuffle(order.begin(), order.end(), random);
        for (int i : order) {
            if (fibers[i].state != kRunning || (awake >> (i / 32) & 1) == 0) continue;
            current = threadIdx.x = i;
            leave(scheduler, fibers[i].place);
        }
        for (int first = 0; first < threads; first += 32) {
            const int last = std::min(threads, first + 32);
            if (count(first, last, kAtWarpBarrier) == last - first) release(first, last, kAtWarpBarrier);
        }
        if (count(0, threads, kRunning) > 0) continue;
        if (count(0, threads, kDone) == threads) return 0;
        if (count(0, threads, kAtBlockBarrier) != threads) return 1;
        release(0, threads, kAtBlockBarrier);
    }
}

// `arguments` points to each argument, as for cuLaunchKernel. 0; 1 for a barrier that not all threads reach; 2 for
// shared memory overrun.
template <typename... A, std::size_t... I>
int launch(void (*kernel)(A...), std::index_sequence<I...>, int grid, int block, int bytes, unsigned seed,
           void** arguments) {
    constexpr int kGuard = 256;
    constexpr char kMark = 0x5a;
    body = [=] { kernel(*static_cast<A*>(arguments[I])...); };
    if (static_cast<int>(fibers.size()) != block) make_fibers(block);
    blockDim.x = block;
    std::vector<char> memory(bytes + kGuard + 64);
    shared = memory.data() + (64 - reinterpret_cast<std::uintptr_t>(memory.data()) % 64) % 64;
    std::fill_n(shared + bytes, kGuard, kMark);
    std::mt19937 random(seed);
    for (blockIdx.x = 0; blockIdx.x < grid; ++blockIdx.x) {
        std::fill_n(shared, bytes, static_cast<char>(0xff));
        if (const int wrong = run_block(block, random)) {
            fibers.clear();  // which wait still
            return wrong;
        }
        if (std::count(shared + bytes, shared + bytes + kGuard, kMark) != kGuard) return 2;
    }
    return 0;
}

}  // namespace shim

inline void __syncthreads() { shim::wait(shim::kAtBlockBarrier); }
inline void __syncwarp() { shim::wait(shim::kAtWarpBarrier); }

namespace shim {
inline int most_threads(int threads, int = 0) { return threads; }
}  // namespace shim

// The rest: the kernel's launch bounds, of which a driver refuses a larger block.
#define LAUNCHER(kernel, ...)                                                                                        \
    template <typename... A>                                                                                         \
    int call_##kernel(void (*function)(A...), int grid, int block, int bytes, unsigned seed, void** arguments) {     \
        return shim::launch(function, std::index_sequence_for<A...>(), grid, block, bytes, seed, arguments);         \
    }                                                                                                                \
    extern "C" int launch_##kernel(int grid, int block, int bytes, unsigned seed, void** arguments) {                \
        if (block > shim::most_threads(__VA_ARGS__)) return 3;                                                       \
        return call_##kernel(kernel, grid, block, bytes, seed, arguments);                                           \
    }
