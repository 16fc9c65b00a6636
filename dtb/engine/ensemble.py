"""Many simulations of one network at once: on a GPU a batch, of which each kernel fills what the others leave idle."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

if TYPE_CHECKING:
    from dtb.engine.backends.cuda import CudaBackend
    from dtb.engine.recording import Recording
    from dtb.engine.simulation import Simulation


def run_together(
    simulations: list[Simulation],
    duration: float,
    recordings: Sequence[Recording | None] | None = None,
    stimuli: Sequence[np.ndarray | None] | None = None,
) -> None:
    """Advance simulations by `duration` ms side by side; each does what `Simulation.run` would make of it alone.

    Parameters
    ----------
    simulations : list of Simulation
        Of one network and step, each with its own seed, control and lesions. With backend "cuda" they share the device;
        with others they run one after another.
    duration : float [ms]
    recordings, stimuli : one for each simulation, which may be None, or None
        As in `Simulation.run`.

    Raises
    ------
    ValueError
        If networks, steps, backends or storage differ, or there are several ranks.

    Examples
    --------
    >>> import dtb
    >>> from dtb.engine.ensemble import run_together
    >>> network = dtb.build_network(dtb.default_brain(), n_neurons=2_000, in_degree=50)
    >>> members = [dtb.Simulation(network, seed=seed) for seed in (1, 2, 3)]
    >>> run_together(members, 20.0)
    >>> len({member.spike_digest for member in members})
    3
    """
    check(simulations)
    n = len(simulations)
    recorded = recordings or [None] * n
    given = stimuli or [None] * n
    if len(recorded) != n or len(given) != n:
        raise ValueError(
            f"{n} simulations have {len(recorded)} recordings and {len(given)} stimuli. Give one for each, or none."
        )
    if simulations[0]._backend.name != "cuda":
        for simulation, recording, stimulus in zip(simulations, recorded, given, strict=True):
            simulation.run(duration, recording, stimulus)
        return
    batch(simulations, duration, recorded, given)


def check(simulations: list[Simulation]) -> None:
    """Refuse what cannot run side by side."""
    if not simulations:
        raise ValueError("there is no simulation to run. Give at least one.")
    first = simulations[0]
    for number, other in enumerate(simulations):
        for what, mine, theirs in (
            ("network", first.network.digest, other.network.digest),
            ("dt", first.dt, other.dt),
            ("backend", first._backend.name, other._backend.name),
        ):
            if mine != theirs:
                raise ValueError(f"simulation {number} has {what} {theirs}, the first one {mine}. Run them apart.")
        if other.comm.size > 1:
            raise ValueError(f"simulation {number} is on {other.comm.size} ranks. Run it apart.")


def batch(simulations: list[Simulation], duration: float, recorded: Sequence, given: Sequence) -> None:
    """All on one device, chunk by chunk; who has had its steps rests."""
    from dtb.engine.backends.cuda import Together

    steps = simulations[0].steps_of(duration)
    currents = [simulation._stimulus(stimulus, steps) for simulation, stimulus in zip(simulations, given, strict=True)]
    for simulation, recording in zip(simulations, recorded, strict=True):
        if recording is not None:
            recording.bind(simulation.network, simulation.dt, simulation.step)
    together = Together([cast("CudaBackend", s._backend) for s in simulations], [s._state for s in simulations])
    done = [0] * len(simulations)
    try:
        while min(done) < steps:
            clock = time.perf_counter()
            begin = [simulation.step for simulation in simulations]
            members = zip(simulations, done, currents, recorded, strict=True)
            told = together.advance([s._next(n, steps, current, None, kept) for s, n, current, kept in members])
            wall = (time.perf_counter() - clock) / len(simulations)
            for number, (simulation, (ahead, fields)) in enumerate(zip(simulations, told, strict=True)):
                simulation.phases["advance"] += wall
                done[number] += ahead
                if ahead:
                    simulation._take(begin[number], ahead, fields, recorded[number])
    finally:
        for recording in recorded:
            if recording is not None:
                recording.flush()
