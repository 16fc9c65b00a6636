"""Which rank owns which tiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dtb.network.tiles import Tiles


@dataclass(frozen=True, eq=False)
class Partition:
    """owner (t,) int32: rank, or worker, of each tile, rising.

    Examples
    --------
    >>> from dtb.network.tiles import Tiles
    >>> tiles = Tiles(np.array([0, 10, 20]), np.array([10, 10, 20], np.int32), np.arange(3, dtype=np.int32), True)
    >>> Partition.even(tiles, 2).owner
    array([0, 0, 1], dtype=int32)
    """

    owner: np.ndarray

    @classmethod
    def even(cls, tiles: Tiles, owners: int) -> Partition:
        """Runs of tiles with about equally many neurons."""
        middle = np.cumsum(tiles.n, dtype=np.int64) - tiles.n / 2
        return cls((middle * owners / tiles.n.sum(dtype=np.int64)).astype(np.int32))

    def start(self, owners: int) -> np.ndarray:
        """(owners + 1,) int64: the tiles of owner w are start[w] : start[w + 1]."""
        return np.searchsorted(self.owner, np.arange(owners + 1)).astype(np.int64)
