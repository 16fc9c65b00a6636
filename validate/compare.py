"""Whether two simulators fire alike: distributions over neurons and over pairs of neurons, by Kolmogorov–Smirnov."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import combine_pvalues, ks_2samp
from scipy.stats import t as student

from validate.network import SETTLE, Spikes

MEASURES = ("rate", "cv", "correlation")
MIN_SPIKES = 10  # of a neuron whose CV counts
BIN = 5.0  # ms of the counts that are correlated
LEVEL = 0.01  # of significance, for each measure


class Firing(NamedTuple):
    """rate (n,) spikes/s; cv (≤ n,) of the intervals of neurons with enough spikes; correlation (≤ n/2,) of the counts
    of pairs that share no neuron, so that they are a sample.
    """

    rate: np.ndarray
    cv: np.ndarray
    correlation: np.ndarray


def firing(spikes: Spikes, n: int, pair_seed: int) -> Firing:
    """The three distributions of a run, without its first SETTLE ms."""
    late = spikes.time > SETTLE
    time, gid = spikes.time[late] - SETTLE, spikes.gid[late]
    duration = spikes.duration - SETTLE
    rate = np.bincount(gid, minlength=n) / (duration / 1000)
    order = np.lexsort((time, gid))
    parts = np.split(time[order], np.cumsum(np.bincount(gid, minlength=n))[:-1])
    intervals = [np.diff(part) for part in parts if len(part) >= MIN_SPIKES]
    cv = np.array([part.std() / part.mean() for part in intervals])
    bins = round(duration / BIN)
    counts = np.zeros((n, bins))
    np.add.at(counts, (gid, np.minimum((time / BIN).astype(np.int64), bins - 1)), 1)
    counts -= counts.mean(axis=1, keepdims=True)
    norm = np.sqrt((counts**2).sum(axis=1))
    pairs = np.random.default_rng(pair_seed).permutation(n)[: n - n % 2].reshape(-1, 2)
    pairs = pairs[(norm[pairs] > 0).all(axis=1)]
    a, b = counts[pairs[:, 0]], counts[pairs[:, 1]]
    return Firing(rate, cv, (a * b).sum(axis=1) / (norm[pairs[:, 0]] * norm[pairs[:, 1]]))


class Verdict(NamedTuple):
    """Of one measure over all seeds.

    mean_a, mean_b: means of the seeds' means; difference, interval: of b − a, with the half width of its 95 %
    confidence over seeds; distance: mean of the KS distances; p: of the seeds' KS tests together, by Fisher's method;
    rejected: seeds whose own p is below 0.05.
    """

    measure: str
    mean_a: float
    mean_b: float
    difference: float
    interval: float
    distance: float
    p: float
    rejected: int
    seeds: int

    @property
    def alike(self) -> bool:
        return self.p >= LEVEL


def compare(a: list[Firing], b: list[Firing]) -> list[Verdict]:
    """Seed by seed, then together."""
    verdicts = []
    for measure in MEASURES:
        pairs = [(getattr(x, measure), getattr(y, measure)) for x, y in zip(a, b, strict=True)]
        tests = [ks_2samp(x, y) for x, y in pairs]
        p = np.array([test.pvalue for test in tests])
        means = np.array([[x.mean(), y.mean()] for x, y in pairs])
        difference = means[:, 1] - means[:, 0]
        half = student.ppf(0.975, len(p) - 1) * difference.std(ddof=1) / np.sqrt(len(p))
        distance = float(np.mean([test.statistic for test in tests]))
        together, rejected = float(combine_pvalues(p).pvalue), int((p < 0.05).sum())
        mean_a, mean_b = means.mean(axis=0).tolist()
        by = float(difference.mean())
        verdicts.append(Verdict(measure, mean_a, mean_b, by, float(half), distance, together, rejected, len(p)))
    return verdicts


def matched(a: Spikes, b: Spikes, begin: float, end: float, within: float) -> float:
    """Share of the spikes of a between begin and end [ms] that b has, too: same neuron, less than `within` ms apart."""
    here = (a.time > begin) & (a.time <= end)
    line = 1e6  # ms; neurons one behind the other on one axis
    theirs = np.sort(b.gid * line + b.time)
    mine = a.gid[here] * line + a.time[here]
    if not len(mine) or not len(theirs):
        return float("nan")
    at = np.searchsorted(theirs, mine)
    after, before = theirs[np.minimum(at, len(theirs) - 1)], theirs[np.maximum(at - 1, 0)]
    return float((np.minimum(np.abs(after - mine), np.abs(before - mine)) <= within).mean())
