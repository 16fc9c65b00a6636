"""Tables of a run: measures against their expected range, performance, rates, data and versions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dtb.engine.statistics import BIN, MIN_SPIKES, SETTLE
from dtb.report.folder import Run
from dtb.report.page import Listing, Note, Table

NOT_MEASURED = "–"
WITHIN, OUTSIDE = "✓\N{NO-BREAK SPACE}within", "✗\N{NO-BREAK SPACE}outside"


class Measure(NamedTuple):
    """A row of the table of measures: `low` to `high` is where the asynchronous irregular state of cortex lies."""

    name: str
    value: float | None
    unit: str
    low: float | None = None
    high: float | None = None
    about: str = ""

    @property
    def row(self) -> tuple[str, ...]:
        value = NOT_MEASURED if self.value is None else f"{self.value:,.3g}"
        return self.name, value, self.unit, self.expected, self.verdict, self.about

    @property
    def expected(self) -> str:
        if self.low is None and self.high is None:
            return ""
        if self.high == 0:
            return "none"
        if self.low is None:
            return f"at most {self.high:g}"
        return f"at least {self.low:g}" if self.high is None else f"{self.low:g} to {self.high:g}"

    @property
    def verdict(self) -> str:
        if not self.expected:
            return ""
        if self.value is None:
            return "not measured"
        low = -np.inf if self.low is None else self.low
        high = np.inf if self.high is None else self.high
        return WITHIN if low <= self.value <= high else OUTSIDE


def measures(run: Run) -> list[Measure]:
    """What is known of the firing of a run; add a row here to have one more in the report."""
    summary = run.summary
    about = {
        "mean rate": ("spikes/s", "of a neuron, whole run"),
        "ISI CV": ("", f"neurons with {MIN_SPIKES} spikes or more, after {SETTLE / 1000:g} s"),
        "synchrony": ("", f"variance/mean of {BIN:g} ms population counts, after {SETTLE / 1000:g} s"),
    }
    for end, population in (("slowest", summary.slowest_population), ("fastest", summary.fastest_population)):
        about[f"rate of the {end} population"] = ("spikes/s", population.name if population else "")
    rows = []
    for bound in summary.regime:
        unit, over = about.get(bound.name, ("", ""))
        rows.append(Measure(bound.name, bound.figure, unit, bound.low, bound.high, over))
    rows += [
        Measure(f"rate of {name}", value, "spikes/s", about="mean over its neurons, whole run")
        for name, value in summary.rate_hz.items()
    ]
    return rows


def regime(run: Run) -> list[Table | Note]:
    found = measures(run)
    table = Table(
        "Is the state physiological? Expected is the asynchronous irregular state of awake cortex: low rates, "
        "intervals as irregular as a Poisson process (Softky & Koch 1993, J. Neurosci. 13:334), no common rhythm "
        "(Brunel 2000, J. Comput. Neurosci. 8:183). The limits are those that dtb holds its default configs to.",
        ("measure", "value", "unit", "expected", "verdict", "over what"),
        [measure.row for measure in found],
        frozenset({1}),
    )
    outside = [measure.name for measure in found if measure.verdict == OUTSIDE]
    if not outside:
        return [table]
    return [table, Note(f"Outside of what is expected of a resting brain: {', '.join(outside)}.")]


PHASES = {
    "brain": "read the brain",
    "network": "describe the network",
    "compile": "tables, and kernels if new",
    "run": "simulate",
    "run.advance": "neurons and synapses",
    "run.observe": "record, count, check",
    "bold": "haemodynamics and FC",
    "report": "this page",
}


def performance(run: Run, report_s: float | None) -> list[Table]:
    """Where the wall time went; `report_s` is that of the page so far."""
    summary = run.summary
    phases = {name: wall for name, wall in summary.phases.items() if name != "report"}
    if report_s is not None:
        phases["report"] = report_s
    total = sum(wall for name, wall in phases.items() if "." not in name)
    steps = round(summary.biological_s * 1000 / summary.dt_ms)
    updates, events = summary.neurons * steps, summary.synaptic_events
    rows = []
    for name in sorted(phases, key=lambda name: (list(phases).index(name.partition(".")[0]), "." in name)):
        wall = phases[name]
        part = name.partition(".")[0] == "run"
        label = PHASES.get(name, "")
        rows.append(
            (
                f"\N{EM SPACE}{name}" if "." in name else name,
                label,
                f"{wall:,.2f}",
                f"{100 * wall / total:.1f}" if total else NOT_MEASURED,
                f"{wall * 1e9 / updates:,.2f}" if part and updates else NOT_MEASURED,
                f"{wall * 1e9 / events:,.2f}" if part and events else NOT_MEASURED,
            )
        )
    rows.append(("all", "", f"{total:,.2f}", "100.0" if total else NOT_MEASURED, "", ""))
    cost = Table(
        f"Where the time went: wall time on {summary.threads} thread{'s' * (summary.threads != 1)} of "
        f"{summary.device}, backend {summary.backend}. Indented rows are parts of the row above. Neuron-steps: "
        f"{updates:,}; synaptic events: {events:,}. Each of the last two columns divides the whole "
        "wall time by one of the counts: they are not to be added up.",
        ("phase", "what", "wall [s]", "%", "ns per neuron-step", "ns per synaptic event"),
        rows,
        frozenset({2, 3, 4, 5}),
    )
    size = [
        ("peak memory of the process", f"{summary.peak_rss_bytes / 2**20:,.0f} MiB"),
        ("memory of a neuron", f"{summary.bytes_per_neuron:.1f} bytes"),
        ("memory of a synapse", f"{summary.bytes_per_synapse:.3g} bytes ({summary.synapse_storage})"),
        ("spikes", f"{summary.spikes:,}"),
        ("synapses (mean of the description)", f"{summary.synapses:,.0f}"),
        ("autapses dropped", f"{summary.autapses_dropped:,}"),
        ("synapses lesioned", f"{summary.lesioned:,}"),
        ("tiles, ranks, threads", f"{summary.tiles:,}, {summary.ranks}, {summary.threads}"),
    ]
    return [cost, Table("Size of the run.", ("quantity", "value"), size, frozenset({1}))]


def data_terms(run: Run) -> list[Table | Note]:
    """What the brain is made of, who is to be cited, and on which terms it may be used."""
    told = run.provenance.get("brain")
    told = told if isinstance(told, dict) else {}
    rows = [("brain", run.name), ("SHA-256 of its content", str(told.get("sha256", NOT_MEASURED)))]
    rows += [(key, str(told[key])) for key in ("source", "terms", "acknowledgement", "citation") if told.get(key)]
    statements = told.get("statements")
    rows += [("stated", str(text)) for text in statements] if isinstance(statements, list) else []
    table = Table("The data of this brain. Whoever shows or passes on results made from them keeps to these terms.",
                  ("what", "as the Brain file says"), rows)  # fmt: skip
    missing = [key for key in ("source", "terms", "citation") if not told.get(key)]
    note = f"The Brain file does not state its {', '.join(missing)}. Ask whoever made it before passing results on."
    return [table, Note(note)] if missing else [table]


def reproduction(run: Run) -> list[Table | Listing]:
    summary = run.summary
    rows = [
        ("digest of all spikes", summary.spike_digest),
        ("digest of the final state", summary.state_digest),
        ("network", f"{summary.network_hash}, seed {summary.network_seed}"),
        ("simulation", f"config {summary.config_hash}, seed {summary.seed}"),
        ("made at (UTC)", str(run.provenance.get("created_utc", NOT_MEASURED))),
        ("versions", ", ".join(f"{name} {version}" for name, version in summary.versions.items())),
    ]
    table = Table(
        "How to repeat it: “dtb run config.toml” with the config below gives the same digests on any number of threads "
        "and with synapses stored or procedural. The digests are over every spike of every neuron.",
        ("what", "value"),
        rows,
    )
    return [table, Listing("config.toml, as it was resolved", run.config_text)]
