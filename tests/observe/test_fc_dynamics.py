import doctest

import numpy as np
import pytest
from scipy.stats import ks_2samp

import dtb.observe.fc_dynamics
from dtb.observe.fc_dynamics import fc_dynamics, fc_windows, fcd_distance
from dtb.observe.measures import functional_connectivity


def switching(rng, n_scans=400, n_regions=12):
    """BOLD with two patterns of connectivity, 100 scans each in turn."""
    mixing = rng.normal(size=(2, 3, n_regions))
    state = np.arange(n_scans) // 100 % 2
    bold = np.einsum("tk,tkr->tr", rng.normal(size=(n_scans, 3)), mixing[state])
    return bold + 0.3 * rng.normal(size=(n_scans, n_regions))


def by_nilearn(bold, starts, width):
    """(window, region, region): each window as a subject."""
    from nilearn.connectome import ConnectivityMeasure
    from sklearn.covariance import EmpiricalCovariance

    measure = ConnectivityMeasure(EmpiricalCovariance(), kind="correlation", standardize=False)
    return measure.fit_transform([bold[s : s + width] for s in starts])


def test_functional_connectivity_is_the_one_of_nilearn(rng):
    bold = switching(rng)
    assert functional_connectivity(bold) == pytest.approx(by_nilearn(bold, [0], len(bold))[0], abs=1e-10)


def test_windows_and_their_dynamics_are_those_of_nilearn(rng):
    """To rounding; nilearn makes the windows, NumPy correlates them."""
    bold, starts = switching(rng), range(0, 400 - 83 + 1, 3)
    windows = by_nilearn(bold, starts, 83)
    found = list(fc_windows(bold, tr_s=0.72, window_s=60.0, step_s=2.0))
    assert [start for start, _ in found] == pytest.approx([0.72 * s for s in starts])
    assert np.stack([fc for _, fc in found]) == pytest.approx(windows, abs=1e-10)
    expected = np.corrcoef(windows[:, *np.triu_indices(12, k=1)])
    assert fc_dynamics(bold, 0.72) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("at_once", [1, 5_000, 10**9])
def test_dynamics_do_not_depend_on_how_much_is_held_at_once(rng, at_once):
    """To rounding: sums of 66 products."""
    bold = switching(rng)
    assert fc_dynamics(bold, 1.0, 50.0, 5.0, at_once) == pytest.approx(fc_dynamics(bold, 1.0, 50.0, 5.0), abs=1e-12)


def test_a_pattern_that_comes_back_is_seen_away_from_the_diagonal(rng):
    fcd = fc_dynamics(switching(rng), tr_s=1.0, window_s=50.0, step_s=50.0)
    assert min(fcd[0, 4], fcd[1, 5], fcd[2, 6]) > 0.8  # windows of one state
    assert max(fcd[0, 2], fcd[1, 3], fcd[2, 4]) < 0.7


def test_the_distance_is_the_kolmogorov_smirnov_one_of_scipy(rng):
    a, b = (fc_dynamics(rng.normal(size=(n, 8)), 1.0, 60.0, 10.0) for n in (300, 400))
    expected = ks_2samp(a[np.triu_indices(25, 6)], b[np.triu_indices(35, 6)]).statistic
    assert fcd_distance(a, b, overlap=6) == pytest.approx(expected)
    assert fcd_distance(a, a) == 0


def test_dynamics_that_switch_are_far_from_those_that_do_not(rng):
    still = rng.normal(size=(400, 3)) @ rng.normal(size=(3, 12)) + 0.3 * rng.normal(size=(400, 12))
    a, b = (fc_dynamics(bold, 1.0, 50.0, 5.0) for bold in (switching(rng), still))
    assert fcd_distance(a, b, overlap=10) > 0.3


def test_a_window_longer_than_the_recording_is_refused(rng):
    with pytest.raises(ValueError, match="bold has 50 scans, a window of 60 s needs 60"):
        fc_dynamics(rng.normal(size=(50, 4)), tr_s=1.0)


def test_one_window_is_refused(rng):
    with pytest.raises(ValueError, match="only one window"):
        fc_dynamics(rng.normal(size=(61, 4)), tr_s=1.0)


def test_a_region_that_is_constant_in_a_window_is_refused(rng):
    bold = rng.normal(size=(200, 4))
    bold[60:140, 2] = 1.5
    with pytest.raises(ValueError, match=r"region 2 is 1\.5 in every scan"):
        fc_dynamics(bold, tr_s=1.0)


def test_windows_that_all_overlap_have_no_distance(rng):
    fcd = fc_dynamics(rng.normal(size=(80, 5)), 1.0, 60.0, 10.0)
    with pytest.raises(ValueError, match="none of which are 6 steps apart"):
        fcd_distance(fcd, fcd, overlap=6)


def test_the_examples_in_the_docstrings_run():
    result = doctest.testmod(dtb.observe.fc_dynamics)
    assert result.attempted > 6 and result.failed == 0
