"""Which rank owns which tiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Partition:
    """owner (t,) int32: rank, or worker, of each tile.

    Examples
    --------
    >>> Partition.even(np.array([10, 10, 20]), 2).owner
    array([0, 0, 1], dtype=int32)
    """

    owner: np.ndarray

    @classmethod
    def even(cls, n: np.ndarray, owners: int) -> Partition:
        """Runs of tiles, of n (t,) neurons each, with about equally many neurons: owners rise."""
        middle = np.cumsum(n, dtype=np.int64) - n / 2
        return cls((middle * owners / max(n.sum(dtype=np.int64), 1)).astype(np.int32))

    @classmethod
    def shuffled(cls, n: np.ndarray, owners: int, seed: int = 0) -> Partition:
        """As many tiles to each as `even` gives them, but any ones: a partition that cuts everything."""
        return cls(np.random.default_rng(seed).permutation(cls.even(n, owners).owner))

    def start(self, owners: int) -> np.ndarray:
        """(owners + 1,) int64: where owners rise, the tiles of owner w are start[w] : start[w + 1]."""
        return np.searchsorted(self.owner, np.arange(owners + 1)).astype(np.int64)

    def check(self, tiles: int, ranks: int) -> None:
        """Refuse an owner that does not exist, a tile without one, and a rank without a tile."""
        if self.owner.shape != (tiles,):
            raise ValueError(f"partition names owners of {self.owner.shape} tiles, but the network has {tiles:,}.")
        if self.owner.min() < 0 or self.owner.max() >= ranks:
            raise ValueError(f"partition names ranks {self.owner.min()} to {self.owner.max()}, but there are {ranks}.")
        idle = np.setdiff1d(np.arange(ranks), self.owner)
        if len(idle):
            raise ValueError(
                f"rank {idle[0]} owns none of the {tiles:,} tiles. Start fewer ranks than {ranks}, or lower tile_size."
            )
