// Delivery, second half, and the update: a block of threads owns a tile, whose sums lie in shared memory.
//
// Shared memory: parameters, sums (2, width), fired (width / 32), before (width / 32), partial (32,); see
// cuda_plan.advance_bytes. Parameters lie there because 24 registers more would halve the threads that an SM holds.

struct alignas(16) Four {
    u32 record[4];
};

DEVICE void add_record(const World* w, i32* sums, u32 record) {
    atomicAdd(sums + (record >> 15 & 1) * (u32)w->width + (record & 0x7FFF), (i32)(record >> 16));
}

// Add a bucket, and what did not fit it, to the sums of a tile. Buckets begin at multiples of 32 records.
DEVICE void take_bucket(const World* w, const Group& group, u32 q, i64 tile, u32 step, i32* sums) {
    u32 count = w->bucket_count[group.first_bucket + q], n = (u32)least(count, group.capacity);
    const u32* bucket = w->bucket + group.bucket + q * group.capacity;
    for (u32 i = threadIdx.x; i < n / 4; i += blockDim.x) {
        const Four four = ((const Four*)bucket)[i];
#pragma unroll
        for (u32 r = 0; r < 4; r++) add_record(w, sums, four.record[r]);
    }
    for (u32 i = n / 4 * 4 + threadIdx.x; i < n; i += blockDim.x) add_record(w, sums, bucket[i]);
    if (!w->spilled[group.first_bucket + q]) return;
    __syncthreads();
    i64 lane = w->tile_lane[tile] - group.lane;
    for (u32 kind = 0; kind < 2; kind++) {
        i32* spill = w->spill + group.spill + (2 * step + kind) * w->spill_lanes + lane;
        for (i32 i = (i32)threadIdx.x; i < w->tile_n[tile]; i += (i32)blockDim.x) {
            sums[kind * w->width + i] += spill[i];
            spill[i] = 0;
        }
    }
}

// Advance the neuron of a lane; whether it fired.
DEVICE bool advance_lane(
    const World* w, const Parameters& c, i64 lane, i32 excitation, i32 inhibition, f32 noise, bool implicit, bool* wild
) {
    Neuron x;
    x.v = w->fields[lane];
#pragma unroll
    for (u32 u = 0; u < 4; u++) x.s[u] = w->fields[(1 + u) * w->lanes + lane];
    x.background = w->fields[5 * w->lanes + lane];
    const u32 held = w->hold[lane];
    x.hold = held;
    bool fired = update(x, c, excitation, inhibition, noise, implicit);
    w->fields[lane] = x.v;
#pragma unroll
    for (u32 u = 0; u < 4; u++) w->fields[(1 + u) * w->lanes + lane] = x.s[u];
    w->fields[5 * w->lanes + lane] = x.background;
    if (x.hold != held) w->hold[lane] = (u16)x.hold;
    *wild = !((x.v < 0 ? -x.v : x.v) < RUNAWAY);
    return fired;
}

// Append the neurons that fired, in order, to the history of a tile.
DEVICE void append(const World* w, i64 tile, i64 step, u32 words, const u32* fired, u32* before, u32* partial) {
    for (u32 i = threadIdx.x; i < words; i += blockDim.x) before[i] = (u32)__popc(fired[i]);
    __syncthreads();
    u32 n = scan(before, words, partial), at = position(w, tile, step);
    for (u32 i = threadIdx.x; i < words; i += blockDim.x) {
        u32 out = at + before[i];
        for (u32 bits = fired[i]; bits; bits &= bits - 1) *slot(w, tile, out++) = (u16)(32 * i + (u32)__ffs(bits) - 1);
    }
    if (threadIdx.x == 0) w->start[tile * w->columns + column_of(w, step + 1)] = at + n;
}

DEVICE void probe(const World* w, i64 tile, i64 step) {
    i64 row = step - w->clock[BEGIN];
    for (i32 i = w->probe_start[tile] + (i32)threadIdx.x; i < w->probe_start[tile + 1]; i += (i32)blockDim.x)
        for (u32 f = 0; f < 6; f++)
            w->probe_out[(row * w->probes + w->probe_slot[i]) * 6 + f] =
                w->fields[f * w->lanes + w->tile_lane[tile] + w->probe_neuron[i]];
}

// The noise and the stimulus of a step.
struct Now {
    i64 step;
    u64 key_0, key_1;
};

DEVICE Now step_of(const World* w, i64 step) {
    const u64* key = w->noise_key + 2 * (step - w->clock[BEGIN]);
    Now now = {step, key[0], key[1]};
    return now;
}

