"""The rule that connects regions: who to whom, how many synapses, how strong, how late."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

QUANTILES = 256  # entries of a weight table: one byte of a random word chooses
EXCITATORY, INHIBITORY = 0, 1
KINDS = ("excitatory", "inhibitory")  # AMPA and NMDA of the target, or its GABA_A and GABA_B


@dataclass(frozen=True)
class Weights:
    """Distribution of synaptic weights, in units of activation S per spike; never negative.

    Use `Weights.uniform`, `Weights.constant` or `Weights.normal`. A synapse takes one of 256 equally probable
    quantiles, so mean and spread are those of the quantiles.

    Examples
    --------
    >>> float(Weights.uniform(0, 1).quantiles().mean())
    0.5
    """

    shape: str
    a: float
    b: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "a", float(self.a))  # 1 and 1.0 print, and are digested, alike
        object.__setattr__(self, "b", float(self.b))
        if self.shape not in ("uniform", "constant", "normal"):
            raise ValueError(f"unknown weight distribution '{self.shape}'. Known: uniform, constant, normal.")
        if not (np.isfinite(self.a) and np.isfinite(self.b) and self.quantiles().min() >= 0):
            raise ValueError(f"weights {self.shape}({self.a}, {self.b}) are not finite or fall below zero.")

    @classmethod
    def uniform(cls, low: float = 0.0, high: float = 1.0) -> Weights:
        return cls("uniform", low, high)

    @classmethod
    def constant(cls, value: float) -> Weights:
        return cls("constant", value)

    @classmethod
    def normal(cls, mean: float, sd: float) -> Weights:
        """Normal, with what would fall below zero set to zero."""
        return cls("normal", mean, sd)

    def quantiles(self) -> np.ndarray:
        """(256,) float64: the middles of 256 equally probable classes."""
        p = (np.arange(QUANTILES) + 0.5) / QUANTILES
        if self.shape == "uniform":
            return self.a + (self.b - self.a) * p
        if self.shape == "constant":
            return np.full(QUANTILES, self.a)
        standard = np.array([NormalDist().inv_cdf(x) for x in p])
        return np.maximum(self.a + self.b * standard, 0.0)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Which regions a projection joins: a sparse matrix (post, pre), kept source by source.

    Parameters
    ----------
    start : (regions + 1,) int64
        The pairs of source region q are start[q] : start[q + 1].
    post : (pairs,) int32
        Target region, rising within a source.
    in_degree : (pairs,) float64
        Mean synapses that one target neuron receives through this pair, before the factor of its class.
    delay : (pairs,) float32 [ms]
    """

    start: np.ndarray
    post: np.ndarray
    in_degree: np.ndarray
    delay: np.ndarray

    def __post_init__(self) -> None:
        for name, kind in (("start", np.int64), ("post", np.int32), ("in_degree", np.float64), ("delay", np.float32)):
            array = np.ascontiguousarray(getattr(self, name), kind)
            array = array.copy() if array is getattr(self, name) else array  # the caller's stays writable
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        n = len(self.post)
        if not (self.post.shape == self.in_degree.shape == self.delay.shape == (n,)):
            raise ValueError(
                f"pairs have {n} post, {self.in_degree.shape} in_degree and {self.delay.shape} delay; each needs one "
                "value per pair."
            )
        if not len(self.start) or self.start[0] != 0 or self.start[-1] != n or (np.diff(self.start) < 0).any():
            raise ValueError(f"start of pairs must rise from 0 to their number, {n}; see Pairs.from_triplets.")
        if self.post.min(initial=0) < 0:
            raise ValueError(f"pairs name region {self.post.min()}; regions are numbered from 0.")

    @classmethod
    def from_triplets(cls, n_regions: int, post, pre, in_degree, delay) -> Pairs:
        """From equally long arrays in any order; a scalar delay stands for all."""
        post, pre = np.asarray(post, np.int64), np.asarray(pre, np.int64)
        in_degree, delay = np.asarray(in_degree, float), np.asarray(delay, np.float32)
        delay = np.broadcast_to(delay, post.shape) if delay.ndim == 0 else delay
        if not post.shape == pre.shape == in_degree.shape == delay.shape:
            raise ValueError(
                f"post {post.shape}, pre {pre.shape}, in_degree {in_degree.shape} and delay {delay.shape} of pairs "
                "must be equally long."
            )
        for name, regions in (("post", post), ("pre", pre)):
            if regions.size and not (regions.min() >= 0 and regions.max() < n_regions):
                worst = regions.min() if regions.min() < 0 else regions.max()
                raise ValueError(f"{name} of pairs names region {worst}; regions are numbered 0 to {n_regions - 1}.")
        order = np.lexsort((post, pre))
        start = np.searchsorted(pre[order], np.arange(n_regions + 1))
        return cls(start, post[order], in_degree[order], delay[order])

    @property
    def pre(self) -> np.ndarray:
        """(pairs,) int32: source region of each pair."""
        return np.repeat(np.arange(len(self.start) - 1, dtype=np.int32), np.diff(self.start))

    def __len__(self) -> int:
        return len(self.post)


