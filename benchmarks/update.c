/* The update of cpu_kernels.update_tile in plain C: same memory, same operations in the same order, same spikes.

   gcc -O3 -march=native -ffp-contract=off -shared -fPIC update.c
   t tile, b block of 16 lanes, l lane.   table: 24 parameters of each population, rows as in cpu_kernels. */

#include <math.h>
#include <stdint.h>

enum { LANES = 16, ROWS = 24, CENTRE = 131070 };
enum { STEP, LEAK, DRIVE, THRESHOLD, RESET, DRIFT, SPREAD, BG_DECAY, G, E_REV = 12, DECAY = 16, UNIT = 20, HOLD = 22, STIMULUS };

static const uint64_t GOLDEN = 0x9E3779B97F4A7C15, MIX_1 = 0xBF58476D1CE4E5B9, MIX_2 = 0x94D049BB133111EB;

static inline int32_t noise(uint64_t z, const uint64_t *key)
{
    z ^= key[0];
    z = (z ^ z >> 30) * MIX_1 ^ key[1];
    z = (z ^ z >> 27) * MIX_2;
    z ^= z >> 31;
    return (int32_t)((z & 0xFFFF) + (z >> 16 & 0xFFFF) + (z >> 32 & 0xFFFF) + (z >> 48)) - CENTRE;
}

/* One block by one step; the lanes that fired as a mask, or -1 where a membrane left all bounds. */
static inline int32_t update(float *restrict f, uint16_t *restrict hold, const int32_t *restrict excitation,
                             const int32_t *restrict inhibition, uint64_t z, const uint64_t *restrict key,
                             const float *restrict p)
{
    const float smallest = 0x1p-60f;
    int32_t mask = 0, bad = 0;
    for (int l = 0; l < LANES; l++) {
        float e = p[UNIT] * (float)excitation[l], i = p[UNIT + 1] * (float)inhibition[l];
        float s0 = f[LANES + l] * p[DECAY] + e, s1 = f[2 * LANES + l] * p[DECAY + 1] + e;
        float s2 = f[3 * LANES + l] * p[DECAY + 2] + i, s3 = f[4 * LANES + l] * p[DECAY + 3] + i;
        s0 = s0 >= smallest ? s0 : 0;
        s1 = s1 >= smallest ? s1 : 0;
        s2 = s2 >= smallest ? s2 : 0;
        s3 = s3 >= smallest ? s3 : 0;
        float background = f[5 * LANES + l] * p[BG_DECAY] + p[DRIFT];
        background = background + p[SPREAD] * (float)noise(z + (uint64_t)l * GOLDEN, key);
        float g0 = p[G] * s0, g1 = p[G + 1] * s1, g2 = p[G + 2] * s2, g3 = p[G + 3] * s3;
        float total = p[LEAK] + g0 + g1 + g2 + g3;
        float drive = p[DRIVE] + g0 * p[E_REV] + g1 * p[E_REV + 1] + g2 * p[E_REV + 2] + g3 * p[E_REV + 3];
        drive = drive + (background + p[STIMULUS]);
        float moved = (f[l] + p[STEP] * drive) / (1.0f + p[STEP] * total);
        int32_t left = hold[l], free = left == 0;
        int32_t fires = free & (moved >= p[THRESHOLD]), stays = free & (moved < p[THRESHOLD]);
        bad |= !(fabsf(moved) < 1e6f);
        f[l] = stays ? moved : p[RESET];
        f[LANES + l] = s0;
        f[2 * LANES + l] = s1;
        f[3 * LANES + l] = s2;
        f[4 * LANES + l] = s3;
        f[5 * LANES + l] = background;
        hold[l] = (uint16_t)(fires ? (int32_t)p[HOLD] : left > 0 ? left - 1 : 0);
        mask |= fires << l;
    }
    return bad ? -1 : mask;
}

/* All tiles, step after step from step 0 on; spikes are appended to the history. Returns how many blocks failed. */
int64_t sweep(int64_t steps, int64_t tiles, const int64_t *first, const int32_t *n, const int64_t *block,
              const int32_t *population, const float *table, const uint64_t *key, float *fields, uint16_t *hold,
              const int32_t *excitation, const int32_t *inhibition, uint16_t *index, const int64_t *base,
              int32_t *start, int64_t columns)
{
    int64_t failed = 0;
    for (int64_t step = 0; step < steps; step++)
        for (int64_t t = 0; t < tiles; t++) {
            float parameters[ROWS]; /* a copy, or the compiler fears that state and table overlap: 11 ns instead of 2 */
            for (int row = 0; row < ROWS; row++)
                parameters[row] = table[ROWS * population[t] + row];
            uint16_t *spikes = index + base[t];
            int32_t found = start[t * columns + step % columns];
            for (int64_t b = block[t]; b < block[t + 1]; b++) {
                int64_t lane = (b - block[t]) * LANES;
                int32_t mask = update(fields + 6 * LANES * b, hold + LANES * b, excitation + lane, inhibition + lane,
                                      (uint64_t)(first[t] + lane) * GOLDEN, key + 2 * step, parameters);
                if (mask < 0)
                    failed++;
                for (; mask > 0; mask &= mask - 1)
                    if (lane + __builtin_ctz(mask) < n[t])
                        spikes[found++] = (uint16_t)(lane + __builtin_ctz(mask));
            }
            start[t * columns + (step + 1) % columns] = found;
        }
    return failed;
}
