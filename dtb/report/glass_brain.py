"""Regions and tracts on nilearn's glass brain, drawn by a process of its own while the caller draws the rest.

nilearn takes more than a second to import, and outlines of a brain take another to draw. On a second core, neither
keeps a report waiting; and a process, unlike a thread, leaves the caller's interpreter alone.
"""

from __future__ import annotations

import base64
import gc
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from dtb.report.page import blank, png
from dtb.theme import GRID, MUTED, SEQUENTIAL, themed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENCLOSED = np.array([[-90.0, 90.0], [-125.0, 92.0], [-72.0, 108.0]])  # mm: nilearn's glass brain, MNI152
VIEWS: Any = {"display_mode": "lyrz", "annotate": False, "colorbar": False}  # four; letters and bar are ours
SLACK = 12.0  # mm that centroids may lie outside of it


def in_glass(place: np.ndarray) -> bool:
    """Whether places (region, 3) [mm] can be in the space of the glass brain, MNI152."""
    low, high = ENCLOSED[:, 0] - SLACK, ENCLOSED[:, 1] + SLACK
    return bool(((place >= low) & (place <= high)).all())


# what the other process draws ----------------------------------------------------------------------------------


def tracts(place: np.ndarray, volume: np.ndarray, colour: np.ndarray, ends: np.ndarray, weight: np.ndarray) -> Figure:
    """Regions as dots, tracts as lines.

    Parameters
    ----------
    place : (region, 3) mm
    volume : (region,)
        Of grey matter; the size of a dot.
    colour : (region, 4)
    ends : (tract, 2) int
        The regions that a tract joins.
    weight : (tract,)
        Above 0; drawn on a log scale.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, LogNorm
    from nilearn.plotting import plot_connectome

    # warm, to be told from the grey lines of the glass brain and from the colours of regions
    lines = LinearSegmentedColormap.from_list("dtb_edges", ["#F6C99B", "#D55E00", "#5C2500"])
    strength = np.log10(weight / weight.min()) + 0.1 if len(weight) else weight  # above 0, so that all are drawn
    adjacency = np.zeros((len(place), len(place)))
    if len(weight):
        a, b = ends.T
        adjacency[a, b] = adjacency[b, a] = strength
    figure = blank(2.9)
    display = plot_connectome(
        adjacency,
        place,
        node_color=list(colour),
        node_size=6 + 55 * volume / volume.max(),
        edge_cmap=lines,
        edge_vmin=0,
        edge_vmax=float(strength.max(initial=1.0)),
        edge_kwargs={"linewidth": 1.1},
        node_kwargs={"edgecolors": "white", "linewidths": 0.4},
        figure=figure,
        axes=(0, 0, 0.9, 1),
        **VIEWS,
    )
    display.annotate(size=8, color=MUTED)
    top = float(weight.max() / weight.min()) if len(weight) else 1.0
    ax = figure.add_axes((0.925, 0.12, 0.012, 0.76))
    bar = figure.colorbar(ScalarMappable(LogNorm(1, max(top, 1.01)), lines), cax=ax)
    bar.set_ticks([t for t in (1, 2, 5, 10, 20, 50, 100, 1000) if t <= top], minor=False)
    bar.ax.minorticks_off()
    bar.ax.yaxis.set_major_formatter("{x:g}×")
    bar.outline.set_edgecolor(GRID)
    bar.set_label("weight, relative to the weakest shown", size=8)
    return figure


def rates(place: np.ndarray, value: np.ndarray, low: float, high: float, extend: str, unit: str) -> Figure:
    """Values (region,) as coloured dots, with a colour bar from `low` to `high`."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from nilearn.plotting import plot_markers

    figure = blank(2.6)
    upwards = np.argsort(value, kind="stable")  # high ones lie on top
    display = plot_markers(
        value[upwards],
        place[upwards],
        node_cmap=SEQUENTIAL,
        node_vmin=low,
        node_vmax=high,
        node_size=30,
        node_kwargs={"edgecolors": "white", "linewidths": 0.3},
        figure=figure,
        axes=(0, 0, 0.88, 1),
        **VIEWS,
    )
    display.annotate(size=8, color=MUTED)
    ax = figure.add_axes((0.905, 0.16, 0.014, 0.68))
    bar = figure.colorbar(ScalarMappable(Normalize(low, high), SEQUENTIAL), cax=ax, extend=extend)
    bar.set_label(unit)
    bar.outline.set_edgecolor(GRID)
    return figure


DRAWN: dict[str, Callable[..., Figure]] = {"tracts": tracts, "rates": rates}


def main() -> None:
    """Draw what stdin asks for, {name: keywords}; answer on stdout with {name: PNG in base64}."""
    gc.disable()  # a seventh of the time of imports, in a process that lives for seconds
    warnings.simplefilter("ignore")  # as in dtb.report.run: they concern developers
    import nilearn.plotting  # noqa: F401 now, while the caller may have nothing to draw yet

    pictures = {}
    for name, keywords in json.loads(sys.stdin.read() or "{}").items():
        arrays = {k: np.array(v) if isinstance(v, list) else v for k, v in keywords.items()}
        with themed():
            pictures[name] = base64.b64encode(png(DRAWN[name](**arrays))).decode("ascii")
    json.dump(pictures, sys.stdout)


# what the caller has of it -------------------------------------------------------------------------------------


class GlassBrain:
    """The other process: it gets ready at once, draws what it is asked for, and ends with this context or object.

    Examples
    --------
    >>> rates = {"place": [[-30.0, -60.0, 10.0], [40.0, 20.0, 5.0]], "value": [3.0, 7.0], "low": 0, "high": 10}
    >>> with GlassBrain() as glass:
    ...     glass.draw({"rates": rates | {"extend": "neither", "unit": "spikes/s"}})
    ...     glass["rates"][:4]
    b'\x89PNG'
    """

    def __init__(self) -> None:
        path = os.pathsep.join(filter(None, sys.path))  # the same dtb as here
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dtb.report.glass_brain"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=os.environ | {"PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"},
            process_group=0,  # Ctrl-C ends the simulation, of which a page is made
        )
        self._pipes = ThreadPoolExecutor(1)
        self._answer: Future[dict[str, str]] | None = None
        self._names: frozenset[str] = frozenset()

    def draw(self, drawings: dict[str, dict[str, Any]]) -> None:
        """Ask, once, for drawings: by name, "tracts" or "rates", the keywords of the function of that name."""
        self._names = frozenset(drawings)
        self._answer = self._pipes.submit(self._ask, json.dumps(drawings, default=np.ndarray.tolist))

    def _ask(self, text: str) -> dict[str, str]:
        answer, said = self._process.communicate(text)
        if self._process.returncode:
            last = (said.strip().splitlines() or [f"exit status {self._process.returncode}"])[-1]
            raise RuntimeError(f"the glass brain could not be drawn: {last}")
        return json.loads(answer)

    def __contains__(self, name: str) -> bool:
        """Whether it was asked for."""
        return name in self._names

    def __getitem__(self, name: str) -> bytes:
        """The PNG, once it is drawn."""
        if self._answer is None:
            raise KeyError(name)
        return base64.b64decode(self._answer.result()[name])

    def __enter__(self) -> GlassBrain:
        return self

    def __exit__(self, *error: object) -> None:
        if self._answer is None:
            self.draw({})
        self._pipes.shutdown()


if __name__ == "__main__":
    main()
