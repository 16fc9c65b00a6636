"""BOLD of a run beside the person's own: carpet, spectrum, functional connectivity and its null."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dtb.engine.recording_plots import carpet
from dtb.observe.measures import fc_correlation
from dtb.observe.null import p_value, shuffled_fc_correlations
from dtb.report.brain_figures import mark_sides
from dtb.report.folder import MAX_FC_REGIONS, Run
from dtb.report.page import Note, Plate, Table, blank, plate
from dtb.run import MIN_SCANS, ONSET_S
from dtb.theme import DIVERGING, EMPIRICAL, INK, NULL, SIMULATED, log_ticks, themed

SHUFFLES = 10_000
SEGMENT_S = 60.0  # of Welch's method: its lowest frequency is 1 / 60 s, below the band of resting-state BOLD
MIN_SPECTRUM = 16  # scans
REST_BAND = (0.01, 0.1)  # Hz; Biswal et al. (1995), Magn. Reson. Med. 34:537, low-pass 0.1
CARPET_ROWS = 800  # regions that a carpet shows; of more, an even choice


def bold(run: Run) -> Iterator[Plate | Note]:
    if run.balloon is None:
        yield Note("No BOLD: the config has no [Balloon].")
        return
    if len(run.bold) < 2:
        seconds = run.summary.biological_s
        yield Note(f"No carpet: {seconds:g} s hold {len(run.bold)} scans of {run.balloon.tr_s:g} s. Simulate longer.")
        return
    yield carpets(run)
    if len(run.late_bold) < MIN_SPECTRUM:
        yield Note(
            f"No spectrum: {len(run.late_bold)} scans are left without the first {ONSET_S:g} s, in which BOLD rises "
            f"from rest; at least {MIN_SPECTRUM} are needed. Simulate longer."
        )
        return
    yield spectra(run)


def carpets(run: Run) -> Plate:
    rows = run.order[np.unique(np.linspace(0, len(run.order) - 1, CARPET_ROWS).round().astype(int))]
    assert run.balloon is not None
    tr_s, mine = run.balloon.tr_s, run.bold
    onset = round(ONSET_S / tr_s)
    late = run.late_bold if len(run.late_bold) >= 2 else mine
    left_out = len(late) < len(mine)
    panels = [(late[:, rows], (np.arange(len(mine) - len(late), len(mine)) + 1) * tr_s, "Simulated")]
    span_s = len(late) * tr_s
    if run.recorded is not None:
        own = run.recorded
        n = min(len(own.data), max(2, round(span_s / own.tr_s)))
        panels.append((own.data[:n][:, rows].astype(float), np.arange(n) * own.tr_s, "Recorded from this person"))
    with themed():
        figure = blank(0.3 + 2.5 * len(panels), layout="constrained")
        for ax, (values, time_s, title) in zip(
            figure.subplots(len(panels), 1, squeeze=False).flat, panels, strict=True
        ):
            carpet(values, time_s, ax)
            ax.set_title(title)
    start = f"the first {onset} scans ({ONSET_S:g} s), in which BOLD rises from rest, left out" if left_out else ""
    start = start or f"shorter than the {ONSET_S:g} s in which BOLD rises from rest, so it shows little else"
    below = ""
    if run.recorded is not None:
        below = f" Below: as many seconds of the person’s own resting scan (TR {run.recorded.tr_s:g} s)."
    return plate(
        figure,
        "Carpet plot of simulated BOLD, and of the recorded one if there is one.",
        f"BOLD of each region over time, less its mean and over its standard deviation; {start}. Regions from the top: "
        f"left, then right hemisphere, in each the cortex before the rest and back before front.{below} The two are "
        "not in step and need not be: rest has no clock. What to compare is how smooth they are, and how much regions "
        "move together.",
    )


def spectra(run: Run) -> Plate:
    assert run.balloon is not None
    lines = [(run.late_bold, run.balloon.tr_s, "simulated", SIMULATED)]
    if run.recorded is not None:
        lines.append((run.recorded.data.astype(float), run.recorded.tr_s, "recorded", EMPIRICAL))
    with themed():
        figure = blank(2.9, layout="constrained")
        ax = figure.subplots()
        for data, tr_s, name, colour in lines:
            frequency, low, middle, high = spectrum(data, tr_s)
            ax.fill_between(frequency, low, high, color=colour, alpha=0.18, lw=0)
            ax.plot(frequency, middle, color=colour, label=f"{name}, {len(data):,} scans")
        ax.axvspan(*REST_BAND, color=INK, alpha=0.05, lw=0)
        ax.set(xscale="log", yscale="log", xlabel="frequency [Hz]", ylabel="share of variance [1/Hz]")
        log_ticks(ax.xaxis, "{:g}")
        log_ticks(ax.yaxis)
        ax.legend(loc="lower left")
    return plate(
        figure,
        "Power spectra of simulated and recorded BOLD.",
        f"Spectrum of BOLD (Welch’s method, segments of {SEGMENT_S:g} s, or the whole run if it is shorter), each "
        "region scaled to variance 1: median over regions, band from the 10th to the 90th percentile. Shaded: "
        f"{REST_BAND[0]:g} to {REST_BAND[1]:g} Hz, the band of resting-state fluctuations. The recorded signal also "
        "holds noise of the scanner, pulse and breathing, which the simulated one lacks.",
        vector=True,
    )


def spectrum(data: np.ndarray, tr_s: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Frequencies [Hz] above 0, and 10th, 50th and 90th percentile over regions of the normalised power [1/Hz]."""
    from scipy.signal import welch

    segment = min(len(data), round(SEGMENT_S / tr_s))
    frequency, power = welch(data, fs=1 / tr_s, nperseg=segment, detrend="linear", axis=0)
    frequency, power = frequency[1:], power[1:]
    total = power.sum(axis=0) * (frequency[1] - frequency[0])
    low, middle, high = np.percentile(power[:, total > 0] / total[total > 0], [10, 50, 90], axis=1)
    return frequency, low, middle, high


