"""A series that may be too long for the memory: one array, or arrays that follow each other in time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

Blocks = np.ndarray | Iterable[np.ndarray]


def blocks_of(series: Blocks, name: str, ndim: int) -> Iterator[np.ndarray]:
    """The pieces of a series, checked: numbers without holes, time first, every row of one shape.

    Parameters
    ----------
    series : (time, …) array, or an iterable of such arrays in the order of time
        Such as `Recording.read_blocks("region_rate")`.
    name : str
        Of the argument, for messages.
    ndim : int
        Dimensions of a block.

    Examples
    --------
    >>> import numpy as np
    >>> [len(block) for block in blocks_of([np.zeros((3, 2)), np.zeros((5, 2))], "rate", ndim=2)]
    [3, 5]
    """
    row, begun = None, 0
    for piece in (series,) if isinstance(series, np.ndarray) else series:
        block = np.asarray(piece)
        if block.ndim != ndim:
            raise ValueError(
                f"{name} has a block of shape {block.shape}; {ndim} dimensions are needed, the first of them time. "
                "Several blocks are handed over as a list or an iterator of arrays."
            )
        if row not in (None, block.shape[1:]):
            raise ValueError(f"{name} has rows of shape {row} and, from row {begun} on, of {block.shape[1:]}.")
        bad = np.argwhere(~np.isfinite(block))
        if len(bad):
            where = tuple(int(i) for i in bad[0])
            raise ValueError(f"{name} is {block[where]} in row {begun + where[0]} ({len(bad)} such values in a block).")
        row, begun = block.shape[1:], begun + len(block)
        yield block


def counts_of(series: Blocks, name: str, width: int = 1) -> Iterator[np.ndarray]:
    """The same for (time,) spike counts: int64, summed over `width` rows; a rest at the end is left out."""
    rest = np.zeros(0, np.int64)
    for block in blocks_of(series, name, ndim=1):
        counts = block.astype(np.int64)
        if (counts != block).any() or counts.min(initial=0) < 0:
            bad = int(np.argmax((counts != block) | (counts < 0)))
            raise ValueError(f"{name} holds {block[bad]}. Spike counts are whole numbers from 0 on.")
        counts = np.concatenate([rest, counts])
        whole = len(counts) - len(counts) % width
        rest = counts[whole:]
        yield counts[:whole].reshape(-1, width).sum(axis=1)


def whole_steps(what: str, length: float, dt: float) -> int:
    """How many steps of dt ms make `length` ms; refused where that is no whole number."""
    if not (dt > 0 and length > 0):
        raise ValueError(f"{what} is {length} ms and dt is {dt} ms. Both must be above 0.")
    steps = round(length / dt)
    if steps < 1 or abs(steps * dt - length) > 1e-9 * length:
        raise ValueError(f"{what} is {length} ms, which is not a whole number of steps of {dt} ms. Change {what}.")
    return steps
