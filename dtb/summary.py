"""summary.json: what a run was, what it cost, and what came out, in numbers that other programs read."""

from __future__ import annotations

import platform
import resource
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from dtb import __version__
from dtb.observe.regime import Bound, judge_regime, say_regime

PACKAGES = (  # whose versions a summary names
    "numpy", "scipy", "numba", "zarr", "h5py", "pydantic", "cupy-cuda12x", "cupy-cuda13x", "nvidia-cuda-nvrtc",
    "nvidia-cuda-nvrtc-cu12",
)  # fmt: skip

Digest = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class PopulationRate(BaseModel):
    """A population, and its mean rate over the run."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    rate_hz: Amount = Field(description="spikes/s of a neuron")


class Summary(BaseModel):
    """Of one run. A number that could not be had is null, with the reason in its description."""

    model_config = ConfigDict(extra="forbid", strict=True)

    status: Literal["complete", "interrupted"] = Field(description="interrupted: stopped by the user before its end")
    use: Literal["Research use only; not a medical device."] = "Research use only; not a medical device."
    config_hash: Digest
    network_hash: Digest
    network_seed: Count
    seed: Count = Field(description="of initial state and noise")
    members: Count = Field(description="of the ensemble; 1 for a single run")
    neurons: Count
    synapses: Amount = Field(description="expected number; the realised one differs by less than one per neuron")
    populations: Count
    regions: Count
    tiles: Count
    ranks: Count
    threads: Count
    backend: str
    device: str = Field(description="model of processor or accelerator")
    synapse_storage: str = Field(description="stored, procedural, or mixed")
    dt_ms: Amount
    biological_s: Amount = Field(description="simulated time")
    build_s: Amount = Field(description="wall time until the first step: brain, network, tables, compilation")
    wall_s: Amount = Field(description="wall time of the steps, recording included")
    realtime_factor: Amount | None = Field(description="wall_s / biological_s; null if nothing was simulated")
    mean_rate_hz: Amount | None = Field(description="spikes/s of a neuron; null if nothing was simulated")
    rate_hz: dict[str, Amount | None] = Field(description="the same for each cell class")
    isi_cv: Amount | None = Field(description="of neurons with at least 10 spikes after 2 s; null if there are none")
    synchrony: Amount | None = Field(description="variance/mean of 5 ms population counts after 2 s; null if too short")
    slowest_population: PopulationRate | None = Field(
        default=None, description="the one that fires least; null if nothing was simulated"
    )
    fastest_population: PopulationRate | None = Field(
        default=None, description="the one that fires most; null if nothing was simulated"
    )
    spikes: Count
    synaptic_events: Count
    autapses_dropped: Count
    lesioned: Count
    multapses_expected: Amount = Field(description="expected number of synapses beyond the first between two neurons")
    spike_digest: Digest
    state_digest: Digest
    peak_rss_bytes: Count = Field(description="largest memory of the process; of the largest rank")
    device_bytes: Count | None = Field(description="memory of the accelerator; null without one")
    bytes_per_neuron: Amount = Field(description="what the memory check counts for a neuron")
    bytes_per_synapse: Amount = Field(description="0 where synapses are procedural")
    scans: Count = Field(description="of simulated BOLD")
    fc_scans: Count = Field(description="of these, the ones after the haemodynamic onset, from which FC is made")
    fc_correlation: Annotated[float, Field(ge=-1, le=1)] | None = Field(
        description="functional connectivity, simulated against recorded: not a fit. Null if there are too few scans"
    )
    checkpoint_s: Amount | None = Field(
        default=None, description="simulated time from which an interrupted run goes on; null if it cannot"
    )
    phases: dict[str, Amount] = Field(description="wall time [s] by what was done")
    versions: dict[str, str]

    @property
    def regime(self) -> tuple[Bound, ...]:
        """What is asked of a brain at rest, and whether this run meets it."""
        slow, fast = ((p.rate_hz if p else None) for p in (self.slowest_population, self.fastest_population))
        return judge_regime(self.mean_rate_hz, self.isi_cv, self.synchrony, slow, fast)

    def __str__(self) -> str:
        """One screen, for people."""
        speed = "" if self.realtime_factor is None else f", {self.realtime_factor:.3g} s per simulated second"
        rates = ", ".join(f"{name} {number(rate, '.2f')}" for name, rate in self.rate_hz.items())
        fc = "too few scans" if self.fc_correlation is None else f"r = {self.fc_correlation:.3f}, not a fit"
        many = f"{self.ranks} ranks of " if self.ranks > 1 else ""
        ends = [f"{p.rate_hz:.2f} ({p.name})" for p in (self.slowest_population, self.fastest_population) if p]
        populations = " to ".join(ends) + " spikes/s" if ends else "–"
        stored = f"{self.synapse_storage}, {self.bytes_per_synapse:.3g} bytes each"
        rows = [
            ("network", f"{self.neurons:,} neurons, {self.populations:,} populations, {self.regions:,} regions"),
            ("synapses", f"{self.synapses:,.0f} ({stored})"),
            ("simulated", f"{self.biological_s:g} s in steps of {self.dt_ms:g} ms"),
            ("wall time", f"{self.wall_s:.1f} s{speed}; {self.build_s:.1f} s to build"),
            ("machine", f"{self.backend}, {many}{self.threads} threads, peak {self.peak_rss_bytes / 2**20:,.0f} MiB"),
            ("firing", f"{number(self.mean_rate_hz, '.2f')} spikes/s: {rates}"),
            ("irregularity", f"ISI CV {number(self.isi_cv, '.2f')}, synchrony {number(self.synchrony, '.1f')}"),
            ("populations", populations),
            ("regime", say_regime(self.regime)),
            ("FC against the recording", f"{fc} ({self.fc_scans} of {self.scans} scans used)"),
            ("digests", f"spikes {self.spike_digest} ({self.spikes:,}), state {self.state_digest}"),
        ]
        head = f"Run {self.status}: research use only; not a medical device"
        return "\n".join([head, *(f"  {name:<26}{text}" for name, text in rows)])


def number(value: float | None, form: str) -> str:
    """A number, or a dash where there is none."""
    return "–" if value is None else format(value, form)


def versions() -> dict[str, str]:
    """Of dtb, Python and the packages that make the numbers."""
    found = {"dtb": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def processor() -> str:
    """Model of the processor, as the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def peak_rss_bytes() -> int:
    """Largest memory that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def resident_bytes() -> int:
    """Memory of this process now; where the system does not tell, the most that it has had."""
    try:
        with Path("/proc/self/status").open(encoding="ascii") as status:
            return int(next(line for line in status if line.startswith("VmRSS")).split()[1]) * 1024
    except (OSError, StopIteration):
        return peak_rss_bytes()