# functional connectivity ---------------------------------------------------------------------------------------


def connectivity(run: Run) -> Iterator[Plate | Note | Table]:
    if run.balloon is None:
        yield Note("No functional connectivity: the config has no [Balloon].")
        return
    if run.brain.n_regions > MAX_FC_REGIONS:
        yield Note(f"No functional connectivity: {run.brain.n_regions:,} regions are more than {MAX_FC_REGIONS:,}.")
        return
    if run.simulated_fc is None:
        few = len(run.late_bold) < MIN_SCANS
        why = f"{len(run.late_bold)} scans are left without the first {ONSET_S:g} s; at least {MIN_SCANS} are needed"
        yield Note(f"No functional connectivity: {why if few else 'a region’s BOLD is constant'}. Simulate longer.")
        return
    if run.recorded_fc is None:
        yield matrices(run, [(run.simulated_fc, "Simulated")])
        yield Note("No comparison: this brain has no resting BOLD of the person (a recording named 'rest').")
        return
    yield matrices(run, [(run.simulated_fc, "Simulated"), (run.recorded_fc, "Recorded from this person")])
    null = shuffled_fc_correlations(run.recorded_fc, run.simulated_fc, SHUFFLES)
    yield comparison(run, null)
    yield yardsticks(run, null)


def matrices(run: Run, shown: list[tuple[np.ndarray, str]]) -> Plate:
    with themed():
        figure = blank(4.4, layout="constrained")
        panels = figure.subplots(1, 2)
        for ax in panels[len(shown) :]:
            ax.set_axis_off()
        for ax, (fc, title) in zip(panels, shown, strict=False):
            ordered = fc[np.ix_(run.order, run.order)]
            image = ax.imshow(ordered, cmap=DIVERGING, vmin=-1, vmax=1, interpolation="nearest")
            mark_sides(ax, run, len(fc))
            ax.set(xlabel="", ylabel="", title=title)
        figure.colorbar(image, ax=panels, shrink=0.75, pad=0.015, label="correlation of BOLD")
    other = f" Right: {len(run.recorded.data):,} scans of the person." if run.recorded and len(shown) > 1 else ""
    return plate(
        figure,
        "Matrices of functional connectivity between regions.",
        "Functional connectivity: correlation of BOLD between regions, ordered as the tracts above. Left: simulated, "
        f"{len(run.late_bold)} scans, unfiltered.{other} With few scans correlations scatter by chance, by about "
        f"±{1 / np.sqrt(max(1, len(run.late_bold) - 3)):.2f} even for independent white signals, and by more for slow "
        "ones such as BOLD.",
    )


