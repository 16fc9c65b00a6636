// Delivery spike by spike, where populations or spikes are few: see cpu_sparse.py. Each spike still on its way looks up which of its
// region's pairs have a delay equal to its age, draws the strata that those touch, and adds what hits to the sums of
// its target, wherever it is.
//
// i projection, e pair (all projections one after the other), x a pair with one of its delays, k column of a split.

struct Source {
    i64 gid;
    u64 z;
    i64 region;
    i64 column;  // of its step in World.tallies
};

// synapses.spare_bits of a width below 2^52.
DEVICE u32 spare_bits(u64 width) {
    u32 bits = width ? 64 - (u32)__clzll((i64)width) : 0;
    return bits > 21 ? 53 - bits : 32;
}

// Target of a draw r within pair e of projection i, u counted from the beginning of the pair and in column k.
DEVICE i64 target_of(const World* w, i64 i, i64 e, i64 k, u64 within, u64 r) {
    const u64* split = w->split + w->split_at[i] + (i64)w->post[e] * (w->split_columns[i] + 1) + k;
    u64 low = scale_width(w->row_width[e], split[0]), high = scale_width(w->row_width[e], split[1]);
    i64 of_class = w->classes[i * w->targets + k / w->delays[i]];
    i64 population = w->population_index[w->post[e] * w->n_classes + of_class];
    i64 n = w->first_gid[population + 1] - w->first_gid[population];
    u32 spare = spare_bits(high - low);
    f64 scale = (f64)n / (f64)(i64)((high - low) << spare);
    return w->first_gid[population] + least(place(within - low, r, spare, scale), n - 1);
}

// Add synapse j to the sums of its target, or count why not; nothing where the target lives on another rank.
DEVICE void send(const World* w, const Source& from, u64 j, u64 r, i64 i, i64 e, u64 within) {
    const u64* split = w->split + w->split_at[i] + (i64)w->post[e] * (w->split_columns[i] + 1);
    i64 k = 0;
    while (within >= scale_width(w->row_width[e], split[k + 1])) k++;
    i64 target = target_of(w, i, e, k, within, r);
    i64 tile = last_upto<i64>(w->tile_first, w->tiles, target), neuron = target - w->tile_first[tile];
    if (!lives_here(w, tile) || neuron < 0 || neuron >= w->tile_n[tile]) return;
    u64* tally = w->tallies + from.column;
    if (target == from.gid) {
        atomicAdd(tally + w->columns, (u64)1);
    } else if (w->lesioned && is_lesioned(w->lesion_key, from.z, j, w->row_lesion[e])) {
        atomicAdd(tally + 2 * w->columns, (u64)1);
    } else {
        i32 weight = w->weights[256 * i + weight_class(w->draw_key, from.z, j)];
        atomicAdd(w->sums + w->kind[i] * w->lanes + w->tile_lane[tile] + neuron, weight);
        atomicAdd(tally, (u64)1);
    }
}

static const u32 WIDE = 8;  // strata from which on the lanes of a warp share a range

// A range of u that lies in pair e and arrives at the same time; u is counted from the beginning of the row.
struct Range {
    i64 e;
    u64 start, low, high;  // of the pair, and of the range
};

// Number x of the ranges of projection i and a source region that have a delay; begin: of the projection in the row.
DEVICE Range range_of(const World* w, i64 i, i64 region, u64 begin, i64 first, bool uniform, i64 x) {
    const i64 delays = w->delays[i], columns = delays == 1 ? 1 : w->split_columns[i] / delays;
    const i64* pair = w->pair + i * (w->regions + 1);
    const i64 number = first + x / columns, entry = uniform ? number : w->sparse_entry[w->sparse_first[i] + number];
    Range r;
    r.e = pair[0] + entry / delays;
    r.start = begin + w->row_start[r.e];
    const u64 width = w->row_width[r.e];
    r.low = r.start;
    r.high = r.start + width;
    if (delays == 1) return r;
    const i64 k = x % columns * delays + entry % delays;  // of each class the part of this delay
    const u64* split = w->split + w->split_at[i] + (i64)w->post[r.e] * (w->split_columns[i] + 1) + k;
    r.low = r.start + scale_width(width, split[0]);
    r.high = r.start + scale_width(width, split[1]);
    return r;
}

