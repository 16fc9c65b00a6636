"""Haemodynamics: from firing to BOLD."""

import difflib
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np

# ε is per spike/s of mean firing. The literature has no value for it, because its neural drive has no unit.
SETS = {
    "friston2003": {
        "kappa": 0.65,  # 1/s, this and the next four: prior means in Friston, Harrison & Penny 2003, table 1
        "gamma": 0.41,  # 1/s²
        "tau": 0.98,  # s
        "alpha": 0.32,
        "rho": 0.34,
        "V0": 0.02,  # resting blood volume fraction, same paper
        "epsilon": 0.045,  # ours, not the paper's: 45 per spike/neuron/ms; 3 % BOLD at 10 spikes/s
    },
    "release2024": {
        "kappa": 1.25,  # 1/s, 1/τ_s with τ_s = 0.8 s; this and all below: DA_voxel.py of the published code
        "gamma": 2.5,  # 1/s², 1/τ_f with τ_f = 0.4 s
        "tau": 1.0,  # s, τ_0
        "alpha": 0.2,
        "rho": 0.8,  # E_0; a resting brain extracts 0.3 to 0.4 of its oxygen, 0.8 is what was published
        "V0": 0.02,
        "epsilon": 0.2,  # 200 per spike/neuron/ms
    },
}

MAX_STEP = 1.0  # ms; errors stay below 1e-8 V0 up to 500 spikes/s, where 1e-6 is asked for
PULSE = 1e-3  # spikes per neuron; small enough that the answer to it is the linear one, large enough for float64


class Constants(NamedTuple):
    """The numbers the kernel needs, under the names of the equations."""

    kappa: float
    gamma: float
    tau: float
    alpha: float
    rho: float
    V0: float
    epsilon: float
    k1: float
    k2: float
    k3: float


class BalloonState(NamedTuple):
    """Where a run of the Balloon model stands.

    Parameters
    ----------
    s, f, v, q : (region,) array
        Vasodilatory signal [1/s]; flow, volume and deoxyhaemoglobin relative to rest.
    bins : int
        Bins of firing seen since the start. Time is bins · dt, never a running sum.
    dt : float [ms]
        Length of these bins; 0 before the first one.
    """

    s: np.ndarray
    f: np.ndarray
    v: np.ndarray
    q: np.ndarray
    bins: int
    dt: float


