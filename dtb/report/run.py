"""report.html of a finished run: one self-contained page that says what was simulated, and what came out."""

from __future__ import annotations

import os
import time
import warnings
from pathlib import Path
from typing import Any

from dtb.brain import Brain
from dtb.engine.store import write_file
from dtb.report.bold_figures import bold, connectivity
from dtb.report.brain_figures import connectome, matrix_and_delays, tract_drawing, value_drawing
from dtb.report.firing_figures import firing, has_rates
from dtb.report.folder import Run, open_run
from dtb.report.glass_brain import GlassBrain, in_glass
from dtb.report.page import Note, Section, render
from dtb.report.parameters import parameters
from dtb.report.tables import data_terms, performance, regime, reproduction
from dtb.summary import number

NAME = "report.html"


def make_report(folder: str | os.PathLike[str], brain: Brain | None = None, glass: GlassBrain | None = None) -> Path:
    """Write report.html into the folder of a finished run, in place of an earlier one, and return its path.

    Parameters
    ----------
    folder : path
        What `dtb run` left.
    brain : Brain or None
        That the run was made of; None looks where the config of the run says.
    glass : GlassBrain or None
        One that was started before; it ends here.

    Examples
    --------
    >>> make_report("runs/toy")                                                              # doctest: +SKIP
    PosixPath('runs/toy/report.html')
    """
    begun = time.perf_counter()
    path = Path(folder) / NAME
    with glass or GlassBrain() as drawn:
        write_file(path, page_of(open_run(folder, brain), drawn, begun))
    return path


def page_of(run: Run, glass: GlassBrain, begun: float | None = None) -> str:
    """The page as text; `begun` is when its making began, by `time.perf_counter`."""
    glass.draw(glass_drawings(run))
    with warnings.catch_warnings():
        # What libraries say while drawing concerns developers: letters that the font of figures lacks are drawn as
        # boxes, and stand in full in the tables.
        warnings.simplefilter("ignore")
        # In the order of drawing: what does not need the glass brain comes first, for that is being drawn meanwhile.
        matrix = list(matrix_and_delays(run))
        signals = Section("bold", "BOLD", BOLD).add(bold(run))
        connected = Section("fc", "Functional connectivity", FC).add(connectivity(run))
        fired = Section("firing", "Firing", FIRING).add(firing(run, glass))
        built = Section("brain", "The brain", BRAIN).add(connectome(run, glass)).add(matrix)
    cost = Section("cost", "Performance", COST)
    cost.add(performance(run, None if begun is None else time.perf_counter() - begun))
    sections = [
        Section("regime", "State of the network", STATE).add(regime(run)),
        built,
        fired,
        signals,
        connected,
        cost,
        Section("parameters", "Parameters and sources", PARAMETERS).add(parameters(run)),
        Section("data", "Data, citation, terms").add(data_terms(run)),
        Section("repeat", "How to repeat it").add(reproduction(run)),
    ]
    if run.summary.status != "complete":
        stopped = Note(f"This run was stopped by the user after {run.summary.biological_s:g} s of simulated time.")
        sections[0].parts.insert(0, stopped)
    return render(f"Simulated brain “{run.name}”", summary_line(run), tiles(run), sections)


def glass_drawings(run: Run) -> dict[str, dict[str, Any]]:
    """What is to be drawn on the glass brain; nothing, where centroids lie outside of it."""
    drawings: dict[str, dict[str, Any]] = {}
    if not in_glass(run.brain.centroid):
        return drawings
    if len(run.brain.tracts):
        drawings["tracts"] = tract_drawing(run)
    if run.summary.biological_s and has_rates(run):
        drawings["rates"] = value_drawing(run, run.region_rates, "mean rate [spikes/s]")
    return drawings


STATE = "A few numbers say whether the network fires as a resting brain does, before anything is read into the rest."
BRAIN = "What was measured of the person and went into the network: regions, their grey matter, and the tracts between."
FIRING = "What the neurons did. All figures are of this one run, with one seed of noise."
BOLD = "What a scanner would have seen: firing turned into BOLD by a haemodynamic model, the same in every region."
FC = "Which regions’ BOLD moves together, beside the person’s own recording. This is a comparison, not a fit."
COST = "Measured on the machine that ran it."
PARAMETERS = "All that can be set, and where each value comes from. “Ours” marks choices that no publication backs."


def summary_line(run: Run) -> str:
    s = run.summary
    speed = ""
    if s.realtime_factor:
        slower = s.realtime_factor >= 1
        factor = s.realtime_factor if slower else 1 / s.realtime_factor
        speed = f", {factor:.3g} times {'slower' if slower else 'faster'} than real time"
    cores = f"{s.threads} thread{'s' * (s.threads != 1)}"
    return (
        f"{s.neurons:,} spiking neurons with {s.synapses:,.0f} synapses in {s.regions:,} regions, "
        f"{s.biological_s:g} s of simulated time in steps of {s.dt_ms:g} ms, took {s.wall_s:,.1f} s on {cores} of "
        f"{s.device}{speed}."
    )


def tiles(run: Run) -> list[tuple[str, str, str]]:
    s = run.summary
    fc = number(s.fc_correlation, ".3f")
    return [
        (*compact(s.neurons), "neurons"),
        (*compact(s.synapses), "synapses"),
        (f"{s.biological_s:g}", "s", "simulated time"),
        (number(s.realtime_factor, ".3g"), "s", "of wall time per simulated s"),
        (number(s.mean_rate_hz, ".2f"), "spikes/s", "mean rate of a neuron"),
        (number(s.isi_cv, ".2f"), "", "ISI CV: irregularity"),
        (number(s.synchrony, ".1f"), "", "synchrony"),
        (fc, "", "r with recorded FC, not a fit"),
    ]


def compact(count: float) -> tuple[str, str]:
    """A large number as a few digits and a word."""
    for size, word in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if count >= size:
            return f"{count / size:.3g}", word
    return f"{count:,.0f}", ""
