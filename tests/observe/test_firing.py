import doctest

import numpy as np
import pytest

import dtb.observe.firing
from dtb.observe.firing import neuron_rates, rate_distribution, train_correlation
from dtb.observe.measures import intervals, isi_cv, synchrony

pytestmark = [  # of elephant and what it stands on
    pytest.mark.filterwarnings("ignore:The 'copy' argument in Quantity"),
    pytest.mark.filterwarnings("ignore:the matrix subclass"),
]

GIDS = np.array([2**40, 2**40 + 3, 11, 500, 7])  # in no order, and they need 64 bits
DURATION = 20_000.0  # ms


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def spikes(rng):
    """Times on a grid of 1 ms and gids, in time order: independent trains, and a common one in the first two."""
    common = np.flatnonzero(rng.random(20_000) < 0.01)
    trains = [np.flatnonzero(rng.random(20_000) < p) for p in (0.01, 0.02, 0.005, 0.03, 0.01)]
    trains = [np.union1d(train, common) if k < 2 else train for k, train in enumerate(trains)]
    time = np.concatenate(trains).astype(float)
    gid = np.repeat(GIDS, [len(train) for train in trains])
    order = np.argsort(time, kind="stable")
    return time[order], gid[order]


def elephant_trains(spikes, bin_ms=None):
    import neo
    import quantities as pq
    from elephant.conversion import BinnedSpikeTrain

    time, gid = spikes
    trains = [neo.SpikeTrain(time[gid == g] * pq.ms, t_stop=DURATION * pq.ms) for g in GIDS]
    return trains if bin_ms is None else BinnedSpikeTrain(trains, bin_size=bin_ms * pq.ms)


def cut(spikes, rng, n=9):
    places = [0, *np.sort(rng.integers(0, len(spikes[0]), n))]
    return list(zip(*(np.split(x, places) for x in spikes), strict=True))


# against elephant


def test_rates_are_those_of_elephant(spikes):
    from elephant.statistics import mean_firing_rate

    expected = [float(mean_firing_rate(train).rescale("Hz")) for train in elephant_trains(spikes)]
    found = [neuron_rates(spikes[1], int(g), 1, DURATION)[0] for g in GIDS]
    assert found == pytest.approx(expected, rel=1e-12)


def test_intervals_are_those_of_elephant(spikes):
    from elephant.statistics import isi

    interval, gid = intervals(*spikes)
    for g, train in zip(GIDS, elephant_trains(spikes), strict=True):
        assert np.array_equal(interval[gid == g], isi(train).magnitude)


def test_isi_cv_is_that_of_elephant(spikes):
    from elephant.statistics import cv, isi

    expected = np.mean([cv(isi(train)) for train in elephant_trains(spikes)])
    assert isi_cv(*spikes) == pytest.approx(expected, rel=1e-12)


def test_synchrony_is_the_fano_factor_of_elephant(spikes):
    """Each bin of 5 ms as a trial of its own."""
    import neo
    import quantities as pq
    from elephant.statistics import fanofactor

    counts = np.bincount(spikes[0].astype(int), minlength=20_000)
    bins = [
        neo.SpikeTrain(np.repeat(np.arange(5.0), counts[k : k + 5]) * pq.ms, t_stop=5 * pq.ms)
        for k in range(0, 5_000, 5)
    ]
    assert synchrony(counts[:5_000], dt=1.0) == pytest.approx(float(fanofactor(bins)), rel=1e-12)


@pytest.mark.parametrize("bin_ms", [1.0, 5.0, 50.0])
def test_correlations_of_trains_are_those_of_elephant(spikes, bin_ms):
    """To rounding of float64."""
    from elephant.spike_train_correlation import correlation_coefficient

    expected = correlation_coefficient(elephant_trains(spikes, bin_ms))
    assert train_correlation(spikes, GIDS, DURATION, bin_ms) == pytest.approx(expected, abs=1e-12)


