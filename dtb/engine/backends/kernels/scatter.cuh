// Delivery to large populations, first half: draw the synapses that arrive in a group of tiles and sort them into one
// bucket for each of its tiles and each step of the block.
//
// A block of threads takes an item: some strata of one entry, for the spikes of some source tiles. All spikes share the
// entry's few segments, so each draw is made once, whatever the number of tiles, and every thread does the same. What
// hits is gathered in shared memory with its rank among those of its bucket; then the block asks for room in each
// bucket once, and writes all of it. Neighbouring draws of a wide segment fall into the same few tiles, so most writes
// are runs.
//
// Shared memory of T threads and Q buckets, in this order: see cuda_plan.scatter_bytes.

static const u32 STAGED = 2;  // spikes held per thread
static const u32 HITS = 8;    // synapses held per thread before they are written
static const u32 ROUND = 4;   // draws of a thread between two looks at how many there are
static const u32 MAX_BLOCK = 16;
static const u32 NOWHERE = 0xFFFFFFFFu;  // no lane of this group

struct alignas(8) Hit {
    u32 record;  // as in World.bucket
    u32 place;   // rank in its bucket << 16 | bucket
};

struct Bench {
    u64* z;            // (STAGED T,) gid · GOLDEN of spikes
    Hit* hits;         // (HITS T,) synapses found
    u32* mine;         // (STAGED T,) lane of a spike's neuron, counted from the group's first, or NOWHERE
    i32* weights;      // (256,)
    u32* held;         // (Q,) synapses found for each bucket
    u32* base;         // (Q,) where they go in it
    u32* first_lane;   // (tiles + 1 <= Q + 1,) of each tile, counted from the group's first
    u32* offset;       // (T + 1,) first spike of each source tile
    u32* partial;      // (32,)
    u32* tally;        // (3 MAX_BLOCK,)
    u32* count;        // (1,) synapses found
    u8* plane;         // (STAGED T,) step of a spike in the block
    const u64* draw_key;
    const Segment* segments;
    u32 tiles;         // of the group
    u32 buckets;
};

DEVICE Bench bench(const World* w, u64* arena, const Group& group) {
    Bench b;
    u32 threads = blockDim.x;
    b.tiles = (u32)group.tiles;
    b.buckets = b.tiles * (u32)w->block;
    b.z = arena;
    b.hits = (Hit*)(b.z + STAGED * threads);
    b.mine = (u32*)(b.hits + HITS * threads);
    b.weights = (i32*)(b.mine + STAGED * threads);
    b.held = (u32*)(b.weights + 256);
    b.base = b.held + b.buckets;
    b.first_lane = b.base + b.buckets;
    b.offset = b.first_lane + b.buckets + 1;
    b.partial = b.offset + threads + 1;
    b.tally = b.partial + WARP;
    b.count = b.tally + 3 * MAX_BLOCK;
    b.plane = (u8*)(b.count + 1);
    b.draw_key = w->draw_key;
    b.segments = w->segments;
    return b;
}

// What an item needs on the bench, and nothing found yet. Ends with a barrier.
DEVICE void prepare(const World* w, const Entry& entry, const Group& group, const Bench& b) {
    for (u32 i = threadIdx.x; i < 256; i += blockDim.x) b.weights[i] = w->weights[256 * entry.table + i];
    for (u32 i = threadIdx.x; i < 3 * MAX_BLOCK; i += blockDim.x) b.tally[i] = 0;
    for (u32 q = threadIdx.x; q < b.buckets; q += blockDim.x) b.held[q] = 0;
    for (u32 t = threadIdx.x; t <= b.tiles; t += blockDim.x)
        b.first_lane[t] = (u32)(w->tile_lane[group.tile + t] - group.lane);
    if (threadIdx.x == 0) *b.count = 0;
    __syncthreads();
}

// A synapse whose bucket is full.
DEVICE void overflow(const World* w, const Group& group, u32 q, u32 record, const Bench& b) {
    u32 step = q / b.tiles, tile = q % b.tiles, lane = b.first_lane[tile] + (record & 0x7FFF);
    i32* sums = w->spill + group.spill + (2 * step + (record >> 15 & 1)) * w->spill_lanes;
    atomicAdd(sums + lane, (i32)(record >> 16));
    w->spilled[group.first_bucket + q] = 1;
}

