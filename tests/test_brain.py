"""Brain: valid when constructed, whole when loaded, and every fault found by its code."""

import copy
import pickle
import re
import stat
import subprocess
import sys

import h5py
import numpy as np
import pytest

from dtb import brain_file
from dtb.brain import Bold, Brain, Tracts, default_brain, faults, load_brain

R = 24  # regions of the toy brain: 12 on each side, left and right in turn


@pytest.fixture
def parts(rng) -> dict:
    """Keyword arguments of a toy brain that nothing is wrong with, and whose arrays may be spoilt."""
    half = rng.uniform([15, -80, -20], [55, 55, 60], (R // 2, 3))
    centroid = np.stack([half * [-1, 1, 1], half], axis=1).reshape(R, 3)
    distance = np.linalg.norm(centroid[:, None] - centroid[None], axis=2)
    weights = rng.uniform(1, 2, (R, R))
    weights = (weights + weights.T) * ~np.eye(R, dtype=bool)
    twins = np.repeat(rng.normal(size=(200, R // 2)), 2, axis=1)
    return {
        "name": "toy",
        "labels": [f"A{number}_{side}" for number in range(R // 2) for side in "LR"],
        "hemisphere": list("LR" * (R // 2)),
        "centroid": centroid,
        "kind": ["cortical"] * R,
        "volume": rng.uniform(20_000, 30_000, R),
        "weights": weights,
        "lengths": 1.4 * distance,
        "density": np.ones(R),
        "receptors": {"GABA_A": rng.uniform(1, 2, R)},
        "bold": {"rest": {"data": 1e4 + 100 * twins + rng.normal(0, 50, (200, R)), "tr_s": 2.0, "task": "rest"}},
        "priors": {"group_fc": np.eye(R)},
        "provenance": {"source": "made up", "terms": "none", "steps": ["drawn"]},
    }


def made(parts: dict) -> Brain:
    parts = dict(parts)
    if "weights" in parts:
        parts["tracts"] = Tracts.from_matrices(parts.pop("weights"), parts.pop("lengths"))
    parts["bold"] = {name: Bold(**values) for name, values in parts["bold"].items()}
    return Brain(**parts)


@pytest.fixture
def toy(parts) -> Brain:
    return made(parts)


# --- faults


def put(field, index, value):
    """Spoil one entry of a field."""

    def spoil(parts):
        parts[field][index] = value

    return spoil


def change(field, function):
    """Spoil a whole field."""

    def spoil(parts):
        parts[field] = function(parts[field])

    return spoil


def both_ways(field, i, j, value):
    def spoil(parts):
        parts[field][i, j] = parts[field][j, i] = value

    return spoil


def bold(field, function):
    def spoil(parts):
        parts["bold"]["rest"][field] = function(parts["bold"]["rest"][field])

    return spoil


def listed(**changes):
    """Tracts as arrays instead of matrices, with some of them replaced."""

    def spoil(parts):
        tracts = Tracts.from_matrices(parts.pop("weights"), parts.pop("lengths"))
        arrays = {name: np.array(getattr(tracts, name)) for name in ("post", "pre", "weight", "length")}
        parts["tracts"] = arrays | {name: function(arrays[name]) for name, function in changes.items()}

    return spoil


def spoilt(matrix, *entries):
    matrix = np.array(matrix, float)
    for i, j, value in entries:
        matrix[i, j] = value
    return matrix


def without_region(matrix):
    return spoilt(matrix, (0, slice(None), 0), (slice(None), 0, 0))


def only_within_hemispheres(weights):
    side = np.arange(R) % 2
    return weights * (side[:, None] == side)


def seeds_normalised(weights):
    weights = weights * np.linspace(0.2, 5, R)[:, None]
    return weights / weights.sum(axis=0)


def own_fc(parts):
    parts["priors"]["group_fc"] = np.corrcoef(parts["bold"]["rest"]["data"].T)


def isolate(parts):
    parts["weights"], parts["lengths"] = without_region(parts["weights"]), without_region(parts["lengths"])


def empty(parts):
    parts["weights"], parts["lengths"] = np.zeros((R, R)), np.zeros((R, R))


def reorder(parts):
    order = np.random.default_rng(2).permutation(R)
    parts["weights"], parts["lengths"] = parts["weights"][order][:, order], parts["lengths"][order][:, order]


def bilateral_at_the_side(parts):
    parts["labels"][0], parts["hemisphere"][0], parts["centroid"][0, 0] = "A0", "B", -40.0


def missing(field):
    return lambda parts: parts.pop(field)


ERRORS = {
    "name: empty": ("name", change("name", lambda _: "")),
    "name: markup": ("name", change("name", lambda _: "<img onerror=alert(1)>")),
    "no labels": ("regions", lambda parts: parts.update(labels=[])),
    "labels not given": ("labels-missing", missing("labels")),
    "volume not given": ("volume-missing", missing("volume")),
    "tracts not given": ("tracts-missing", lambda parts: (parts.pop("weights"), parts.pop("lengths"))),
    "label twice": ("label-duplicate", put("labels", 2, "A0_L")),
    "label empty": ("label-empty", put("labels", 0, "")),
    "label blank": ("label-empty", put("labels", 0, "  ")),
    "label too long": ("label-long", put("labels", 0, "A" * 81)),
    "label with markup": ("label-hostile", put("labels", 0, "<script>_L")),
    "label as path": ("label-hostile", put("labels", 0, "../../etc_L")),
    "label with a control character": ("label-hostile", put("labels", 0, "A\x1b[31m_L")),
    "label with a line break at its end": ("label-hostile", put("labels", 0, "A0_L\n")),
    "label that turns the writing direction": ("label-hostile", put("labels", 0, "A\u202e0_L")),
    "label that is a number": ("labels-not-text", put("labels", 0, 7)),
    "label against hemisphere": ("label-side", put("hemisphere", 0, "R")),
    "hemisphere unknown": ("hemisphere-unknown", put("hemisphere", 0, "left")),
    "hemispheres too few": ("hemisphere-size", change("hemisphere", lambda sides: sides[:-1])),
    "kind unknown": ("kind-unknown", put("kind", 0, "cortex")),
    "kinds too many": ("kind-size", change("kind", lambda kinds: [*kinds, "cortical"])),
    "centroid NaN": ("centroid-not-finite", put("centroid", (0, 0), np.nan)),
    "centroid in 2-D": ("centroid-size", change("centroid", lambda centroid: centroid[:, :2])),
    "centroids in metres": ("centroid-unit", change("centroid", lambda centroid: centroid / 1e3)),
    "centroids in cm": ("centroid-unit", change("centroid", lambda centroid: centroid / 10)),
    "centroids in µm": ("centroid-unit", change("centroid", lambda centroid: centroid * 1e3)),
    "centroids all zero": ("centroid-unit", change("centroid", np.zeros_like)),
    "centroids in another world": ("centroid-outside", change("centroid", lambda centroid: centroid + 400)),
    "left is right": ("hemispheres-swapped", change("centroid", lambda centroid: centroid * [-1, 1, 1])),
    "one centroid on the other side": ("hemisphere-side", put("centroid", (0, 0), 40.0)),
    "centroids as words": ("centroid-not-numbers", change("centroid", lambda centroid: centroid.astype(str))),
    "volume zero": ("volume-not-positive", put("volume", 0, 0.0)),
    "volume negative": ("volume-not-positive", put("volume", 0, -5.0)),
    "volume infinite": ("volume-not-finite", put("volume", 0, np.inf)),
    "volumes too few": ("volume-size", change("volume", lambda volume: volume[1:])),
    "volumes in m³": ("volume-unit", change("volume", lambda volume: volume * 1e-9)),
    "volumes in µm³": ("volume-unit", change("volume", lambda volume: volume * 1e9)),
    "density zero": ("density-not-positive", put("density", 0, 0.0)),
    "density NaN": ("density-not-finite", put("density", 0, np.nan)),
    "densities too many": ("density-size", change("density", lambda _: np.ones(R + 1))),
    "receptor negative": ("receptor-negative", lambda parts: put("GABA_A", 0, -1.0)(parts["receptors"])),
    "receptor NaN": ("receptor-not-finite", lambda parts: put("GABA_A", 0, np.nan)(parts["receptors"])),
    "receptor of another atlas": ("receptor-size", change("receptors", lambda _: {"D1": np.ones(R - 2)})),
    "receptor with a path for a name": ("receptor-name", change("receptors", lambda _: {"../D1": np.ones(R)})),
    "weight NaN": ("weight-not-finite", both_ways("weights", 0, 1, np.nan)),
    "weight NaN in a list": ("weight-not-finite", listed(weight=lambda weight: weight * np.nan)),
    "weight negative": ("weight-negative", both_ways("weights", 0, 1, -1.0)),
    "weight zero in a list": ("weight-zero", listed(weight=lambda weight: weight * (np.arange(len(weight)) > 3))),
    "weights of another atlas": ("weight-size", change("weights", lambda weights: weights[:-1, :-1])),
    "weights not square": ("weight-size", change("weights", lambda weights: weights[:-1])),
    "no length for a weight": ("length-zero", both_ways("lengths", 0, 1, 0.0)),
    "length negative": ("length-negative", both_ways("lengths", 0, 1, -80.0)),
    "length infinite": ("length-not-finite", both_ways("lengths", 0, 1, np.inf)),
    "lengths not given": ("length-not-numbers", missing("lengths")),
    "lengths in metres": ("length-unit", change("lengths", lambda lengths: lengths / 1e3)),
    "lengths in cm": ("length-unit", change("lengths", lambda lengths: lengths / 10)),
    "lengths in µm": ("length-unit", change("lengths", lambda lengths: lengths * 1e3)),
    "no tracts": ("tracts-none", empty),
    "region without tracts": ("isolated", isolate),
    "tract twice": ("tract-duplicate", listed(post=lambda post: np.r_[post[:1], post[:1], post[2:]])),
    "tract to a region that is not there": ("tract-outside", listed(post=lambda post: post + R)),
    "tract to a negative region": ("tract-index", listed(post=lambda post: post - 1)),
    "lists of different lengths": ("tract-size", listed(length=lambda length: length[1:])),
    "half a region": ("tract-post-not-numbers", listed(post=lambda post: post + 0.5)),
    "BOLD (region, time)": ("bold-transposed", bold("data", np.transpose)),
    "BOLD of another atlas": ("bold-size", bold("data", lambda data: data[:, 1:])),
    "BOLD of one region": ("bold-size", bold("data", lambda data: data[:, 0])),
    "BOLD NaN": ("bold-not-finite", bold("data", lambda data: spoilt(data, (3, 3, np.nan)))),
    "BOLD constant": ("bold-constant", bold("data", lambda data: spoilt(data, (slice(None), 3, 1.0)))),
    "BOLD of one scan": ("bold-scans", bold("data", lambda data: data[:1])),
    "TR in ms": ("bold-tr", bold("tr_s", lambda tr_s: tr_s * 1e3)),
    "TR zero": ("bold-tr", bold("tr_s", lambda _: 0.0)),
    "TR NaN": ("bold-tr", bold("tr_s", lambda _: np.nan)),
    "TR not known": ("bold-tr", bold("tr_s", lambda _: None)),
    "task as path": ("bold-task", bold("task", lambda _: "../rest")),
    "recording with a path for a name": ("bold-name", change("bold", lambda bold: {"a/b": bold["rest"]})),
    "prior asymmetric": ("prior-asymmetric", change("priors", lambda _: {"fc": np.triu(np.ones((R, R)))})),
    "prior in Fisher's z": ("prior-range", change("priors", lambda _: {"fc": np.full((R, R), 1.7)})),
    "prior NaN": ("prior-not-finite", change("priors", lambda _: {"fc": np.full((R, R), np.nan)})),
    "prior of another atlas": ("prior-size", change("priors", lambda _: {"fc": np.eye(R + 1)})),
    "provenance not for JSON": ("provenance-json", change("provenance", lambda _: {"source": {1, 2}})),
    "provenance a text": ("provenance-json", change("provenance", lambda _: "from a friend")),
    "provenance a log": ("provenance-long", change("provenance", lambda _: {"steps": ["x" * 2_000_000]})),
}

WARNINGS = {
    "weights asymmetric": ("asymmetric", change("weights", lambda weights: np.tril(weights) * 1.2 + np.triu(weights))),
    "weights per seed": ("transposed", change("weights", seeds_normalised)),
    "diagonal": ("tract-self", change("weights", lambda weights: weights + np.eye(R))),
    "length for no weight": ("length-without-weight", both_ways("weights", 0, 1, 0.0)),
    "no tract enters": ("input-none", change("weights", lambda weights: spoilt(weights, (0, slice(None), 0)))),
    "no tract leaves": ("output-none", change("weights", lambda weights: spoilt(weights, (slice(None), 0, 0)))),
    "lengths asymmetric": ("length-asymmetric", change("lengths", lambda lengths: lengths + 0.3 * np.triu(lengths))),
    "lengths too short": ("length-short", change("lengths", lambda lengths: lengths * 0.3)),
    "rows in another order": ("order", reorder),
    "no commissure": ("hemispheres-apart", change("weights", only_within_hemispheres)),
    "centroid copied": ("centroid-equal", lambda parts: put("centroid", 2, parts["centroid"][0])(parts)),
    "bilateral at the side": ("midline-far", bilateral_at_the_side),
    "volumes in ml": ("volume-total", change("volume", lambda volume: volume / 1e3)),
    "density absolute": ("density-scale", change("density", lambda density: density * 320)),
    "no terms": ("provenance-missing", change("provenance", lambda _: {"source": "a friend"})),
    "BOLD short": ("bold-short", bold("data", lambda data: data[:20])),
    "prior from the same recording": ("prior-leak", own_fc),
}


def test_nothing_is_wrong_with_the_toy_brain(parts):
    assert faults(parts) == []


@pytest.mark.parametrize("seed", ERRORS)
def test_a_seeded_error_is_found_with_its_code(parts, seed):
    code, spoil = ERRORS[seed]
    spoil(parts)
    found = faults(parts)
    assert code in [fault.code for fault in found if fault.severity == "error"]
    assert all(fault.place and fault.found and fault.fix and fault.fix[-1] in ".?" for fault in found)


@pytest.mark.parametrize("seed", WARNINGS)
def test_a_seeded_warning_is_found_with_its_code_and_does_not_raise(parts, seed):
    code, spoil = WARNINGS[seed]
    spoil(parts)
    found = faults(parts)
    assert code in [fault.code for fault in found] and {fault.severity for fault in found} == {"warning"}
    made(parts)


@pytest.mark.parametrize("seed", ERRORS)
def test_no_brain_can_be_made_with_an_error(parts, seed):
    ERRORS[seed][1](parts)
    with pytest.raises((ValueError, KeyError, TypeError)):
        made(parts)


def test_one_error_lists_every_fault_with_its_place_and_fix(parts):
    parts["volume"][3], parts["density"][5], parts["kind"][0] = -1, 0, "cortex"
    with pytest.raises(ValueError, match="has 3 faults") as raised:
        made(parts)
    for text in ("volume of 'A1_R'", "density of 'A2_R'", "kind of 'A0_L'", "Known: cortical"):
        assert text in str(raised.value)


def test_the_likely_unit_is_named(parts):
    parts["lengths"] /= 1e3
    assert "most likely m" in next(fault.found for fault in faults(parts) if fault.code == "length-unit")


def test_a_hostile_label_is_escaped_in_the_message(parts):
    parts["labels"][0] = "\x1b[2J" + "x" * 500
    text = "\n".join(map(str, faults(parts)))
    assert "\x1b" not in text and max(map(len, text.splitlines())) < 300


def test_nothing_is_wrong_with_the_default_brain():
    assert faults(default_brain()) == []


def test_columns_of_bold_in_another_order_are_noticed():
    brain = default_brain()
    shuffled = np.random.default_rng(3).permutation(brain.n_regions)
    parts = {entry: getattr(brain, entry) for entry in brain.__dataclass_fields__}
    parts["bold"] = {"rest": Bold(brain.bold["rest"].data[:, shuffled], 0.72)}
    assert [fault.code for fault in faults(parts)] == ["bold-order"]


# --- the objects


def test_tracts_of_matrices_give_the_matrices_back(rng):
    weights = rng.uniform(size=(5, 5)) * (rng.uniform(size=(5, 5)) < 0.5) * ~np.eye(5, dtype=bool)
    lengths = np.where(weights, 80.0, 0.0)
    tracts = Tracts.from_matrices(weights, lengths)
    assert np.array_equal(tracts.weights(5), weights) and np.array_equal(tracts.lengths(5), lengths)


def test_rows_are_post_and_columns_are_pre():
    tracts = Tracts.from_matrices([[0, 0], [3, 0]], [[0, 0], [80, 0]])
    assert (tracts.pre[0], tracts.post[0]) == (0, 1)


def test_tracts_are_sorted_by_pre_then_post():
    tracts = Tracts(post=[1, 2, 0], pre=[2, 0, 1], weight=[3, 1, 2], length=[30, 10, 20])
    assert tracts.pre.tolist() == [0, 1, 2] and tracts.post.tolist() == [2, 0, 1]
    assert tracts.weight.tolist() == [1, 2, 3] and tracts.length.tolist() == [10, 20, 30]


def test_arrays_cannot_be_written(toy):
    for array in (toy.volume, toy.centroid, toy.tracts.weight, toy.bold["rest"].data, toy.priors["group_fc"]):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    with pytest.raises(TypeError):
        toy.receptors["D1"] = toy.volume


def test_a_brain_does_not_change_with_the_arrays_it_was_made_of(parts):
    brain = made(parts)
    before = brain.digest()
    parts["volume"][:], parts["centroid"][:] = 7, 7
    parts["provenance"]["steps"].append("later")
    assert brain.digest() == before


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda brain: pickle.loads(pickle.dumps(brain))])
def test_a_copy_is_equal_and_cannot_be_written_either(toy, duplicate):
    twin = duplicate(toy)
    assert twin.digest() == toy.digest() and not twin.tracts.weight.flags.writeable


def test_a_brain_of_one_region_needs_no_tracts(tmp_path):
    none = Tracts([], [], [], [])
    brain = Brain("one", ("V1_L",), ("L",), [[-10, -80, 5]], ("cortical",), [5e3], none, [1.0])
    brain.save(tmp_path / "one.h5")
    assert load_brain(tmp_path / "one.h5").digest() == brain.digest()


def test_a_voxel_brain_is_made_saved_and_loaded_without_a_dense_matrix(tmp_path):
    """22,703 voxels and 4.5 million tracts: one dense matrix would be 4.1 GB."""
    code = f"""
import numpy as np, resource
from dtb.brain import Brain, Tracts, load_brain
n, rng = 22_703, np.random.default_rng(1)
key = np.unique(rng.integers(0, n * n, 4_500_000))
pre, post = key // n, key % n
keep = pre != post
x = rng.uniform([-60, -90, -40], [60, 60, 70], (n, 3))
side = np.where(x[:, 0] < 0, "L", "R")
tracts = Tracts(post[keep], pre[keep], rng.integers(1, 2_576, keep.sum()), np.full(keep.sum(), 80.0))
labels = tuple(f"voxel {{i}}" for i in range(n))
brain = Brain("voxels", labels, tuple(side), x, ("cortical",) * n, np.full(n, 20.0), tracts, np.ones(n))
brain.save({str(tmp_path / "voxels.h5")!r})
assert load_brain({str(tmp_path / "voxels.h5")!r}).digest() == brain.digest()
assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 1.5e6  # kB
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_importing_brain_loads_neither_hdf5_nor_scipy():
    code = "import dtb.brain, sys; assert not {'h5py', 'scipy', 'numba', 'nibabel'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_summary_is_one_screen_and_names_terms_and_use():
    text = str(default_brain())
    assert len(text.splitlines()) <= 40 and max(map(len, text.splitlines())) <= 120
    words = ["research use only", "94: 80 cortical, 14 subcortical", "47 L, 47 R", "1,200 scans, TR 0.72 s"]
    words += ["group_fc", "Open Access Data Use Terms", "1U54MH091657", "Van Essen", "uniform by explicit statement"]
    assert not [word for word in words if word not in " ".join(text.split())]


# --- the file


@pytest.fixture
def saved(toy, tmp_path):
    toy.save(tmp_path / "toy.h5")
    return tmp_path / "toy.h5"


def test_a_brain_is_the_same_after_saving_and_loading(toy, saved):
    loaded = Brain.load(saved)
    assert loaded.digest() == toy.digest() and str(loaded) == str(toy)
    assert loaded.provenance == toy.provenance and loaded.labels == toy.labels


def test_equal_brains_make_equal_bytes(toy, saved, tmp_path):
    toy.save(tmp_path / "again.h5")
    assert (tmp_path / "again.h5").read_bytes() == saved.read_bytes()


def test_a_saved_brain_is_for_its_owner_only(saved):
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600


def test_a_failed_save_leaves_the_old_file_and_nothing_else(toy, saved, monkeypatch):
    before = saved.read_bytes()
    monkeypatch.setattr(brain_file.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        toy.save(saved)
    assert saved.read_bytes() == before and [path.name for path in saved.parent.iterdir()] == ["toy.h5"]


def test_every_dataset_has_checksums(saved):
    with h5py.File(saved) as file:
        names: list = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        assert len(names) >= 15 and all(file[name].fletcher32 for name in names)


def damaged_loads_are_refused_or_equal(path, whole: bytes, variants, digest: str) -> int:
    """Load every variant; the number refused. Anything but the same content or one ValueError fails the test."""
    refused = 0
    for variant in variants:
        path.write_bytes(variant)
        said = ""
        try:
            loaded = Brain.load(path).digest()
        except ValueError as problem:
            said, refused = str(problem), refused + 1
        assert (said.startswith(repr(str(path))) and len(said) < 600) if said else loaded == digest
    return refused


def test_none_of_300_bit_flips_changes_a_brain_silently(toy, saved):
    whole, rng = saved.read_bytes(), np.random.default_rng(4)

    def flipped():
        for place, bit in zip(rng.integers(0, len(whole), 300), rng.integers(0, 8, 300), strict=True):
            yield whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :]

    assert damaged_loads_are_refused_or_equal(saved, whole, flipped(), toy.digest()) > 150


def test_100_truncations_are_refused(toy, saved):
    whole = saved.read_bytes()
    cuts = np.random.default_rng(5).integers(0, len(whole) - 1, 100)
    assert damaged_loads_are_refused_or_equal(saved, whole, (whole[:cut] for cut in cuts), toy.digest()) == 100


def tampered(function):
    """A change of the open file, as somebody with h5py could make it."""

    def apply(path):
        with h5py.File(path, "r+") as file:
            function(file)

    return apply


def replace_dataset(name, **arguments):
    def function(file):
        del file[name]
        file.create_dataset(name, **arguments)

    return function


def link_elsewhere(file):
    del file["density"]
    file["density"] = h5py.ExternalLink("/etc/passwd", "/")


TAMPERED = {
    "format is 'other'": ("attribute format", lambda file: file.attrs.modify("format", np.bytes_("other"))),
    "no format": ("attribute format", lambda file: file.attrs.__delitem__("format")),
    "schema of the future": ("schema_version is", lambda file: file.attrs.modify("schema_version", 2)),
    "no checksum": ("SHA-256", lambda file: file.attrs.__delitem__("sha256")),
    "no volume": ("'volume' is missing", lambda file: file.__delitem__("volume")),
    "no lengths": ("'tracts/length' is missing", lambda file: file.__delitem__("tracts/length")),
    "one value changed": ("SHA-256", lambda file: file["volume"].__setitem__(0, 1.0)),
    "a guest": ("not a part", lambda file: file.create_dataset("guest", data=[1])),
    "a group for a dataset": ("not a part", lambda file: (file.__delitem__("volume"), file.create_group("volume"))),
    "a link to another file": ("is a link", link_elsewhere),
    "volume too short": ("'volume' has shape", replace_dataset("volume", data=np.ones(R - 1))),
    "volume as text": ("'volume' has type", replace_dataset("volume", data=np.array([b"1"] * R))),
    "labels of a trillion": ("labels has", replace_dataset("labels", shape=(10**12,), dtype="S8", chunks=(1024,))),
    "tracts of a trillion": ("tracts", replace_dataset("tracts/post", shape=(10**12,), dtype="<i4", chunks=(1024,))),
    "scans of a trillion": (
        "claims",
        replace_dataset("bold/rest/data", shape=(10**12, R), dtype="<f4", chunks=(1024, R)),
    ),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_a_file_that_is_no_sound_brain_is_refused_in_one_sentence(saved, case):
    message, function = TAMPERED[case]
    tampered(function)(saved)
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        load_brain(saved)
    assert raised.value.__cause__ is None and "\n" not in str(raised.value)


@pytest.mark.parametrize("text", [b"", b"not HDF5 at all", b"\x89HDF\r\n\x1a\n"])
def test_a_file_that_is_not_hdf5_is_refused(tmp_path, text):
    (tmp_path / "x.h5").write_bytes(text)
    with pytest.raises(ValueError, match="no Brain file"):
        load_brain(tmp_path / "x.h5")


def test_a_path_without_a_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nobody\.h5"):
        load_brain(tmp_path / "nobody.h5")


def test_a_valid_checksum_does_not_excuse_a_fault(toy, saved):
    arrays = brain_file.content(toy) | {"volume": -np.array(toy.volume)}
    brain_file._write(arrays, saved)
    with pytest.raises(ValueError, match="volume-not-positive"):
        load_brain(saved)
