"""The three comparisons with NEST: one membrane, one network spike by spike, and ten networks as distributions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

import dtb
from validate.compare import MEASURES, compare, firing, matched
from validate.driven import Driven, Trace, at_grid
from validate.nest_process import Nest, cell_parameters
from validate.network import SETTLE, Case, Spikes

STEPS = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01)  # ms
SPIKING_STEPS = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02)
SPIKING_DURATION, SPIKING_SEEDS = 4_000.0, (1, 2, 3)
SHOWN = slice(300, 500)  # ms of the membrane that the figure shows
SAME_STEPS, SAME_DURATION, SAME_WINDOW = (0.1, 0.05, 0.02), 80.0, 10.0  # ms
SAME_SEEDS = range(1, 9)
DT, DURATION = 0.1, 5_500.0  # ms
COARSE = 1.0  # ms
INHIBITION = 0.9  # gain on GABA_A of the network that must be told apart
NEAR = 1.0  # ms between two spikes that are taken for the same one


def membrane(nest: Nest) -> dict:
    """A neuron that cannot spike: errors [mV] at each dt against NEST and against the exact solution."""
    case = Driven(replace(dtb.LIF(), v_threshold=0.0))
    exact, rows, shown = case.exact(), [], {}
    for dt in STEPS:
        ours = at_grid(case.ours(dt).v, dt)
        theirs = at_grid(nest.ask("driven", **case.asked(dt), **cell_parameters(case.cell))["v"], dt)
        row = {"dt": dt, "rms": rms(ours - theirs), "max": peak(ours - theirs), "nest_to_exact": peak(theirs - exact)}
        if rows:
            row["order"] = float(np.log(rows[-1]["rms"] / row["rms"]) / np.log(rows[-1]["dt"] / dt))
        rows.append(row)
        if dt in (1.0, DT):
            shown |= {f"{dt:g}": ours[SHOWN].tolist(), "nest": theirs[SHOWN].tolist()}
    return {"steps": rows, "shown": shown, "first_ms": SHOWN.start + 1}


def spike_times(nest: Nest) -> list[dict]:
    """A neuron that spikes: how many spikes both have, and how far apart [ms], at each dt; over a few trains."""
    rows = []
    cases = [Driven(dtb.LIF(), duration=SPIKING_DURATION, seed=seed) for seed in SPIKING_SEEDS]
    for dt in SPIKING_STEPS:
        n_ours = n_nest = 0
        apart: list[np.ndarray] = []
        for case in cases:
            ours = case.ours(dt)
            theirs = Trace(**nest.ask("driven", **case.asked(dt), **cell_parameters(case.cell)))
            a, b = (trace.spike_step * dt for trace in (ours, theirs))
            distance = np.abs(a[:, None] - b).min(axis=1) if len(b) else np.full(len(a), np.inf)
            n_ours, n_nest = n_ours + len(a), n_nest + len(b)
            apart.append(distance[distance <= NEAR])
        near = np.concatenate(apart)
        rows.append({"dt": dt, "ours": n_ours, "nest": n_nest, "both": len(near), "apart": float(near.mean())})
    return rows


def spike_by_spike(nest: Nest) -> list[dict]:
    """Networks under the very same currents: share of our spikes that NEST has, window by window, until chaos."""
    windows, rows = np.arange(0, SAME_DURATION, SAME_WINDOW), []
    for dt in SAME_STEPS:
        shares, chance, counts = [], [], np.zeros(2, np.int64)
        for seed in SAME_SEEDS:
            case = Case(seed)
            ours, current = case.ours_with_currents(dt, SAME_DURATION, seed)
            theirs = case.nest(nest, dt, SAME_DURATION, seed, current)
            shares.append([matched(ours, theirs, begin, begin + SAME_WINDOW, NEAR) for begin in windows])
            chance.append(matched(shuffled(ours, case.neurons), theirs, 0.0, SAME_DURATION, NEAR))
            counts += [len(ours.step), len(theirs.step)]
        share, by_chance = np.mean(shares, axis=0).tolist(), float(np.mean(chance))
        rows.append({"dt": dt, "ours": int(counts[0]), "nest": int(counts[1]), "share": share, "by_chance": by_chance})
    return rows


def shuffled(spikes: Spikes, n: int) -> Spikes:
    """The same spikes by other neurons."""
    return spikes._replace(gid=np.random.default_rng(1).permutation(n)[spikes.gid])


def distributions(nest: Nest, seeds: int, workers: int) -> dict:
    """Ten networks, each with noise of its own in either simulator: rates, CV and correlations."""

    def one(seed: int):
        case = Case(seed)
        n = case.network.n_neurons
        runs = {
            "ours": case.ours(DT, DURATION, seed),
            "nest": case.nest(nest, DT, DURATION, seed),
            "again": case.ours(DT, DURATION, seed + 1000),
            "coarse": case.ours(COARSE, DURATION, seed + 2000),
            "control": case.ours(DT, DURATION, seed + 3000, INHIBITION),
        }
        return {name: firing(spikes, n, seed) for name, spikes in runs.items()}, len(case.edges.pre)

    with ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(one, range(1, seeds + 1)))
    runs = {name: [result[name] for result, _ in results] for name in results[0][0]}
    against = {name: [verdict._asdict() | {"alike": verdict.alike} for verdict in compare(runs["ours"], runs[name])]
               for name in ("nest", "again", "coarse", "control")}  # fmt: skip
    histograms = {}
    for measure in MEASURES:
        pooled = {name: np.concatenate([getattr(f, measure) for f in runs[name]]) for name in ("ours", "nest")}
        low, high = np.percentile(pooled["ours"], [0, 99.9])
        quantum = 1000 / (DURATION - SETTLE)  # of a rate: one spike more
        edges = np.arange(-quantum / 2, high, 3 * quantum) if measure == "rate" else np.linspace(low, high, 41)
        histograms[measure] = {"edges": edges.tolist()} | {
            name: np.histogram(values, edges, density=True)[0].tolist() for name, values in pooled.items()
        }
    return {"seeds": seeds, "synapses": [n for _, n in results], "against": against, "histograms": histograms}


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(x**2)))


def peak(x: np.ndarray) -> float:
    return float(np.abs(x).max())