def comparison(run: Run, null: np.ndarray) -> Plate:
    assert run.simulated_fc is not None and run.recorded_fc is not None
    pairs = np.triu_indices(len(run.simulated_fc), k=1)
    r = fc_correlation(run.simulated_fc, run.recorded_fc)
    p, percentile = p_value(r, null), 100 * np.mean(null < r)
    with themed():
        figure = blank(3.3, layout="constrained")
        left, right = figure.subplots(1, 2)
        hexes = left.hexbin(
            run.recorded_fc[pairs], run.simulated_fc[pairs], gridsize=45, mincnt=1, cmap="viridis", linewidths=0
        )
        figure.colorbar(hexes, ax=left, pad=0.02, label="pairs of regions")
        left.set(xlabel="recorded correlation", ylabel="simulated correlation", title=f"r = {r:.3f}: not a fit")
        right.hist(null, bins=60, color=NULL, alpha=0.75)
        right.axvline(r, color=SIMULATED, lw=2)
        right.set(xlabel="r with regions shuffled", ylabel="shuffles", title=f"By chance: p = {p:.2g}")
        right.set_ylim(0, right.get_ylim()[1] * 1.12)
        side = "right" if r > 0.5 * sum(right.get_xlim()) else "left"
        right.annotate(
            f"this run, {r:.3f}", (r, right.get_ylim()[1] * 0.97), (-5 if side == "right" else 5, 0),
            textcoords="offset points", ha=side, va="top", color=SIMULATED, weight="bold",
        )  # fmt: skip
    return plate(
        figure,
        f"Scatter of simulated against recorded connectivity, r = {r:.3f}, and its null distribution.",
        f"Not a fit: no parameter of this run was chosen to match the recording. Left: all {len(pairs[0]):,} pairs of "
        f"regions, r = {r:.3f} (Pearson). Right: r after shuffling the regions of the simulated matrix, {len(null):,} "
        f"shuffles, seed 0; {percentile:.1f} % of them lie below this run, one-sided p = {p:.2g} (Mantel test). "
        "Shuffling also destroys that near regions are alike, which any two brains share: even a small p would not "
        "show that the model explains this person.",
        vector=True,
    )


def yardsticks(run: Run, null: np.ndarray) -> Table:
    assert run.simulated_fc is not None and run.recorded_fc is not None
    rows = [("simulated, this run", fc_correlation(run.simulated_fc, run.recorded_fc), "not a fit")]
    tracts = run.brain.tracts.weights(run.brain.n_regions)
    strength = tracts + tracts.T
    pairs = np.triu_indices(len(strength), k=1)
    there = strength[pairs] > 0
    if there.sum() >= MIN_SCANS and np.ptp(strength[pairs][there]) > 0:
        r = np.corrcoef(np.log(strength[pairs][there]), run.recorded_fc[pairs][there])[0, 1]
        rows.append(
            ("tracts alone (log weight, connected pairs)", float(r), "what structure says without any dynamics")
        )
    for name, prior in run.brain.priors.items():
        if name.endswith("_fc") and np.ptp(prior[pairs]) > 0:
            r = fc_correlation(np.asarray(prior, float), run.recorded_fc)
            rows.append((f"prior '{name}' of the brain file", r, "what other people’s recordings say of this person"))
    rows.append(("shuffled regions, 95th percentile", float(np.percentile(null, 95)), "what chance reaches"))
    return Table(
        "What r with the person’s recorded functional connectivity means: this run beside simpler guesses. A model is "
        "worth its cost only above what tracts alone say, and personal only above what other people’s recordings say.",
        ("guess", "r", "what it is"),
        [(name, f"{r:.3f}", what) for name, r, what in rows],
        frozenset({1}),
    )
