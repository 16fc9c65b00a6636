"""Recording and Statistics on hand-made activity: what is written, what xarray sees, what damage does."""

import json
import signal
import subprocess
import sys
import time
import tracemalloc
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import zarr

from dtb.engine.recording import Recording
from dtb.engine.statistics import Statistics, sample_stride
from dtb.engine.streams import Activity
from dtb.network.network import CellClass, Network
from dtb.network.neuron import LIF
from dtb.observe import measures

DT = 0.5  # ms, so that a step is not a millisecond


def network_of(n_regions, n_e=8, n_i=2):
    names = tuple(f"r{i}" for i in range(n_regions))
    classes = (CellClass("E", LIF()), CellClass("I", LIF(g=(2.0, 1.0, 10.0, 1.0))))
    return Network(names, classes, np.tile([[n_e, n_i]], (n_regions, 1)), ())


@pytest.fixture
def network():
    return network_of(3)


def activity_of(network, rng, steps, n_sampled=0, p=0.02):
    """Every neuron fires in each step with probability p; the activity of one chunk of `steps`."""
    step, gid = np.nonzero(rng.random((steps, network.n_neurons)) < p)
    population = np.searchsorted(network.first_gid, gid, side="right") - 1
    counts = np.zeros((steps, network.n_populations), np.int32)
    np.add.at(counts, (step, population), 1)
    fields = rng.random((steps, n_sampled, 6), np.float32)
    return Activity(0, counts, step.astype(np.int64), gid.astype(np.int64), fields)


def cut(activity, edges):
    """The same activity as chunks between the given steps."""
    for start, stop in pairwise(edges):
        keep = (activity.spike_step >= start) & (activity.spike_step < stop)
        yield Activity(
            start,
            activity.counts[start:stop],
            activity.spike_step[keep],
            activity.spike_gid[keep],
            activity.fields[start:stop],
        )


def recorded(network, activity, edges=None, **keywords):
    recording = Recording(**keywords)
    recording.bind(network, DT, 0)
    for chunk in cut(activity, edges or [0, len(activity.counts)]):
        recording.append(chunk)
    return recording


def test_rates_are_spikes_per_neuron_and_second(network, rng):
    activity = activity_of(network, rng, 40)
    recording = recorded(network, activity, bin=1.0)
    regions = activity.counts.reshape(20, 2, 3, 2).sum(axis=(1, 3)) / 10 * 1000  # 10 neurons, 1 ms
    populations = activity.counts.reshape(20, 2, 6).sum(axis=1) / [8, 2, 8, 2, 8, 2] * 1000
    np.testing.assert_allclose(recording.region_rate, regions, rtol=1e-6)  # float32
    np.testing.assert_allclose(recording.population_rate, populations, rtol=1e-6)
    np.testing.assert_array_equal(recording.time, np.arange(20.0))


def test_a_recording_does_not_depend_on_how_the_run_was_cut(network, rng, tmp_path):
    activity = activity_of(network, rng, 100, n_sampled=6)
    wish = {"spikes": ["*.E"], "membrane": ["*.I"], "samples": 2, "bin": 1.5}
    whole = recorded(network, activity, **wish)
    parts = recorded(network, activity, [0, 1, 2, 50, 53, 100], store=tmp_path / "r.zarr", **wish)
    parts.close()
    read = Recording.open(tmp_path / "r.zarr")
    for name in ("time", "region_rate", "population_rate", "spike_time", "spike_gid", "V", "I_GABA_A"):
        np.testing.assert_array_equal(read[name], whole[name])
    assert len(read.time) == 33  # 50 ms hold 33 whole bins of 1.5 ms


def test_a_flush_in_the_middle_changes_nothing(network, rng, tmp_path):
    activity = activity_of(network, rng, 60)
    recording = Recording(store=tmp_path / "r.zarr", bin=DT)
    recording.bind(network, DT, 0)
    for chunk in cut(activity, [0, 10, 30, 60]):
        recording.append(chunk)
        recording.flush()
        recording.bind(network, DT, chunk.start + len(chunk.counts))  # as a second run of the simulation does
    assert len(Recording.open(tmp_path / "r.zarr").region_rate) == 60
    np.testing.assert_array_equal(Recording.open(tmp_path / "r.zarr").region_rate, recording.region_rate)


def test_spikes_are_those_of_the_chosen_populations_only(network, rng):
    activity = activity_of(network, rng, 200)
    recording = recorded(network, activity, spikes=["r1", "r2.I"])
    wanted = ((activity.spike_gid >= 10) & (activity.spike_gid < 20)) | (activity.spike_gid >= 28)
    np.testing.assert_array_equal(recording.populations, [2, 3, 5])
    np.testing.assert_array_equal(recording.spike_gid, activity.spike_gid[wanted])
    np.testing.assert_array_equal(recording.spike_time, activity.spike_step[wanted] * DT)
    assert recording.spike_gid.dtype == np.uint64


