import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dtb.observe.measures
from dtb.observe.measures import band_pass, fc_correlation, fisher_mean, functional_connectivity, isi_cv, synchrony


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def random_fc(rng, n_regions=8):
    return np.corrcoef(rng.normal(size=(n_regions, 30)))


def poisson_spikes(rng, n_neurons, n_spikes):
    """Times and gids, in time order, of neurons with exponential intervals of 100 ms."""
    time = rng.exponential(100, (n_neurons, n_spikes)).cumsum(axis=1).ravel()
    gid = np.repeat(np.arange(n_neurons) * 3 + 2**40, n_spikes)  # gids have holes and need 64 bits
    order = np.argsort(time)
    return time[order], gid[order]


def isi_cv_by_a_loop(time, gid, min_spikes):
    trains = [np.sort(time[gid == neuron]) for neuron in np.unique(gid)]
    intervals = [np.diff(train) for train in trains if len(train) >= min_spikes]
    return np.mean([x.std() / x.mean() for x in intervals])


# functional connectivity


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-200])
def test_functional_connectivity_is_the_one_of_numpy(rng, scale):
    """To rounding: sums of 300 products of order 1."""
    bold = rng.normal(size=(300, 12))
    assert functional_connectivity(5 * scale + scale * bold) == pytest.approx(np.corrcoef(bold.T), abs=1e-12)


def test_functional_connectivity_stays_within_one(rng):
    signal = rng.normal(size=(50, 1))
    fc = functional_connectivity(signal * rng.normal(size=(1, 40)))
    assert np.abs(fc).max() == 1 and (np.diagonal(fc) == 1).all()


def test_a_constant_region_is_refused_by_its_column(rng):
    bold = rng.normal(size=(50, 4))
    bold[:, 2] = 0.1
    with pytest.raises(ValueError, match=r"bold of region 2 is 0\.1 in every scan"):
        functional_connectivity(bold)


def test_a_missing_scan_is_refused_with_its_place(rng):
    bold = rng.normal(size=(50, 4))
    bold[7, 3] = np.nan
    with pytest.raises(ValueError, match="bold is nan in scan 7, region 3"):
        functional_connectivity(bold)


@pytest.mark.parametrize("shape", [(50,), (1, 3)])
def test_bold_without_scans_or_regions_is_refused(shape):
    with pytest.raises(ValueError, match="bold has"):
        functional_connectivity(np.ones(shape))


def test_fc_correlation_compares_the_pairs_above_the_diagonal(rng):
    a, b = random_fc(rng), random_fc(rng)
    pairs = [(i, j) for i in range(8) for j in range(8) if i < j]
    expected = np.corrcoef([a[p] for p in pairs], [b[p] for p in pairs])[0, 1]
    assert fc_correlation(a, b) == pytest.approx(expected, abs=1e-12)


def test_fc_correlation_with_itself_is_one(rng):
    fc = random_fc(rng)
    assert fc_correlation(fc, fc) == pytest.approx(1)


def test_fc_correlation_of_different_regions_is_refused(rng):
    with pytest.raises(ValueError, match=r"fc_a has shape \(8, 8\), fc_b \(7, 7\)"):
        fc_correlation(random_fc(rng), random_fc(rng, 7))


def test_fc_correlation_of_two_regions_is_refused():
    with pytest.raises(ValueError, match="2 regions"):
        fc_correlation(np.eye(2), np.eye(2))


def test_fc_correlation_with_a_constant_is_refused(rng):
    with pytest.raises(ValueError, match="fc_b is 0 for every pair"):
        fc_correlation(random_fc(rng), np.eye(8))


def test_fc_correlation_with_a_missing_pair_is_refused(rng):
    fc = random_fc(rng)
    fc[2, 5] = np.nan
    with pytest.raises(ValueError, match="fc_b is not finite in 1 pairs"):
        fc_correlation(random_fc(rng), fc)


def test_fisher_mean_is_the_mean_of_artanh(rng):
    fcs = [random_fc(rng) for _ in range(5)]
    expected = np.tanh(np.mean([np.arctanh(fc[1, 4]) for fc in fcs]))
    assert fisher_mean(fcs)[1, 4] == pytest.approx(expected, abs=1e-14)


