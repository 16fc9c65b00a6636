// One neuron, one step: reference.update, operation by operation. All floats are float32.

static const f32 SMALLEST = 8.673617379884035e-19f;  // 2^-60, constants.SMALLEST
static const f32 RUNAWAY = 1e6f;                     // mV, constants.RUNAWAY

// A row of World.table; cuda_plan.PARAMETERS has its columns.
struct Parameters {
    f32 step, leak, drive, threshold, reset, drift, spread, bg_decay;
    f32 g[4], e_rev[4], decay[4];
    f32 unit[2], hold, stimulus;
};

struct Neuron {
    f32 v, s[4], background;
    u32 hold;
};

// Advance by one step, in place; whether it fired.
DEVICE bool update(Neuron& x, const Parameters& c, i32 excitation, i32 inhibition, f32 noise, bool implicit) {
    const f32 arrived[2] = {c.unit[0] * (f32)excitation, c.unit[1] * (f32)inhibition};
#pragma unroll
    for (u32 u = 0; u < 4; u++) {
        f32 s = x.s[u] * c.decay[u] + arrived[u / 2];  // AMPA, NMDA excitatory; GABA_A, GABA_B inhibitory
        x.s[u] = s >= SMALLEST ? s : 0.0f;
    }
    x.background = x.background * c.bg_decay + c.drift + c.spread * noise;
    f32 total = c.leak, drive = c.drive;
#pragma unroll
    for (u32 u = 0; u < 4; u++) {
        f32 conductance = c.g[u] * x.s[u];
        total = total + conductance;
        drive = drive + conductance * c.e_rev[u];
    }
    drive = drive + (x.background + c.stimulus);
    f32 moved = implicit ? (x.v + c.step * drive) / (1.0f + c.step * total) : x.v + c.step * (drive - total * x.v);
    bool resting = x.hold > 0, fired = !resting && moved >= c.threshold;
    x.v = resting || fired ? c.reset : moved;
    x.hold = fired ? (u32)c.hold : x.hold - (resting ? 1 : 0);
    return fired;
}

DEVICE i64 population_of(const World* w, i64 tile, i64 lane) {
    if (!w->mixed) return w->tile_population[tile];
    return w->lanes_population[lane / 16] + w->lane_population[lane];
}

// The parameters of a neuron of population p, the stimulus apart: a row for each population.
DEVICE Parameters parameters(const World* w, i64 p) { return ((const Parameters*)w->table)[p]; }

// After `spread` there is a row for each class, and what control turns is apart.
DEVICE Parameters parameters_of(const World* w, i64 p) {
    i32 k = w->population_class[p];
    Parameters c = ((const Parameters*)w->table)[k];
#pragma unroll
    for (u32 u = 0; u < 4; u++) c.g[u] = c.g[u] * w->gain[4 * p + u];
    c.drift = w->bg_mean[k] * w->mean[p];
    c.spread = w->bg_noise[k] * w->sd[p];
    return c;
}

DEVICE f32 stimulus_of(const World* w, i64 p, i64 step) {
    i64 row = w->stimuli > 1 ? step - w->clock[BEGIN] : 0;
    return w->stimulus[row * w->populations + p];
}
