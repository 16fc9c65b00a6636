// CUDA on a processor: what kernels.cu needs of it, so that any C++ compiler builds that text unchanged.
//
//     g++ -include tests/cuda/host.hpp -x c++ -ffp-contract=off -shared dtb/engine/backends/kernels.cu
//
// The threads of a block are fibers, which take turns at barriers and warp operations, in an order that can be chosen;
// blocks run one after another, in that order, too. It is stricter than a device: a thread that leaves while others
// wait at a barrier, a warp operation that not all lanes reach, or a write beyond the shared memory is an error.

#pragma once
#include <setjmp.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

#include <algorithm>
#include <random>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__
#define __launch_bounds__(...)

struct Dim {
    unsigned x = 1, y = 1, z = 1;
};
static Dim threadIdx, blockIdx, blockDim, gridDim;

namespace host {

enum State { READY, AT_BARRIER, AT_WARP, DONE };
using Kernel = void (*)(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);
constexpr size_t STACK = 1 << 16, SHARED = 1 << 18;
constexpr unsigned MAX_THREADS = 1024, WARP = 32;

struct Fiber {
    jmp_buf here;
    State state = DONE;
    std::vector<char> stack;
};
struct Warp {
    uint64_t given[WARP], seen[WARP];
};

static std::vector<Fiber> fibers;
static Warp warps[MAX_THREADS / WARP];
static jmp_buf scheduler;
static ucontext_t ground;
static unsigned current;
static Kernel kernel;
static uint64_t arguments[8];
static const char* fault;

static void leave(State state) {
    fibers[current].state = state;
    if (!_setjmp(fibers[current].here)) _longjmp(scheduler, 1);
}

static void live() {
    for (;;) {
        const uint64_t* a = arguments;
        kernel(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]);
        leave(DONE);
    }
}

static void begin(unsigned number) {  // a fiber that waits for its first kernel
    Fiber& fiber = fibers[number];
    fiber.stack.resize(STACK);
    static ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = fiber.stack.data();
    context.uc_stack.ss_size = STACK;
    context.uc_link = nullptr;
    makecontext(&context, [] { leave(DONE); live(); }, 0);
    current = number;
    if (!_setjmp(scheduler)) swapcontext(&ground, &context);
}

static void resume(unsigned number) {
    current = number;
    threadIdx.x = number;
    if (!_setjmp(scheduler)) _longjmp(fibers[number].here, 1);
}

// Let waiting threads go on where all that they wait for have come; whether any could.
static bool release(unsigned threads) {
    bool any = false;
    unsigned waiting = 0, done = 0;
    for (unsigned i = 0; i < threads; i++) waiting += fibers[i].state == AT_BARRIER, done += fibers[i].state == DONE;
    if (waiting == threads) {
        for (unsigned i = 0; i < threads; i++) fibers[i].state = READY;
        return true;
    }
    for (unsigned w = 0; w < threads / WARP; w++) {
        bool all = true;
        for (unsigned l = 0; l < WARP; l++) all &= fibers[w * WARP + l].state == AT_WARP;
        if (!all) continue;
        memcpy(warps[w].seen, warps[w].given, sizeof warps[w].seen);
        for (unsigned l = 0; l < WARP; l++) fibers[w * WARP + l].state = READY;
        any = true;
    }
    if (!any) fault = waiting ? "a thread did not come to a barrier that others wait at"
                              : "a lane did not come to a warp operation that others wait at";
    return any;
}

static bool run_block(unsigned threads, const std::vector<unsigned>& order) {
    for (unsigned i = 0; i < threads; i++) fibers[i].state = READY;
    for (unsigned done = 0; done < threads;) {
        bool ran = false;
        for (unsigned i : order)
            if (fibers[i].state == READY) {
                resume(i);
                ran = true;
                done += fibers[i].state == DONE;
            }
        if (done < threads && !ran && !release(threads)) return false;
    }
    return true;
}

