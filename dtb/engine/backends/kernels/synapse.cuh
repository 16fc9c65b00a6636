// The synapse rule of dtb/network/synapses.py, one draw by one thread.   u and c are 32.32 fixed point.

// ⌊(u - c) n / d⌋ as one float64 product of an exact integer and a constant; see synapses.place. At most n - 1 is meant.
// The integer is the offset, and to its right the first `spare` of the low 32 bits of r: two funnel shifts.
DEVICE i64 place(u64 offset, u64 r, u32 spare, f64 scale) {
    const u32 low = __funnelshift_lc((u32)r, (u32)offset, spare);
    const u32 high = __funnelshift_lc((u32)offset, (u32)(offset >> 32), spare);
    return (i64)((f64)(i64)((u64)high << 32 | low) * scale);
}

// Where synapse j of a neuron lies on the u axis, from its draw r.
DEVICE u64 on_axis(u64 j, u64 r) { return (j << 32) + (r >> 32); }

struct alignas(16) Key {
    u64 k0, k1;
};

// Words of stratum j: of its position, and of its weight; both keys lie together, see World.draw_key.
DEVICE u64 position_word(const u64* draw_key, u64 z, u64 j) {
    const Key key = ((const Key*)draw_key)[2 * j];
    return hash64(z, key.k0, key.k1);
}

DEVICE u32 weight_class(const u64* draw_key, u64 z, u64 j) {
    const Key key = ((const Key*)draw_key)[2 * j + 1];
    return (u32)(hash64(z, key.k0, key.k1) >> 56);
}

DEVICE bool is_lesioned(const u64* lesion_key, u64 z, u64 j, u64 lesion) {
    return (hash64(z, lesion_key[2 * j], lesion_key[2 * j + 1]) >> 32) < lesion;
}

// synapses.scale: ⌊width · share / 2³²⌋.
DEVICE u64 scale_width(u64 width, u64 share) { return (width >> 32) * share + (((width & LOW) * share) >> 32); }

// The segment of an entry, from number m on, that holds u.
DEVICE const Segment* segment_of(const Segment* segments, i32 m, u64 u) {
    while (u >= segments[m].end) m++;
    return segments + m;
}
