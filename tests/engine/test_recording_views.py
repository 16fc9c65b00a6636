"""Views and drawings of a recording: labels and units, axes in and axes out."""

import doctest
import warnings

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

import dtb
from dtb import theme
from dtb.engine import recording_plots, recording_views
from dtb.engine.recording import Recording
from tests.engine.test_recording import DT, activity_of, network_of, recorded

WISH = {"spikes": ["r0.E"], "membrane": ["r2"], "samples": 1, "bin": 1.0}


@pytest.fixture
def network():
    return network_of(3)


@pytest.fixture
def recording(network, rng):
    return recorded(network, activity_of(network, rng, 2_000, n_sampled=2), raster=12, **WISH)


@pytest.fixture
def ax():
    return Figure().subplots()


# arrays --------------------------------------------------------------------------------------------------------


def test_a_raster_holds_every_spike_of_its_neurons_and_of_no_other(network, rng):
    activity = activity_of(network, rng, 500)
    recording = recorded(network, activity, raster=12)
    chosen = recording["raster_neuron"].astype(np.int64)
    assert len(chosen) == 12 and len(np.unique(chosen)) == 12
    keep = np.isin(activity.spike_gid, chosen)
    np.testing.assert_array_equal(recording["raster_gid"], activity.spike_gid[keep])
    np.testing.assert_array_equal(recording["raster_time"], activity.spike_step[keep] * DT)
    population = np.searchsorted(network.first_gid, chosen, side="right") - 1
    assert recording["raster_population"].tolist() == [network.population_name(p) for p in population]


def test_a_raster_of_more_neurons_than_there_are_holds_all_and_one_of_none_is_not_kept(network, rng):
    activity = activity_of(network, rng, 100)
    assert recorded(network, activity, raster=500)["raster_neuron"].tolist() == list(range(30))
    assert "raster_gid" not in recorded(network, activity, raster=0)
    with pytest.raises(ValueError, match="raster is -1"):
        Recording(raster=-1)


def test_a_large_network_has_its_raster_among_the_neurons_that_statistics_follow(rng):
    network = network_of(1, 30_000, 20_001)
    recording = recorded(network, activity_of(network, rng, 2, p=0.5), raster=1_000)
    chosen = recording["raster_neuron"]
    assert len(chosen) == 1_000 and (chosen % 3 == 0).all()
    inhibitory = np.mean(chosen >= 30_000)  # 0.4 of the neurons, so within four standard deviations of it
    assert abs(inhibitory - 0.4) < 4 * np.sqrt(0.24 / 1_000)


def test_a_dataset_has_labels_and_units_and_reads_lazily(network, rng, tmp_path):
    activity = activity_of(network, rng, 100, n_sampled=2)
    recorded(network, activity, store=tmp_path / "r.zarr", raster=5, **WISH).close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = Recording.open(tmp_path / "r.zarr").dataset()
    assert data.sizes["time"] == 50 and data.sizes["neuron"] == 2 and data.sizes["raster_neuron"] == 5
    assert data.region_rate.units == "spikes/s" and data.V.units == "mV" and data.raster_time.units == "ms"
    assert data.population_neurons.values.tolist() == [8, 2, 8, 2, 8, 2]
    assert {"gid", "neuron_population", "raster_population", "population_neurons"} <= set(data.coords)
    assert not data.V.variable._in_memory
    assert float(data.region_rate.sel(region="r1").max()) > 0


def test_a_dataset_of_a_recording_in_memory_is_the_same(network, rng, tmp_path):
    activity = activity_of(network, rng, 100, n_sampled=2)
    inside = recorded(network, activity, **WISH).dataset()
    recorded(network, activity, store=tmp_path / "r.zarr", **WISH).close()
    on_disk = Recording.open(tmp_path / "r.zarr").dataset()
    assert set(inside.variables) == set(on_disk.variables)
    for name in inside.variables:
        np.testing.assert_array_equal(inside[name].values, on_disk[name].values)


def test_an_opened_recording_knows_its_bin_and_its_span(network, rng, tmp_path):
    live = recorded(
        network, activity_of(network, rng, 101, n_sampled=2), store=tmp_path / "r.zarr", **WISH | {"bin": 2.5}
    )
    assert live.span == (0.0, 50.5)
    live.close()
    opened = Recording.open(tmp_path / "r.zarr")
    assert opened.bin == 2.5 and opened.span == (0.0, 50.5)  # the membrane is kept to the last step


def test_bold_of_a_recording_is_that_of_the_balloon(recording):
    balloon = dtb.Balloon(tr_s=0.1)
    bold = recording.bold(balloon)
    np.testing.assert_array_equal(bold.values, balloon.observe(recording.region_rate, dt=1.0))
    np.testing.assert_allclose(bold.time.values, np.arange(1, 11) * 0.1)
    assert bold.region.values.tolist() == ["r0", "r1", "r2"] and bold.time.units == "s"


# drawings ------------------------------------------------------------------------------------------------------


def test_every_drawing_takes_axes_and_returns_them_with_labels(recording, ax):
    balloon = dtb.Balloon(tr_s=0.1)
    for draw in (
        recording.plot_raster,
        recording.plot_rates,
        lambda ax: recording.plot_isi(ax, settle=0),
        lambda ax: recording.plot_rate_distribution(ax, settle=0),
        lambda ax: recording.plot_membrane(0, ax),
        lambda ax: recording.plot_bold(balloon, ax),
    ):
        ax.clear()
        assert draw(ax) is ax and ax.get_xlabel() and ax.get_ylabel()


