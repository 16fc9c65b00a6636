"""The parts of a Brain as they were given, made into read-only arrays; what could not be read becomes a Fault."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

FIELDS = tuple("name labels hemisphere centroid kind volume tracts density receptors bold priors provenance".split())  # noqa: SIM905
OPTIONAL = ("receptors", "bold", "priors", "provenance")
MAX_NAMED = 1_000  # receptors, recordings or priors
GAP = "Find out where they come from; leave out the region or replace them by a stated rule."

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}")  # of a recording, receptor or prior: also a name inside HDF5


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a Brain: what was found, where, and what to do.

    Parameters
    ----------
    code : str
        Stable name of the check, such as "length-zero".
    severity : "error" or "warning"
        A Brain with an error cannot be constructed; a warning is for a person to judge.
    place, found, fix : str
        Field and regions; what stands there; what to do.

    Examples
    --------
    >>> print(Fault("bold-tr", "error", "bold['rest']", "TR of 720 s", "Give it in seconds: 0.72."))
    error bold-tr: bold['rest']: TR of 720 s. Give it in seconds: 0.72.
    """

    code: str
    severity: Literal["error", "warning"]
    place: str
    found: str
    fix: str

    def __str__(self) -> str:
        return f"{self.severity} {self.code}: {self.place}: {self.found}. {self.fix}"


class TractArrays(NamedTuple):
    """The four arrays of `dtb.brain.Tracts`, not yet known to be valid."""

    post: np.ndarray
    pre: np.ndarray
    weight: np.ndarray
    length: np.ndarray


class BoldArrays(NamedTuple):
    """The three fields of `dtb.brain.Bold`, not yet known to be valid."""

    data: np.ndarray
    tr_s: float
    task: str


def refuse(found: Iterable[Fault], what: str) -> None:
    """Raise one ValueError that lists every error; warnings pass."""
    lines = [str(fault).removeprefix("error ") for fault in found if fault.severity == "error"]
    if len(lines) == 1:
        raise ValueError(f"{what} has 1 fault, {lines[0]}")
    if lines:
        raise ValueError(f"{what} has {len(lines)} faults.\n" + "\n".join(f"  {line}" for line in lines))


def frozen(value: Any, dtype: Any) -> np.ndarray:
    """A read-only array of numbers; TypeError or ValueError where there is none. Never an alias of a writeable one."""
    given = np.asarray(value)
    if given.dtype.kind not in "biuf":
        raise TypeError("not numbers")
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit is found below, or as infinite
        array = np.ascontiguousarray(given, dtype).reshape(given.shape)
    if np.issubdtype(dtype, np.integer) and not np.array_equal(array, given):
        raise ValueError("not whole numbers of 32 bits")
    if array.flags.writeable:
        array = array.copy() if np.may_share_memory(array, given) else array
        array.setflags(write=False)
    return array


# --- a part that cannot be read is left out, so that the checks of the others still run


def prepared(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[Fault]]:
    """The parts as read-only arrays of the right type and shape, and what was wrong with the others."""
    matrices = "weights" in given and "tracts" not in given
    found = [
        error(f"{field}-missing", field, "not given", "Missing data is never made up: give it.")
        for field in FIELDS
        if field not in given and field not in OPTIONAL and not (field == "tracts" and matrices)
    ]
    parts: dict[str, Any] = {"name": given.get("name"), "provenance": given.get("provenance", {})}
    for field in ("labels", "hemisphere", "kind"):
        _put_words(parts, field, given.get(field), found)
    if "labels" not in parts:
        return parts, found
    regions = len(parts["labels"])
    for field, shape in (("centroid", (regions, 3)), ("volume", (regions,)), ("density", (regions,))):
        if field in given:
            _put(parts, field, given[field], np.float64, shape, field, found)
    for field, dtype, shape in (("receptors", np.float64, (regions,)), ("priors", np.float32, (regions, regions))):
        parts[field] = {}
        for name, value in _named(field, given, found):
            _put(parts[field], name, value, dtype, shape, f"{field}[{name!r}]", found)
    parts["bold"] = {}
    for name, value in _named("bold", given, found):
        bold, wrong = bold_of(value, f"bold[{name!r}]", regions)
        parts["bold"] |= {name: bold} if bold else {}
        found += wrong
    if matrices:
        parts["tracts"], wrong = tracts_of_matrices(given["weights"], given.get("lengths"), regions)
    else:
        parts["tracts"], wrong = tracts_of(given["tracts"]) if "tracts" in given else (None, [])
    return parts, found + wrong


def bold_of(given: Any, place: str = "bold", regions: int | None = None) -> tuple[BoldArrays | None, list[Fault]]:
    """A recording as arrays; `regions` is how many it must have, if that is known."""
    data, tr_s, task = (_get(given, field) for field in ("data", "tr_s", "task"))
    shape = np.shape(data)
    if len(shape) == 2 and regions not in (None, shape[1]) and shape[0] == regions:
        fix = "The order is (time, region): transpose it."
        return None, [error("bold-transposed", place, f"shape {shape} for {regions} regions", fix)]
    scans = shape[0] if len(shape) == 2 else 0
    if regions is None:
        regions = shape[1] if len(shape) == 2 else 0
    found: list[Fault] = []
    box: dict[str, np.ndarray] = {}
    _put(box, "data", data, np.float32, (scans, regions), place, found)
    try:
        tr_s = float(tr_s)
    except (TypeError, ValueError):
        what = "no TR, the time between scans" if tr_s is None else f"TR {shown(tr_s)}"
        return None, [*found, error("bold-tr", place, what, "Give it in seconds.")]
    return (None if found else BoldArrays(box["data"], tr_s, task)), found


