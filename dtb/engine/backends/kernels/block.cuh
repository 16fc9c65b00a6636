// What the threads of a block do together.

static const u32 WARP = 32;
static const u32 ALL = 0xFFFFFFFFu;

// Sum of a number over the lower lanes of a warp and this one.
DEVICE u32 warp_scan(u32 x) {
    u32 lane = threadIdx.x % WARP;
    for (u32 d = 1; d < WARP; d *= 2) {
        u32 below = __shfl_up_sync(ALL, x, d);
        if (lane >= d) x += below;
    }
    return x;
}

// Make n numbers in shared memory the sums of those before them; the sum of all. partial: 32 numbers of workspace.
// Every thread must have written its numbers before a barrier; ends with one.
DEVICE u32 scan(u32* values, u32 n, u32* partial) {
    u32 each = (n + blockDim.x - 1) / blockDim.x;
    u32 begin = threadIdx.x * each < n ? threadIdx.x * each : n;
    u32 end = begin + each < n ? begin + each : n;
    u32 sum = 0;
    for (u32 i = begin; i < end; i++) sum += values[i];
    u32 upto = warp_scan(sum);
    if (threadIdx.x % WARP == WARP - 1) partial[threadIdx.x / WARP] = upto;
    __syncthreads();
    u32 warps = blockDim.x / WARP;
    if (threadIdx.x < WARP) {
        u32 total = warp_scan(threadIdx.x < warps ? partial[threadIdx.x] : 0);
        partial[threadIdx.x] = total;
    }
    __syncthreads();
    u32 before = upto - sum + (threadIdx.x < WARP ? 0 : partial[threadIdx.x / WARP - 1]);
    u32 all = partial[warps - 1];
    for (u32 i = begin; i < end; i++) {
        u32 value = values[i];
        values[i] = before;
        before += value;
    }
    __syncthreads();
    return all;
}

// The last of n numbers that is at most x; they rise, and the first one is.
template <class Number> DEVICE Number last_upto(const Number* values, Number n, Number x) {
    Number low = 0, high = n;
    while (high - low > 1) {
        Number middle = (low + high) / 2;
        if (values[middle] <= x) low = middle;
        else high = middle;
    }
    return low;
}

DEVICE void add(i64* counter, i64 n) {
    if (n) atomicAdd((u64*)counter, (u64)n);
}