// Write what was found to the buckets; nothing is found afterwards. Every thread of the block comes here, after a
// barrier, and leaves after another.
DEVICE void write_out(const World* w, const Group& group, const Bench& b) {
    const u32 n = *b.count;
    for (u32 q = threadIdx.x; q < b.buckets; q += blockDim.x) {
        const u32 mine = b.held[q];
        if (!mine) continue;
        b.held[q] = 0;
        b.base[q] = atomicAdd(w->bucket_count + group.first_bucket + q, mine);
        atomicAdd(b.tally + q / b.tiles, mine);
    }
    __syncthreads();
    u32* const bucket = w->bucket + group.bucket;
    const i64 capacity = group.capacity;
    for (u32 i = threadIdx.x; i < n; i += blockDim.x) {
        const Hit hit = b.hits[i];
        const u32 q = hit.place & 0xFFFF, at = b.base[q] + (hit.place >> 16);
        if (at < capacity) bucket[q * capacity + at] = hit.record;
        else overflow(w, group, q, hit.record, b);
    }
    if (threadIdx.x == 0) *b.count = 0;
    __syncthreads();
}

// The group's tile that holds a lane; the guess is right, or off by one or two.
DEVICE u32 tile_of(const Bench& b, u32 lane, u32 guess) {
    u32 tile = guess < b.tiles ? guess : b.tiles - 1;
    while (lane - b.first_lane[tile] >= b.first_lane[tile + 1] - b.first_lane[tile])  // below its first wraps round
        tile += lane < b.first_lane[tile] ? NOWHERE : 1;
    return tile;
}

// Stratum j of spike s: whether it has a synapse of this entry in this group, and if so which; if it is dropped, that is
// counted.  inside: all strata lie within the only segment of the entry.
DEVICE bool draw(
    const World* w, const Entry& entry, bool inside, u32 s, u32 j, const Bench& b, u32* record, u32* bucket
) {
    const u64 z = b.z[s], r = position_word(b.draw_key, z, j), u = on_axis(j, r);
    const Segment* segment = b.segments + entry.segment;
    if (!inside) {
        if (u - entry.low >= entry.high - entry.low) return false;
        segment = segment_of(b.segments, entry.segment, u);
    }
    u64 x = (u64)(place(u - segment->bound, r, segment->spare, segment->scale) - segment->first);
    if (x >= segment->held) {
        if ((i64)x < segment->most - segment->first) return false;
        x = (u64)(segment->most - segment->first);  // the product was rounded up, past the last neuron
        if (x >= segment->held) return false;
    }
    const u32 lane = segment->lane + (u32)x, plane = b.plane[s];
    if (entry.own && lane == b.mine[s]) {
        atomicAdd(b.tally + MAX_BLOCK + plane, 1u);
        return false;
    }
    if (entry.lesion && is_lesioned(w->lesion_key, z, j, entry.lesion)) {
        atomicAdd(b.tally + 2 * MAX_BLOCK + plane, 1u);
        return false;
    }
    const u32 tile = tile_of(b, lane, segment->tile + (u32)((f32)(u32)x * segment->ratio));
    *bucket = plane * b.tiles + tile;
    *record = (u32)b.weights[weight_class(b.draw_key, z, j)] << 16 | (u32)entry.kind << 15 | (lane - b.first_lane[tile]);
    return true;
}

// Gather a synapse of each lane of a warp that has one. Neighbouring lanes often fall into one tile, so one of them asks
// for the ranks of all: shared memory adds to one address at a time.
DEVICE void gather(bool hit, u32 record, u32 bucket, const Bench& b) {
    const u32 hits = __ballot_sync(ALL, hit);
    if (!hits) return;
    const u32 lane = threadIdx.x % WARP, below = (1u << lane) - 1;
    const u32 peers = __match_any_sync(ALL, hit ? bucket : NOWHERE), first = (u32)__ffs((i32)peers) - 1;
    u32 at = 0, rank = 0;
    if (lane == 0) at = atomicAdd(b.count, (u32)__popc(hits));
    if (lane == first && hit) rank = atomicAdd(b.held + bucket, (u32)__popc(peers));
    at = __shfl_sync(ALL, at, 0) + (u32)__popc(hits & below);
    rank = __shfl_sync(ALL, rank, first) + (u32)__popc(peers & below);
    if (!hit) return;
    const Hit found = {record, rank << 16 | bucket};
    b.hits[at] = found;
}