def test_currents_are_conductance_times_activation_times_driving_force(network, rng):
    recording = recorded(network, activity := activity_of(network, rng, 5, n_sampled=4), membrane=["r0"], samples=2)
    np.testing.assert_array_equal(recording.sampled, [2, 6, 8, 9])  # evenly spaced among 8, and both of 2
    v, nmda = activity.fields[:, :, 0], activity.fields[:, :, 2]
    expected = np.array([0, 0, 1, 1], np.float32) * nmda * (0 - v)  # g of class I is 1 nS, E is 0 mV
    np.testing.assert_allclose(recording["I_NMDA"], expected, rtol=1e-6)
    np.testing.assert_array_equal(recording["V"], v)
    np.testing.assert_array_equal(recording["I_background"], activity.fields[:, :, 5])


def test_xarray_reads_a_recording_without_a_warning(network, rng, tmp_path):
    xarray = pytest.importorskip("xarray")
    wish = {"spikes": ["r0.E"], "membrane": ["r2.I"], "samples": 2}
    recorded(network, activity_of(network, rng, 50, n_sampled=2), store=tmp_path / "r.zarr", **wish).close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = xarray.open_zarr(tmp_path / "r.zarr", consolidated=False)
    assert data.region_rate.dims == ("time", "region")
    assert data.population_rate.dims == ("time", "population")
    assert data.V.dims == ("membrane_time", "neuron")
    assert data.region_rate.units == "spikes/s" and data.time.units == "ms" and data.I_AMPA.units == "pA"
    assert list(data.population.values[:2]) == ["r0.E", "r0.I"]
    assert data.V.gid.values.tolist() == [28, 29] and data.V.neuron_population.values[0] == "r2.I"
    assert data.region_rate.sel(region="r1").shape == (25,)


def test_every_array_carries_a_checksum(network, rng, tmp_path):
    recorded(
        network,
        activity_of(network, rng, 10, 6),
        store=tmp_path / "r.zarr",
        spikes=["*.E"],
        membrane=["*.I"],
        samples=2,
    )
    arrays = dict(zarr.open_group(tmp_path / "r.zarr", mode="r").arrays())
    assert len(arrays) == 24
    for array in arrays.values():
        assert [codec.to_dict()["name"] for codec in array.metadata.codecs][-1] == "crc32c"


def test_a_missing_chunk_is_named(network, rng, tmp_path):
    recorded(network, activity_of(network, rng, 10), store=tmp_path / "r.zarr").close()
    (tmp_path / "r.zarr" / "region_rate" / "c.0.0").unlink()
    with pytest.raises(ValueError, match=r"chunk c\.0\.0 of 'region_rate' is missing"):
        Recording.open(tmp_path / "r.zarr")


def test_one_flipped_bit_anywhere_is_found(network, rng, tmp_path):
    activity = activity_of(network, rng, 20, n_sampled=3)
    recorded(network, activity, store=tmp_path / "r.zarr", spikes=["*.E"], membrane=["*.I"], samples=1).close()
    files = sorted(file for file in (tmp_path / "r.zarr").rglob("*") if file.is_file())
    for _ in range(300):
        file = files[rng.integers(len(files))]
        good = file.read_bytes()
        flipped = bytearray(good)
        flipped[rng.integers(len(good))] ^= 1 << rng.integers(8)
        file.write_bytes(flipped)
        if file.name != "zarr.json" or not same_json(good, flipped):  # white space changes nothing
            with pytest.raises(ValueError, match=r"damaged|no manifest|has format"):
                Recording.open(tmp_path / "r.zarr")
        file.write_bytes(good)
    Recording.open(tmp_path / "r.zarr")


def same_json(a, b):
    try:
        return json.loads(a) == json.loads(bytes(b))
    except ValueError:
        return False


def test_what_is_no_recording_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not a recording"):
        Recording.open(tmp_path)
    zarr.create_group(tmp_path / "g.zarr")
    with pytest.raises(ValueError, match="no manifest"):
        Recording.open(tmp_path / "g.zarr")


KILLED = """
import sys, numpy as np
sys.path.insert(0, {root!r})
from dtb.engine import recording
from tests.engine.test_recording import DT, network_of
from dtb.engine.recording import Recording
from dtb.engine.streams import Activity
import dtb.engine.store as store
store.CHUNK_BYTES = 4 * 6 * 64                                        # 64 rows a chunk, so that many are written
recording.HELD_BYTES = 1                                              # none of them waits to be written with others
recording.COMMIT_EVERY = 0                                            # or to be committed with them
net = network_of(3)
r = Recording(store={path!r}, bin=DT)
r.bind(net, DT, 0)
print("begun", flush=True)
none = np.zeros(0, np.int64)
for k in range(10**6):
    step = np.arange(20 * k, 20 * k + 20)
    counts = np.repeat(step[:, None] + 1, 6, axis=1).astype(np.int32)
    r.append(Activity(20 * k, counts, none, none, np.zeros((20, 0, 6), "f4")))
"""


