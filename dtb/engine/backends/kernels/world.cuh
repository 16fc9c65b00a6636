// Everything a kernel reads and writes: one record in device memory, filled by cuda_world.py, which reads the names and
// types of its members from this text.  Every member is 8 bytes: a pointer or an i64.

typedef unsigned char u8;
typedef unsigned short u16;
typedef int i32;
typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;
typedef float f32;
typedef double f64;

// A kernel, for blocks of at most so many threads, of which an SM should have room for so many at once: what a kernel
// may not exceed is 65,536 registers for all of them.
#define KERNEL(blocks) extern "C" __global__ void __launch_bounds__(512, blocks)
#define DEVICE static __device__ __forceinline__

// What changes from launch to launch.
enum Clock {
    STEP,      // next step
    STOP,      // step at which this call ends
    OLDEST,    // first step whose spikes are kept
    KNOWN,     // step up to which the spikes of other ranks are here
    BEGIN,     // first step of the noise keys and stimuli that are here
    HALTED,    // nothing runs any more in this call
    FULL,      // a tile's history lacks room for one more block
    FAILED,    // a membrane left all bounds
    MISSING,   // most spikes that a tile's room is short of
    PRODUCED,  // synapses put into buckets or sums
    CONSUMED,  // synapses taken out of buckets
    FOUND,     // spikes listed
    CLOCKS
};

// A run of segments whose synapses of one source population arrive with one delay.
struct Entry {
    u64 low;     // range of u, 32.32 fixed point
    u64 high;
    u64 lesion;  // fraction dropped, of 2^32
    i32 segment; // first segment, and one past the last
    i32 end;
    i32 delay;   // steps
    i32 table;   // row of weights: the projection
    i32 kind;    // 0 excitatory, 1 inhibitory
    i32 own;     // whether a neuron can hit itself
};

// A target population, or the part of it that a group holds; loaded 16 bytes at a time.
struct alignas(16) Segment {
    u64 bound;  // c_m
    u64 end;    // c_{m+1}
    f64 scale;  // targets per unit of the exact integer
    i64 most;   // largest target within its population
    i64 first;  // first target that the group holds
    u32 held;   // how many it holds
    u32 lane;   // of the first, counted from the group's first lane
    u32 spare;  // bits of the low half of the draw that the exact integer takes in
    u32 tile;   // the group's tile that holds the first
    f32 ratio;  // tiles per target
    u32 unused;
};

// What one block of threads draws: some strata of an entry, for the spikes of some tiles.
struct Item {
    i32 entry;
    i32 group;
    i32 pool;     // source tiles pool_tile[pool : pool_end]
    i32 pool_end;
    u32 stratum;  // strata
    u32 stratum_end;
};

// Consecutive tiles that receive at once. Neighbouring groups have buckets of their own, so that one can be drawn while
// the other is added up.
struct Group {
    i64 lane;          // of its first neuron
    i64 capacity;      // synapses that a bucket holds
    i64 bucket;        // where its buckets begin in World.bucket
    i64 spill;         // and its sums in World.spill
    i32 first_bucket;  // number of its first bucket in World.bucket_count and spilled
    i32 tile;          // first tile
    i32 tiles;
    i32 unused;
};

