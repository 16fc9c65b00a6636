// dtb/network/rng.py: randomness as a function of an index and a key.

static const u64 GOLDEN = 0x9E3779B97F4A7C15ull;
static const u64 MIX_1 = 0xBF58476D1CE4E5B9ull;
static const u64 MIX_2 = 0x94D049BB133111EBull;
static const u64 DIGEST_KEY = 0x6A09E667F3BCC908ull;  // state.DIGEST_KEY
static const u64 LOW = 0xFFFFFFFFull;
static const i32 NOISE_CENTRE = 131070;

// rng.hash64 of an index already multiplied by GOLDEN.
DEVICE u64 hash64(u64 z, u64 key_0, u64 key_1) {
    z ^= key_0;
    z = ((z ^ (z >> 30)) * MIX_1) ^ key_1;
    z = (z ^ (z >> 27)) * MIX_2;
    return z ^ (z >> 31);
}

DEVICE u64 mix(u64 z) {
    z = (z ^ (z >> 30)) * MIX_1;
    z = (z ^ (z >> 27)) * MIX_2;
    return z ^ (z >> 31);
}

DEVICE f32 noise4(u64 word) {
    u32 total = (u32)(word & 0xFFFF) + (u32)((word >> 16) & 0xFFFF) + (u32)((word >> 32) & 0xFFFF) + (u32)(word >> 48);
    return (f32)((i32)total - NOISE_CENTRE);
}
