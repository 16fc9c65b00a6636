"""Arrays of neurons begin with a cache line."""

import numpy as np
import pytest

from dtb.engine.backends import aligned
from dtb.engine.simulation import Simulation
from tests.networks import regional


@pytest.mark.parametrize("shape", [1, 7, (3, 5), (2, 3, 16)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32, np.int64])
def test_an_array_is_zero_contiguous_writable_and_begins_with_a_line(shape, kind):
    for _ in range(8):  # NumPy alone would begin at one of four places
        array = aligned.zeros(shape, kind)
        assert array.shape == np.zeros(shape).shape and array.dtype == kind
        assert array.flags.c_contiguous and array.flags.writeable and not array.any()
        assert array.ctypes.data % aligned.LINE == 0


@pytest.mark.parametrize("synapses", ["stored", "procedural"])
def test_the_state_of_a_simulation_does(synapses):
    simulation = Simulation(regional(), synapses=synapses, threads=1)
    simulation.run(2.0)
    state = simulation._state
    held = [array for array in (state.fields, state.hold, *state.ring) if array.size > 2]
    assert all(array.ctypes.data % aligned.LINE == 0 for array in held)
