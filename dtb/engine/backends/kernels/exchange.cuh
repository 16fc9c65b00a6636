// Spikes from and to other ranks; the message is that of cpu_spikes.pack: how many there are in each step of each tile,
// then their neurons, all uint16.

// offset (n + 1,): where the neurons of each tile begin in the message.  One block of threads.
KERNEL(1) measure_message(const World* __restrict__ w, i32* tiles, i64 n, i64 start, i64 stop, u16* message, i64* offset) {
    extern __shared__ u64 arena[];
    u32* spikes = (u32*)arena;
    u32* partial = spikes + blockDim.x;
    const i64 steps = stop - start;
    i64 before = n * steps;
    for (i64 from = 0; from < n; from += blockDim.x) {
        const i64 k = from + threadIdx.x;
        spikes[threadIdx.x] = 0;
        if (k < n) {
            for (i64 t = start; t < stop; t++)
                message[k * steps + t - start] = (u16)(position(w, tiles[k], t + 1) - position(w, tiles[k], t));
            spikes[threadIdx.x] = position(w, tiles[k], stop) - position(w, tiles[k], start);
        }
        __syncthreads();
        const u32 all = scan(spikes, blockDim.x, partial);
        if (k < n) offset[k] = before + spikes[threadIdx.x];
        before += all;
        __syncthreads();
    }
    if (threadIdx.x == 0) offset[n] = before;
}

// A block of threads per tile.
KERNEL(1) pack(const World* __restrict__ w, i32* tiles, i64 start, i64 stop, u16* message, i64* offset) {
    const i64 tile = tiles[blockIdx.x];
    const u32 first = position(w, tile, start), n = position(w, tile, stop) - first;
    for (u32 s = threadIdx.x; s < n; s += blockDim.x) message[offset[blockIdx.x] + s] = *slot(w, tile, first + s);
}

// tiles -1: not wanted here.  offset as above.  A block of threads per tile.
KERNEL(1) unpack(const World* __restrict__ w, i32* tiles, i64 start, i64 stop, u16* message, i64* offset) {
    const i64 tile = tiles[blockIdx.x], steps = stop - start;
    if (tile < 0) return;
    const u32 first = position(w, tile, start);
    const i64 from = offset[blockIdx.x], n = offset[blockIdx.x + 1] - from;
    for (i64 s = threadIdx.x; s < n; s += blockDim.x) *slot(w, tile, first + (u32)s) = message[from + s];
    if (threadIdx.x) return;
    u32 at = first;
    for (i64 t = start; t < stop; t++) {
        at += message[blockIdx.x * steps + t - start];
        w->start[tile * w->columns + column_of(w, t + 1)] = at;
    }
    w->heard[tile] = stop;
}