static uint64_t collect(uint64_t given) {
    warps[threadIdx.x / WARP].given[threadIdx.x % WARP] = given;
    unsigned me = threadIdx.x;
    leave(AT_WARP);
    return me / WARP;
}

}  // namespace host

alignas(64) unsigned long long arena[host::SHARED / 8];

extern "C" const char* host_launch(
    host::Kernel kernel, unsigned blocks, unsigned threads, unsigned shared, const uint64_t* arguments, unsigned n,
    uint64_t seed
) {
    if (threads % host::WARP || threads > host::MAX_THREADS) return "threads come in warps of 32, 1024 at most";
    if (shared > host::SHARED - 64) return "a block has no more shared memory than this";
    if (host::fault) {  // some threads never came back
        host::fibers.clear();
        host::fault = nullptr;
    }
    while (host::fibers.size() < host::MAX_THREADS) {
        if (host::fibers.empty()) host::fibers.reserve(host::MAX_THREADS);
        host::fibers.emplace_back();
        host::begin((unsigned)host::fibers.size() - 1);
    }
    host::kernel = kernel;
    memcpy(host::arguments, arguments, n * sizeof *arguments);
    std::vector<unsigned> order(threads), queue(blocks);
    for (unsigned i = 0; i < threads; i++) order[i] = i;
    for (unsigned i = 0; i < blocks; i++) queue[i] = i;
    std::mt19937_64 random(seed);
    if (seed) {
        std::shuffle(order.begin(), order.end(), random);
        std::shuffle(queue.begin(), queue.end(), random);
    }
    blockDim.x = threads;
    gridDim.x = blocks;
    const uint64_t mark = 0xA5A5A5A5A5A5A5A5ull;
    unsigned long long* end = arena + (shared + 7) / 8;
    for (unsigned block : queue) {
        memset(arena, 0x5A, (shared + 7) / 8 * 8);  // what a device leaves there is not zero either
        for (int i = 0; i < 8; i++) end[i] = mark;
        blockIdx.x = block;
        if (!host::run_block(threads, order)) return host::fault;
        for (int i = 0; i < 8; i++)
            if (end[i] != mark) return "a block wrote beyond its shared memory";
    }
    return nullptr;
}

inline void __syncthreads() { host::leave(host::AT_BARRIER); }

inline unsigned __ballot_sync(unsigned, bool value) {
    uint64_t warp = host::collect(value);
    unsigned bits = 0;
    for (unsigned l = 0; l < host::WARP; l++) bits |= (unsigned)host::warps[warp].seen[l] << l;
    return bits;
}

inline unsigned __match_any_sync(unsigned, unsigned value) {
    unsigned bits = 0;
    const uint64_t* seen = host::warps[host::collect(value)].seen;
    for (unsigned l = 0; l < host::WARP; l++) bits |= (unsigned)(seen[l] == value) << l;
    return bits;
}

template <class T>
T __shfl_sync(unsigned, T value, unsigned from) {
    return (T)host::warps[host::collect((uint64_t)value)].seen[from];
}
template <class T>
T __shfl_up_sync(unsigned, T value, unsigned by) {
    unsigned lane = threadIdx.x % host::WARP;
    uint64_t warp = host::collect((uint64_t)value);
    return lane < by ? value : (T)host::warps[warp].seen[lane - by];
}
template <class T>
T __shfl_down_sync(unsigned, T value, unsigned by) {
    unsigned lane = threadIdx.x % host::WARP;
    uint64_t warp = host::collect((uint64_t)value);
    return lane + by >= host::WARP ? value : (T)host::warps[warp].seen[lane + by];
}

template <class T>
T atomicAdd(T* to, T value) {
    T before = *to;
    *to = before + value;
    return before;
}
template <class T>
T atomicMax(T* to, T value) {
    T before = *to;
    if (value > before) *to = value;
    return before;
}
inline unsigned __funnelshift_lc(unsigned low, unsigned high, unsigned by) {
    return by >= 32 ? low : by ? high << by | low >> (32 - by) : high;
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clzll(long long x) { return __builtin_clzll(x); }
