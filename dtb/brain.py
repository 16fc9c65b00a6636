"""One subject, measured: what a person's scans say about the brain. No neurons in it."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from os import PathLike
from types import MappingProxyType
from typing import Any

import numpy as np

from dtb.brain_faults import KINDS, Fault, bold_errors, errors, faults, tract_errors
from dtb.brain_parts import bold_of, prepared, refuse, shown, tracts_of, tracts_of_matrices

__all__ = ["Bold", "Brain", "Fault", "Tracts", "default_brain", "faults", "load_brain"]


class _Frozen:
    """Copies and pickles through the constructor, so that a copy is as valid and as read-only as its original."""

    def __reduce__(self):
        values = (getattr(self, entry.name) for entry in dataclasses.fields(self))  # type: ignore[arg-type]
        return type(self), tuple(dict(value) if isinstance(value, MappingProxyType) else value for value in values)


@dataclass(frozen=True, eq=False)
class Tracts(_Frozen):
    """Tracts between regions as a sparse list, sorted by (pre, post), each pair at most once.

    Parameters
    ----------
    post, pre : (tract,) int32
        Region where the tract ends, and region where it starts.
    weight : (tract,) float64
        Strength, positive, in the unit of the tractography; only ratios are used.
    length : (tract,) float32 [mm]
        Along the tract, positive.

    Examples
    --------
    >>> tracts = Tracts(post=[1, 0], pre=[0, 1], weight=[2.0, 1.0], length=[80.0, 80.0])
    >>> tracts.weights(2)                                # (post, pre)
    array([[0., 1.],
           [2., 0.]])
    """

    post: np.ndarray
    pre: np.ndarray
    weight: np.ndarray
    length: np.ndarray

    def __post_init__(self):
        arrays, found = tracts_of(self)
        refuse(found + list(tract_errors(arrays) if arrays else ()), "Tracts")
        assert arrays is not None  # or a fault was found and refused
        for name, array in arrays._asdict().items():
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.weight)

    @classmethod
    def from_matrices(cls, weights: np.ndarray, lengths: np.ndarray) -> Tracts:
        """The tracts of two dense matrices, index order (post, pre); where the weight is 0, there is none.

        Parameters
        ----------
        weights, lengths : (post, pre) array [–, mm]
            A length without a weight is left out; `faults` warns of it.

        Examples
        --------
        >>> len(Tracts.from_matrices([[0, 1], [0, 0]], [[0, 80], [80, 0]]))
        1
        """
        arrays, found = tracts_of_matrices(weights, lengths)
        refuse(found, "Tracts")
        return cls(*arrays)  # type: ignore[misc]

    def weights(self, n_regions: int) -> np.ndarray:
        """(post, pre) float64, 0 where there is no tract."""
        return self._dense(self.weight, n_regions)

    def lengths(self, n_regions: int) -> np.ndarray:
        """(post, pre) float32 [mm], 0 where there is no tract."""
        return self._dense(self.length, n_regions)

    def _dense(self, values: np.ndarray, n_regions: int) -> np.ndarray:
        matrix = np.zeros((n_regions, n_regions), values.dtype)
        matrix[self.post, self.pre] = values
        return matrix


@dataclass(frozen=True, eq=False)
class Bold(_Frozen):
    """One recording of BOLD, averaged over the voxels of each region.

    Parameters
    ----------
    data : (time, region) float32
        In the unit of the scanner; every region varies.
    tr_s : float [s]
        Time between scans.
    task : str
        As in BIDS: letters and digits.

    Examples
    --------
    >>> bold = Bold(np.random.default_rng(1).normal(size=(300, 4)), tr_s=2.0)
    >>> bold.data.shape, bold.task
    ((300, 4), 'rest')
    """

    data: np.ndarray
    tr_s: float
    task: str = "rest"

    def __post_init__(self):
        arrays, found = bold_of(self)
        refuse(found + list(bold_errors(arrays) if arrays else ()), "Bold")
        assert arrays is not None  # or a fault was found and refused
        for name, value in arrays._asdict().items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True, eq=False)
class Brain(_Frozen):
    """One subject, measured. A constructed Brain is valid: one ValueError lists every fault, with its place and fix.

    Parameters
    ----------
    name : str
        For people; never a subject number.
    labels : (region,) str
        Names of the regions, all different.
    hemisphere : (region,) "L", "R" or "B"
        B is for midline and bilateral regions.
    centroid : (region, 3) float64 [mm]
        World space, +x right, +y front, +z up.
    kind : (region,) "cortical", "subcortical", "cerebellar" or "brainstem"
    volume : (region,) float64 [mm³]
        Of grey matter; it sets the number of neurons.
    tracts : Tracts
    density : (region,) float64
        Synapse density relative to a reference of 1; it sets the in-degree.
    receptors : dict of (region,) float64
        Receptor maps by name, not negative.
    bold : dict of Bold
        Recordings by name.
    priors : dict of (region, region) float32
        What is known from other people, such as "group_fc"; symmetric, in [−1, 1].
    provenance : dict
        What JSON can hold: `source, terms, acknowledgement, citation`, `statements` and `steps` (lists of str).

    Examples
    --------
    >>> brain = default_brain()
    >>> brain.n_regions, len(brain.tracts), brain.bold["rest"].data.shape
    (94, 8742, (1200, 94))
    """

    name: str
    labels: tuple[str, ...]
    hemisphere: tuple[str, ...]
    centroid: np.ndarray
    kind: tuple[str, ...]
    volume: np.ndarray
    tracts: Tracts
    density: np.ndarray
    receptors: Mapping[str, np.ndarray] = field(default_factory=dict)
    bold: Mapping[str, Bold] = field(default_factory=dict)
    priors: Mapping[str, np.ndarray] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        parts, found = prepared(vars(self))
        refuse(found + errors(parts), f"Brain {shown(self.name)}")
        parts["tracts"] = self.tracts if isinstance(self.tracts, Tracts) else Tracts(*parts["tracts"])
        parts["bold"] = {name: Bold(*recording) for name, recording in parts["bold"].items()}
        parts["provenance"] = json.loads(json.dumps(dict(self.provenance)))  # a copy that nobody else holds
        for name, value in parts.items():
            object.__setattr__(self, name, MappingProxyType(value) if isinstance(value, dict) else value)

    @property
    def n_regions(self) -> int:
        return len(self.labels)

    def digest(self) -> str:
        """SHA-256 of the content, 64 hex digits: equal for equal brains, whatever the file they came from."""
        from dtb.brain_file import content, digest

        return digest(content(self))

    def save(self, path: str | PathLike[str]) -> None:
        """Write one HDF5 file, whole or not at all, readable by its owner only (umask 077: it is personal data)."""
        from dtb.brain_file import write

        write(self, path)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Brain:
        """Read a file that `save` wrote; ValueError where it is damaged, not a Brain file or not valid."""
        from dtb.brain_file import read

        parts = read(path)
        try:
            return cls(**parts)
        except ValueError as problem:
            raise ValueError(f"{str(path)!r}: {problem}") from None

    def __str__(self) -> str:
        """One screen: what is in it, and on which terms it may be used."""
        rows = [
            ("regions", f"{self.n_regions:,}: {_counts(self.kind, KINDS)}; {_counts(self.hemisphere, 'LRB')}"),
            ("grey matter", f"{self.volume.sum() / 1e3:,.0f} ml, {_range(self.volume / 1e3, '.2g')} ml per region"),
            ("tracts", self._tract_row()),
            ("density", "uniform" if np.ptp(self.density) == 0 else f"{_range(self.density, '.2f')} of the reference"),
            ("receptors", ", ".join(self.receptors) or "none"),
            *(("BOLD", _bold_row(name, bold)) for name, bold in self.bold.items()),
            ("priors", ", ".join(self.priors) or "none"),
            *((key, str(self.provenance[key])) for key in _SHOWN if key in self.provenance),
            *(("stated", text) for text in self.provenance.get("statements", ())),
        ]
        lines = [f"Brain {self.name!r}: research use only; not a medical device"]
        for key, text in rows:
            lines += textwrap.wrap(text, 110, initial_indent=f"  {key:<16}", subsequent_indent=" " * 18)
        return "\n".join(lines)

    def _tract_row(self) -> str:
        if not len(self.tracts):
            return "none"
        share = len(self.tracts) / max(1, self.n_regions * (self.n_regions - 1))
        lengths = f"{_range(self.tracts.length, '.0f')} mm, median {np.median(self.tracts.length):.0f} mm"
        return f"{len(self.tracts):,} ({share:.1%} of all pairs), lengths {lengths}"


_SHOWN = ("source", "terms", "acknowledgement", "citation")


def load_brain(path: str | PathLike[str]) -> Brain:
    """The Brain in a file; the same as `Brain.load`."""
    return Brain.load(path)


def default_brain() -> Brain:
    """The embedded brain: one healthy adult of the Human Connectome Project, 94 regions; see dtb/data/SOURCE.md.

    Its data travel under the HCP Open Access Data Use Terms (dtb/data/HCP_TERMS.md), apart from the code's licence.

    Examples
    --------
    >>> default_brain().kind.count("cortical")
    80
    """
    with resources.as_file(resources.files("dtb") / "data" / "default_brain.h5") as path:
        return Brain.load(path)


def _counts(words: tuple[str, ...], known: tuple[str, ...] | str) -> str:
    count = Counter(words)
    return ", ".join(f"{count[word]:,} {word}" for word in known if count[word])


def _range(values: np.ndarray, form: str) -> str:
    return f"{values.min():{form}} to {values.max():{form}}"


def _bold_row(name: str, bold: Bold) -> str:
    minutes, seconds = divmod(round(len(bold.data) * bold.tr_s), 60)
    task = "" if bold.task == name else f" (task {bold.task})"
    return f"{name}{task}: {len(bold.data):,} scans, TR {bold.tr_s:g} s, {minutes} min {seconds} s"