def test_numbers_of_a_log_axis_are_drawn_and_not_their_tex(recording):
    with theme.themed():
        figure = Figure()
        ax = recording.plot_isi(figure.subplots(), settle=0)
        figure.canvas.draw()
        labels = [label.get_text() for label in ax.get_xticklabels(which="both") if label.get_text()]
    assert "10" in labels and "100" in labels and not any("$" in label for label in labels)


def test_drawings_leave_the_settings_of_matplotlib_alone(recording, ax):
    before = dict(mpl.rcParams)
    recording.plot_rates(ax)
    assert dict(mpl.rcParams) == before


def test_without_axes_a_drawing_makes_a_figure(recording):
    import matplotlib.pyplot as plt

    before = set(plt.get_fignums())
    figure = recording.plot_rates().figure
    assert set(plt.get_fignums()) - before == {figure.number}
    plt.close(figure)


def test_a_raster_draws_a_mark_for_each_spike_in_the_row_of_its_neuron(recording, ax):
    recording.plot_raster(ax, start=100, stop=300, order=["r2", "r0", "r1"])
    (marks,) = ax.collections
    time, gid = recording["raster_time"], recording["raster_gid"]
    shown = (time >= 100) & (time < 300)
    neurons = recording["raster_neuron"]
    rank = {"r2": 0, "r0": 1, "r1": 2}
    by_row = sorted(neurons, key=lambda n: (rank[f"r{int(n) // 10}"], n))
    expected = np.column_stack([time[shown] / 1000, [by_row.index(g) for g in gid[shown]]])
    np.testing.assert_allclose(np.asarray(marks.get_offsets()), expected)


def test_spikes_of_a_region_share_its_colour(recording, ax):
    colours = {"r0": (1, 0, 0, 1), "r1": (0, 1, 0, 1), "r2": (0, 0, 1, 1)}
    recording.plot_raster(ax, colours=colours)
    (marks,) = ax.collections
    gid = recording["raster_gid"]
    expected = [colours[f"r{int(g) // 10}"] for g in gid[recording["raster_time"] >= recording.span[1] - 1000]]
    np.testing.assert_array_equal(marks.get_edgecolors(), expected)


def test_rates_are_means_over_the_neurons_of_a_class(network, rng, ax):
    activity = activity_of(network, rng, 200)
    recorded(network, activity, bin=1.0).plot_rates(ax, smooth=10)
    lines = {line.get_label(): line.get_ydata() for line in ax.get_lines()}
    counts = activity.counts.reshape(10, 20, 3, 2).sum(axis=(1, 2))  # 10 ms, all regions
    np.testing.assert_allclose(lines["E"], counts[:, 0] / 24 / 0.01, rtol=1e-6)
    np.testing.assert_allclose(lines["I"], counts[:, 1] / 6 / 0.01, rtol=1e-6)


def test_intervals_are_those_between_spikes_of_one_neuron():
    spikes = recording_plots.Spiking(
        time=np.array([1.0, 2.0, 4.0, 7.0, 9.0]),
        owner=np.array([0, 1, 0, 1, 0]),
        gid=np.arange(2),
        population=["a.E", "a.I"],
        classes=["E", "I"],
        duration=10.0,
    )
    interval, owner = recording_plots.intervals(spikes, settle=2.0)
    assert interval.tolist() == [5.0, 5.0] and owner.tolist() == [0, 1]  # the spike at 1 ms is left out


def test_classes_stand_in_the_order_of_the_network_whatever_neurons_were_drawn():
    spikes = recording_plots.Spiking(
        time=np.zeros(0), owner=np.zeros(0, int), gid=np.arange(2), population=["a.L6E", "b.L5E"],
        classes=["L4E", "L5E", "L6E"], duration=1.0,
    )  # fmt: skip
    known, kind = recording_plots.by_class(spikes)
    assert known == ["L5E", "L6E"] and kind.tolist() == [1, 0]


def test_without_a_raster_the_spikes_of_chosen_populations_are_drawn(network, rng, ax):
    recording = recorded(network, activity_of(network, rng, 400), raster=0, spikes=["r1"])
    recording.plot_raster(ax)
    (marks,) = ax.collections
    assert len(marks.get_offsets()) == len(recording.spike_time) and ax.get_ylabel() == "neuron (1 to 10)"


def test_what_cannot_be_drawn_is_refused_with_the_remedy(network, rng, recording, ax):
    bare = recorded(network, activity_of(network, rng, 100), raster=0)
    with pytest.raises(ValueError, match="Set raster or spikes"):
        bare.plot_raster(ax)
    with pytest.raises(ValueError, match="'V' was not recorded"):
        bare.plot_membrane(0, ax)
    with pytest.raises(ValueError, match="hold no scan"):
        bare.plot_bold(dtb.Balloon(tr_s=2.0), ax)
    with pytest.raises(ValueError, match="membranes of 2 neurons were recorded, 0 to 1"):
        recording.plot_membrane(2, ax)
    with pytest.raises(ValueError, match="not within the recording, 0 to 1000 ms"):
        recording.plot_raster(ax, start=500, stop=2000)
    with pytest.raises(ValueError, match="order leaves out region 'r2'"):
        recording.plot_raster(ax, order=["r0", "r1"])
    with pytest.raises(ValueError, match="nothing was recorded yet"):
        Recording().dataset()


def test_the_examples_of_views_and_of_the_theme_run():
    import matplotlib.pyplot as plt

    for module, examples in ((recording_views, 8), (theme, 3)):
        tried = doctest.testmod(module)
        assert tried.attempted >= examples and tried.failed == 0
    plt.close("all")
