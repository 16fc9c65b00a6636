"""The cell model: conductance-based leaky integrate-and-fire with four receptors and a background current.

    C dV/dt = g_leak (E_leak - V) + Σ_u g_u S_u (E_u - V) + I_background + I_stimulus
    dS_u/dt = -S_u/τ_u + Σ weights of arriving spikes           u = AMPA, NMDA, GABA_A, GABA_B
    dI_bg   = (mean - I_bg)/τ dt + sd sqrt(2/τ) dW
    V ≥ v_threshold: spike, then V = v_reset for t_ref

The two named sets are those of the published Digital Twin Brain: its 2024 release (Lu et al. 2024, Nat. Comput. Sci.
4:890; code DTB-consortium/Digital_twin_brain-open, test_generation.py and test_demo.py) and the model of its 2024
review (Lu et al. 2024, Natl Sci. Rev. 11:nwae080; code lepodl/DetailedDTB). Published numbers carry no units; read as
nF, µS, nA, mV, ms they are consistent, and become ours (pF, nS, pA, mV, ms) by a factor of 1000.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, fields

import numpy as np

RECEPTORS = ("AMPA", "NMDA", "GABA_A", "GABA_B")
PUBLISHED_TO_OURS = 1000.0  # nF → pF, µS → nS, nA → pA


def _as_floats(parameters) -> None:
    """Make numbers of any kind Python floats, so that equal parameters print, and are digested, alike."""
    for entry in fields(parameters):
        value = getattr(parameters, entry.name)
        if isinstance(value, (tuple, list, np.ndarray)):
            object.__setattr__(parameters, entry.name, tuple(float(x) for x in value))
        elif not isinstance(value, Background):
            object.__setattr__(parameters, entry.name, float(value))


@dataclass(frozen=True)
class Background:
    """Ornstein–Uhlenbeck current: the input of all that is not simulated.

    Parameters
    ----------
    mean, sd : float [pA]
        Of the stationary distribution.
    tau : float [ms]
        Correlation time.
    """

    mean: float
    sd: float
    tau: float

    def __post_init__(self) -> None:
        _as_floats(self)
        if not (np.isfinite([self.mean, self.sd, self.tau]).all() and self.sd >= 0 and self.tau > 0):
            raise ValueError(
                f"background has mean {self.mean} pA, sd {self.sd} pA and tau {self.tau} ms; they must be finite, "
                "sd ≥ 0 and tau > 0."
            )


@dataclass(frozen=True)
class LIF:
    """Parameters of a leaky integrate-and-fire cell; per-receptor values in the order of `RECEPTORS`.

    Parameters
    ----------
    c_m : float [pF]
    g_leak : float [nS]
    e_leak, v_threshold, v_reset : float [mV]
    t_ref : float [ms]
        Rounded to whole steps when a network is compiled.
    g : 4 floats [nS]
        Conductance per unit of synaptic activation S.
    e_rev : 4 floats [mV]
    tau_syn : 4 floats [ms]
    background : Background

    Examples
    --------
    >>> LIF().tau
    20.0
    """

    c_m: float = 500.0
    g_leak: float = 25.0
    e_leak: float = -70.0
    v_threshold: float = -50.0
    v_reset: float = -55.0
    t_ref: float = 2.0
    g: tuple[float, float, float, float] = (2.0, 0.0, 10.0, 0.0)
    e_rev: tuple[float, float, float, float] = (0.0, 0.0, -70.0, -100.0)
    tau_syn: tuple[float, float, float, float] = (2.0, 40.0, 20.0, 50.0)
    background: Background = field(default_factory=lambda: Background(450.0, 200.0, 4.0))

    def __post_init__(self) -> None:
        _as_floats(self)
        positive = {"c_m": self.c_m, "g_leak": self.g_leak, "t_ref": self.t_ref} | {
            f"tau_syn of {receptor}": tau for receptor, tau in zip(RECEPTORS, self.tau_syn, strict=True)
        }
        for name, value in positive.items():
            if not 0 < value < np.inf:
                raise ValueError(f"{name} of a cell is {value}; it must be above zero and finite.")
        for receptor, value in zip(RECEPTORS, self.g, strict=True):
            if not 0 <= value < np.inf:
                raise ValueError(f"g of {receptor} is {value} nS; a conductance is finite and not negative.")
        potentials = {"e_leak": self.e_leak, "v_threshold": self.v_threshold, "v_reset": self.v_reset} | {
            f"e_rev of {receptor}": value for receptor, value in zip(RECEPTORS, self.e_rev, strict=True)
        }
        for name, value in potentials.items():
            if not np.isfinite(value):
                raise ValueError(f"{name} of a cell is {value} mV; it must be finite.")
        if not self.v_reset < self.v_threshold:
            raise ValueError(f"v_reset {self.v_reset} mV is not below v_threshold {self.v_threshold} mV.")

    @property
    def tau(self) -> float:
        """Membrane time constant without synaptic input [ms]."""
        return self.c_m / self.g_leak


def from_published(
    c: float,
    g_l: float,
    v_l: float,
    v_th: float,
    v_reset: float,
    t_ref: float,
    g: tuple[float, float, float, float],
    v_u: tuple[float, float, float, float],
    tau: tuple[float, float, float, float],
    ou: tuple[float, float, float],
) -> LIF:
    """A cell from numbers as the published code writes them: nF, µS, nA, mV, ms."""
    ours = PUBLISHED_TO_OURS
    return LIF(
        c_m=c * ours,
        g_leak=g_l * ours,
        e_leak=v_l,
        v_threshold=v_th,
        v_reset=v_reset,
        t_ref=t_ref,
        g=(g[0] * ours, g[1] * ours, g[2] * ours, g[3] * ours),
        e_rev=v_u,
        tau_syn=tau,
        background=Background(ou[0] * ours, ou[1] * ours, ou[2]),
    )


# The release ships OU (0.40, 0.15, 4), with which this network fires at 3 spikes/s, ISI CV 0.85. Mean 0.45 and sd 0.20
# bring it to 7.7 spikes/s, CV 1.0, variance/mean of the 5 ms population count 6 (measured, architecture section 6).
CELLS = {
    "release2024": from_published(
        0.5, 0.025, -70, -50, -55, 2, (0.002, 0, 0.01, 0), (0, 0, -70, -100), (2, 40, 20, 50), (0.45, 0.20, 4)
    ),
    "nsr2023": from_published(
        0.5, 0.025, -70, -50, -55, 2, (0.0025, 0, 0.0098, 0), (0, 0, -70, 0), (2, 40, 20, 1), (0.40, 0.15, 4)
    ),
}


def cell_named(name: str) -> LIF:
    """The named parameter set, or an error with the nearest name."""
    if name in CELLS:
        return CELLS[name]
    near = difflib.get_close_matches(name, CELLS, 1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise ValueError(f"unknown cell '{name}'. Known: {', '.join(CELLS)}.{hint}")