// All strata of an item, for n spikes on the bench.
DEVICE void draw_all(const World* w, const Item& item, const Entry& entry, const Group& group, u32 n, const Bench& b) {
    const u32 draws = n * (item.stratum_end - item.stratum), threads = blockDim.x;
    const u32 step_s = threads % n, step_j = threads / n;
    const bool inside = entry.end == entry.segment + 1 && on_axis(item.stratum, 0) >= entry.low &&
                        on_axis(item.stratum_end, 0) <= entry.high;
    u32 x = threadIdx.x, s = x % n, j = item.stratum + x / n;
    for (u32 from = 0; from < draws; from += ROUND * threads) {
        for (u32 round = 0; round < ROUND; round++) {
            u32 record = 0, bucket = 0;
            const bool hit = x < draws && draw(w, entry, inside, s, j, b, &record, &bucket);
            gather(hit, record, bucket, b);
            x += threads;
            s += step_s;
            j += step_j;
            if (s >= n) {
                s -= n;
                j++;
            }
        }
        __syncthreads();
        const bool full = *b.count > (HITS - ROUND) * threads;
        __syncthreads();
        if (full) write_out(w, group, b);
    }
}

// Put the spikes from number `from` on, of T source tiles from number `pool` on, on the bench; there are n.
DEVICE void stage(const World* w, const Group& group, i32 pool, u32 from, u32 n, i64 emitted, i64 now, const Bench& b) {
    const u32 lanes = b.first_lane[b.tiles];
    for (u32 i = threadIdx.x; i < n; i += blockDim.x) {
        u32 x = from + i, which = last_upto<u32>(b.offset, blockDim.x, x);
        i64 tile = w->pool_tile[pool + (i32)which];
        u32 at = position(w, tile, emitted) + x - b.offset[which];
        u32 plane = 0;
        while (plane + 1 < now && at >= position(w, tile, emitted + plane + 1)) plane++;
        const u32 neuron = *slot(w, tile, at);
        const i64 lane = w->tile_lane[tile] + neuron - group.lane;
        b.z[i] = (u64)(w->tile_first[tile] + neuron) * GOLDEN;
        b.mine[i] = lives_here(w, tile) && lane >= 0 && lane < lanes ? (u32)lane : NOWHERE;
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
    const Group& group = w->groups[item.group];
    const u32 threads = blockDim.x;
    const Bench b = bench(w, arena, group);
    const i64 emitted = w->clock[STEP] - entry.delay;
    prepare(w, entry, group, b);
    for (i32 pool = item.pool; pool < item.pool_end; pool += (i32)threads) {
        const i32 mine = pool + (i32)threadIdx.x;
        u32 n = 0;
        if (mine < item.pool_end) {
            const i64 tile = w->pool_tile[mine];
            n = position(w, tile, emitted + now) - position(w, tile, emitted);
        }
        b.offset[threadIdx.x] = n;
        __syncthreads();
        const u32 spikes = scan(b.offset, threads, b.partial);
        for (u32 from = 0; from < spikes; from += STAGED * threads) {
            const u32 held = spikes - from < STAGED * threads ? spikes - from : STAGED * threads;
            stage(w, group, pool, from, held, emitted, now, b);
            __syncthreads();
            draw_all(w, item, entry, group, held, b);
        }
        __syncthreads();
    }
    if (*b.count) write_out(w, group, b);
    for (u32 i = threadIdx.x; i < 3 * MAX_BLOCK; i += threads) {
        if (!b.tally[i]) continue;
        const u32 column = column_of(w, emitted + i % MAX_BLOCK);
        atomicAdd(w->tallies + (i / MAX_BLOCK) * w->columns + column, (u64)b.tally[i]);
        if (i < MAX_BLOCK) add(w->clock + PRODUCED, b.tally[i]);
    }
}
