"""Simulated BOLD as a BIDS derivative, which pandas, nilearn and the tools for BIDS read as they read a recording's."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dtb import __version__
from dtb.engine.store import write_file
from dtb.observe.balloon import Balloon

BIDS_VERSION = "1.10.0"  # whose names of files and keys these are
USE = "Research use only; not a medical device."
README = f"""Simulated BOLD, made by Digital Twin Brain from a spiking model of one person's brain. It was not recorded.

sub-*/func/*_desc-sim_timeseries.tsv has a row per scan and a column per region; the .json beside it says how it was
made, with the time between scans in RepetitionTime. Source and terms of the data are in provenance.json of the run.
{USE}
"""


def write_bold(
    folder: str | os.PathLike[str],
    bold: np.ndarray,
    labels: Sequence[str],
    balloon: Balloon,
    subject: str,
    task: str = "rest",
) -> Path:
    """Write a data set with one time series per region; return the path of the table.

    Parameters
    ----------
    folder : path
        Of the data set, made if it is not there; holds `dataset_description.json` and `sub-SUBJECT/func/`.
    bold : (time, region) array
        Relative change of the signal, as `Balloon.observe` gives it.
    labels : (region,) str
        Names of the columns.
    balloon : Balloon
        That made it: its TR and constants go into the sidecar.
    subject, task : str
        BIDS labels: letters and digits only.

    Notes
    -----
    `sub-SUBJECT_task-TASK_desc-sim_timeseries.tsv` is a row per scan under a header of region names, as XCP-D and
    fMRIPrep write time series; scan k is taken at StartTime + k RepetitionTime. Seven digits, n/a for no number.
    BIDS has volumes and surfaces of BOLD, but no tables of regions yet: `.bidsignore` says so to its validator.

    Examples
    --------
    >>> balloon = Balloon(tr_s=2.0)
    >>> bold = balloon.observe(np.full((10_000, 2), 5.0), dt=1.0)
    >>> write_bold("derivatives/dtb", bold, ["V1_L", "V1_R"], balloon, "01").name            # doctest: +SKIP
    'sub-01_task-rest_desc-sim_timeseries.tsv'
    """
    for what, label in (("subject", subject), ("task", task)):
        if not (label.isascii() and label.isalnum()):
            raise ValueError(f"{what} is {label!r}. A BIDS label has letters and digits only.")
    if np.shape(bold) != (len(bold), len(labels)):
        raise ValueError(f"bold has shape {np.shape(bold)}; it needs a column for each of {len(labels)} labels.")
    root = Path(folder)
    table = root / f"sub-{subject}" / "func" / f"sub-{subject}_task-{task}_desc-sim_timeseries.tsv"
    table.parent.mkdir(parents=True, exist_ok=True)
    write_file(root / "dataset_description.json", as_json(description()))
    write_file(root / "README", README)
    write_file(root / ".bidsignore", "*_timeseries.tsv\n*_timeseries.json\n")  # no part of BIDS 1.11 yet (BEP012)
    write_file(table.with_suffix(".json"), as_json(sidecar(balloon, task)))
    rows = ["\t".join(labels), *("\t".join(map(cell, scan)) for scan in bold)]
    write_file(table, "\n".join(rows) + "\n")
    return table


def description() -> dict:
    """What a BIDS derivative says of itself."""
    return {
        "Name": "Simulated BOLD of a spiking model of one person's brain",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [
            {"Name": "Digital Twin Brain", "Version": __version__, "Description": "Simulated, not recorded."}
        ],
        "HowToAcknowledge": f"See provenance.json of the run for the data it is made from, and their terms. {USE}",
    }


def sidecar(balloon: Balloon, task: str) -> dict:
    constants = {name: getattr(balloon, name) for name in ("kappa", "gamma", "tau", "alpha", "rho", "V0", "epsilon")}
    return {
        "Description": "Simulated BOLD of each region, relative change of the signal at rest",
        "TaskName": task,
        "RepetitionTime": balloon.tr_s,
        "SamplingFrequency": 1 / balloon.tr_s,
        "StartTime": balloon.tr_s,
        "Units": "1",
        "Model": {"name": "Balloon", "set": balloon.constants, **constants},
        "Use": USE,
    }


def cell(x: float) -> str:
    return f"{x:.7g}" if np.isfinite(x) else "n/a"


def as_json(content: dict) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
