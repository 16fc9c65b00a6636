"""Ensemble filters against the exact answer, against each other, and against published tables."""

import numpy as np
import pytest
from scipy.stats import chi2

from dtb.assimilation import kalman, verify

N, REGIONS = 40, 5
ONES, TAPERS = np.ones(verify.SITES), verify.tapers(4.0)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def ensemble(rng):
    """(N, region, 3) states of which the last is observed, by region."""
    mixing = rng.normal(size=(REGIONS, 3, 3))
    return np.einsum("mri,rij->mrj", rng.normal(size=(N, REGIONS, 3)), mixing)


# against the exact answer --------------------------------------------------------------------------------------


def test_the_exact_filter_and_smoother_are_calibrated(rng):
    """Errors of the exact answer, in its own covariance, are chi-square: the model, the filter and the smoother agree.
    Of 2,000 times, correlated over some ten, a mean within 10 % of 3 degrees of freedom."""
    model = verify.haemodynamic_chain()
    x, y = verify.simulate(model, 2000, rng)
    _, analysis = verify.kalman_filter(model, y)
    smooth = verify.rts_smoother(model, y)
    for path in (analysis, smooth):
        error = (x - path.mean)[50:-50]
        square = np.einsum("ti,tij,tj->t", error, np.linalg.inv(path.covariance[50:-50]), error)
        assert square.mean() == pytest.approx(chi2(3).mean(), rel=0.1)
    late, early = (np.diagonal(path.covariance, 0, 1, 2)[:-1] for path in (smooth, analysis))
    assert (late <= early + 1e-12).all()


def test_smoothing_halves_the_error_of_the_drive(rng):
    model = verify.haemodynamic_chain()
    x, y = verify.simulate(model, 4000, rng)
    filtered = verify.rms((x - verify.kalman_filter(model, y)[1].mean)[:, 0])
    smoothed = verify.rms((x - verify.rts_smoother(model, y).mean)[:, 0])
    assert 0.4 < smoothed / filtered < 0.75


def test_many_members_give_the_exact_filter_and_smoother():
    """The bar: 0.06 posterior sd at a thousand members; the smoother of 15 scans 0.1, for its lag is finite, too."""
    found = verify.linear_gaussian(1000)
    assert found.filtered < 0.06 and found.smoothed < 0.1 and abs(found.spread - 1) < 0.02


def test_errors_fall_as_the_root_of_the_members():
    few, many = ([verify.linear_gaussian(n, seed=s).filtered for s in range(8)] for n in (40, 640))
    assert np.mean(few) / np.mean(many) == pytest.approx(4, rel=0.25)


@pytest.mark.parametrize("perturb", [False, True])
def test_one_analysis_of_many_members_is_that_of_a_kalman_filter(perturb):
    rng = np.random.default_rng(3)
    covariance = np.array([[2.0, 0.6], [0.6, 1.0]])
    x = rng.multivariate_normal([1.0, -1.0], covariance, 40_000)[:, None]
    a = kalman.by_region(x, x[..., 1], np.array([0.5]), np.array([0.25]), rng if perturb else None)[:, 0]
    k = covariance[:, 1] / (1.0 + 0.25)
    assert a.mean(axis=0) == pytest.approx(np.array([1.0, -1.0]) + k * 1.5, abs=0.03)
    assert np.cov(a.T) == pytest.approx(covariance - np.outer(k, covariance[1]), abs=0.05)


# against published tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "members", "inflation", "expected"),
    [("perturbed", 40, 1.06, 0.22), ("transformed", 28, 1.02, 0.18), ("localised", 7, 1.04, 0.22)],
)
def test_lorenz_96_is_followed_as_closely_as_the_tables_say(name, members, inflation, expected):
    """Sakov & Oke (2008), figure 4, and DAPPER's mods/Lorenz96/sakov2008.py: 0.22, 0.18, 0.22. Within 7 %, for a run of
    1,000 cycles varies by 2 % from seed to seed."""
    analyse = {
        "perturbed": lambda x, y, rng: kalman.perturbed(x, x, y, ONES, rng),
        "transformed": lambda x, y, rng: kalman.transformed(x, x, y, ONES),
        "localised": lambda x, y, rng: kalman.localised(x, x, y, ONES, TAPERS),
    }[name]
    assert verify.chaos(analyse, members, inflation, cycles=1000) == pytest.approx(expected, rel=0.07)


def test_without_inflation_a_small_ensemble_loses_the_truth():
    """So that the test above can fail: 7 members without localisation diverge."""
    assert verify.chaos(lambda x, y, rng: kalman.transformed(x, x, y, ONES), 7, 1.0, cycles=200) > 1


# against each other --------------------------------------------------------------------------------------------


