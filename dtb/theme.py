"""Colours and type of every figure; told apart by readers of any colour vision, in print, and by their lightness."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axis import Axis

# Okabe & Ito (2008), Color Universal Design; Wong (2011), Nature Methods 8:441. Excitation warm, inhibition blue.
EXCITATORY = ("#D55E00", "#E69F00", "#8A3B00", "#B8860B")
INHIBITORY = ("#0072B2", "#56B4E9", "#00456B", "#3A8FB7")
OTHER = ("#009E73", "#CC79A7", "#666666")
SIMULATED, EMPIRICAL, NULL = "#D55E00", "#0072B2", "#8C8C8C"
INK, MUTED, GRID = "#1F2933", "#5B6770", "#DDE3E8"
REGION_MAP, REGION_SPAN = "viridis", (0.0, 0.9)  # its yellow end is lost on white paper
SEQUENTIAL, DIVERGING = "viridis", "RdBu_r"

STYLE: Any = {  # matplotlib's type of it names every setting that a version knows
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # matplotlib brings it, so figures look the same everywhere
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.labelsize": 9,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "white",
    "text.color": INK,
    "text.parse_math": False,  # names of regions and classes may hold a dollar sign
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.2,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "dtb",  # the same drawing is the same file
}


@contextmanager
def themed() -> Iterator[None]:
    """What is drawn inside looks as ours; the caller's settings come back afterwards."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        yield


def log_ticks(axis: Axis, form: str | None = None) -> None:
    """Numbers at the powers of ten of a log axis: 10⁻³, or by a format such as "{:g}"; mathtext is off, see STYLE."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    def label(value: float, position: int | None) -> str:
        return power_of_ten(value) if form is None else form.format(value)

    axis.set_major_formatter(FuncFormatter(label))
    axis.set_minor_formatter(NullFormatter())


def power_of_ten(value: float) -> str:
    """1e-3 as people write it.

    Examples
    --------
    >>> power_of_ten(1e-3)
    '10⁻³'
    """
    return "10" + str(round(np.log10(value))).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def class_colours(names: Sequence[str]) -> dict[str, str]:
    """Cell class → colour: warm for E, blue for I, by the last letter of the name, as everywhere in dtb.

    Examples
    --------
    >>> class_colours(["E", "I"])
    {'E': '#D55E00', 'I': '#0072B2'}
    """
    used = dict.fromkeys((EXCITATORY, INHIBITORY, OTHER), 0)
    colours = {}
    for name in names:
        family = EXCITATORY if name.endswith("E") else INHIBITORY if name.endswith("I") else OTHER
        colours[name] = family[used[family] % len(family)]
        used[family] += 1
    return colours


def region_colours(position: Sequence[float] | np.ndarray) -> np.ndarray:
    """(region, 4) float RGBA: dark for the smallest position, light for the largest; by rank, so that all differ.

    Parameters
    ----------
    position : (region,) array
        Such as the y of the centroids, from the back of the head to the front, or just a running number.

    Examples
    --------
    >>> region_colours([-90.0, 60.0, 0.0]).shape
    (3, 4)
    """
    import matplotlib as mpl

    rank = np.argsort(np.argsort(np.asarray(position, float), kind="stable"), kind="stable")
    low, high = REGION_SPAN
    return mpl.colormaps[REGION_MAP](low + (high - low) * rank / max(1, len(rank) - 1))
