// The synapse rule of dtb/network/synapses.py, one draw by one thread.   u and c are 32.32 fixed point.

// ⌊(u - c) n / d⌋ as one float64 product of an exact integer and a constant; see synapses.place.
DEVICE i64 place(u64 offset, u64 r, u32 spare, f64 scale, i64 most) {
    u64 exact = (offset << spare) + ((r & LOW) >> (32 - spare));
    i64 found = (i64)((f64)(i64)exact * scale);
    return found < most ? found : most;
}

// Where synapse j of a neuron lies on the u axis, from its draw r.
DEVICE u64 on_axis(u64 j, u64 r) { return (j << 32) + (r >> 32); }

DEVICE u32 weight_class(const u64* weight_key, u64 z, u64 j) {
    return (u32)(hash64(z, weight_key[2 * j], weight_key[2 * j + 1]) >> 56);
}

DEVICE bool is_lesioned(const u64* lesion_key, u64 z, u64 j, u64 lesion) {
    return lesion && (hash64(z, lesion_key[2 * j], lesion_key[2 * j + 1]) >> 32) < lesion;
}

// synapses.scale: ⌊width · share / 2³²⌋.
DEVICE u64 scale_width(u64 width, u64 share) { return (width >> 32) * share + (((width & LOW) * share) >> 32); }

// Whether stratum j of a neuron has a synapse of this entry in this group: the segment, and the target in its
// population; -1 if there is none.
DEVICE i64 find(const Entry& entry, const Segment* segments, const u64* position_key, u64 z, u64 j, i32* segment) {
    u64 r = hash64(z, position_key[2 * j], position_key[2 * j + 1]);
    u64 u = on_axis(j, r);
    if (u - entry.low >= entry.high - entry.low) return -1;
    i32 m = entry.segment;
    while (u >= segments[m].end) m++;
    const Segment* s = segments + m;
    i64 k = place(u - s->bound, r, (u32)s->spare, s->scale, s->most);
    *segment = m;
    return k >= s->first && k < s->last ? k : -1;
}