# known truth and blocks


def test_independent_trains_do_not_correlate_and_common_input_does(spikes):
    """4,000 bins: an error of 0.016. Trains 0 and 1 share spikes at 10 /s, and have 10 and 20 /s of their own."""
    r = train_correlation(spikes, GIDS, DURATION)
    assert np.abs(r[2:, :2]).max() < 0.07
    assert r[0, 1] == pytest.approx(10 / np.sqrt(20 * 30), abs=0.07)


def test_blocks_give_the_very_correlations_of_the_whole(spikes, rng):
    whole = train_correlation(spikes, GIDS, DURATION)
    assert np.array_equal(train_correlation(cut(spikes, rng), GIDS, DURATION), whole)
    assert np.array_equal(neuron_rates([g for _, g in cut(spikes, rng)], 0, 600, DURATION),
                          neuron_rates(spikes[1], 0, 600, DURATION))  # fmt: skip


def test_correlations_of_recorded_blocks_leave_out_other_neurons_and_late_spikes(spikes):
    time, gid = np.append(spikes[0], [DURATION, DURATION + 1]), np.append(spikes[1], [7, 99]).astype(np.uint64)
    assert np.array_equal(train_correlation((time, gid), GIDS, DURATION), train_correlation(spikes, GIDS, DURATION))


def test_a_neuron_that_never_fires_correlates_with_nothing(spikes):
    r = train_correlation(spikes, np.append(GIDS, 12345), DURATION)
    assert np.isnan(r[-1]).all() and np.isfinite(r[:-1, :-1]).all()


def test_spikes_of_a_fine_grid_fall_into_their_bins_whatever_the_rounding():
    """0.1 ms steps: step · 0.1 is now above, now below its bin's edge."""
    step = np.arange(0, 1_000, 50)  # one spike at the very edge of each bin of 5 ms
    r = train_correlation((step * 0.1, np.where(step % 100, 1, 2)), np.array([1, 2]), duration=100.0)
    assert r[0, 1] == -1


def test_blocks_out_of_order_are_refused(spikes, rng):
    with pytest.raises(ValueError, match="comes after later ones"):
        train_correlation(cut(spikes, rng)[::-1], GIDS, DURATION)


def test_rates_of_lognormal_neurons_have_the_spread_they_were_drawn_with(rng):
    """5000 neurons: the error of a standard deviation is 1 %."""
    found = rate_distribution(10 ** rng.normal(0.5, 0.4, 5_000))
    assert found.log10_sd == pytest.approx(0.4, rel=0.05)
    assert found.median == pytest.approx(10**0.5, rel=0.05)
    assert found.cv == pytest.approx(np.sqrt(np.exp((0.4 * np.log(10)) ** 2) - 1), rel=0.15)  # a heavy tail


def test_silent_neurons_count_in_the_mean():
    found = rate_distribution(neuron_rates(np.array([3, 3, 3, 3]), first=0, n=8, duration=1000.0))
    assert found.mean == 0.5 and found.silent == 7 / 8 and found.median == 0


def test_gids_without_sign_below_the_population_are_other_neurons():
    assert neuron_rates(np.array([1, 5], np.uint64), first=4, n=2, duration=1000.0).tolist() == [0, 1]


@pytest.mark.parametrize("gids", [np.array([1, 1]), np.zeros((2, 2)), np.zeros(0)])
def test_neurons_that_are_not_there_once_each_are_refused(spikes, gids):
    with pytest.raises(ValueError, match="each neuron once"):
        train_correlation(spikes, gids, DURATION)


def test_a_bin_longer_than_half_the_recording_is_refused(spikes):
    with pytest.raises(ValueError, match="At least two bins"):
        train_correlation(spikes, GIDS, DURATION, bin_ms=15_000)


def test_the_examples_in_the_docstrings_run():
    result = doctest.testmod(dtb.observe.firing)
    assert result.attempted > 8 and result.failed == 0
