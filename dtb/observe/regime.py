"""Is the activity of a run that of a waking cortex at rest: asynchronous, irregular, at a few spikes a second?"""

from __future__ import annotations

from typing import NamedTuple

MEAN_RATE = (3.0, 10.0)  # spikes/s; awake, most regular-spiking cells fire at more than 1, some at more than 10 (1)
ISI_CV = (0.7, 1.3)  # near 1, as of cortical neurons in vivo (2); a clock has 0, a Poisson process 1
SYNCHRONY = (0.0, 20.0)  # variance/mean of the 5 ms count, about 1 + N ρ: 20 of 200,000 neurons is a mean ρ of 0.0001
SILENT = 0.1  # spikes/s; a tenth of what regular-spiking cells exceed in every unanaesthetised state measured (1)
SATURATED = 100.0  # spikes/s; a fifth of what a refractory period of 2 ms allows, ten times what (1) calls high

# (1) Vijayan, Hale, Moore, Brown & Wilson (2010), J. Neurophysiol. 103:2074.  (2) Softky & Koch (1993), J. Neurosci.
# 13:334. That some cells, not whole populations, are silent: Barth & Poulet (2012), Trends Neurosci. 35:345.


class Bound(NamedTuple):
    """One thing that is asked of a regime.

    name: what is measured, with its unit.  figure: what it is; None where the run was too short to tell.
    low, high: the range allowed.  met: True, False, or None where there is no figure.
    """

    name: str
    figure: float | None
    low: float
    high: float

    @property
    def met(self) -> bool | None:
        return None if self.figure is None else bool(self.low <= self.figure <= self.high)

    def __str__(self) -> str:
        if self.figure is None:
            return f"{self.name} unknown"
        return f"{self.name} {self.figure:.3g}{'' if self.met else f', not {self.low:g} to {self.high:g}'}"


def judge_regime(
    mean_rate_hz: float | None,
    isi_cv: float | None,
    synchrony: float | None,
    slowest_hz: float | None,
    fastest_hz: float | None,
) -> tuple[Bound, ...]:
    """What is asked of a resting brain, with the figure of a run beside each range.

    Parameters
    ----------
    mean_rate_hz, isi_cv, synchrony : float or None
        As in summary.json.
    slowest_hz, fastest_hz : float or None [spikes/s]
        Mean rate over the run of the population that fires least, and of the one that fires most: silent below 0.1,
        saturated above 100.

    Notes
    -----
    Sources of the ranges stand beside them, at the top of this file. The synchrony asked for is stricter the larger
    the network is: of N neurons with mean correlation ρ of their 5 ms counts it is about 1 + N ρ. Populations of a few
    neurons need a run of many seconds before their mean rate says anything.

    Examples
    --------
    >>> from dtb.observe.regime import judge_regime, say_regime
    >>> found = judge_regime(7.4, 1.1, 2.8, slowest_hz=5.0, fastest_hz=7.9)
    >>> all(bound.met for bound in found), say_regime(found)
    (True, 'asynchronous irregular, as of a brain at rest')
    >>> say_regime(judge_regime(48.0, 0.2, 900.0, slowest_hz=0.0, fastest_hz=90.0))
    'NOT that of a brain at rest: mean rate 48, not 3 to 10; ISI CV 0.2, not 0.7 to 1.3; synchrony 900, not 0 to 20; \
rate of the slowest population 0, not 0.1 to 100'
    """
    return (
        Bound("mean rate", mean_rate_hz, *MEAN_RATE),
        Bound("ISI CV", isi_cv, *ISI_CV),
        Bound("synchrony", synchrony, *SYNCHRONY),
        Bound("rate of the slowest population", slowest_hz, SILENT, SATURATED),
        Bound("rate of the fastest population", fastest_hz, SILENT, SATURATED),
    )


def say_regime(bounds: tuple[Bound, ...]) -> str:
    """One line: that all is as in a brain at rest, or what is not."""
    broken = [str(bound) for bound in bounds if bound.met is False]
    if broken:
        return f"NOT that of a brain at rest: {'; '.join(broken)}"
    if any(bound.met is None for bound in bounds):
        return "too short a run to tell"
    return "asynchronous irregular, as of a brain at rest"
