/* The random numbers of dtb/network/rng.py as TestU01 sees them.

   rng_battery STREAM small|crush|big [seed [test ...]]   one line per statistic: test, p-value, seconds, name
   rng_battery STREAM words [seed]                        the first 1,000 words, which tests compare with rng.py

   TestU01 looks at the upper bits of 32-bit words, so the two halves of a 64-bit word are separate streams or take
   turns. The streams are the orders in which the product draws; docs/random-numbers.md has what they scored.
   One test runs at a time, each going on where the last one stopped, so a run that is killed has what it printed. */

#include <bbattery.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <swrite.h>
#include <time.h>
#include <unif01.h>

enum { POSITION = 0, WEIGHT = 1, NOISE = 5 };                      /* Stream of rng.py */
enum { LENGTH = 10000, NEURONS = 1000000, FEW = 200, ROWS = 100 }; /* LENGTH divides all that is counted below */

typedef struct {
    uint64_t a, b;
} Key;

static Key key(uint64_t seed, uint32_t stream, uint64_t row, uint32_t member) {
    uint32_t c0 = (uint32_t)row, c1 = (uint32_t)(row >> 32), c2 = stream, c3 = member;
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t left = (uint64_t)c0 * 0xD2511F53u, right = (uint64_t)c2 * 0xCD9E8D57u;
        c0 = (uint32_t)(right >> 32) ^ c1 ^ k0, c1 = (uint32_t)right;
        c2 = (uint32_t)(left >> 32) ^ c3 ^ k1, c3 = (uint32_t)left;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    return (Key){(uint64_t)c1 << 32 | c0, (uint64_t)c3 << 32 | c2};
}

static inline uint64_t hash64(uint64_t index, Key k) {
    uint64_t z = index * 0x9E3779B97F4A7C15u ^ k.a;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u ^ k.b;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* Printed by rng.py; tests/network/test_rng.py has the same numbers. */
static int differs_from_python(void) {
    Key k = key(0x0123456789ABCDEFu, NOISE, (1ull << 32) + 7, 3);
    return k.a != 0x9A36354529E5F924u || k.b != 0xAD9AA03A4A1B2F44u || hash64(12345678901u, k) != 0xD2A55BE789E1AA08u;
}

static uint64_t seed = 1, gid, row;
static uint32_t word[LENGTH];

static void next(uint64_t count, uint64_t end) {
    gid += count;
    if (gid == end) gid = 0, row++;
}

static void fill_a(void) { /* high half, gid fastest: where synapse j of each neuron lands */
    Key k = key(seed, POSITION, row, 0);
    for (int i = 0; i < LENGTH; i++) word[i] = (uint32_t)(hash64(gid + i, k) >> 32);
    next(LENGTH, NEURONS);
}

static void fill_b(void) { /* low half, gid fastest */
    Key k = key(seed, POSITION, row, 0);
    for (int i = 0; i < LENGTH; i++) word[i] = (uint32_t)hash64(gid + i, k);
    next(LENGTH, NEURONS);
}

static void fill_c(void) { /* one neuron, step fastest, both halves: its background current */
    for (int i = 0; i < LENGTH; i += 2, row++) {
        uint64_t z = hash64(NEURONS / 3, key(seed, NOISE, row, 0));
        word[i] = (uint32_t)(z >> 32), word[i + 1] = (uint32_t)z;
    }
}

static void fill_d(void) { /* top bytes of four neighbours: which weight they have */
    Key k = key(seed, WEIGHT, row, 0);
    for (int i = 0; i < LENGTH; i++) {
        uint64_t i0 = gid + 4 * (uint64_t)i;
        word[i] = (uint32_t)(hash64(i0, k) >> 56 << 24 | hash64(i0 + 1, k) >> 56 << 16 | hash64(i0 + 2, k) >> 56 << 8 |
                             hash64(i0 + 3, k) >> 56);
    }
    next(4 * LENGTH, NEURONS);
}

static void fill_e(void) { /* where synapse j lands, and which weight it has */
    Key position = key(seed, POSITION, row, 0), weight = key(seed, WEIGHT, row, 0);
    for (int i = 0; i < LENGTH; i += 2) {
        word[i] = (uint32_t)(hash64(gid + i / 2, position) >> 32);
        word[i + 1] = (uint32_t)(hash64(gid + i / 2, weight) >> 32);
    }
    next(LENGTH / 2, NEURONS);
}

static void fill_f(void) { /* few neurons, j fastest, then the next seed: the delivery of one spike */
    static Key k[ROWS];
    if (gid == 0)
        for (int j = 0; j < ROWS; j++) k[j] = key(seed + row, POSITION, j, 0); /* row counts seeds here */
    for (int i = 0; i < LENGTH; i++) word[i] = (uint32_t)(hash64(gid + i / ROWS, k[i % ROWS]) >> 32);
    next(LENGTH / ROWS, FEW);
}

static void (*const fills[])(void) = {fill_a, fill_b, fill_c, fill_d, fill_e, fill_f};
static void (*fill)(void);

static unsigned int draw(void) {
    static int used = LENGTH;
    if (used == LENGTH) fill(), used = 0;
    return word[used++];
}

typedef struct {
    const char *name;
    int tests; /* L'Ecuyer & Simard (2007), ACM TOMS 33:22 */
    void (*repeat)(unif01_Gen *, int[]);
} Battery;

static const Battery batteries[] = {
    {"small", 10, bbattery_RepeatSmallCrush}, {"crush", 96, bbattery_RepeatCrush}, {"big", 106, bbattery_RepeatBigCrush}};

static void run(Battery battery, unif01_Gen *generator, int test) {
    int repetitions[256] = {0};
    struct timespec start, end;
    repetitions[test] = 1;
    clock_gettime(CLOCK_MONOTONIC, &start);
    battery.repeat(generator, repetitions);
    clock_gettime(CLOCK_MONOTONIC, &end);
    double seconds = (double)(end.tv_sec - start.tv_sec) + 1e-9 * (double)(end.tv_nsec - start.tv_nsec);
    for (int i = 0; i < bbattery_NTests; i++)
        printf("statistic\t%d\t%.17g\t%.3f\t%s\n", test, bbattery_pVal[i], seconds, bbattery_TestNames[i]);
    fflush(stdout);
}

int main(int count, char **argument) {
    if (differs_from_python()) return fprintf(stderr, "rng_battery.c and rng.py compute different words.\n"), 1;
    int known = count > 2 && strlen(argument[1]) == 1 && argument[1][0] >= 'a' && argument[1][0] <= 'f', which = 0;
    while (known && which < 3 && strcmp(argument[2], batteries[which].name)) which++;
    if (!known || (which == 3 && strcmp(argument[2], "words")))
        return fprintf(stderr, "Usage: rng_battery a|b|c|d|e|f small|crush|big|words [seed [test ...]]\n"), 2;
    fill = fills[argument[1][0] - 'a'];
    if (count > 3) seed = strtoull(argument[3], NULL, 0);
    if (which == 3) {
        for (int i = 0; i < 1000; i++) printf("%u\n", draw());
        return 0;
    }
    swrite_Basic = FALSE;
    unif01_Gen *generator = unif01_CreateExternGenBits(argument[1], draw);
    for (int i = 4; i < count; i++) run(batteries[which], generator, atoi(argument[i]));
    for (int test = 1; count < 5 && test <= batteries[which].tests; test++) run(batteries[which], generator, test);
    unif01_DeleteExternGenBits(generator);
    return 0;
}