def test_fisher_mean_of_one_is_itself(rng):
    fc = random_fc(rng)
    assert fisher_mean([fc]) == pytest.approx(fc, abs=1e-14)


def test_fisher_mean_leaves_its_input(rng):
    fcs = np.array([random_fc(rng)])
    fisher_mean(fcs)
    assert np.diagonal(fcs[0]) == pytest.approx(1)


def test_fisher_mean_of_a_perfect_correlation_is_refused(rng):
    fcs = np.array([random_fc(rng), random_fc(rng)])
    fcs[1, 3, 5] = 1
    with pytest.raises(ValueError, match=r"fcs\[1\] is 1 between regions 3 and 5"):
        fisher_mean(fcs)


def test_fisher_mean_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one run"):
        fisher_mean(np.empty((0, 3, 3)))


# irregularity


def test_isi_cv_of_poisson_neurons_is_one(rng):
    """400 neurons × 200 spikes: the error of the mean is 1/sqrt(80 000) = 0.004 and the bias −0.007."""
    assert isi_cv(*poisson_spikes(rng, 400, 200)) == pytest.approx(1, abs=0.02)


def test_isi_cv_of_poisson_neurons_with_ten_spikes_is_the_documented_0_87(rng):
    """4000 neurons of sd 0.25: the error of the mean is 0.004."""
    assert isi_cv(*poisson_spikes(rng, 4_000, 10)) == pytest.approx(0.87, abs=0.015)


def test_isi_cv_of_clocks_is_zero():
    """Neurons with different periods; equal intervals are equal to rounding."""
    time = np.concatenate([np.arange(50) * 10.0, np.arange(50) * 17.0 + 3])
    assert isi_cv(time, np.repeat([1, 2], 50)) == pytest.approx(0, abs=1e-12)


def test_isi_cv_of_gamma_intervals_is_the_closed_form(rng):
    """1/sqrt(shape); same error as for Poisson."""
    time = rng.gamma(4, 10, (300, 200)).cumsum(axis=1)
    assert isi_cv(time.ravel(), np.repeat(np.arange(300), 200)) == pytest.approx(0.5, abs=0.01)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 10**6)), min_size=30, unique=True))
def test_isi_cv_is_the_one_of_a_loop_over_neurons(spikes):
    gid, time = np.array(spikes).T
    expected = isi_cv_by_a_loop(time, gid, min_spikes=4)  # 30 spikes of 6 neurons: one of them has 5
    assert isi_cv(time, gid, min_spikes=4) == pytest.approx(expected, rel=1e-9)


def test_isi_cv_leaves_out_neurons_with_few_spikes(rng):
    time, gid = poisson_spikes(rng, 20, 10)
    few = np.concatenate([time, np.arange(9) * 10.0]), np.concatenate([gid, np.full(9, 1)])
    assert isi_cv(*few) == isi_cv(time, gid)


def test_isi_cv_is_nan_where_nobody_has_enough_spikes():
    assert np.isnan(isi_cv(np.arange(9.0), np.zeros(9, dtype=int)))


def test_isi_cv_of_no_spikes_is_nan():
    assert np.isnan(isi_cv(np.empty(0), np.empty(0, dtype=np.int64)))


def test_two_spikes_of_a_neuron_at_one_time_are_refused():
    with pytest.raises(ValueError, match="neuron 42 has two spikes at one time"):
        isi_cv(np.array([1.0, 2.0, 2.0, 5.0]), np.array([42, 42, 42, 7]))


def test_times_and_gids_of_different_length_are_refused():
    with pytest.raises(ValueError, match=r"\(3,\), spike_gid \(2,\)"):
        isi_cv(np.arange(3.0), np.arange(2))


def test_a_spike_time_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match=r"spike_time_ms\[1\] is nan"):
        isi_cv(np.array([0.0, np.nan]), np.array([1, 1]))


def test_fewer_than_three_spikes_as_enough_are_refused():
    with pytest.raises(ValueError, match="min_spikes is 2"):
        isi_cv(np.arange(3.0), np.zeros(3, dtype=int), min_spikes=2)


# synchrony


@pytest.mark.parametrize("dt", [0.1, 0.5, 1.0, 5.0])
def test_synchrony_of_independent_poisson_firing_is_one(rng, dt):
    """20 000 bins: the variance has a relative error of sqrt(2/20 000) = 0.01."""
    counts = rng.poisson(3.0 * dt, round(100_000 / dt))
    assert synchrony(counts, dt) == pytest.approx(1, abs=0.04)


