// What leaves the device: counts, digests, the spikes that are wanted. A block of threads per tile, a warp per step.

DEVICE u64 sum_of_warp(u64 x) {
    for (u32 d = WARP / 2; d; d /= 2) x += __shfl_down_sync(ALL, x, d);
    return x;
}

// Synapses that a neuron emits: ⌊D⌋, and one more where the last draw is below D; synapses.out_degree.
DEVICE u64 out_degree(const World* w, i64 gid, u64 degree) {
    u64 whole = degree >> 32, rest = degree & LOW;
    if (!rest) return whole;
    u64 draw = position_word(w->draw_key, (u64)gid * GOLDEN, whole) >> 32;
    return whole + (draw < rest);
}

// told (2 + steps,): spikes, their digest, synapses emitted by step, added up.  counts (steps, populations) int32, or
// nothing.
KERNEL(1) total(const World* __restrict__ w, i64 start, i64 stop, u64* told, i32* counts) {
    const i64 tile = w->own[blockIdx.x];
    u64 spikes = 0, digest = 0;
    for (i64 t = start + threadIdx.x / WARP; t < stop; t += blockDim.x / WARP) {
        u32 begin = position(w, tile, t), end = position(w, tile, t + 1);
        u64 emitted = 0;
        for (u32 at = begin + threadIdx.x % WARP; at < end; at += WARP) {
            i64 neuron = *slot(w, tile, at), gid = w->tile_first[tile] + neuron;
            i64 p = population_of(w, tile, w->tile_lane[tile] + neuron);
            digest += mix(mix((u64)gid ^ DIGEST_KEY) + (u64)t);
            emitted += out_degree(w, gid, w->degree[p]);
            if (counts && w->mixed) atomicAdd(counts + (t - start) * w->populations + p, 1);
        }
        spikes += end - begin;
        emitted = sum_of_warp(emitted);
        if (threadIdx.x % WARP || begin == end) continue;
        atomicAdd(told + 2 + t - start, emitted);
        if (counts && !w->mixed)
            atomicAdd(counts + (t - start) * w->populations + w->tile_population[tile], (i32)(end - begin));
    }
    digest = sum_of_warp(digest);
    if (threadIdx.x % WARP || !spikes) return;
    atomicAdd(told, spikes);
    atomicAdd(told + 1, digest);
}

// Spikes of wanted (populations,) populations and of gids that `stride` divides: (step - start) << 48 | gid, in any
// order, of which `room` are kept and all are counted.
KERNEL(1) list(const World* __restrict__ w, i64 start, i64 stop, i64 stride, u8* wanted, u64* found, i64 room) {
    const i64 tile = w->own[blockIdx.x];
    for (i64 t = start + threadIdx.x / WARP; t < stop; t += blockDim.x / WARP) {
        u32 begin = position(w, tile, t), end = position(w, tile, t + 1);
        for (u32 at = begin + threadIdx.x % WARP; at < end; at += WARP) {
            i64 neuron = *slot(w, tile, at), gid = w->tile_first[tile] + neuron;
            if (gid % stride && !wanted[population_of(w, tile, w->tile_lane[tile] + neuron)]) continue;
            u64 to = atomicAdd((u64*)w->clock + FOUND, (u64)1);
            if (to < (u64)room) found[to] = (u64)(t - start) << 48 | (u64)gid;
        }
    }
}

// state.state_digest of the neurons that live here.
KERNEL(1) digest_state(const World* __restrict__ w, u64* told) {
    const i64 tile = w->own[blockIdx.x];
    u64 digest = 0;
    for (i64 i = threadIdx.x; i < w->tile_n[tile]; i += blockDim.x)
        for (u32 f = 0; f < 6; f++) {
            u64 which = (u64)(w->tile_first[tile] + i) * 8 + f;
            u32 bits = ((const u32*)w->fields)[f * w->lanes + w->tile_lane[tile] + i];
            digest += mix(mix(which ^ DIGEST_KEY) + bits);
        }
    digest = sum_of_warp(digest);
    if (threadIdx.x % WARP == 0) atomicAdd(told, digest);
}

// state.initial.  reset, threshold (classes,), mean, per_unit (populations,), keys (2, 2).
KERNEL(1) initial(const World* __restrict__ w, f32* reset, f32* threshold, f32* mean, f32* per_unit, u64* keys) {
    const i64 tile = w->own[blockIdx.x];
    for (i64 i = threadIdx.x; i < w->tile_n[tile]; i += blockDim.x) {
        i64 lane = w->tile_lane[tile] + i, p = population_of(w, tile, lane);
        i32 k = w->population_class[p];
        u64 z = (u64)(w->tile_first[tile] + i) * GOLDEN;
        f32 part = (f32)(u32)(hash64(z, keys[0], keys[1]) >> 40) * 5.9604644775390625e-8f;  // 2^-24
        w->fields[lane] = reset[k] + (threshold[k] - reset[k]) * part;
        for (u32 f = 1; f < 5; f++) w->fields[f * w->lanes + lane] = 0.0f;
        w->fields[5 * w->lanes + lane] = mean[p] + per_unit[p] * noise4(hash64(z, keys[2], keys[3]));
    }
}