// Every `step`-th stratum of a range, from number `skip` on.
DEVICE void draw_range(const World* w, const Source& from, i64 i, const Range& range, u64 skip, u64 step) {
    if (range.high <= range.low) return;
    for (u64 j = (range.low >> 32) + skip; j <= (range.high - 1) >> 32; j += step) {
        const u64 r = position_word(w->draw_key, from.z, j), u = on_axis(j, r);
        if (u >= range.low && u < range.high) send(w, from, j, r, i, range.e, u - range.start);
    }
}

// All ranges of one projection: each lane of a warp takes some, and the wide ones are shared.
DEVICE void draw_ranges(const World* w, const Source& from, i64 i, u64 begin, i64 first, i64 last, bool uniform) {
    const i64 delays = w->delays[i];
    const i64 n = (last - first) * (delays == 1 ? 1 : w->split_columns[i] / delays);
    const u32 lane = threadIdx.x % WARP;
    for (i64 x = 0; x < n; x += WARP) {
        Range range = {0, 0, 0, 0};
        if (x + lane < n) range = range_of(w, i, from.region, begin, first, uniform, x + lane);
        const bool wide = range.high > range.low + ((u64)WIDE << 32);
        if (!wide) draw_range(w, from, i, range, 0, 1);
        for (u32 left = __ballot_sync(ALL, wide); left; left &= left - 1) {
            const u32 whose = (u32)__ffs((i32)left) - 1;
            Range shared;
            shared.e = __shfl_sync(ALL, range.e, whose);
            shared.start = __shfl_sync(ALL, range.start, whose);
            shared.low = __shfl_sync(ALL, range.low, whose);
            shared.high = __shfl_sync(ALL, range.high, whose);
            draw_range(w, from, i, shared, lane, WARP);
        }
    }
}

// All synapses of one spike whose delay is its age.
DEVICE void draw_spike(const World* w, const Source& from, i64 of_class, i64 age) {
    u64 begin = 0;
    for (i64 i = 0; i < w->projections; i++) {
        if (!w->sends[i * w->n_classes + of_class]) continue;
        const i64* pair = w->pair + i * (w->regions + 1);
        const i64 delays = w->delays[i], region = from.region;
        i64 first = (pair[region] - pair[0]) * delays, last = (pair[region + 1] - pair[0]) * delays;
        const bool uniform = w->uniform[i] > 0;
        if (!uniform) {
            const u32* at = w->sparse_at + (w->sparse_row[i] * w->regions + region) * (w->longest + 2) + age;
            last = first + at[1];
            first += at[0];
        } else if (w->uniform[i] != age) {
            last = first;
        }
        draw_ranges(w, from, i, begin, first, last, uniform);
        begin += w->row_total[i * w->regions + region];
    }
}

// A block of threads per tile, a warp per spike.
KERNEL(1) spread(const World* __restrict__ w) {
    const i64 t = w->clock[STEP], tile = blockIdx.x;
    if (steps_now(w) <= 0) return;
    const i64 youngest = lives_here(w, tile) ? 1 : t - w->clock[KNOWN] + 1;
    for (i64 age = youngest; age <= least(w->longest, t); age++) {
        u32 begin = position(w, tile, t - age), end = position(w, tile, t - age + 1);
        for (u32 at = begin + threadIdx.x / WARP; at < end; at += blockDim.x / WARP) {
            Source from;
            from.gid = w->tile_first[tile] + *slot(w, tile, at);
            from.z = (u64)from.gid * GOLDEN;
            i64 population = last_upto<i64>(w->first_gid, w->populations + 1, from.gid);
            from.region = w->population_region[population];
            from.column = column_of(w, t - age);
            draw_spike(w, from, w->population_class[population], age);
        }
    }
}