@dataclass(frozen=True, init=False)
class Balloon:
    """Balloon–Windkessel model: from neural activity to BOLD.

    Parameters
    ----------
    tr_s : float [s]
        Time between scans. Scan k is taken at the end of its interval, at (k + 1) tr_s.
    constants : str
        Named set that gives every constant not given below: ``"friston2003"`` or ``"release2024"``, the published DTB.
    kappa, gamma : float [1/s, 1/s²]
        Decay of the vasodilatory signal, feedback of flow; 0.65 and 0.41, or 1.25 and 2.5.
    tau : float [s]
        Transit time of blood; 0.98, or 1.
    alpha : float
        Stiffness of the vessels, exponent of volume in flow; 0.32, or 0.2.
    rho : float
        Oxygen extraction at rest; 0.34, or 0.8.
    V0 : float
        Resting blood volume fraction; 0.02.
    epsilon : float [1/s² per spike/s]
        Efficacy of firing; 0.045, which is our choice, or 0.2.
    k1, k2, k3 : float
        Weights of the signal; 7 ρ, 2 and 2 ρ − 0.2 in both sets.

    Notes
    -----
    ds/dt = ε rate − κ s − γ (f − 1)    df/dt = s
    τ dv/dt = f − v^(1/α)               τ dq/dt = f E(f)/ρ − v^(1/α) q/v        E(f) = 1 − (1 − ρ)^(1/f)
    bold = V0 [k1 (1 − q) + k2 (1 − q/v) + k3 (1 − v)]

    A run starts at the fixed point of silence, s = 0 and f = v = q = 1, where BOLD is 0. The published code starts at
    q = 0, a brain without deoxyhaemoglobin, where BOLD is 0.15: its first scans are an artefact and are discarded.

    The flow is kept at or above 1e-5: the equations alone make it negative when firing stops suddenly at a high rate.
    While it lies on that floor it waits for s to turn positive, as in the published code.

    Fourth-order Runge–Kutta in float64, steps of at most 1 ms: within 1e-8 V0 of the exact solution up to 500 spikes/s.

    References
    ----------
    Friston, Harrison & Penny (2003), NeuroImage 19:1273.
    Extended Data Table 4 of doi:10.1038/s43588-024-00731-3 (Nature Computational Science 2024): release2024.

    Examples
    --------
    >>> import numpy as np
    >>> from dtb.observe.balloon import Balloon
    >>> rate = np.full((60_000, 4), 5.0)                 # one minute, 4 regions at 5 spikes/s
    >>> bold = Balloon(tr_s=2.0).observe(rate, dt=1.0)
    >>> bold.shape
    (30, 4)

    The same in pieces, as the firing comes:

    >>> balloon = Balloon(tr_s=2.0)
    >>> state = balloon.start(n_regions=4)
    >>> state, first = balloon.advance(state, rate[:12_345], dt=1.0)
    >>> state, rest = balloon.advance(state, rate[12_345:], dt=1.0)
    >>> np.array_equal(np.concatenate([first, rest]), bold)
    True
    """

    tr_s: float
    constants: str
    kappa: float
    gamma: float
    tau: float
    alpha: float
    rho: float
    V0: float
    epsilon: float
    k1: float
    k2: float
    k3: float

    def __init__(
        self,
        tr_s: float = 0.72,  # s, the Human Connectome Project's
        constants: str = "friston2003",
        *,
        kappa: float | None = None,
        gamma: float | None = None,
        tau: float | None = None,
        alpha: float | None = None,
        rho: float | None = None,
        V0: float | None = None,
        epsilon: float | None = None,
        k1: float | None = None,
        k2: float | None = None,
        k3: float | None = None,
    ) -> None:
        given = {"kappa": kappa, "gamma": gamma, "tau": tau, "alpha": alpha, "rho": rho, "V0": V0, "epsilon": epsilon}
        given |= {"k1": k1, "k2": k2, "k3": k3}
        values = named_set(constants) | {name: float(value) for name, value in given.items() if value is not None}
        # both sources: weights of Buxton 1998 as quoted by Friston 2003, functions of the extraction at rest
        values = {"k1": 7 * values["rho"], "k2": 2.0, "k3": 2 * values["rho"] - 0.2} | values
        for name, value in ({"tr_s": float(tr_s)} | values).items():
            check_constant(name, value)
            object.__setattr__(self, name, value)
        object.__setattr__(self, "constants", constants)

    def start(self, n_regions: int, rate: float = 0.0) -> BalloonState:
        """State in which a constant `rate` (spikes/s) has lasted for ever; the default is rest.

        Examples
        --------
        >>> from dtb.observe.balloon import Balloon
        >>> Balloon().start(n_regions=2).q
        array([1., 1.])
        """
        if n_regions < 1:
            raise ValueError(f"n_regions is {n_regions}. At least one region is needed.")
        if not 0 <= rate < math.inf:
            raise ValueError(f"rate is {rate} spikes/s. Give a finite rate of at least 0.")
        flow = 1 + self.epsilon * rate / self.gamma
        volume = flow**self.alpha
        deoxyhaemoglobin = volume * (1 - (1 - self.rho) ** (1 / flow)) / self.rho
        if rate == 0:
            deoxyhaemoglobin = 1.0  # exactly, so that silence gives a BOLD of exactly 0
        s, f, v, q = (np.full(n_regions, level) for level in (0.0, flow, volume, deoxyhaemoglobin))
        return BalloonState(s, f, v, q, bins=0, dt=0.0)

    def advance(self, state: BalloonState, rate: np.ndarray, dt: float) -> tuple[BalloonState, np.ndarray]:
        """Go on from `state` through more firing; return the new state and the scans taken on the way.

        However the firing is cut into pieces, the scans are the same to the last bit.

        Parameters
        ----------
        state : BalloonState
            From `start` or from an earlier `advance`; it is not changed.
        rate : (time, region) array [spikes/s]
            Mean firing per neuron, constant during each bin.
        dt : float [ms]
            Length of a bin, the same one in every call.
        """
        return self._advance(state, rate, dt, in_bins(self.tr_s, dt))

    def observe(self, rate: np.ndarray, dt: float) -> np.ndarray:
        """BOLD, (scan, region), of firing that starts from rest; arguments as in `advance`."""
        rate = np.asarray(rate)
        if rate.ndim != 2:
            raise ValueError(f"rate has shape {rate.shape}. It must be (time, region), in spikes/s.")
        return self.advance(self.start(rate.shape[1]), rate, dt)[1]

    def hrf(self, duration_s: float, rate: float = 0.0, dt: float = 10.0) -> np.ndarray:
        """Haemodynamic response, (time,): BOLD at the end of each bin after one spike of every neuron in the first bin.

        It is the change against a steady `rate` (spikes/s), linearised in the pulse. With `dt` (ms) equal to the time
        between scans it is the kernel that turns changes of the spikes per scan into changes of BOLD.

        Examples
        --------
        >>> from dtb.observe.balloon import Balloon
        >>> for name in ("friston2003", "release2024"):
        ...     response = Balloon(constants=name).hrf(duration_s=20.0)
        ...     print(name, "peaks after", (response.argmax() + 1) * 0.01, "s")
        friston2003 peaks after 3.1 s
        release2024 peaks after 2.04 s
        """
        n_bins = math.floor(in_bins(duration_s, dt))
        if n_bins < 1:
            raise ValueError(f"duration_s is {duration_s} s, shorter than one bin of {dt} ms. Raise it or lower dt.")
        firing = np.full((n_bins, 2), float(rate))  # the second column has no pulse
        firing[0, 0] += PULSE * 1000 / dt
        _, bold = self._advance(self.start(2, rate), firing, dt, Fraction(1))
        return (bold[:, 0] - bold[:, 1]) / PULSE

    def _advance(
        self, state: BalloonState, rate: np.ndarray, dt: float, period: Fraction
    ) -> tuple[BalloonState, np.ndarray]:
        """`advance` with a scan every `period` bins."""
        from dtb.observe.balloon_kernel import advance  # here, because numba is heavy

        rate = np.ascontiguousarray(rate, dtype=np.float64)
        check_rate(state, rate, dt)
        scan_bin, scan_part = scans_between(state.bins, state.bins + len(rate), period)
        bold = np.empty((len(scan_bin), rate.shape[1]))
        s, f, v, q = (np.array(x, dtype=np.float64) for x in state[:4])
        n_steps = math.ceil(dt / MAX_STEP)
        numbers = Constants(*(getattr(self, name) for name in Constants._fields))
        advance(s, f, v, q, rate, dt / 1000, n_steps, scan_bin, scan_part, numbers, bold)
        new = BalloonState(s, f, v, q, state.bins + len(rate), float(dt))
        check_result(new, rate)
        return new, bold


