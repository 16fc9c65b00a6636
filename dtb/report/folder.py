"""A finished run, opened: what is in its folder, and the brain and the network that it was made of."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dtb.brain import Bold, Brain, default_brain
from dtb.config import Config, load_config
from dtb.engine.recording import Recording
from dtb.engine.recording_views import SETTLE
from dtb.network.build import build_network
from dtb.network.network import Network
from dtb.observe.balloon import Balloon
from dtb.observe.measures import functional_connectivity
from dtb.run import MIN_SCANS, ONSET_S
from dtb.summary import Summary

MAX_FC_REGIONS = 2_000  # a correlation matrix of more fills no page and much memory
SIDES = {"L": 0, "B": 1, "R": 2}
KINDS = {"cortical": 0, "subcortical": 1, "cerebellar": 2, "brainstem": 3}


@dataclass(frozen=True)
class Run:
    """Everything a page about a run is made of.

    Parameters
    ----------
    config : Config
    config_text : str
        The same as it stands in the run folder, where the path of a brain is seen from there.
    summary : Summary
    provenance : dict
    brain : Brain
    labels : (region,) str
        Names of the regions, from the brain.
    network : Network
    recording : Recording
    """

    config: Config
    config_text: str
    summary: Summary
    provenance: dict[str, Any]
    brain: Brain
    labels: tuple[str, ...]
    network: Network
    recording: Recording

    @property
    def name(self) -> str:
        """Of the brain, as the results may call it: what a Brain file calls itself can be a person's name."""
        told = self.provenance.get("brain")
        return str(told.get("name", "brain")) if isinstance(told, dict) else "brain"

    @cached_property
    def order(self) -> np.ndarray:
        """(region,) int: left, middle, right; in each the cortex first; in each from the back of the head."""
        side = np.array([SIDES[h] for h in self.brain.hemisphere])
        kind = np.array([KINDS[k] for k in self.brain.kind])
        return np.lexsort((self.brain.centroid[:, 1], kind, side))

    @cached_property
    def balloon(self) -> Balloon | None:
        return None if self.config.Balloon is None else Balloon(**self.config.Balloon.keywords())

    @cached_property
    def bold(self) -> np.ndarray:
        """(scan, region) float64, simulated; no scan where none was asked for."""
        if self.balloon is None or "region_rate" not in self.recording:
            return np.zeros((0, self.brain.n_regions))
        return self.recording.bold(self.balloon).values

    @cached_property
    def late_bold(self) -> np.ndarray:
        """(scan, region): without the haemodynamic onset, which all regions share."""
        return self.bold[round(ONSET_S / self.balloon.tr_s) :] if self.balloon else self.bold

    @property
    def recorded(self) -> Bold | None:
        """The person's own resting BOLD, if the brain has it."""
        return self.brain.bold.get("rest")

    @cached_property
    def simulated_fc(self) -> np.ndarray | None:
        """(region, region), or None where too few scans, too many regions or a silent one forbid it."""
        bold = self.late_bold
        if len(bold) < MIN_SCANS or not 3 <= bold.shape[1] <= MAX_FC_REGIONS or (np.ptp(bold, axis=0) == 0).any():
            return None
        return functional_connectivity(bold)

    @cached_property
    def recorded_fc(self) -> np.ndarray | None:
        if self.recorded is None or not 3 <= self.brain.n_regions <= MAX_FC_REGIONS:
            return None
        return functional_connectivity(self.recorded.data)

    @cached_property
    def class_rates(self) -> dict[str, np.ndarray]:
        """Mean rate (region,) [spikes/s] of each class, NaN where a region has none of it, after the first 2 s; empty
        where rates of populations were not kept."""
        if "population_rate" not in self.recording:
            return {}
        mean, network = self._mean_after_onset("population_rate"), self.network
        values = {}
        for k, name in enumerate(c.name for c in network.classes):
            mine = network.population_class == k
            values[name] = np.full(self.brain.n_regions, np.nan)
            values[name][network.population_region[mine]] = mean[mine]
        return values

    @cached_property
    def region_rates(self) -> np.ndarray:
        """(region,) spikes/s: mean over all neurons after the first 2 s; NaN where a region has none."""
        if self.class_rates:
            size = self.network.size
            table = np.array(list(self.class_rates.values())).T
            return np.nansum(table * size, axis=1) / size.sum(axis=1)
        values = np.full(self.brain.n_regions, np.nan)
        values[np.unique(self.network.population_region)] = self._mean_after_onset("region_rate")
        return values

    def _mean_after_onset(self, name: str) -> np.ndarray:
        """(column,) float64: mean over the rows of an array, without the settling of longer runs."""
        begin, end = self.recording.span
        skip = round(SETTLE / self.recording.bin) if end - begin > SETTLE else 0
        total, rows, seen = np.zeros(1), 0, 0
        for block in self.recording.read_blocks(name):
            late = block[max(0, skip - seen) :]
            total, rows, seen = total + late.sum(axis=0, dtype=np.float64), rows + len(late), seen + len(block)
        return total / max(rows, 1)


def open_run(folder: str | os.PathLike[str], brain: Brain | None = None) -> Run:
    """Open a run folder; ValueError where it is unfinished, damaged, or of another brain or version than here.

    Parameters
    ----------
    folder : path
    brain : Brain or None
        That the run was made of; None looks where the config of the run says.
    """
    folder = Path(folder)
    if not (folder / "config.toml").is_file():
        raise ValueError(f"'{folder}' is not a run folder: it has no config.toml.")
    config = load_config(folder / "config.toml")
    summary = Summary.model_validate(read_json(folder / "summary.json"))
    provenance = read_json(folder / "provenance.json")
    brain = brain or find_brain(config)
    told = provenance.get("brain")
    if not isinstance(told, dict) or told.get("sha256") != brain.digest():
        raise ValueError(
            f"brain '{brain.name}' is not the one that '{folder}' was made of: its content differs. "
            "Name the right file with --brain, or run again."
        )
    network = build_network(brain, **config.build_network.keywords())
    if network.digest != summary.network_hash:
        raise ValueError(
            f"this version of dtb builds network {network.digest} of the config of '{folder}', which was made of "
            f"{summary.network_hash}. Use the version that made it, or run again."
        )
    text, recording = (folder / "config.toml").read_text(encoding="utf-8"), Recording.open(folder / "recording.zarr")
    return Run(config, text, summary, provenance, brain, brain.labels, network, recording)


def find_brain(config: Config) -> Brain:
    if config.brain == "default":
        return default_brain()
    if not Path(config.brain).is_file():
        name = Path(config.brain).name
        raise FileNotFoundError(
            f"the brain of this run, '{name}', is not there any more. Say where it is: --brain PATH."
        )
    return Brain.load(config.brain)


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"the run in '{path.parent}' is unfinished: it has no {path.name}.") from None
    except ValueError as error:
        raise ValueError(f"'{path}' is damaged: {error}.") from None
    if not isinstance(content, dict):
        raise ValueError(f"'{path}' is damaged: it holds no table.")
    return content
