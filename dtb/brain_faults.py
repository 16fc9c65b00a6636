"""What can be wrong with a Brain: every semantic check, each with its own code, place and fix."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from dtb.brain_parts import FIELDS, GAP, BoldArrays, Fault, TractArrays, error, prepared, shown, tract_key, warning

KINDS = ("cortical", "subcortical", "cerebellar", "brainstem")
HEMISPHERES = ("L", "R", "B")

MAX_REGIONS = 1_000_000  # voxels of grey matter at 1 mm
MAX_PROVENANCE = 1 << 20  # bytes of JSON; a step is a sentence, not a log
MAX_LABEL = 80  # characters; the longest of the common atlases has 67
MEDIAN_LENGTH = (10.0, 200.0)  # mm; 58 to 132 in sixteen public connectomes of tractography
HEAD = 250.0  # mm; no human brain is longer
ENOUGH = 10  # regions from which on statistics over them mean something
MIDLINE = 10.0  # mm that a region's centroid may lie across the midline: medial regions of native scans do
TR = (0.05, 20.0)  # s
GREY_MATTER = (2e5, 1.5e6)  # mm³ of a whole brain, infants and the largest adults included
UNITS = {"m": 1e3, "cm": 10.0, "µm": 1e-3}  # how many mm

# letters and digits of any script, nothing that could be markup or a path
_LABEL = re.compile(r"[^\W_][\w .,:#()*+'\-]*(?<! )")
_LEFT = re.compile(r"(?i)(^(lh|l|left|ctx[-_]lh)[-_. ]|[-_. ](lh|l|left)$)")
_RIGHT = re.compile(r"(?i)(^(rh|r|right|ctx[-_]rh)[-_. ]|[-_. ](rh|r|right)$)")


def faults(brain: Any) -> list[Fault]:
    """Everything that is wrong with a brain, or with the parts that one is about to be made of.

    Parameters
    ----------
    brain : Brain, or mapping
        A mapping has the keyword arguments of Brain. Raw material is welcome in it: `tracts` as a mapping of arrays
        `post, pre, weight, length`, or two matrices `weights` and `lengths` (post, pre) in its place; a recording as
        a mapping of `data, tr_s, task`.

    Returns
    -------
    list of Fault
        Errors; where there is none, warnings, since these are about plausibility and need sound numbers.

    Examples
    --------
    >>> from dtb.brain import default_brain
    >>> faults(default_brain())
    []
    """
    parts, found = prepared(brain if isinstance(brain, Mapping) else {field: getattr(brain, field) for field in FIELDS})
    found += errors(parts)
    if not any(fault.severity == "error" for fault in found):
        found += _run(WARNINGS, parts)
    return found


def errors(parts: Mapping[str, Any]) -> list[Fault]:
    """The checks that a Brain must pass, on what `prepared` has left of its parts."""
    return _run(ERRORS, parts)


def tract_errors(tracts: TractArrays, labels: tuple[str, ...] | None = None) -> Iterator[Fault]:
    """What is wrong with tracts by themselves; `labels` are for the messages."""
    post, pre, weight, length = tracts
    nothing = "Leave out what is no tract."
    fill = "Measure it, or fill it with the distance between the centroids and say so in the provenance."
    key = tract_key(tracts)
    repeated = np.append(key[1:] == key[:-1], False)  # sorted by (pre, post)
    for code, bad, what, fix in (
        ("tract-duplicate", repeated, "is listed twice", "Add them up."),
        ("tract-index", (post < 0) | (pre < 0), "negative region number", "Count regions from 0."),
        ("weight-not-finite", ~np.isfinite(weight), "weight is NaN or infinite", GAP),
        ("weight-negative", weight < 0, "weight is negative", "No tract has less than no fibres; undo a logarithm."),
        ("weight-zero", weight == 0, "weight is 0", nothing),
        ("length-not-finite", ~np.isfinite(length), "length is NaN or infinite", GAP),
        ("length-negative", length < 0, "length is negative", fill),
        ("length-zero", (length == 0) & (weight != 0) & (post != pre), "has a weight but length 0", fill),
    ):
        if bad.any():
            first = int(np.argmax(bad))
            known = labels or ()
            ends = [shown(known[i]) if 0 <= i < len(known) else str(i) for i in (pre[first], post[first])]
            yield error(code, f"tract {' → '.join(ends)}{_more(bad)}", what, fix)


def bold_errors(bold: BoldArrays, place: str = "bold", labels: tuple[str, ...] | None = None) -> Iterator[Fault]:
    """What is wrong with one recording by itself."""
    if not (TR[0] <= bold.tr_s <= TR[1]):
        fix = f"Give it in seconds, {TR[0]} to {TR[1]}" + (f": {bold.tr_s / 1e3:g}?" if bold.tr_s > TR[1] else ".")
        yield error("bold-tr", place, f"TR of {bold.tr_s:g} s", fix)
    if not (isinstance(bold.task, str) and re.fullmatch(r"[A-Za-z0-9]{1,64}", bold.task)):
        yield error("bold-task", place, f"task {shown(bold.task)}", "Letters and digits only, as in BIDS: 'rest'.")
    if len(bold.data) < 2:
        yield error("bold-scans", place, f"{len(bold.data)} scans", "A recording has at least two.")
    elif (flat := np.ptp(bold.data, axis=0) == 0).any():
        names = labels or tuple(map(str, range(len(flat))))
        yield error("bold-constant", f"{place} {_at(flat, names)}", "does not vary", "Outside the scan? Leave it out.")


def _name(name: Any) -> Iterator[Fault]:
    if not (isinstance(name, str) and len(name) <= MAX_LABEL and _LABEL.fullmatch(name)):
        yield error("name", "name", shown(name), f"Use 1 to {MAX_LABEL} letters, digits, spaces, '_' and '-'.")


def _labels(labels: tuple[str, ...]) -> Iterator[Fault]:
    if not labels or len(labels) > MAX_REGIONS:
        yield error("regions", "labels", f"{len(labels):,} regions", f"A brain has 1 to {MAX_REGIONS:,}.")
    seen: dict[str, int] = {}
    for number, label in enumerate(labels):
        if seen.setdefault(label, number) != number:
            place = f"labels[{seen[label]}] and labels[{number}]"
            yield error("label-duplicate", place, shown(label), "Give every region a label of its own.")
            break
    for code, bad, fix in (
        ("label-empty", lambda text: not text.strip(), "Give it a name."),
        ("label-long", lambda text: len(text) > MAX_LABEL, f"Use at most {MAX_LABEL} characters."),
        ("label-hostile", lambda text: text.strip() and not _LABEL.fullmatch(text), _PLAIN),
    ):
        numbers = [number for number, label in enumerate(labels) if bad(label)]
        if numbers:
            more = f" and {len(numbers) - 1} more" if len(numbers) > 1 else ""
            yield error(code, f"labels[{numbers[0]}]{more}", shown(labels[numbers[0]]), fix)


_PLAIN = "Use letters, digits, spaces and _ . , : # ( ) * + ' -, a letter or digit first, no space at an end."


def _words(labels: tuple[str, ...], hemisphere: tuple[str, ...], kind: tuple[str, ...]) -> Iterator[Fault]:
    for field, values, known in (("hemisphere", hemisphere, HEMISPHERES), ("kind", kind, KINDS)):
        bad = np.array([value not in known for value in values], bool)
        if bad.any():
            found = shown(values[int(np.argmax(bad))])
            yield error(f"{field}-unknown", f"{field} of {_at(bad, labels)}", found, f"Known: {', '.join(known)}.")
    pattern, sides = {"L": _RIGHT, "R": _LEFT}, zip(labels, hemisphere, strict=True)
    bad = np.array([bool(side in pattern and pattern[side].search(label)) for label, side in sides])
    if bad.any():
        found = f"hemisphere {hemisphere[int(np.argmax(bad))]} contradicts the label"
        fix = "Are labels and hemispheres in the same order?"
        yield error("label-side", f"hemisphere of {_at(bad, labels)}", found, fix)


def _centroids(labels: tuple[str, ...], hemisphere: tuple[str, ...], centroid: np.ndarray) -> Iterator[Fault]:
    extent = float(np.ptp(centroid, axis=0).max()) if len(centroid) else 0.0
    least = 20.0 if len(centroid) >= ENOUGH else 1.0  # mm; a few regions may lie close together
    if len(centroid) > 1 and not least <= extent <= HEAD:
        found = f"all lie within {extent:.4g} mm, {_likely_unit(extent, 90.0)}"
        yield error("centroid-unit", "centroid", found, f"Give mm: a human brain spans {least:.0f} to {HEAD:.0f}.")
        return
    far = np.abs(centroid).max(axis=1) > HEAD
    if far.any():
        where = centroid[int(np.argmax(far))].round(1).tolist()
        yield error("centroid-outside", f"centroid of {_at(far, labels)}", f"{where} mm", "Give mm in world space.")
    side = np.array(hemisphere)
    x, left, right = centroid[:, 0], side == "L", side == "R"
    both = left.any() and right.any()
    if both and x[left].mean() > x[right].mean():
        found = f"mean x is {x[left].mean():.1f} mm on the left, {x[right].mean():.1f} mm on the right"
        fix = "World space has +x on the right (RAS): flip x, or swap L and R."
        yield error("hemispheres-swapped", "hemisphere and centroid", found, fix)
        return
    middle = (np.median(x[left]) + np.median(x[right])) / 2 if both else 0.0  # a native scan need not be centred
    bad = (left & (x > middle + MIDLINE)) | (right & (x < middle - MIDLINE))
    if bad.any():
        first = int(np.argmax(bad))
        found = f"hemisphere {side[first]}, but x is {x[first]:.1f} mm"
        fix = "Are labels and centroids in the same order?"
        yield error("hemisphere-side", f"centroid of {_at(bad, labels)}", found, fix)


def _sizes(labels: tuple[str, ...], volume: np.ndarray, density: np.ndarray) -> Iterator[Fault]:
    empty = "A region without grey matter has no neurons: leave it out, or look at the tissue map."
    for field, values, fix in (("volume", volume, empty), ("density", density, "Relative to a reference of 1.")):
        bad = values <= 0
        if bad.any():
            found = f"{values[int(np.argmax(bad))]:g}"
            yield error(f"{field}-not-positive", f"{field} of {_at(bad, labels)}", found, fix)
    if volume.size and volume.min() > 0 and not 1.0 <= volume.sum() <= 5e6:
        found = f"{volume.sum():.3g} mm³ of grey matter in all"
        yield error("volume-unit", "volume", found, "Give mm³: 1 ml is 1,000, 1 m³ is 10⁹.")


def _receptors(labels: tuple[str, ...], receptors: Mapping[str, np.ndarray]) -> Iterator[Fault]:
    for name, values in receptors.items():
        if (bad := values < 0).any():
            found = f"{values[int(np.argmax(bad))]:g}"
            place = f"receptors[{name!r}] of {_at(bad, labels)}"
            yield error("receptor-negative", place, found, "A density is not a z-score: give it unstandardised.")


def _network(labels: tuple[str, ...], tracts: TractArrays) -> Iterator[Fault]:
    yield from tract_errors(tracts, labels)
    regions = len(labels)
    outside = (tracts.post >= regions) | (tracts.pre >= regions)
    if outside.any():
        highest = max(tracts.post.max(), tracts.pre.max())
        yield error("tract-outside", "tracts", f"region number {highest} of {regions} regions", "Count from 0.")
    if outside.any() or (tracts.post < 0).any() or (tracts.pre < 0).any() or regions < 2:
        return
    if not len(tracts.weight):
        yield error("tracts-none", "tracts", f"no tract between {regions} regions", "Is the matrix empty?")
        return
    alone = np.bincount(tracts.post, minlength=regions) + np.bincount(tracts.pre, minlength=regions) == 0
    if alone.any():
        yield error("isolated", _at(alone, labels), "no tract in or out", "Leave it out, or look at the tractography.")


def _units(tracts: TractArrays, centroid: np.ndarray) -> Iterator[Fault]:
    """Lengths against what is human, and against the straight lines between the centroids."""
    between = (tracts.length > 0) & (tracts.post != tracts.pre) & (np.maximum(tracts.post, tracts.pre) < len(centroid))
    if not between.any():
        return
    length = tracts.length[between]
    line = np.linalg.norm(centroid[tracts.post[between]] - centroid[tracts.pre[between]], axis=1)
    median, typical = float(np.median(length)), float(np.median(line))
    found = f"median {median:.4g} mm"
    if not MEDIAN_LENGTH[0] <= median <= MEDIAN_LENGTH[1]:
        fix = "Give mm: the median of a human brain is {:.0f} to {:.0f}.".format(*MEDIAN_LENGTH)
        yield error("length-unit", "tracts.length", f"{found}, {_likely_unit(median, 60.0)}", fix)
    elif len(centroid) >= ENOUGH and typical <= HEAD and median < 0.25 * typical:
        fix = f"Give mm: no tract is shorter than the way, and half of the centroids are {typical:.0f} mm apart."
        yield error("length-unit", "tracts.length", f"{found}, {_likely_unit(median, typical)}", fix)


def _recordings(labels: tuple[str, ...], bold: Mapping[str, BoldArrays]) -> Iterator[Fault]:
    for name, recording in bold.items():
        yield from bold_errors(recording, f"bold[{name!r}]", labels)


def _priors(priors: Mapping[str, np.ndarray]) -> Iterator[Fault]:
    for name, matrix in priors.items():
        place = f"priors[{name!r}]"
        gap = max(float(np.abs(matrix[i] - matrix[:, i]).max()) for i in range(len(matrix)))  # no second matrix
        if gap > 1e-4:
            yield error("prior-asymmetric", place, f"differs from its transpose by {gap:.2g}", "Give (M + Mᵀ)/2.")
        if max(-matrix.min(), matrix.max()) > 1 + 1e-6:
            found = f"values from {matrix.min():.3g} to {matrix.max():.3g}"
            yield error("prior-range", place, found, "Correlations lie in [−1, 1]: undo Fisher's z with tanh.")


def _provenance(provenance: Any) -> Iterator[Fault]:
    try:
        if not isinstance(provenance, Mapping):
            raise TypeError(f"a {type(provenance).__name__}, not a dict")
        size = len(json.dumps(dict(provenance), allow_nan=False))
    except (TypeError, ValueError) as problem:
        yield error("provenance-json", "provenance", str(problem)[:80], "Use texts, numbers, lists and dicts only.")
        return
    if size > MAX_PROVENANCE:
        yield error("provenance-long", "provenance", f"{size:,} bytes", f"Use at most {MAX_PROVENANCE:,}.")


# --- warnings


def _likeness(tracts: TractArrays, labels: tuple[str, ...], hemisphere: tuple[str, ...]) -> Iterator[Fault]:
    """Directions: dMRI sees none, so an asymmetric matrix has a story that someone should know."""
    regions, side = len(labels), np.array(hemisphere)
    post, pre, weight, length = tracts
    if not len(weight):
        return
    into, out = (np.bincount(end, weight, minlength=regions) for end in (post, pre))
    for code, sums, word in (("input-none", into, "enters"), ("output-none", out, "leaves")):
        if (bad := sums == 0).any():
            yield warning(code, _at(bad, labels), f"no tract {word}", "Networks need one into every region.")
    if (own := post == pre).any():
        fix = "Ignored: the synapses inside a region come from its microcircuit. Better set the diagonal to zero."
        found = f"{np.count_nonzero(own):,} run from a region to itself (a diagonal that is not zero)"
        yield warning("tract-self", "tracts", found, fix)
    key, back = pre.astype(np.int64) * regions + post, post.astype(np.int64) * regions + pre
    order = np.argsort(back)
    place = np.empty_like(order)
    place[order] = np.searchsorted(key, back[order])  # in order: 20 times faster with millions of tracts
    place = np.minimum(place, len(key) - 1)
    paired = key[place] == back
    difference = np.abs(weight - np.where(paired, weight[place], 0.0)).sum() / weight.sum()
    if difference > 0.01:
        fix = "Fine if meant: the order is (post, pre), as in TVB. dMRI has no direction; else use (W + Wᵀ)/2."
        yield warning("asymmetric", "tracts.weight", f"{difference:.0%} of the weight has no equal way back", fix)
        if np.ptp(out) < 1e-3 * out.mean() and np.ptp(into) > 1e-2 * into.mean():
            fix = "Normalised per seed, as probtrackx does: are rows really the targets (post)? If not, transpose."
            yield warning("transposed", "tracts.weight", "the weight that leaves is the same for every region", fix)
    if paired.any() and np.abs(length - length[place])[paired].mean() > 0.01 * length.mean():
        fix = "A bundle has one length: use the mean of both."
        yield warning("length-asymmetric", "tracts.length", "there and back are not equally long", fix)
    crossing = (side[post] == "L") & (side[pre] == "R") | (side[post] == "R") & (side[pre] == "L")
    if {"L", "R"} <= set(hemisphere) and not crossing.any():
        fix = "Was only one hemisphere tracked at a time?"
        yield warning("hemispheres-apart", "tracts", "no tract joins left and right", fix)


def _geometry(tracts: TractArrays, centroid: np.ndarray) -> Iterator[Fault]:
    """Long tracts join distant regions: true in any order of regions, but only if it is the same order everywhere."""
    if len(centroid) < ENOUGH or len(tracts.length) < 50:
        return
    distance = np.linalg.norm(centroid[tracts.post] - centroid[tracts.pre], axis=1)
    short = np.mean(tracts.length < 0.5 * distance)
    if short > 0.3:  # 2 % in the default brain, at most 26 % in public ones: tracts run from border to border
        found = f"{short:.0%} are shorter than half the straight line between the centroids"
        yield warning("length-short", "tracts.length", found, "Are units, region order and centroids right?")
    if np.ptp(distance) and np.ptp(tracts.length):
        r = np.corrcoef(distance, tracts.length)[0, 1]
        if r < 0.25:  # 0.38 to 1.0 in public connectomes, 0.1 or less with rows in a wrong order
            fix = "Are the rows of the matrices in the order of labels and centroids?"
            yield warning("order", "tracts and centroid", f"length and distance correlate with r = {r:.2f}", fix)


def _plausible(labels: tuple[str, ...], hemisphere: tuple[str, ...], parts: Mapping[str, Any]) -> Iterator[Fault]:
    centroid, volume, density = parts["centroid"], parts["volume"], parts["density"]
    if len(np.unique(centroid, axis=0)) < len(centroid):
        yield warning("centroid-equal", "centroid", "two regions have the same", "Was one copied?")
    far = (np.array(hemisphere) == "B") & (np.abs(centroid[:, 0]) > 25)
    if far.any():
        yield warning("midline-far", f"centroid of {_at(far, labels)}", "bilateral, but far from x = 0", "L or R?")
    if not GREY_MATTER[0] <= volume.sum() <= GREY_MATTER[1]:
        fix = "A whole brain has 200 to 1,500. A part of one? Are these mm³, and grey matter only?"
        yield warning("volume-total", "volume", f"{volume.sum() / 1e3:.3g} ml of grey matter", fix)
    if not 0.2 <= np.median(density) <= 5:
        found = f"median {np.median(density):.3g}"
        yield warning("density-scale", "density", found, "Divide by the reference, so that this is 1 there.")
    for key in ("source", "terms"):
        if not parts["provenance"].get(key):
            yield warning("provenance-missing", "provenance", f"no {key}", "Say where the data are from.")


def _bold_likeness(labels: tuple[str, ...], bold: Mapping[str, BoldArrays], priors: Mapping) -> Iterator[Fault]:
    """Mirror regions fluctuate together: true in any data, but only if the columns are in the order of the labels."""
    number = {label: index for index, label in enumerate(labels)}
    twin = {i: number.get(label[:-1] + "R") for label, i in number.items() if label.endswith("L")}
    pairs = [(left, right) for left, right in twin.items() if right is not None]
    for name, recording in bold.items():
        place, scans = f"bold[{name!r}]", len(recording.data)
        if scans < 30:
            yield warning("bold-short", place, f"{scans} scans", "Too short to fit or to compare.")
            continue
        z = (recording.data - recording.data.mean(axis=0)) / recording.data.std(axis=0)
        if scans >= 100 and len(pairs) >= 20:
            left, right = np.array(pairs).T
            twins = np.median(np.mean(z[:, left] * z[:, right], axis=0))
            strangers = [np.mean(z[:, left] * z[:, np.roll(right, shift)], axis=0) for shift in range(1, 10)]
            others = np.median(strangers)
            if twins < others + 0.05:  # 0.27 apart in the default brain
                found = f"left and right twins correlate with {twins:.2f}, other pairs with {others:.2f}"
                yield warning("bold-order", place, found, "Are its columns in the order of the labels?")
        for prior, matrix in priors.items() if len(labels) <= 2_000 else ():
            upper = np.triu_indices(len(labels), 1)
            if len(upper[0]) > 2 and np.allclose((z.T @ z / scans)[upper], matrix[upper], atol=1e-3):
                fix = "A prior must not know what is to be predicted: make it from other people."
                yield warning("prior-leak", f"priors[{prior!r}]", f"is the correlation of {place} itself", fix)


ERRORS: tuple[tuple[Callable[..., Iterator[Fault]], str], ...] = (
    (_name, "name"),
    (_labels, "labels"),
    (_words, "labels hemisphere kind"),
    (_centroids, "labels hemisphere centroid"),
    (_sizes, "labels volume density"),
    (_network, "labels tracts"),
    (_units, "tracts centroid"),
    (_receptors, "labels receptors"),
    (_recordings, "labels bold"),
    (_priors, "priors"),
    (_provenance, "provenance"),
)
WARNINGS: tuple[tuple[Callable[..., Iterator[Fault]], str], ...] = (
    (_likeness, "tracts labels hemisphere"),
    (_geometry, "tracts centroid"),
    (_plausible, "labels hemisphere *"),
    (_bold_likeness, "labels bold priors"),
)


def _run(checks: Iterable[tuple[Callable[..., Iterator[Fault]], str]], parts: Mapping[str, Any]) -> list[Fault]:
    """All checks whose parts could be read."""
    found: list[Fault] = []
    for check, needs in checks:
        values = [parts if need == "*" else parts.get(need) for need in needs.split()]
        if all(value is not None for value in values) or check is _name:
            found += check(*values)
    return found


def _likely_unit(value: float, typical: float) -> str:
    """The unit in which this value would be the typical one, in words."""
    distance = {unit: abs(np.log(value * factor / typical)) for unit, factor in UNITS.items()} if value > 0 else {}
    unit = min(distance, key=lambda unit: distance[unit], default="")
    return f"most likely {unit}" if unit and distance[unit] < np.log(4) else "in no unit of length that is in use"


def _at(bad: np.ndarray, labels: tuple[str, ...]) -> str:
    return shown(labels[int(np.argmax(bad))]) + _more(bad)


def _more(bad: np.ndarray) -> str:
    return f" and {np.count_nonzero(bad) - 1:,} more" if np.count_nonzero(bad) > 1 else ""