def in_bins(span_s: float, dt: float) -> Fraction:
    """A time in bins, exact for the decimals that the user wrote: 0.72 s are 7200 bins of 0.1 ms."""
    if not 0 < dt < math.inf:
        raise ValueError(f"dt is {dt} ms. It must be above 0 and finite.")
    return Fraction(str(float(span_s))) * 1000 / Fraction(str(float(dt)))


def scans_between(first: int, last: int, period: Fraction) -> tuple[np.ndarray, np.ndarray]:
    """Bin, counted from `first`, and fraction of that bin, of each scan after `first` and up to `last` bins."""
    times = [(k + 1) * period for k in range(first // period, last // period)]
    bins = [math.ceil(time) - 1 for time in times]  # a scan at the border of two bins belongs to the earlier one
    parts = [float(time - n) for time, n in zip(times, bins, strict=True)]
    return np.array(bins, dtype=np.int64) - first, np.array(parts, dtype=np.float64)


def named_set(name: str) -> dict[str, float]:
    """A copy of the set of constants called `name`."""
    if name in SETS:
        return dict(SETS[name])
    near = difflib.get_close_matches(str(name), SETS, n=1, cutoff=0.3)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise ValueError(f"unknown constants '{name}'. Known: {', '.join(SETS)}.{hint}")


def check_constant(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}. Give a finite number.")
    if name in ("k1", "k2", "k3"):  # 2 ρ − 0.2 is negative where ρ < 0.1
        return
    if value <= 0:
        raise ValueError(f"{name} is {value}. It must be above 0.")
    if name == "rho" and value >= 1:
        raise ValueError(f"rho is {value}. It is a fraction of the oxygen and must be below 1.")
    if name == "alpha" and value > 1:
        raise ValueError(f"alpha is {value}. It must be at most 1: volume grows more slowly than flow.")


def check_rate(state: BalloonState, rate: np.ndarray, dt: float) -> None:
    if state.bins and dt != state.dt:
        raise ValueError(
            f"dt is {dt} ms, but this state was made with {state.dt} ms. Keep dt, or begin again with start."
        )
    n_regions = len(state.s)
    if rate.ndim != 2 or rate.shape[1] != n_regions:
        raise ValueError(
            f"rate has shape {rate.shape}. It must be (time, {n_regions}), in spikes/s: the state's regions."
        )
    good = (rate >= 0) & (rate < np.inf)
    if good.all():
        return
    row, region = np.argwhere(~good)[0]
    raise ValueError(
        f"rate is {rate[row, region]} spikes/s at {(state.bins + row) * dt:g} ms in region {region}. "
        "It must be finite and at least 0."
    )


def check_result(state: BalloonState, rate: np.ndarray) -> None:
    bad = np.flatnonzero(~np.isfinite(state[:4]).all(axis=0) | (state.v <= 0))
    if bad.size:
        peak = rate[:, bad[0]].max(initial=0)
        raise ValueError(
            f"the Balloon model became unstable in region {bad[0]}, whose rate reaches {peak:g} spikes/s. "
            "Neurons fire below 500 spikes/s; is this rate in spikes/s, per neuron?"
        )