// Advance a neuron of a tile and note whether it fired; all lanes of a warp come here.
DEVICE void advance_neuron(
    const World* w, const Parameters& c, i64 tile, u32 neuron, bool exists, const Now& now, i32 excitation,
    i32 inhibition, u32* fired
) {
    bool spike = false, wild = false;
    if (exists) {
        const f32 noise = noise4(hash64((u64)(w->tile_first[tile] + neuron) * GOLDEN, now.key_0, now.key_1));
        spike = advance_lane(w, c, w->tile_lane[tile] + neuron, excitation, inhibition, noise, w->implicit, &wild);
    }
    if (wild && w->failed[tile] < 0) {  // whoever comes first, it is this step
        w->failed[tile] = now.step;
        w->clock[FAILED] = 1;
    }
    const u32 word = __ballot_sync(ALL, spike);
    if (neuron % WARP == 0) fired[neuron / WARP] = word;
}

// After the last step of a block: whether the history has room for another.
DEVICE void look_ahead(const World* w, i64 tile, i64 step) {
    u32 live = position(w, tile, step) - position(w, tile, w->clock[OLDEST]);
    if (live + w->tile_n[tile] * w->burst > w->room[tile]) w->clock[FULL] = 1;
}

// Large populations: a block of threads per tile of a group.
KERNEL(2) advance(const World* __restrict__ w, i64 number) {
    extern __shared__ u64 arena[];
    const i64 steps = steps_now(w);
    if (steps <= 0) return;
    const Group& group = w->groups[number];
    const i64 tile = group.tile + (i64)blockIdx.x, begin = w->clock[STEP];
    const u32 n = (u32)w->tile_n[tile], words = (n + 31) / 32, width = (u32)w->width;
    Parameters& c = *(Parameters*)arena;
    i32* sums = (i32*)(arena + sizeof(Parameters) / sizeof *arena);
    u32* fired = (u32*)(sums + 2 * width);
    u32* before = fired + width / 32;
    u32* partial = before + width / 32;
    if (threadIdx.x == 0) c = parameters(w, w->tile_population[tile]);
    i64 taken = 0;
    for (i64 p = 0; p < steps; p++) {
        const u32 q = (u32)(p * group.tiles + blockIdx.x);
        for (u32 i = threadIdx.x; i < 2 * width; i += blockDim.x) sums[i] = 0;
        __syncthreads();
        take_bucket(w, group, q, tile, (u32)p, sums);
        __syncthreads();
        if (threadIdx.x == 0) {
            taken += w->bucket_count[group.first_bucket + q];
            w->bucket_count[group.first_bucket + q] = w->spilled[group.first_bucket + q] = 0;
            c.stimulus = stimulus_of(w, w->tile_population[tile], begin + p);
        }
        const Now now = step_of(w, begin + p);
        __syncthreads();
        for (u32 i = threadIdx.x; i < 32 * words; i += blockDim.x)
            advance_neuron(w, c, tile, i, i < n, now, sums[i], sums[width + i], fired);
        __syncthreads();
        append(w, tile, begin + p, words, fired, before, partial);
        probe(w, tile, begin + p);
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        add(w->clock + CONSUMED, taken);
        look_ahead(w, tile, begin + steps);
    }
}

// After `spread`: a block of threads per tile that lives here; sums are in World.sums.
KERNEL(2) advance_spread(const World* __restrict__ w) {
    extern __shared__ u64 arena[];
    if (steps_now(w) <= 0) return;
    const i64 tile = w->own[blockIdx.x], t = w->clock[STEP], home = w->tile_lane[tile];
    const u32 n = (u32)w->tile_n[tile], words = (n + 31) / 32;
    u32* fired = (u32*)arena;
    u32* before = fired + w->width / 32;
    u32* partial = before + w->width / 32;
    const Now now = step_of(w, t);
    for (u32 i = threadIdx.x; i < 32 * words; i += blockDim.x) {
        Parameters c = {};
        i32 excitation = 0, inhibition = 0;
        if (i < n) {
            const i64 lane = home + i, p = population_of(w, tile, lane);
            excitation = w->sums[lane];
            inhibition = w->sums[w->lanes + lane];
            if (excitation) w->sums[lane] = 0;
            if (inhibition) w->sums[w->lanes + lane] = 0;
            c = parameters_of(w, p);
            c.stimulus = stimulus_of(w, p, t);
        }
        advance_neuron(w, c, tile, i, i < n, now, excitation, inhibition, fired);
    }
    __syncthreads();
    append(w, tile, t, words, fired, before, partial);
    probe(w, tile, t);
    __syncthreads();
    if (threadIdx.x == 0) look_ahead(w, tile, t + 1);
}