@dataclass(frozen=True, eq=False)
class Projection:
    """A rule: neurons of the classes `pre` of a region onto the classes `post` of the regions it is paired with.

    All neurons of the `pre` classes of a region form one pool of equal sources. A neuron of class c in region r
    receives pairs.in_degree[r, q] · factor[c] synapses on average from the pool of region q. The expanded product
    (regions × regions × classes × classes) is never made.

    Parameters
    ----------
    name : str
    kind : "excitatory" (AMPA and NMDA) or "inhibitory" (GABA_A and GABA_B)
    pre, post : names of cell classes
    factor : (len(post),) floats ≥ 0
    pairs : Pairs
    weights : Weights
    delay_classes : floats > 0
        Equally probable multiples of the delay of a pair; (1.0,) for one delay.
    """

    name: str
    kind: str
    pre: tuple[str, ...]
    post: tuple[str, ...]
    factor: tuple[float, ...]
    pairs: Pairs
    weights: Weights = Weights("uniform", 0.0, 1.0)
    delay_classes: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"projection '{self.name}' is '{self.kind}'. Known kinds: {', '.join(KINDS)}.")
        object.__setattr__(self, "name", str(self.name))
        for name in ("factor", "delay_classes"):
            object.__setattr__(self, name, tuple(float(x) for x in getattr(self, name)))
        for name in ("pre", "post"):
            classes = tuple(str(x) for x in getattr(self, name))
            object.__setattr__(self, name, classes)
            if not classes or len(set(classes)) < len(classes):
                raise ValueError(f"{name} of projection '{self.name}' is {classes}; it needs classes, each one once.")
        if len(self.factor) != len(self.post) or not all(0 <= f < np.inf for f in self.factor):
            raise ValueError(f"projection '{self.name}' needs one factor ≥ 0 per target class, got {self.factor}.")
        pairs = self.pairs
        if len(pairs) and not (np.isfinite(pairs.in_degree).all() and pairs.in_degree.min() >= 0):
            raise ValueError(f"projection '{self.name}' has an in-degree that is negative or not a number.")
        if len(pairs) and not (np.isfinite(pairs.delay).all() and pairs.delay.min() > 0):
            worst = int(np.argmin(np.where(np.isfinite(pairs.delay), pairs.delay, -np.inf)))
            raise ValueError(
                f"projection '{self.name}' has a delay of {pairs.delay[worst]} ms from region {pairs.pre[worst]} to "
                f"region {pairs.post[worst]}; delays must be above zero."
            )
        if not self.delay_classes or not all(0 < x < np.inf for x in self.delay_classes):
            raise ValueError(f"delay classes of '{self.name}' must be positive multiples, got {self.delay_classes}.")
