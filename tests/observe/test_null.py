"""The null of a comparison of functional connectivities."""

import numpy as np
import pytest

from dtb.observe.measures import fc_correlation, functional_connectivity
from dtb.observe.null import p_value, shuffled_fc_correlations


def connectivity(rng, regions=12, scans=30):
    return functional_connectivity(rng.normal(size=(scans, regions)))


def test_a_shuffle_is_the_correlation_with_regions_in_another_order(rng):
    a, b = connectivity(rng), connectivity(rng)
    order = np.random.default_rng(7).permutation(12)
    expected = fc_correlation(a, b[np.ix_(order, order)])
    assert shuffled_fc_correlations(a, b, n=1, seed=7)[0] == pytest.approx(expected, abs=1e-12)


def test_the_same_seed_gives_the_same_null_and_another_one_does_not(rng):
    a, b = connectivity(rng), connectivity(rng)
    first = shuffled_fc_correlations(a, b, n=50, seed=1)
    np.testing.assert_array_equal(first, shuffled_fc_correlations(a, b, n=50, seed=1))
    assert not np.array_equal(first, shuffled_fc_correlations(a, b, n=50, seed=2))


def test_p_of_unrelated_matrices_is_uniform(rng):
    p = []
    for _ in range(200):
        a, b = connectivity(rng), connectivity(rng)
        p.append(p_value(fc_correlation(a, b), shuffled_fc_correlations(a, b, n=99)))
    below = [np.mean(np.array(p) <= x) for x in (0.1, 0.5, 0.9)]
    # A share x of 200 has a standard deviation of at most 0.035; four of them.
    np.testing.assert_allclose(below, [0.1, 0.5, 0.9], atol=0.14)


def test_a_matrix_stands_out_against_its_own_shuffles(rng):
    a = connectivity(rng)
    assert p_value(1.0, shuffled_fc_correlations(a, a, n=999)) == 0.001


def test_what_has_no_correlation_is_refused(rng):
    a = connectivity(rng)
    with pytest.raises(ValueError, match="constant"):
        shuffled_fc_correlations(a, np.ones((12, 12)))
    with pytest.raises(ValueError, match="At least one shuffle"):
        shuffled_fc_correlations(a, a, n=0)
