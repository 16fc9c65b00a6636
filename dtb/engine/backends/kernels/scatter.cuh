// Delivery to large populations, first half: draw the synapses that arrive in a group of tiles and sort them into one
// bucket for each of its tiles and each step of the block.
//
// A block of threads takes an item: some strata of one entry, for the spikes of some source tiles. All spikes share the
// entry's few segments, so each draw is made once, whatever the number of tiles, and every thread does the same. What
// hits is gathered in shared memory, sorted by bucket there, and written out in runs.
//
// Shared memory of T threads and Q buckets, in this order: see cuda_plan.scatter_bytes.

static const u32 STAGED = 2;  // spikes held per thread
static const u32 HITS = 8;    // synapses held per thread before they are written
static const u32 ROUND = 4;   // draws of a thread between two looks at how many there are
static const u32 MAX_BLOCK = 16;

struct Bench {
    u64* z;        // (STAGED T,) gid · GOLDEN of spikes
    i32* weights;  // (256,)
    u32* record;   // (HITS T,) synapses found
    u32* begin;    // (Q,) where a bucket's run begins, sorted
    u32* shift;    // (Q,) what takes it from there into the bucket
    u32* offset;   // (T + 1,) first spike of each source tile
    u32* partial;  // (32,)
    u32* tally;    // (3 MAX_BLOCK,)
    u32* count;    // (1,) synapses found
    u16* bucket;   // (HITS T,) of each
    u16* order;    // (HITS T,) sorted
    u8* plane;     // (STAGED T,) step of a spike in the block
};

DEVICE Bench bench(u64* arena, u32 buckets) {
    Bench b;
    u32 threads = blockDim.x;
    b.z = arena;
    b.weights = (i32*)(b.z + STAGED * threads);
    b.record = (u32*)(b.weights + 256);
    b.begin = b.record + HITS * threads;
    b.shift = b.begin + buckets;
    b.offset = b.shift + buckets;
    b.partial = b.offset + threads + 1;
    b.tally = b.partial + WARP;
    b.count = b.tally + 3 * MAX_BLOCK;
    b.bucket = (u16*)(b.count + 1);
    b.order = b.bucket + HITS * threads;
    b.plane = (u8*)(b.order + HITS * threads);
    return b;
}

// Write what was found to the buckets; the bench is empty afterwards. Every thread of the block comes here.
DEVICE void write_out(const World* w, const Group& group, u32 buckets, const Bench& b) {
    u32 n = *b.count;
    for (u32 q = threadIdx.x; q < buckets; q += blockDim.x) b.begin[q] = 0;
    __syncthreads();
    for (u32 i = threadIdx.x; i < n; i += blockDim.x) atomicAdd(b.begin + b.bucket[i], 1u);
    __syncthreads();
    for (u32 q = threadIdx.x; q < buckets; q += blockDim.x) {
        u32 mine = b.begin[q];
        b.shift[q] = 0;
        if (!mine) continue;
        b.shift[q] = atomicAdd(w->bucket_count + q, mine);
        atomicAdd(b.tally + q / (u32)group.tiles, mine);
    }
    __syncthreads();
    scan(b.begin, buckets, b.partial);
    for (u32 q = threadIdx.x; q < buckets; q += blockDim.x) b.shift[q] -= b.begin[q];
    __syncthreads();
    for (u32 i = threadIdx.x; i < n; i += blockDim.x) b.order[atomicAdd(b.begin + b.bucket[i], 1u)] = (u16)i;
    __syncthreads();
    for (u32 x = threadIdx.x; x < n; x += blockDim.x) {
        u32 i = b.order[x], q = b.bucket[i], record = b.record[i], at = b.shift[q] + x;
        if (at < group.capacity) {
            w->bucket[q * group.capacity + at] = record;
            continue;
        }
        u32 step = q / (u32)group.tiles, tile = q % (u32)group.tiles;
        i64 lane = w->tile_lane[group.tile + tile] - group.lane + (record & 0x7FFF);
        atomicAdd(w->spill + (2 * step + (record >> 15 & 1)) * w->spill_lanes + lane, (i32)(record >> 16));
        w->spilled[q] = 1;
    }
    __syncthreads();
    if (threadIdx.x == 0) *b.count = 0;
    __syncthreads();
}

// The group's tile that holds a lane; the guess is off by one at most.
DEVICE u32 tile_of(const World* w, const Group& group, i64 lane, i64 guess) {
    const i64* first = w->tile_lane + group.tile;
    i64 tile = least(guess, group.tiles - 1);
    lane += group.lane;
    while (lane < first[tile]) tile--;
    while (lane >= first[tile + 1]) tile++;
    return (u32)tile;
}

