import doctest

import numpy as np
import pytest
from scipy.stats import linregress

import dtb.observe.branching
from dtb.observe.branching import branching_ratio, lagged_slopes


def branching_process(rng, m, n, drive=20.0):
    """Poisson offspring of mean m each, and immigrants: mean activity drive / (1 − m)."""
    activity = np.empty(n, np.int64)
    now = round(drive / (1 - m))
    for t in range(n):
        now = rng.poisson(m * now + drive)
        activity[t] = now
    return activity


def cut(series, rng, n=9):
    return np.split(series, [0, *np.sort(rng.integers(0, len(series), n))])


@pytest.fixture(scope="module")
def seen():
    """m = 0.95 over 30,000 generations, one spike in 20 seen."""
    rng = np.random.default_rng(3)
    return rng.binomial(branching_process(rng, 0.95, 30_000), 0.05)


def test_slopes_are_those_of_linear_regression(rng):
    counts = rng.poisson(np.convolve(rng.gamma(2.0, 3.0, 600), np.ones(8), "valid"))
    expected = [linregress(counts[:-k], counts[k:]).slope for k in range(1, 31)]
    assert lagged_slopes(counts, 30) == pytest.approx(expected, rel=1e-10)


def test_blocks_give_the_very_slopes_of_the_whole(seen, rng):
    whole = lagged_slopes(seen, 40, width=3)
    assert np.array_equal(lagged_slopes(cut(seen, rng), 40, width=3), whole)
    assert np.array_equal(lagged_slopes(np.split(seen[:900], 300), 40), lagged_slopes(seen[:900], 40))


def test_slopes_and_fit_are_those_of_the_toolbox_of_the_authors(seen):
    """mrestimator, by Spitzner, Dehning, Wilting, Hagemann, Neto, Zierenberg and
    Priesemann. Both fits minimise squares."""
    import mrestimator

    theirs = mrestimator.coefficients(seen, method="trialseparated", steps=(1, 60), dt=1, numboot=0)
    fit = mrestimator.fit(theirs, fitfunc="exponential", numboot=0)
    found = branching_ratio(seen, dt=1.0, bin_ms=1.0, max_lag_ms=60.0)
    assert found.slopes == pytest.approx(theirs.coefficients, rel=1e-9)
    assert found.m == pytest.approx(fit.mre, rel=1e-6)
    assert found.tau == pytest.approx(fit.tau, rel=1e-4)  # where their search stops
    offset = branching_ratio(seen, dt=1.0, bin_ms=1.0, max_lag_ms=60.0, offset=True)
    theirs_offset = mrestimator.fit(theirs, fitfunc="exponential_offset", numboot=0)
    assert offset.m == pytest.approx(theirs_offset.mre, rel=1e-4)


@pytest.mark.parametrize("m", [0.7, 0.9, 0.98])
@pytest.mark.parametrize("part", [1.0, 0.1])
def test_the_branching_ratio_is_found_however_few_neurons_are_seen(rng, m, part):
    """The estimate of τ from T generations errs by about sqrt(2τ/T): 6 % for m = 0.98, so m by 0.0012, and more by
    the noise of what is seen; five such errors."""
    counts = rng.binomial(branching_process(rng, m, 30_000), part)
    found = branching_ratio(counts, dt=1.0, bin_ms=1.0, max_lag_ms=round(-3 / np.log(m)) + 3)
    assert found.m == pytest.approx(m, abs=0.006 if m > 0.95 else 0.03)


def test_the_naive_ratio_falls_with_the_part_that_is_seen_as_the_closed_form_says(seen):
    """r_1 = m q Var(A) / (q Var(A) + (1 − q) ⟨A⟩) for a part q, and Var(A)/⟨A⟩ = 1/(1 − m²) for Poisson offspring and
    immigrants; what is seen is a binomial part of it: 0.333 at m = 0.95, q = 0.05. Errors: a slope from 30,000
    generations that linger 20 each, 0.02."""
    fano = 1 / (1 - 0.95**2)
    expected = 0.95 * 0.05 * fano / (0.05 * fano + 0.95)
    found = branching_ratio(seen, dt=1.0, bin_ms=1.0, max_lag_ms=60.0)
    assert found.naive == pytest.approx(expected, abs=0.06)
    assert found.amplitude * found.m == pytest.approx(expected, abs=0.06)
    assert found.m == pytest.approx(0.95, abs=0.01)


def test_tau_does_not_depend_on_the_bin(seen):
    """−1 ms / ln 0.95 = 19.5 ms; 6 % error from 1500 independent stretches."""
    for bin_ms in (1.0, 2.0, 4.0):
        assert branching_ratio(seen, 1.0, bin_ms, max_lag_ms=60.0).tau == pytest.approx(19.5, rel=0.25)


def test_poisson_spikes_set_off_nothing(rng):
    """No memory: the amplitude is near zero, whatever m the fit picks from noise of 1/sqrt(20,000) = 0.007."""
    found = branching_ratio(rng.poisson(5.0, 20_000), dt=1.0, bin_ms=1.0, max_lag_ms=20.0)
    assert abs(found.naive) < 0.04 and np.abs(found.slopes).max() < 0.04


def test_constant_activity_has_no_branching_ratio():
    assert np.isnan(branching_ratio(np.full(100, 4), 1.0, 1.0, 10.0).m)


def test_too_short_a_recording_is_refused():
    with pytest.raises(ValueError, match="counts fill 12 bins, too few for 10 lags"):
        branching_ratio(np.ones(12), 1.0, 1.0, 10.0)


def test_too_few_lags_are_refused():
    with pytest.raises(ValueError, match="At least 4 are needed"):
        branching_ratio(np.ones(100), 1.0, 4.0, 12.0)


@pytest.mark.parametrize("value", [1.5, -1.0])
def test_what_is_no_count_is_refused(value):
    with pytest.raises(ValueError, match=f"counts holds {value}"):
        lagged_slopes(np.array([1.0, 2.0, value, 4.0, 3.0, 1.0]), 2)


def test_counts_whose_squares_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="pass 64 bits"):
        lagged_slopes(np.full(100, 2**30), 4)


def test_the_examples_in_the_docstrings_run():
    result = doctest.testmod(dtb.observe.branching)
    assert result.attempted > 6 and result.failed == 0