def test_synchrony_of_copies_of_one_poisson_neuron_is_their_number(rng):
    """var(Nn)/mean(Nn) = N; 20 000 bins with 0.25 spikes: a relative error of 0.02."""
    assert synchrony(50 * rng.poisson(0.05, 100_000), dt=1.0) == pytest.approx(50, rel=0.06)


def test_synchrony_is_the_one_of_a_loop_over_bins(rng):
    counts = rng.poisson(2.0, 1_003)  # three steps too many
    bins = [counts[k : k + 5].sum() for k in range(0, 1_000, 5)]
    assert synchrony(counts, dt=1.0) == pytest.approx(np.var(bins) / np.mean(bins), rel=1e-12)


def test_synchrony_of_equal_bins_is_zero():
    assert synchrony(np.full(1_000, 4), dt=0.1) == 0


def test_synchrony_of_silence_is_nan():
    assert np.isnan(synchrony(np.zeros(100), dt=1.0))


def test_a_bin_that_is_no_whole_number_of_steps_is_refused():
    with pytest.raises(ValueError, match=r"bin_ms is 5\.0 ms, which is not a whole number of steps of 2\.0 ms"):
        synchrony(np.ones(100), dt=2.0)


def test_a_recording_of_less_than_two_bins_is_refused():
    with pytest.raises(ValueError, match="covers 9 ms"):
        synchrony(np.ones(9), dt=1.0)


@pytest.mark.parametrize("value", [-1.0, np.nan])
def test_an_impossible_count_is_refused_with_its_step(value):
    counts = np.ones(20)
    counts[6] = value
    with pytest.raises(ValueError, match=rf"counts_per_step\[6\] is {value}"):
        synchrony(counts, dt=1.0)


def test_counts_per_population_are_refused():
    with pytest.raises(ValueError, match="sum over populations first"):
        synchrony(np.ones((100, 3)), dt=1.0)


# filter


@pytest.mark.parametrize("frequency", [0.005, 0.01, 0.05, 0.1, 0.2])
def test_band_pass_scales_a_sine_by_the_closed_form(frequency):
    """|H|² of the docstring. In the middle of 4320 s what is left of the ends is below 1e-6."""
    tr_s, low, high = 0.72, 0.01, 0.1
    wave = np.sin(2 * np.pi * frequency * tr_s * np.arange(6_000))
    g, g_low, g_high = np.tan(np.pi * tr_s * np.array([frequency, low, high]))
    x = (g**2 - g_low * g_high) / (g * (g_high - g_low))
    filtered = band_pass(wave[:, None], tr_s, low, high)[:, 0]
    assert np.abs(filtered - wave / (1 + x**4))[2_500:3_500].max() < 1e-6


def test_band_pass_filters_each_region_alone(rng):
    bold = rng.normal(size=(200, 3))
    alone = band_pass(bold[:, 1:2], 0.72, 0.01, 0.1)
    assert band_pass(bold, 0.72, 0.01, 0.1)[:, 1:2] == pytest.approx(alone, abs=1e-12)


def test_band_pass_removes_the_mean(rng):
    """To rounding, magnified by the slow poles at 0.01 Hz."""
    bold = rng.normal(size=(400, 2))
    assert band_pass(bold + 100, 0.72, 0.01, 0.1) == pytest.approx(band_pass(bold, 0.72, 0.01, 0.1), abs=1e-8)


@pytest.mark.parametrize(("low", "high"), [(0.1, 0.01), (0.0, 0.1), (0.01, 0.7)])
def test_a_band_outside_what_the_scans_resolve_is_refused(low, high):
    with pytest.raises(ValueError, match=r"below 0\.694444 Hz"):
        band_pass(np.ones((100, 1)), 0.72, low, high)


def test_a_recording_shorter_than_the_filter_is_refused():
    with pytest.raises(ValueError, match=r"bold has 15 scans\. This filter needs more than 15"):
        band_pass(np.ones((15, 2)), 0.72, 0.01, 0.1)


def test_the_examples_in_the_docstrings_run():
    result = doctest.testmod(dtb.observe.measures)
    assert result.attempted > 10 and result.failed == 0