def test_one_region_is_a_problem_of_its_own(ensemble):
    y, r = np.arange(REGIONS, dtype=float), np.full(REGIONS, 0.3)
    together = kalman.by_region(ensemble, ensemble[..., 2], y, r)
    for k in range(REGIONS):
        alone = kalman.by_region(ensemble[:, [k]], ensemble[:, [k], 2], y[[k]], r[[k]])
        np.testing.assert_allclose(together[:, [k]], alone, rtol=1e-12)


def test_the_square_root_of_one_observation_has_the_moments_of_the_transform(ensemble):
    """They mix members differently, but leave the same mean and covariance."""
    x, y, r = ensemble[:, 0], np.array([0.7]), np.array([0.2])
    a = kalman.by_region(x[:, None], x[:, None, 2], y, r)[:, 0]
    b = kalman.transformed(x, x[:, 2:], y, r)
    np.testing.assert_allclose(a.mean(axis=0), b.mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(np.cov(a.T), np.cov(b.T), rtol=1e-8, atol=1e-12)


def test_without_sharing_the_diffusion_filter_corrects_each_region_by_its_own_observation(ensemble):
    y, r = np.arange(REGIONS, dtype=float), np.full(REGIONS, 1e-8)
    a = kalman.diffused(ensemble, ensemble[..., 2], y, r, 1.0, np.random.default_rng(0))
    np.testing.assert_allclose(a[..., 2], np.broadcast_to(y, (N, REGIONS)), atol=1e-3)  # it interpolates


def test_the_diffusion_filter_is_the_published_sum_over_regions(ensemble):
    y, r, rate = np.arange(REGIONS, dtype=float), np.full(REGIONS, 0.5), 0.5
    a = kalman.diffused(ensemble, ensemble[..., 2], y, r, rate, np.random.default_rng(0))
    error = np.random.default_rng(0).standard_normal((N, REGIONS)) * np.sqrt(r)
    expected = ensemble.copy()
    for i in range(REGIONS):
        for j in range(REGIONS):
            hx = ensemble[:, j, 2]
            k = np.array([np.cov(ensemble[:, i, c], hx)[0, 1] for c in range(3)]) / (hx.var(ddof=1) + r[j])
            share = rate * (i == j) + (1 - rate) / REGIONS
            expected[:, i] += share * np.outer(y[j] + error[:, j] - hx, k)
    np.testing.assert_allclose(a, expected, rtol=1e-9, atol=1e-12)


# what is missing, what is wrong --------------------------------------------------------------------------------


def test_a_missing_observation_changes_nothing_of_its_region(ensemble, rng):
    y = np.array([1.0, np.nan, 2.0, np.nan, 0.0])
    for noise in (None, rng):
        a = kalman.by_region(ensemble, ensemble[..., 2], y, np.ones(REGIONS), noise)
        assert np.array_equal(a[:, [1, 3]], ensemble[:, [1, 3]]) and not np.array_equal(a[:, 0], ensemble[:, 0])


@pytest.mark.parametrize("name", ["perturbed", "transformed"])
def test_a_missing_observation_is_one_that_was_never_made(name, ensemble):
    x, y, r = ensemble[:, 0], np.array([0.3, np.nan, -1.0]), np.array([0.5, 0.5, 2.0])

    def analyse(x, hx, y, r):
        more = (np.random.default_rng(0),) if name == "perturbed" else ()
        return getattr(kalman, name)(x, hx, y, r, *more)

    np.testing.assert_array_equal(analyse(x, x, y, r), analyse(x, x[:, [0, 2]], y[[0, 2]], r[[0, 2]]))


def test_what_is_given_stays_as_it_was(ensemble, rng):
    before = ensemble.copy()
    y, r = np.zeros(REGIONS), np.ones(REGIONS)
    kalman.by_region(ensemble, ensemble[..., 2], y, r)
    kalman.diffused(ensemble, ensemble[..., 2], y, r, 0.5, rng)
    kalman.transformed(ensemble[:, 0], ensemble[:, 0], np.zeros(3), np.ones(3))
    assert np.array_equal(before, ensemble)


def test_shapes_that_do_not_fit_and_errors_of_zero_are_refused(ensemble, rng):
    with pytest.raises(ValueError, match=r"do not fit: expected \(N, region, n\)"):
        kalman.by_region(ensemble, ensemble[..., 2], np.zeros(2), np.ones(2))
    with pytest.raises(ValueError, match="do not fit"):
        kalman.transformed(ensemble[:1, 0], ensemble[:1, 0], np.zeros(3), np.ones(3))
    with pytest.raises(ValueError, match="above 0"):
        kalman.perturbed(ensemble[:, 0], ensemble[:, 0], np.zeros(3), np.zeros(3), rng)
    with pytest.raises(ValueError, match="rate is 2"):
        kalman.diffused(ensemble, ensemble[..., 2], np.zeros(REGIONS), np.ones(REGIONS), 2, rng)
