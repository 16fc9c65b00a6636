"""Every parameter of a run, with its unit and where its value comes from."""

from __future__ import annotations

import re

from dtb.config import TABLES
from dtb.config import Table as ConfigTable
from dtb.network.neuron import CELLS, LIF, RECEPTORS
from dtb.observe.balloon import SETS
from dtb.report.folder import Run
from dtb.report.page import Table

REFERENCES = {  # what a table calls it → where it is found
    "Lu NCS 2024": "Lu, Du, Wang et al. (2024). Simulation and assimilation of the digital human brain. Nature "
    "Computational Science 4:890. Numbers from the released code, DTB-consortium/Digital_twin_brain-open, and from "
    "Extended Data Table 4.",
    "Lu NSR 2024": "Lu et al. (2024). National Science Review 11:nwae080. Numbers from the code, lepodl/DetailedDTB.",
    "Du 2012": "Du, Vegh & Reutens (2012). PLoS Computational Biology 8:e1002666, after Binzegger, Douglas & Martin "
    "(2004), Journal of Neuroscience 24:8441.",
    "Friston 2003": "Friston, Harrison & Penny (2003). Dynamic causal modelling. NeuroImage 19:1273, prior means.",
    "Lemaréchal 2022": "Lemaréchal, Jedynak, Trebaul et al. (2022). A brain atlas of axonal and synaptic delays based "
    "on modelling of cortico-cortical evoked potentials. Brain 145:1653.",
}
CELL_SOURCES = {"release2024": "Lu NCS 2024", "nsr2023": "Lu NSR 2024"}
# What the release ships fires at 3 spikes/s; see dtb/network/neuron.py.
RAISED = "ours: raised from 400 ± 150 pA of Lu NCS 2024 to fire at 7 to 8 spikes/s with CV 1"
CIRCUITS = {"ei": "Lu NCS 2024: 4 local E, 1 local I, 2 long-range E in 7 inputs", "column": "Du 2012"}
DEFAULT_SOURCES = {  # of a value that is the default; what each rests on
    "in_degree": "order of the model of Lu NCS 2024",
    "velocity": "order of human cortico-cortical axons, Lemaréchal 2022",
    "local_delay": "one step of Lu NCS 2024, which has no other delay",
    "dt": "Lu NCS 2024",
    "integrator": "ours: stable at 1 ms; explicit in Lu NCS 2024",
}
BALLOON_SOURCES = {
    "friston2003": dict.fromkeys(SETS["friston2003"], "Friston 2003") | {"epsilon": "ours: 3 % BOLD at 10 spikes/s"},
    "release2024": dict.fromkeys(SETS["release2024"], "Lu NCS 2024"),
}
BALLOON_ABOUT = {
    "kappa": ("κ", "decay of the vasodilatory signal", "1/s"),
    "gamma": ("γ", "feedback of flow", "1/s²"),
    "tau": ("τ", "transit time of blood", "s"),
    "alpha": ("α", "stiffness of the vessels", ""),
    "rho": ("ρ", "oxygen extraction at rest", ""),
    "V0": ("V₀", "resting blood volume fraction", ""),
    "epsilon": ("ε", "efficacy of firing", "1/s² per spike/s"),
    "k1": ("k₁", "first weight of the signal", ""),
    "k2": ("k₂", "second weight of the signal", ""),
    "k3": ("k₃", "third weight of the signal", ""),
}
HEAD = ("parameter", "value", "unit", "meaning", "source")


def parameters(run: Run) -> list[Table]:
    tables = [model(run), *cells(run), *balloon(run)]
    told = " ".join(cell for table in tables for row in table.rows for cell in row)
    told += " ".join(table.caption for table in tables)
    cited = [(name, text) for name, text in REFERENCES.items() if name in told]
    return [*tables, Table("Sources named above.", ("name", "reference"), cited)]


def model(run: Run) -> Table:
    """What the config sets, of network, simulation and recording."""
    rows = []
    for name in ("build_network", "Simulation", "Recording", "run"):
        table: ConfigTable = getattr(run.config, name)
        for key, value in table.keywords().items():
            meaning, unit = split_unit(TABLES[name].model_fields[key].description or "")
            rows.append((f"{name}.{key}", shown(value), unit, meaning, source(run, name, key, value)))
    rows.append(("weights", "uniform, 0 to 1", "", "of a synapse, in units of activation", "Lu NCS 2024"))
    return Table("Network and simulation, as resolved from the config.", HEAD, rows, frozenset({1}))