struct World {
    // state, lanes: neurons of the tiles that are here, each tile from a multiple of 16 on
    f32* fields;  // (6, lanes) V mV, S of four receptors, background pA
    u16* hold;    // (lanes,) steps left in refractoriness
    i64* failed;  // (tiles,) first step in which a membrane left all bounds, or -1
    u64* tallies; // (3, columns) synapses delivered, autapses, lesioned, by emission step
    i64* clock;   // (CLOCKS,)
    i64 lanes;
    // tiles: those whose spikes are needed; own are those that live here
    i64* tile_first;       // (tiles,) gid of the first neuron
    i32* tile_n;           // (tiles,) neurons
    i64* tile_lane;        // (tiles + 1,) lane of the first neuron; no lanes: it lives on another rank
    i32* tile_population;  // (tiles,) of the first neuron
    i32* own;              // (owned,)
    u8* lane_population;   // (lanes,) added to that of its 16 lanes, where tiles hold many populations
    i32* lanes_population; // (lanes / 16,)
    i64* heard;            // (tiles,) step up to which the spikes of a tile are here
    i64 tiles;
    i64 owned;
    i64 mixed;             // whether tiles hold many populations
    i64 width;             // neurons of the largest tile, in whole words of 32
    // history: spikes of the last steps, a ring for each tile
    u16* neuron;  // numbers of neurons in their tile, of tile t from base[t] on
    i64* base;    // (tiles,)
    u32* room;    // (tiles,) spikes that a ring holds
    u32* start;   // (tiles, columns) where the spikes of a step begin, at column step mod columns
    i64 columns;  // a power of two
    i64 block;    // steps between meetings
    i64 burst;    // spikes that a neuron can emit in one block
    i64 longest;  // delay, in steps
    // dynamics
    f32* table;            // (rows, PARAMETERS) constants by population, or by class where `spread` delivers
    f32* gain;             // (populations, 4)
    f32* mean;             // (populations,) pA
    f32* sd;
    f32* bg_mean;          // (classes,)
    f32* bg_noise;
    f32* stimulus;         // (stimuli, populations) pA
    i64 stimuli;           // 1, or the steps of a call
    u64* noise_key;        // (steps, 2)
    i64 implicit;          // semi-implicit Euler, or explicit
    // populations
    i64* first_gid;        // (populations + 1,)
    i32* population_region;
    i32* population_class;
    u64* degree;           // (populations,) 32.32: D
    i64 populations;
    // draws: keys of every stratum
    u64* draw_key;         // (strata, 4) of position and weight
    u64* lesion_key;       // (strata, 2)
    i32* weights;          // (projections, 256)
    // scatter
    Entry* entries;
    Segment* segments;
    Item* items;
    Group* groups;
    i32* pool_tile;
    u32* bucket;           // synapses: weight << 16 | kind << 15 | neuron in its tile
    u32* bucket_count;     // of the groups at work: step in the block · tiles + tile
    i32* spill;            // (…, block, 2, lanes of the widest group) sums of what found its bucket full
    u32* spilled;          // (buckets,) whether there is any
    i64 spill_lanes;
    // spread: the rows of cpu_rows.Rows and the order of cpu_sparse.Sparse
    i32* sums;             // (2, lanes) excitatory, inhibitory
    i64* pair;             // (projections, regions + 1)
    i32* post;
    u64* row_width;
    u64* row_start;
    u64* row_total;        // (projections, regions)
    u64* split;
    i64* split_at;         // (projections,)
    i64* delays;
    i64* split_columns;
    i64* kind;
    i64* classes;          // (projections, targets)
    i64 targets;
    u8* sends;             // (projections, classes)
    i64 n_classes;
    u64* row_lesion;       // (pairs,), or nothing
    i64 lesioned;
    i64* population_index; // (regions, classes)
    i64* uniform;          // (projections,)
    u32* sparse_entry;
    i64* sparse_first;
    i64* sparse_row;
    u32* sparse_at;        // (rows, regions, longest + 2)
    i64 projections;
    i64 regions;
    // probes: sampled neurons, ordered by tile
    i32* probe_start;      // (tiles + 1,)
    i32* probe_neuron;
    i32* probe_slot;
    f32* probe_out;        // (steps, probes, 6)
    i64 probes;
};

DEVICE i64 least(i64 a, i64 b) { return a < b ? a : b; }

// Steps of the block at hand; none where the call is over.
DEVICE i64 steps_now(const World* w) {
    return w->clock[HALTED] ? 0 : least(w->block, w->clock[STOP] - w->clock[STEP]);
}

DEVICE bool lives_here(const World* w, i64 tile) { return w->tile_lane[tile + 1] > w->tile_lane[tile]; }
