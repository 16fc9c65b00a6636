import doctest

import numpy as np
import pytest
from scipy.stats import zipf

import dtb.observe.power_law
from dtb.observe.power_law import fit_power_law, goodness

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:powerlaw", "ignore:Initial guess is not within")


def by_powerlaw(x, **keywords):
    import powerlaw

    return powerlaw.Fit(x, discrete=True, estimate_discrete=False, verbose=0, **keywords)


@pytest.fixture
def sizes(rng):
    """Zipf from 1 on, α = 2.2."""
    return rng.zipf(2.2, 5_000)


@pytest.mark.parametrize("x_min", [1, 2, 5])
def test_the_exponent_is_that_of_the_package_powerlaw(sizes, x_min):
    """It maximises the same likelihood by a simplex, which stops at 1e-4; the distance is taken at the same α but, in
    that package, at the values that occur only, which here are dense where the distance is."""
    theirs = by_powerlaw(sizes, xmin=x_min).power_law
    ours = fit_power_law(sizes, x_min)
    assert ours.alpha == pytest.approx(theirs.alpha, abs=2e-4)
    assert ours.distance == pytest.approx(theirs.D, abs=2e-3)
    assert ours.n == np.sum(sizes >= x_min)


def test_the_exponent_up_to_an_end_is_that_of_the_package_powerlaw(sizes):
    theirs = by_powerlaw(sizes[sizes <= 100], xmin=1, xmax=100).power_law
    assert fit_power_law(sizes, 1, 100).alpha == pytest.approx(theirs.alpha, abs=2e-4)


def test_the_start_is_found_where_the_law_begins(rng):
    """Uniform below 10, a power law above: half of the data each."""
    x = np.concatenate([rng.integers(1, 10, 5_000), _zipf_from(rng, 2.5, 10, 5_000)])
    found = fit_power_law(x)
    assert 8 <= found.x_min <= 14
    assert found.alpha == pytest.approx(2.5, abs=5 * found.error)
    assert found.x_min == by_powerlaw(x).power_law.xmin


@pytest.mark.parametrize(("alpha", "x_min"), [(1.5, 1), (2.0, 3), (3.0, 1)])
def test_the_exponent_that_was_drawn_is_found_within_its_error(rng, alpha, x_min):
    found = fit_power_law(_zipf_from(rng, alpha, x_min, 20_000), x_min)
    assert found.alpha == pytest.approx(alpha, abs=4 * found.error)
    assert found.error < 0.025


def test_the_error_is_the_spread_of_repeated_fits(rng):
    """100 fits: their standard deviation errs by 7 %."""
    fits = [fit_power_law(rng.zipf(2.5, 500), 1) for _ in range(100)]
    assert np.std([fit.alpha for fit in fits]) == pytest.approx(fits[0].error, rel=0.3)


def test_data_that_a_finite_system_cuts_need_the_end(rng):
    x = _zipf_from(rng, 1.5, 1, 20_000)
    x = x[x <= 200]
    cut = fit_power_law(x, 1, 200)
    assert cut.alpha == pytest.approx(1.5, abs=4 * cut.error)
    assert fit_power_law(x, 1).alpha > 1.5 + 10 * cut.error


def test_a_power_law_is_not_ruled_out_and_a_geometric_one_is(rng):
    x = rng.zipf(2.2, 1_000)
    assert goodness(fit_power_law(x, 1), n_samples=50) > 0.1
    geometric = fit_power_law(rng.geometric(0.1, 1_000), 1)
    assert goodness(geometric, n_samples=50) == 0
    assert geometric.over_exponential < 0 < fit_power_law(x, 1).over_exponential


def test_the_gain_over_an_exponential_is_that_of_the_package_powerlaw(sizes):
    """Theirs is summed over values, and its simplex stops a little short of the best exponential."""
    theirs = by_powerlaw(sizes, xmin=1).distribution_compare("power_law", "exponential")[0]
    assert fit_power_law(sizes, 1).over_exponential * len(sizes) == pytest.approx(theirs, rel=2e-3)


def test_the_distance_is_the_largest_gap_at_any_whole_number():
    x = np.repeat([1, 2, 20], [30, 20, 10])
    found = fit_power_law(x, 1)
    at = np.arange(1, 40)
    gap = np.abs(np.searchsorted(x, at, side="right") / 60 - zipf.cdf(at, found.alpha))
    assert found.distance == pytest.approx(gap.max(), abs=1e-9)
    assert at[np.argmax(gap)] == 2


def test_too_few_values_are_refused():
    with pytest.raises(ValueError, match="at least 50"):
        fit_power_law(np.arange(1, 30), 1)


@pytest.mark.parametrize("bad", [np.array([0, 1, 2]), np.array([1.5, 2.0]), np.ones((2, 2))])
def test_what_is_no_list_of_whole_numbers_from_one_is_refused(bad):
    with pytest.raises(ValueError, match="whole numbers from 1 on"):
        fit_power_law(bad)


def test_the_examples_in_the_docstrings_run():
    result = doctest.testmod(dtb.observe.power_law)
    assert result.attempted > 5 and result.failed == 0


def _zipf_from(rng, alpha, x_min, n):
    """Zipf variables from x_min on."""
    kept = np.zeros(0, np.int64)
    while len(kept) < n:
        x = rng.zipf(alpha, 20 * n)
        kept = np.concatenate([kept, x[x >= x_min]])
    return kept[:n]
