"""Spikes as SONATA: read back with libsonata, the reference reader, and equal to what was recorded."""

import h5py
import numpy as np
import pytest

from dtb.engine import sonata
from dtb.engine.recording import Recording
from dtb.engine.sonata import write_sonata
from tests.engine.test_recording import DT, activity_of, cut, network_of

WISH = {"spikes": ["r0", "r2.E"], "bin": DT}


@pytest.fixture
def recording(rng, tmp_path):
    network = network_of(3)
    recording = Recording(**WISH, sonata=True, store=tmp_path / "recording.zarr")
    recording.bind(network, DT, 0)
    for chunk in cut(activity_of(network, rng, 400), [0, 150, 151, 400]):
        recording.append(chunk)
    recording.close()
    return recording


def test_libsonata_reads_exactly_the_recorded_spikes(recording, tmp_path):
    libsonata = pytest.importorskip("libsonata")
    reader = libsonata.SpikeReader(str(tmp_path / "spikes.h5"))
    gids = {"r0.E": (0, 8), "r0.I": (8, 10), "r2.E": (20, 28)}
    assert sorted(reader.get_population_names()) == sorted(gids)
    for name, (first, end) in gids.items():
        population = reader[name]
        assert population.sorting == "by_time" and population.time_units == "ms"
        read = population.get_dict()
        mine = (recording.spike_gid >= first) & (recording.spike_gid < end)
        assert mine.sum() > 10
        np.testing.assert_array_equal(read["node_ids"], recording.spike_gid[mine] - np.uint64(first))
        np.testing.assert_array_equal(read["timestamps"], recording.spike_time[mine])
    some = reader["r0.E"].get(node_ids=[3], tstart=10.0, tstop=100.0)
    expected = recording.spike_time[(recording.spike_gid == 3)]
    assert [time for _, time in some] == [t for t in expected.tolist() if 10 <= t <= 100]


def test_the_layout_is_that_of_the_standard(recording, tmp_path):
    with h5py.File(tmp_path / "spikes.h5") as file:
        assert file.attrs["magic"] == 0x0A7A and file.attrs["version"].tolist() == [0, 1]
        group = file["spikes/r2.E"]
        assert group["timestamps"].dtype == np.float64 and group["node_ids"].dtype == np.uint64
        assert group["timestamps"].attrs["units"] == "ms" and group.attrs["first_gid"] == 20
        assert h5py.check_enum_dtype(group.attrs.get_id("sorting").dtype) == {"none": 0, "by_id": 1, "by_time": 2}
        assert group["timestamps"].fletcher32 and (np.diff(group["timestamps"]) >= 0).all()


def test_a_population_without_a_spike_is_there_and_empty(rng, tmp_path):
    libsonata = pytest.importorskip("libsonata")
    network = network_of(2)
    with Recording(spikes=["r1"], store=tmp_path / "r.zarr") as recording:
        recording.bind(network, DT, 0)
        recording.append(activity_of(network, rng, 10, p=0.0))
        write_sonata(recording, tmp_path / "s.h5")
    assert libsonata.SpikeReader(str(tmp_path / "s.h5"))["r1.I"].get() == []


def test_the_file_does_not_depend_on_how_much_is_held(recording, tmp_path, monkeypatch):
    """Batches of a few spikes, of a recording that was opened again, as after a run that was killed."""
    monkeypatch.setattr(sonata, "BATCH", 1)
    monkeypatch.setattr("dtb.engine.recording.BLOCK_ROWS", 17)
    write_sonata(Recording.open(tmp_path / "recording.zarr"), tmp_path / "again.h5")
    assert (tmp_path / "again.h5").read_bytes() == (tmp_path / "spikes.h5").read_bytes()


def test_a_failed_write_leaves_the_earlier_file(recording, tmp_path, monkeypatch):
    before = (tmp_path / "spikes.h5").read_bytes()
    monkeypatch.setattr(sonata, "_write", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_sonata(recording, tmp_path / "spikes.h5")
    assert (tmp_path / "spikes.h5").read_bytes() == before
    assert {f.name for f in tmp_path.iterdir()} == {"spikes.h5", "recording.zarr"}


def test_mistakes_are_refused_with_the_remedy(rng, tmp_path):
    with pytest.raises(ValueError, match="spikes is empty"):
        Recording(sonata=True)
    with pytest.raises(ValueError, match="beside the store"):
        Recording(spikes=["r0"], sonata=True).bind(network_of(1), DT)
    recording = Recording()
    recording.bind(network_of(1), DT)
    with pytest.raises(ValueError, match="no spikes were recorded"):
        write_sonata(recording, tmp_path / "s.h5")
