"""What a network and a time step compile to: every constant of the update, once, in float64, kept as float32.

Legend, used by every backend:  k class, p population, u receptor (AMPA, NMDA, GABA_A, GABA_B).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dtb.network.network import Network
from dtb.network.projection import EXCITATORY, INHIBITORY, KINDS, Projection
from dtb.network.rng import NOISE_SD
from dtb.network.synapses import weight_table, weight_unit

RECEPTOR_KIND = (EXCITATORY, EXCITATORY, INHIBITORY, INHIBITORY)  # which arrivals drive which receptor
SMALLEST = np.float32(2.0**-60)  # activations below it become zero: no subnormal numbers, on any hardware
RUNAWAY = np.float32(1e6)  # mV; a membrane beyond it, or not a number, stops the run
MAX_HOLD = 2**16 - 1  # steps of refractoriness that a uint16 counts
MAX_STEPS = 2**15  # longest delay in steps


class Constants(NamedTuple):
    """Per cell class, float32 unless said otherwise.

    step (k,) ms/pF: dt / C.  leak (k,) nS.  leak_drive (k,) pA: g_leak · E_leak.  threshold, reset (k,) mV.
    hold (k,) uint16 steps.  g (k, u) nS.  e_rev (k, u) mV.  decay (k, u): exp(-dt/τ).
    bg_decay, bg_mean, bg_noise (k,): a = exp(-dt/τ), 1 - a, and sqrt(1 - a²) per unit of integer noise.
    unit (2,): activation per integer unit of arriving weight, excitatory and inhibitory; powers of two.
    """

    step: np.ndarray
    leak: np.ndarray
    leak_drive: np.ndarray
    threshold: np.ndarray
    reset: np.ndarray
    hold: np.ndarray
    g: np.ndarray
    e_rev: np.ndarray
    decay: np.ndarray
    bg_decay: np.ndarray
    bg_mean: np.ndarray
    bg_noise: np.ndarray
    unit: np.ndarray


class Control(NamedTuple):
    """What assimilation and experiments turn, per population; float32.

    gain (p, u): factor on g.  mean, sd (p,) pA: of the background current.
    """

    gain: np.ndarray
    mean: np.ndarray
    sd: np.ndarray


def compile_constants(network: Network, dt: float) -> Constants:
    """The constants of a network's cell classes for a step of dt ms, after checking that they fit."""
    cells = [c.cell for c in network.classes]
    hold = [max(1, round(cell.t_ref / dt)) for cell in cells]
    if max(hold) > MAX_HOLD:
        raise ValueError(f"refractoriness of {max(hold)} steps does not fit 16 bits. Raise dt above {dt} ms.")
    a = np.exp([-dt / cell.background.tau for cell in cells])
    check_sums(network)
    return Constants(
        step=_f32([dt / cell.c_m for cell in cells]),
        leak=_f32([cell.g_leak for cell in cells]),
        leak_drive=_f32([cell.g_leak * cell.e_leak for cell in cells]),
        threshold=_f32([cell.v_threshold for cell in cells]),
        reset=_f32([cell.v_reset for cell in cells]),
        hold=np.array(hold, np.uint16),
        g=_f32([cell.g for cell in cells]),
        e_rev=_f32([cell.e_rev for cell in cells]),
        decay=_f32(np.exp([[-dt / tau for tau in cell.tau_syn] for cell in cells])),
        bg_decay=_f32(a),
        bg_mean=_f32(1 - a),
        bg_noise=_f32(np.sqrt(1 - a * a) / NOISE_SD),
        unit=_f32([weight_unit(network, kind) for kind in KINDS]),
    )


def default_control(network: Network) -> Control:
    """Gains of one and each cell's own background."""
    backgrounds = [c.cell.background for c in network.classes]
    of = network.population_class
    return Control(
        np.ones((network.n_populations, 4), np.float32),
        _f32([b.mean for b in backgrounds])[of],
        _f32([b.sd for b in backgrounds])[of],
    )


def delay_steps(network: Network, projection: Projection, dt: float) -> np.ndarray:
    """(pairs, delay classes) uint16: delays in whole steps, checked against dt."""
    multiples = np.array(projection.delay_classes)
    delay = projection.pairs.delay[:, None].astype(float) * multiples
    if delay.size and delay.min() < dt * (1 - 1e-6):  # a delay given as 0.1 ms is kept in float32
        pair = int(np.argmin(delay.min(axis=1)))
        post, pre = network.regions[projection.pairs.post[pair]], network.regions[projection.pairs.pre[pair]]
        raise ValueError(
            f"delay of '{projection.name}' from '{pre}' to '{post}' is {delay.min():.3g} ms, shorter than dt = {dt:g} "
            "ms. Lower dt in Simulation, or raise local_delay or min_delay in build_network."
        )
    steps = np.maximum(np.rint(delay / dt), 1)
    if steps.max(initial=0) >= MAX_STEPS:
        raise ValueError(
            f"a delay of '{projection.name}' is {delay.max():.4g} ms, {steps.max():,.0f} steps; allowed are fewer than "
            f"{MAX_STEPS:,}. Raise velocity in build_network, or dt in Simulation."
        )
    return steps.astype(np.uint16)


def check_sums(network: Network) -> None:
    """Refuse a network whose arriving weights could overflow an int32 sum.

    A synapse delivers at most once per step, so the sum is at most in-degree times the largest weight. In-degrees are
    binomial; the bound used, mean + 12 sqrt(mean) + 60, is passed with probability below 1e-30 per neuron
    (Bernstein's inequality).
    """
    for kind in KINDS:
        mean = np.zeros((len(network.regions), len(network.classes)))
        largest = 0
        for number, p in enumerate(network.projections):
            if p.kind == kind:
                received = np.bincount(p.pairs.post, p.pairs.in_degree, minlength=len(network.regions))
                mean[:, network.class_indices(p.post)] += received[:, None] * np.array(p.factor)
                largest = max(largest, int(weight_table(network, number).max()))
        bound = mean + 12 * np.sqrt(mean) + 60
        if bound.max() * largest >= 2**31:
            region, k = np.unravel_index(int(np.argmax(bound)), bound.shape)
            raise ValueError(
                f"a neuron of '{network.regions[region]}.{network.classes[k].name}' may receive {bound.max():,.0f} "
                f"{kind} synapses; the largest sum of weights that fits is of {2**31 // max(largest, 1):,}. "
                "Lower in_degree."
            )


def _f32(values) -> np.ndarray:
    return np.asarray(values, np.float64).astype(np.float32)