@pytest.mark.parametrize("delay_s", [0.1, 0.23, 0.41])
def test_a_killed_run_leaves_a_true_recording(tmp_path, delay_s):
    path, root = tmp_path / "r.zarr", str(Path(__file__).parents[2])
    process = subprocess.Popen([sys.executable, "-c", KILLED.format(root=root, path=str(path))], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"begun\n"
    time.sleep(delay_s)
    process.send_signal(signal.SIGKILL)
    process.wait()
    recording = Recording.open(path)
    step = np.arange(1, len(recording.time) + 1)
    expected = (np.outer(step, np.ones(3)) * 2 / 10 / (DT / 1000)).astype(np.float32)
    assert len(recording.time) >= 64 and len(recording.time) % 64 == 0
    np.testing.assert_array_equal(recording.region_rate, expected)
    on_disk = zarr.open_array(path / "region_rate", mode="r")[:]  # as xarray sees it: no tail of fill values either
    assert not np.isnan(on_disk).any()


def test_a_voxel_brain_streams_in_bounded_memory():
    """22,703 voxels × 10 populations: 2 s of region rates are 180 MB, of which a few chunks are held."""
    network = Network(
        tuple(map(str, range(22_703))),
        tuple(CellClass(f"c{k}", LIF()) for k in range(10)),
        np.full((22_703, 10), 4),
        (),
    )
    network.first_gid, network.population_region, network.population_class  # noqa: B018  (of the network, not ours)
    recording = Recording()
    recording.bind(network, 1.0, 0)
    assert "region_rate" in recording and "population_rate" not in recording
    none = np.zeros(0, np.int64)
    counts = np.ones((10, network.n_populations), np.int32)
    tracemalloc.start()
    for start in range(0, 200, 10):
        recording.append(Activity(start, counts, none, none, np.zeros((10, 0, 6), np.float32)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6  # one chunk of 4 MiB, its float64, the memory store of compressed ones
    assert recording.region_rate.shape == (200, 22_703)


def test_mistakes_are_refused_with_the_remedy(network, rng, tmp_path):
    with pytest.raises(ValueError, match="rates is 'all'"):
        Recording(rates="all")
    with pytest.raises(ValueError, match="lists of names"):
        Recording(spikes="*.E")
    with pytest.raises(ValueError, match="whole number of steps"):
        Recording(bin=0.7).bind(network, DT, 0)
    with pytest.raises(ValueError, match=r"no population 'r9\.E'"):
        Recording(spikes=["r9.E"]).bind(network, DT, 0)
    with pytest.raises(FileExistsError, match="exists"):
        Recording(store=tmp_path).bind(network, DT, 0)
    recording = recorded(network, activity_of(network, rng, 10))
    with pytest.raises(ValueError, match="step 10 is due"):
        recording.append(activity_of(network, rng, 10))
    with pytest.raises(ValueError, match=r"was not recorded\. Recorded: .*region_rate"):
        recording["V"]
    with pytest.raises(ValueError, match="another simulation"):
        recording.bind(network_of(2), DT, 10)


# statistics ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("edges", [[0, 12_000], [0, 3, 3_999, 4_001, 4_013, 8_000, 12_000]])
def test_statistics_are_those_of_the_measures(network, rng, edges):
    activity = activity_of(network, rng, 12_000)
    statistics = Statistics(network, DT)
    for chunk in cut(activity, edges):
        statistics.append(chunk)
    late = activity.spike_step >= 4_000  # 2 s
    cv = measures.isi_cv(activity.spike_step[late] * DT, activity.spike_gid[late])
    assert statistics.isi_cv == pytest.approx(cv, rel=1e-12)
    assert statistics.synchrony == pytest.approx(measures.synchrony(activity.counts[4_000:].sum(axis=1), DT), rel=1e-12)
    assert statistics.mean_rate_hz == pytest.approx(len(activity.spike_gid) / 30 / 6.0)
    e, i = activity.counts.reshape(-1, 3, 2).sum(axis=(0, 1))
    assert statistics.rate_hz == pytest.approx({"E": e / 24 / 6.0, "I": i / 6 / 6.0})


def test_statistics_follow_at_most_20000_neurons_whatever_else_is_recorded(rng):
    network = network_of(1, 30_000, 20_001)
    assert sample_stride(network) == 3
    activity = activity_of(network, rng, 0)
    step = np.repeat(np.arange(6_000, 6_000 + 15), 2) ** 2 // 6_000  # intervals that grow
    gid = np.tile([3, 4], 15)  # 4 is not followed
    counts = np.zeros((12_000, 2), np.int32)
    with_other, without = Statistics(network, DT), Statistics(network, DT)
    with_other.append(activity._replace(counts=counts, spike_step=step, spike_gid=gid))
    without.append(activity._replace(counts=counts, spike_step=step[gid == 3], spike_gid=gid[gid == 3]))
    assert without.isi_cv is not None and with_other.isi_cv == without.isi_cv


def test_statistics_of_a_short_run_are_none(network, rng):
    statistics = Statistics(network, DT)
    assert statistics.mean_rate_hz is None
    statistics.append(activity_of(network, rng, 1_000))
    assert statistics.isi_cv is None and statistics.synchrony is None and statistics.mean_rate_hz is not None