def source(run: Run, table: str, key: str, value: object) -> str:
    if (table, key) == ("build_network", "cell"):
        return CELL_SOURCES[run.config.build_network.cell]
    if (table, key) == ("build_network", "microcircuit"):
        return CIRCUITS[run.config.build_network.microcircuit]
    default = TABLES[table].model_fields[key].default
    if value == default:
        return DEFAULT_SOURCES.get(key, "default")
    if key in DEFAULT_SOURCES:
        return f"set in the config; the default is {shown(default)}"
    return "set in the config"


def cells(run: Run) -> list[Table]:
    """The constants of the cell model; classes that share them have their tables in common."""
    groups: dict[LIF, list[str]] = {}
    for entry in run.network.classes:
        groups.setdefault(entry.cell, []).append(entry.name)
    return [table for cell, names in groups.items() for table in cell_tables(run, cell, names)]


def cell_tables(run: Run, cell: LIF, names: list[str]) -> list[Table]:
    named = run.config.build_network.cell
    told = CELL_SOURCES[named] if cell == CELLS[named] else "set in Python"
    background = RAISED if (told, named) == (CELL_SOURCES["release2024"], "release2024") else told
    rows = [
        ("C", shown(cell.c_m), "pF", "membrane capacitance", told),
        ("g_leak", shown(cell.g_leak), "nS", "leak conductance", told),
        ("E_leak", shown(cell.e_leak), "mV", "leak reversal potential", told),
        ("V_threshold", shown(cell.v_threshold), "mV", "at which a spike is fired", told),
        ("V_reset", shown(cell.v_reset), "mV", "after a spike", told),
        ("t_ref", shown(cell.t_ref), "ms", "refractory time", told),
        ("background mean", shown(cell.background.mean), "pA", "current from all that is not simulated", background),
        ("background sd", shown(cell.background.sd), "pA", "its standard deviation over time", background),
        ("background τ", shown(cell.background.tau), "ms", "its correlation time (Ornstein–Uhlenbeck)", told),
    ]
    receptors = [
        (receptor, shown(cell.g[u]), shown(cell.e_rev[u]), shown(cell.tau_syn[u]), "E" if u < 2 else "I", told)
        for u, receptor in enumerate(RECEPTORS)
    ]
    who = ", ".join(names)
    return [
        Table(
            f"Cell model of {who}: conductance-based leaky integrate-and-fire, parameter set '{named}'. The published "
            "numbers carry no units; they are read as nF, µS, nA, mV and ms.",
            HEAD,
            rows,
            frozenset({1}),
        ),
        Table(
            f"Receptors of {who}: conductance g for each unit of activation, reversal potential E, decay time τ of the "
            "activation. A conductance of 0 is a receptor that is not used.",
            ("receptor", "g [nS]", "E [mV]", "τ [ms]", "driven by", "source"),
            receptors,
            frozenset({1, 2, 3}),
        ),
    ]


def balloon(run: Run) -> list[Table]:
    if run.balloon is None or run.config.Balloon is None:
        return []
    chosen = run.config.Balloon
    rows = [("TR", shown(run.balloon.tr_s), "s", "time between scans", "set in the config")]
    for key, (symbol, meaning, unit) in BALLOON_ABOUT.items():
        told = BALLOON_SOURCES[chosen.constants].get(key, "follows from ρ, as in the reference")
        told = "set in the config" if getattr(chosen, key) is not None else told
        rows.append((symbol, shown(float(getattr(run.balloon, key))), unit, meaning, told))
    return [Table(f"Haemodynamics: Balloon–Windkessel model, set '{chosen.constants}'.", HEAD, rows, frozenset({1}))]


def split_unit(about: str) -> tuple[str, str]:
    """A description of the config, and the unit that stands in brackets in it."""
    found = re.search(r"\s*\[([^]]+)\]", about)
    return (about, "") if found is None else (about.replace(found.group(0), ""), found.group(1))


def shown(value: object) -> str:
    """A value as a reader takes it in: no needless digits, lists with commas."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 10**12 else str(value)
    if isinstance(value, float):
        return f"{value:,.6g}".replace("-", "−")
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value)