def tracts_of(given: Any) -> tuple[TractArrays | None, list[Fault]]:
    """Tracts as arrays in the order of (pre, post); one that is already a `Tracts` is not copied."""
    found: list[Fault] = []
    arrays: dict[str, np.ndarray] = {}
    for field, dtype in (("post", np.int32), ("pre", np.int32), ("weight", np.float64), ("length", np.float32)):
        try:
            arrays[field] = frozen(_get(given, field), dtype)
        except (TypeError, ValueError) as problem:
            place = f"tracts.{field}"
            found.append(error(f"tract-{field}-not-numbers", place, str(problem)[:80], "Give one number per tract."))
    if found:
        return None, found
    if arrays["post"].ndim != 1 or len({array.shape for array in arrays.values()}) > 1:
        text = ", ".join(f"{field} {array.shape}" for field, array in arrays.items())
        return None, [error("tract-size", "tracts", text, "Give four arrays (tract,) of one length.")]
    tracts = TractArrays(**arrays)
    key = tract_key(tracts)
    if (key[1:] < key[:-1]).any():
        order = np.argsort(key, kind="stable")
        tracts = TractArrays(*(frozen(array[order], array.dtype) for array in tracts))
    return tracts, []


def tract_key(tracts: TractArrays) -> np.ndarray:
    """One number per tract; their order is that of (pre, post)."""
    return tracts.pre.astype(np.int64) << 32 | tracts.post


def tracts_of_matrices(
    weights: Any, lengths: Any, regions: int | None = None
) -> tuple[TractArrays | None, list[Fault]]:
    """The tracts of two dense matrices, index order (post, pre)."""
    if regions is None:
        regions = len(weights) if np.ndim(weights) else 0
    found: list[Fault] = []
    box: dict[str, np.ndarray] = {}
    _put(box, "weights", weights, np.float64, (regions, regions), "weights", found)
    _put(box, "lengths", lengths, np.float64, (regions, regions), "lengths", found)
    if found:
        return None, found
    pre, post = np.nonzero(box["weights"].T)
    alone = np.argwhere((box["lengths"] != 0) & (box["weights"] == 0) & ~np.eye(regions, dtype=bool))
    if len(alone):
        text = f"{len(alone)} pairs of regions have a length but weight 0, the first {alone[0][1]} → {alone[0][0]}"
        fix = "Without a weight there is no tract, and they are left out; were weights thresholded, or mixed up?"
        found.append(warning("length-without-weight", "lengths", text, fix))
    arrays = {"post": post, "pre": pre, "weight": box["weights"][post, pre], "length": box["lengths"][post, pre]}
    return tracts_of(arrays)[0], found


def _get(given: Any, field: str) -> Any:
    return given.get(field) if isinstance(given, Mapping) else getattr(given, field, None)


def _put_words(parts: dict[str, Any], field: str, value: Any, found: list[Fault]) -> None:
    """Put a tuple of one text per region under the field, or say why not."""
    if value is None:
        return
    words = tuple(value) if np.iterable(value) else (value,)
    regions = len(parts.get("labels", words))
    if not all(isinstance(word, str) for word in words):
        found.append(error(f"{field}-not-text", field, "something that is no text", "Give one text per region."))
    elif len(words) != regions:
        found.append(size(field, (len(words),), (regions,)))
    else:
        parts[field] = tuple(map(str, words))  # numpy's strings become plain ones


def _put(into: dict, key: str, value: Any, dtype: Any, shape: tuple[int, ...], place: str, found: list[Fault]) -> None:
    """Put the value under its key as an array of finite numbers of this shape, or say why not."""
    code = place.split("[", maxsplit=1)[0].removesuffix("s")
    try:
        array = frozen(value, dtype)
    except (TypeError, ValueError) as problem:
        found.append(error(f"{code}-not-numbers", place, str(problem)[:80], f"Give an array of shape {shape}."))
        return
    if array.shape != shape:
        found.append(size(place, array.shape, shape, code))
    elif not np.isfinite(array).all():
        count = np.count_nonzero(~np.isfinite(array))
        found.append(error(f"{code}-not-finite", place, f"{count} of {array.size} values are NaN or infinite", GAP))
    else:
        into[key] = array


def _named(field: str, given: Mapping[str, Any], found: list[Fault]) -> Iterator[tuple[str, Any]]:
    """Items of a mapping whose names can stand in a file, in the order of the alphabet."""
    items = given.get(field) or {}
    if not isinstance(items, Mapping):
        found.append(error(f"{field}-not-named", field, type(items).__name__, "Give a dict: a name for each."))
        return
    if len(items) > MAX_NAMED:
        found.append(error(f"{field}-many", field, f"{len(items):,} entries", f"Use at most {MAX_NAMED:,}."))
        return
    for name, value in sorted(items.items(), key=lambda item: str(item[0])):
        if isinstance(name, str) and NAME.fullmatch(name):
            yield name, value
        else:
            fix = "Use up to 64 letters, digits, '_', '-' and '.', a letter or digit first."
            found.append(error(f"{field.removesuffix('s')}-name", field, f"the name {shown(name)}", fix))


def error(code: str, place: str, found: str, fix: str) -> Fault:
    return Fault(code, "error", place, found, fix)


def warning(code: str, place: str, found: str, fix: str) -> Fault:
    return Fault(code, "warning", place, found, fix)


def size(place: str, found: tuple, allowed: tuple, code: str = "") -> Fault:
    text = f"shape {found}, not {allowed}"
    return error(f"{code or place}-size", place, text, "There is one value, row or column per label.")


def shown(value: Any) -> str:
    """A value as a message may show it: escaped, and no longer than a line."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
