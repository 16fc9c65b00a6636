import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dtb.observe.avalanches
from dtb.observe.avalanches import Avalanches, criticality, find_avalanches


def by_a_loop(counts, threshold):
    """Sizes and durations of runs above the threshold with a quiet bin on either side."""
    found, size, duration, started = [], 0, 0, False
    for n in counts:
        if n > threshold:
            size, duration = size + n - threshold, duration + 1
        else:
            if duration and started:
                found.append((size, duration))
            size, duration, started = 0, 0, True
    return found


counts = st.lists(st.integers(0, 4), min_size=1, max_size=60)


@given(counts, st.integers(0, 2))
def test_avalanches_are_those_of_a_loop(counts, threshold):
    found = find_avalanches(np.array(counts), dt=1.0, bin_ms=1.0, threshold=threshold)
    assert list(zip(found.size.tolist(), found.duration.tolist(), strict=True)) == by_a_loop(counts, threshold)


@given(counts, st.lists(st.integers(0, 60), max_size=8), st.integers(1, 3))
def test_blocks_give_the_very_avalanches_of_the_whole(counts, places, width):
    whole = find_avalanches(np.array(counts), dt=1.0, bin_ms=width)
    blocks = find_avalanches(np.split(np.array(counts), sorted(places)), dt=1.0, bin_ms=width)
    assert all(np.array_equal(a, b) for a, b in zip(whole, blocks, strict=True))


def critical_avalanches(rng, n=20_000, longest=1_000):
    """Galton–Watson trees with Poisson offspring of mean one: sizes and durations; those that outlive are left out."""
    alive, size, duration = np.ones(n, np.int64), np.ones(n, np.int64), np.ones(n, np.int64)
    for _ in range(longest):
        alive = rng.poisson(alive)
        size, duration = size + alive, duration + (alive > 0)
    done = alive == 0
    return Avalanches(size[done], duration[done])


def test_a_critical_branching_process_has_its_known_exponents(rng):
    """3/2 and 2 (Harris 1963, The Theory of Branching Processes), so γ = 2 by the crackling-noise relation. Sizes are
    Borel distributed, within 2 % of the power law from 4 on; durations reach theirs slowly, with corrections of
    order ln d/d. The tree is cut at 1000 generations, so sizes are fitted up to 10⁴."""
    found = criticality(critical_avalanches(rng), size_range=(10, 10_000), duration_range=(20, 400))
    assert found.size.alpha == pytest.approx(1.5, abs=0.05)
    assert found.duration.alpha == pytest.approx(2.0, abs=0.2)
    assert found.growth == pytest.approx(2.0, abs=0.15)
    assert found.predicted == pytest.approx(2.0, abs=0.35)
    assert found.size.over_exponential > 0.5 and found.duration.over_exponential > 0.05


def test_avalanches_found_in_a_series_are_the_trees_that_made_it(rng):
    """Trees one after the other, with a quiet bin between them."""
    trees = [[int(x) for x in rng.integers(1, 5, rng.integers(1, 6))] for _ in range(50)]
    series = np.array([0, *(x for tree in trees for x in (*tree, 0))])
    found = find_avalanches(series, dt=0.5, bin_ms=0.5)
    assert found.size.tolist() == [sum(tree) for tree in trees]
    assert found.duration.tolist() == [len(tree) for tree in trees]


def test_independent_spikes_make_exponential_avalanches(rng):
    """Runs of bins that are filled by chance are geometric."""
    found = find_avalanches(rng.poisson(1.0, 50_000), dt=1.0, bin_ms=1.0)
    assert criticality(found, (1, None), (1, None)).duration.over_exponential < 0
    assert found.duration.mean() == pytest.approx(1 / np.exp(-1), rel=0.03)  # 11,600 of them, sd 2.2


def test_a_threshold_that_is_no_count_is_refused():
    with pytest.raises(ValueError, match=r"threshold is 1\.5"):
        find_avalanches(np.ones(10), 1.0, 1.0, threshold=1.5)


def test_avalanches_of_one_length_have_no_growth():
    with pytest.raises(ValueError, match=r"2 distinct ones, are needed"):
        criticality(Avalanches(np.arange(1, 101), np.full(100, 3)), (1, None), (1, None))


def test_the_examples_in_the_docstrings_run():
    result = doctest.testmod(dtb.observe.avalanches)
    assert result.attempted > 6 and result.failed == 0