// Stratum j of one spike: gather the synapse if there is one, or count why it is dropped.
DEVICE bool draw(
    const World* w, const Entry& entry, const Group& group, u64 z, u32 plane, u64 j, const Bench& b, u32* record,
    u32* bucket
) {
    i32 m;
    i64 k = find(entry, w->segments, w->position_key, z, j, &m);
    if (k < 0) return false;
    const Segment* s = w->segments + m;
    if (entry.own && (u64)(s->gid + k) * GOLDEN == z) {  // GOLDEN is odd: equal products, equal gids
        atomicAdd(b.tally + MAX_BLOCK + plane, 1u);
        return false;
    }
    if (is_lesioned(w->lesion_key, z, j, entry.lesion)) {
        atomicAdd(b.tally + 2 * MAX_BLOCK + plane, 1u);
        return false;
    }
    i64 lane = s->at + k;
    u32 tile = tile_of(w, group, lane, s->tile + (i64)((f64)(k - s->first) * s->ratio));
    u32 neuron = (u32)(lane + group.lane - w->tile_lane[group.tile + tile]);
    *bucket = plane * (u32)group.tiles + tile;
    *record = (u32)b.weights[weight_class(w->weight_key, z, j)] << 16 | (u32)entry.kind << 15 | neuron;
    return true;
}

// All strata of an item, for n spikes on the bench.
DEVICE void draw_all(const World* w, const Item& item, const Entry& entry, const Group& group, u32 n, const Bench& b) {
    u32 draws = n * (item.stratum_end - item.stratum), buckets = (u32)(group.tiles * w->block);
    u32 threads = blockDim.x, step_s = threads % n, step_j = threads / n;
    u32 x = threadIdx.x, s = x % n, j = item.stratum + x / n;
    for (u32 from = 0; from < draws; from += ROUND * threads) {
        for (u32 round = 0; round < ROUND; round++) {
            u32 record = 0, bucket = 0;
            bool hit = x < draws && draw(w, entry, group, b.z[s], b.plane[s], j, b, &record, &bucket);
            u32 hits = __ballot_sync(ALL, hit), lane = threadIdx.x % WARP, at = 0;
            if (hits) {
                if (lane == 0) at = atomicAdd(b.count, (u32)__popc(hits));
                at = __shfl_sync(ALL, at, 0) + (u32)__popc(hits & ((1u << lane) - 1));
            }
            if (hit) {
                b.record[at] = record;
                b.bucket[at] = (u16)bucket;
            }
            x += threads;
            s += step_s;
            j += step_j;
            if (s >= n) {
                s -= n;
                j++;
            }
        }
        __syncthreads();
        bool full = *b.count > (HITS - ROUND) * threads;
        __syncthreads();
        if (full) write_out(w, group, buckets, b);
    }
}

// Put the spikes from number `from` on, of T source tiles from number `pool` on, on the bench; there are n.
DEVICE void stage(const World* w, i32 pool, u32 from, u32 n, i64 emitted, i64 now, const Bench& b) {
    for (u32 i = threadIdx.x; i < n; i += blockDim.x) {
        u32 x = from + i, which = last_upto(b.offset, blockDim.x, x);
        i64 tile = w->pool_tile[pool + (i32)which];
        u32 at = position(w, tile, emitted) + x - b.offset[which];
        u32 plane = 0;
        while (plane + 1 < now && at >= position(w, tile, emitted + plane + 1)) plane++;
        b.z[i] = (u64)(w->tile_first[tile] + *slot(w, tile, at)) * GOLDEN;
        b.plane[i] = (u8)plane;
    }
}

// A block of threads per item, from number `first` on.
KERNEL(2) scatter(const World* __restrict__ w, i64 first) {
    extern __shared__ u64 arena[];
    const i64 now = steps_now(w);
    if (now <= 0) return;
    const Item item = w->items[first + blockIdx.x];
    const Entry entry = w->entries[item.entry];
    const Group group = w->groups[item.group];
    const u32 buckets = (u32)(group.tiles * w->block), threads = blockDim.x;
    const Bench b = bench(arena, buckets);
    const i64 emitted = w->clock[STEP] - entry.delay;
    for (u32 i = threadIdx.x; i < 256; i += threads) b.weights[i] = w->weights[256 * entry.table + i];
    for (u32 i = threadIdx.x; i < 3 * MAX_BLOCK; i += threads) b.tally[i] = 0;
    if (threadIdx.x == 0) *b.count = 0;
    for (i32 pool = item.pool; pool < item.pool_end; pool += (i32)threads) {
        i32 mine = pool + (i32)threadIdx.x;
        u32 n = 0;
        if (mine < item.pool_end) {
            i64 tile = w->pool_tile[mine];
            n = position(w, tile, emitted + now) - position(w, tile, emitted);
        }
        b.offset[threadIdx.x] = n;
        __syncthreads();
        const u32 spikes = scan(b.offset, threads, b.partial);
        for (u32 from = 0; from < spikes; from += STAGED * threads) {
            u32 held = spikes - from < STAGED * threads ? spikes - from : STAGED * threads;
            stage(w, pool, from, held, emitted, now, b);
            __syncthreads();
            draw_all(w, item, entry, group, held, b);
        }
        __syncthreads();
    }
    if (*b.count) write_out(w, group, buckets, b);
    __syncthreads();
    for (u32 i = threadIdx.x; i < 3 * MAX_BLOCK; i += threads) {
        if (!b.tally[i]) continue;
        u32 column = column_of(w, emitted + i % MAX_BLOCK);
        atomicAdd(w->tallies + (i / MAX_BLOCK) * w->columns + column, (u64)b.tally[i]);
        if (i < MAX_BLOCK) add(w->clock + PRODUCED, b.tally[i]);
    }
}
