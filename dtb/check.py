"""What works on this machine, and whether the laws hold on a toy brain."""

from __future__ import annotations

import importlib.util
import platform
import shutil
from collections.abc import Callable, Iterator

N_NEURONS, IN_DEGREE, DURATION = 600, 30, 150.0  # the reference walks every spike in Python


def machine() -> Iterator[str]:
    """A line for each part: what is there, and what its absence costs."""
    from dtb import __version__
    from dtb.engine.backends import cuda_device
    from dtb.run import available_bytes
    from dtb.summary import processor

    yield f"dtb {__version__}, Python {platform.python_version()}, {processor()}"
    yield f"{available_bytes() / 2**30:.1f} GiB of memory are free"
    parts: tuple[tuple[str, Callable[[], bool], str], ...] = (
        ("backend reference", lambda: module("dtb.engine.backends.reference"), "the laws cannot be tried"),
        ("backend cpu", lambda: module("numba"), "install numba; reference runs up to 100,000 neurons, slowly"),
        ("MPI", lambda: module("mpi4py"), "one process only; threads use its cores"),
        ("Slurm", lambda: shutil.which("sbatch") is not None, "nothing is submitted from here"),
        ("xarray", lambda: module("xarray"), "recordings are read with zarr or dtb.Recording.open"),
    )
    for name, there, cost in parts:
        yield f"{name}: {'found' if there() else f'not found; {cost}'}"
    usable, what = cuda_device.available()
    yield f"backend cuda: {'found, ' if usable else 'not found; '}{what}"


def module(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def laws() -> Iterator[tuple[str, str]]:
    """(name, fault) of each law tried; the fault is empty where it holds."""
    import dtb
    from dtb.engine.backends import cuda_device

    network = dtb.build_network(dtb.default_brain(), n_neurons=N_NEURONS, in_degree=IN_DEGREE)

    def digests(pieces: tuple[float, ...] = (DURATION,), **keywords) -> tuple[str, str, int]:
        simulation = dtb.Simulation(network, **({"threads": 1} | keywords))
        for piece in pieces:
            simulation.run(piece)
        return simulation.spike_digest, simulation.state_digest, simulation.spikes

    try:
        expected = digests(synapses="procedural")
    except Exception as error:  # noqa: BLE001  a check reports, whatever breaks
        yield "a toy brain runs on the cpu", f"{type(error).__name__}: {error}"
        return
    yield "a toy brain runs on the cpu", "" if expected[2] else "there was not one spike"
    trials: tuple[tuple[str, dict], ...] = (
        ("cpu and reference give the same spikes", {"backend": "reference"}),
        ("one and two threads give the same spikes", {"threads": 2}),
        ("stored and procedural synapses give the same spikes", {"synapses": "stored"}),
        ("a run in pieces is the whole run", {"pieces": (1.0, DURATION / 3 - 1, 2 * DURATION / 3)}),
    )
    if cuda_device.available()[0]:
        trials += (("cpu and GPU give the same spikes", {"backend": "cuda"}),)
    for name, keywords in trials:
        yield name, compare(expected, digests, keywords)


def compare(expected: tuple, digests: Callable[..., tuple], keywords: dict) -> str:
    try:
        found = digests(**keywords)
    except Exception as error:  # noqa: BLE001  a check reports, whatever breaks
        return f"{type(error).__name__}: {error}"
    return "" if found == expected else f"digests {found[0]}, {found[1]} instead of {expected[0]}, {expected[1]}"
