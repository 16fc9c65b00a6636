"""How the power of a rate, of a membrane or of BOLD is spread over frequencies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dtb.observe.blocks import Blocks, blocks_of, whole_steps


class Spectrum(NamedTuple):
    """frequency (f,) Hz; density (f, column), square of the unit of the series per Hz."""

    frequency: np.ndarray
    density: np.ndarray

    @property
    def peak(self) -> np.ndarray:
        """(column,) Hz: where each column is densest, the constant part left out."""
        return self.frequency[1:][np.argmax(self.density[1:], axis=0)]


def power_spectrum(series: Blocks, dt: float, segment_ms: float, overlap: float = 0.5) -> Spectrum:
    """Power spectral density by Welch's method: mean of the periodograms of overlapping, tapered segments.

    Parameters
    ----------
    series : (time, column) array, or an iterable of such arrays that follow each other
        Rates of regions, membranes, or BOLD.
    dt : float [ms]
        Time between rows; 1000 tr_s for BOLD.
    segment_ms : float [ms]
        Length of a segment, a whole number of rows. Frequencies are 1/segment_ms apart.
    overlap : float
        Share of a segment that the next one repeats.

    Notes
    -----
    S(f) = ⟨ 2 |Σ_t w_t (x_t − x̄) exp(−2πi f t)|² ⟩ dt / Σ w²,  w the Hann window, x̄ the mean of the segment, the factor
    2 left out at 0 and at half the sampling rate; its integral over f is the variance. A rest that fills no segment is
    left out. Only one segment is kept in memory, and blocks give the very numbers of the whole.

    References
    ----------
    Welch (1967), IEEE Trans. Audio Electroacoust. 15:70.

    Examples
    --------
    >>> import numpy as np
    >>> from dtb.observe.spectra import power_spectrum
    >>> time = np.arange(60_000)                                          # ms
    >>> rate = 5 + np.sin(2 * np.pi * 0.010 * time)[:, None]              # 10 Hz, variance 1/2
    >>> spectrum = power_spectrum(rate, dt=1.0, segment_ms=1000)
    >>> spectrum.peak.tolist(), round(float(spectrum.density.sum()), 6)   # frequencies are 1 Hz apart
    ([10.0], 0.5)
    """
    from scipy.signal import periodogram  # here, because scipy.signal is heavy

    width = whole_steps("segment_ms", segment_ms, dt)
    if width < 2:
        raise ValueError(f"segment_ms is {segment_ms} ms, one row of {dt} ms. At least two rows are needed.")
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap is {overlap}. It is a share of a segment: from 0 to below 1.")
    step = max(1, width - round(overlap * width))
    frequency, total, n_segments = np.zeros(0), np.zeros(0), 0
    for segment in _segments(blocks_of(series, "series", ndim=2), width, step):
        frequency, density = periodogram(segment, fs=1000 / dt, window="hann", detrend="constant", axis=0)
        total = density if n_segments == 0 else total + density
        n_segments += 1
    if n_segments == 0:
        raise ValueError(f"series is shorter than one segment of {segment_ms:g} ms. Lower segment_ms.")
    return Spectrum(frequency, total / n_segments)


def _segments(blocks: Iterator[np.ndarray], width: int, step: int) -> Iterator[np.ndarray]:
    """Each `width` rows that begin at a multiple of `step`, however the blocks are cut."""
    held: np.ndarray | None = None
    for block in blocks:
        held = block if held is None else np.concatenate([held, block])
        while len(held) >= width:
            yield np.asarray(held[:width], np.float64)
            held = held[step:]
