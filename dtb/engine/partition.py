"""Which rank owns which tiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dtb.network.tiles import Tiles


@dataclass(frozen=True, eq=False)
class Partition:
    """owner (t,) int32: rank of each tile.

    Examples
    --------
    >>> from dtb.network.tiles import Tiles
    >>> tiles = Tiles(np.array([0, 10]), np.array([10, 10], np.int32), np.array([0, 1], np.int32), True)
    >>> Partition.single(tiles).owner
    array([0, 0], dtype=int32)
    """

    owner: np.ndarray

    @classmethod
    def single(cls, tiles: Tiles) -> Partition:
        """Everything on rank 0."""
        return cls(np.zeros(len(tiles.n), np.int32))

    def tiles_of(self, rank: int) -> np.ndarray:
        return np.flatnonzero(self.owner == rank)
