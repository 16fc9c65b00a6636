"""Simulated BOLD as a BIDS derivative: read as users of pandas, nilearn and BIDS libraries read it."""

import json
import shutil
import subprocess

import numpy as np
import pytest

import dtb
from dtb.observe.bids import write_bold

LABELS = ("Precentral_L", "Precentral_R", "Thal. (VPL), left")


@pytest.fixture
def balloon():
    return dtb.Balloon(tr_s=0.5)


@pytest.fixture
def bold(balloon, rng):
    return balloon.observe(rng.uniform(0, 20, (10_000, 3)), dt=1.0)


@pytest.fixture
def dataset(tmp_path, balloon, bold):
    write_bold(tmp_path / "bold", bold, LABELS, balloon, "3fa2b1c9")
    return tmp_path / "bold"


def test_pandas_reads_the_scans_and_the_names_of_the_regions(dataset, bold):
    pandas = pytest.importorskip("pandas")
    table = pandas.read_csv(next(dataset.rglob("*.tsv")), sep="\t")
    assert tuple(table.columns) == LABELS and len(table) == 20
    np.testing.assert_allclose(table.to_numpy(), bold, rtol=1e-6)  # seven digits are written


def test_a_bids_library_finds_the_series_by_its_entities(dataset):
    ancpbids = pytest.importorskip("ancpbids")
    layout = ancpbids.BIDSLayout(str(dataset))
    assert layout.get_subjects() == ["3fa2b1c9"] and layout.get_tasks() == ["rest"]
    found = layout.get(suffix="timeseries", desc="sim", extension=".tsv", return_type="filename")
    assert [str(f) for f in found] == [str(next(dataset.rglob("*.tsv")))]
    metadata = layout.get(suffix="timeseries", desc="sim", extension=".tsv")[0].get_metadata()
    assert metadata["RepetitionTime"] == 0.5


def test_the_sidecar_says_how_and_how_often(dataset, balloon):
    about = json.loads(next(dataset.rglob("*_timeseries.json")).read_text())
    assert about["RepetitionTime"] == about["StartTime"] == 0.5 and about["SamplingFrequency"] == 2.0
    assert about["TaskName"] == "rest" and about["Units"] == "1" and about["Model"]["kappa"] == balloon.kappa
    assert "not a medical device" in about["Use"]


def test_the_data_set_describes_itself_as_a_derivative(dataset):
    about = json.loads((dataset / "dataset_description.json").read_text())
    assert about["DatasetType"] == "derivative" and about["BIDSVersion"]
    assert about["GeneratedBy"][0]["Name"] == "Digital Twin Brain"
    assert about["GeneratedBy"][0]["Version"] == dtb.__version__


def test_the_validator_of_bids_finds_no_error(dataset):
    validator = shutil.which("bids-validator-deno")
    if validator is None:
        pytest.skip("bids-validator-deno is not installed")
    done = subprocess.run([validator, "--json", str(dataset)], capture_output=True, text=True, check=False)
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []


def test_a_missing_number_is_not_made_up(tmp_path, balloon):
    table = write_bold(tmp_path, np.array([[0.01, np.nan]]), ("a", "b"), balloon, "01")
    assert table.read_text() == "a\tb\n0.01\tn/a\n"


def test_mistakes_are_refused_with_the_remedy(tmp_path, balloon, bold):
    with pytest.raises(ValueError, match=r"subject is 'Jane_Doe'\. A BIDS label has letters and digits only"):
        write_bold(tmp_path / "b", bold, LABELS, balloon, "Jane_Doe")
    with pytest.raises(ValueError, match="a column for each of 2 labels"):
        write_bold(tmp_path / "b", bold, LABELS[:2], balloon, "01")
    assert not (tmp_path / "b").exists()
