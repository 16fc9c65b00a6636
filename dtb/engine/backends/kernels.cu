// The kernels of the cuda backend: reference.py on an accelerator, bit for bit.
//
// One step of a group of tiles is two kernels: `scatter` draws the synapses of all spikes that arrive in the group and
// sorts them into a bucket for each tile; `advance` adds a tile's bucket up in shared memory, integrates its neurons
// and appends those that fired to its history. `spread` stands in for `scatter` where populations are small. Sums are
// integers, so neither the order of threads nor that of blocks can matter; floats see one neuron only, in the order of
// reference.py, and -fmad=false keeps the compiler from fusing them.
//
// Every argument of a kernel is a pointer or an i64. All that a thread computes alone is written in functions that any
// C++ compiler builds, and so are the kernels: tests/cuda runs this text on a processor, threads, barriers and all.

#include "kernels/world.cuh"
#include "kernels/random.cuh"
#include "kernels/block.cuh"
#include "kernels/history.cuh"
#include "kernels/synapse.cuh"
#include "kernels/scatter.cuh"
#include "kernels/spread.cuh"
#include "kernels/neuron.cuh"
#include "kernels/advance.cuh"
#include "kernels/observe.cuh"
#include "kernels/exchange.cuh"
