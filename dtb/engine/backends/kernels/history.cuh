// Spikes of the last steps, kept by their source: a ring for each tile. Where a step's spikes begin is counted from the
// beginning of the ring's last round before the oldest step that is kept, so a position is below twice the room.

DEVICE u32 column_of(const World* w, i64 step) { return (u32)(step & (w->columns - 1)); }

DEVICE u32 position(const World* w, i64 tile, i64 step) { return w->start[tile * w->columns + column_of(w, step)]; }

DEVICE u16* slot(const World* w, i64 tile, u32 at) {
    u32 room = w->room[tile];
    return w->neuron + w->base[tile] + (at < room ? at : at - room);
}

// Before a call: bring each tile's positions back below its room, and see that every ring has room for one more block.
// One thread per tile.
KERNEL(1) renew(const World* __restrict__ w) {
    i64 tile = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (tile >= w->tiles) return;
    bool here = lives_here(w, tile);
    i64 oldest = w->clock[OLDEST], end = here ? w->clock[STEP] : w->heard[tile];
    if (end < oldest) oldest = end;
    u32 room = w->room[tile], first = position(w, tile, oldest);
    if (first >= room) {
        u32 whole = first / room * room;
        for (i64 step = oldest; step <= end; step++) w->start[tile * w->columns + column_of(w, step)] -= whole;
    }
    i64 live = position(w, tile, end) - position(w, tile, oldest);
    i64 missing = live + (here ? w->tile_n[tile] * w->burst : 0) - room;
    if (missing > 0) atomicMax(w->clock + MISSING, missing);
}

// Spikes of each tile that are kept.  live (tiles,)
KERNEL(1) measure(const World* __restrict__ w, i64* live) {
    i64 tile = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (tile >= w->tiles) return;
    i64 oldest = w->clock[OLDEST], end = lives_here(w, tile) ? w->clock[STEP] : w->heard[tile];
    live[tile] = end < oldest ? 0 : position(w, tile, end) - position(w, tile, oldest);
}

// Copy every ring into a larger one, its oldest spike first.  neuron, base: of the new rings. A block per tile.
KERNEL(1) move(const World* __restrict__ w, u16* neuron, i64* base) {
    i64 tile = blockIdx.x;
    i64 oldest = w->clock[OLDEST], end = lives_here(w, tile) ? w->clock[STEP] : w->heard[tile];
    if (end < oldest) oldest = end;
    u32 first = position(w, tile, oldest), n = position(w, tile, end) - first;
    for (u32 s = threadIdx.x; s < n; s += blockDim.x) neuron[base[tile] + s] = *slot(w, tile, first + s);
    __syncthreads();
    for (i64 step = oldest + threadIdx.x; step <= end; step += blockDim.x)
        w->start[tile * w->columns + column_of(w, step)] -= first;
}

// After all groups of a block of steps: on to the next.
KERNEL(1) tick(const World* __restrict__ w) {
    if (blockIdx.x || threadIdx.x) return;
    i64 now = steps_now(w);
    w->clock[STEP] += now;
    if (w->clock[FULL] || w->clock[FAILED]) w->clock[HALTED] = 1;
}
