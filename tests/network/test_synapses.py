"""The synapse rule, by counting: what docs/decisions/0001-synapse.md says follows from it, does.

Seeds are fixed, so a test passes always or never. Where chance has a say, LIMIT is what a right rule would pass with
probability 1 - 1e-6 or better in one comparison.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy import stats

from dtb import build_network, default_brain
from dtb.engine.constants import delay_steps
from dtb.network import synapses as rule_module
from dtb.network.lesion import lesion_tracts
from dtb.network.network import Network
from dtb.network.synapses import (
    ONE,
    expected_autapses,
    expected_multapses,
    offsets,
    out_degree,
    place,
    reciprocal,
    row,
    row_width,
    spare_bits,
    synapses,
    tables,
    weight_table,
    weight_unit,
)
from dtb.network.tiles import MAX_TILE, tile
from tests.network import by_hand
from tests.network.strategies import brainlike, describe, descriptions, edges, ei, network_of, rule

ALPHA = 1e-6  # probability that a right rule fails one statistical comparison


def limit(n: int) -> float:
    """|z| that one of n standard normals exceeds with probability ALPHA; a tenth more, as they are not quite normal."""
    return 1.1 * stats.norm.isf(ALPHA / (2 * n))


@pytest.fixture(scope="module", params=["ei", "brainlike", "default"])
def network(request) -> Network:
    if request.param == "default":
        return build_network(default_brain(), n_neurons=3_000, in_degree=80)
    return network_of(ei(1_000, 100) if request.param == "ei" else brainlike())


@pytest.fixture(scope="module")
def found(network):
    return edges(network)


def overlaps(network: Network, population: int):
    """How a row meets its strata: (segment, target gid, stratum, p), p the chance that this stratum hits this target.

    A target holds d/n of its segment; p is how much of that lies in the stratum.
    """
    segments, parts = row(network, population), []
    for m, n in enumerate(segments.n):
        edge = np.linspace(float(segments.bound[m]) / ONE, float(segments.bound[m + 1]) / ONE, n + 1)
        for step in range(int(np.ceil(edge[1] - edge[0])) + 1):
            stratum = np.floor(edge[:-1]) + step
            p = np.minimum(edge[1:], stratum + 1) - np.maximum(edge[:-1], stratum)
            at = np.flatnonzero(p > 0)
            parts.append((np.full(len(at), m), segments.first[m] + at, stratum[at].astype(int), p[at]))
    return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


def multapses_of(network: Network, population: int) -> float:
    """Expected pairs of synapses of a projection that join a neuron of the population to one target, exactly."""
    m, target, stratum, p = overlaps(network, population)
    key = (row(network, population).projection[m] * network.n_neurons + target) * (stratum.max() + 1) + stratum
    cell, at = np.unique(key, return_inverse=True)
    in_stratum = np.bincount(at, p)  # of one target, over its delay classes
    _, at = np.unique(cell // (stratum.max() + 1), return_inverse=True)
    return float((np.bincount(at, in_stratum) ** 2).sum() - (in_stratum**2).sum()) / 2


def coinciding(found, n_neurons: int) -> np.ndarray:
    """(source neurons,) pairs of synapses of one projection between the same two neurons."""
    key = (found.projection * n_neurons + found.pre) * n_neurons + found.post
    cell, count = np.unique(key, return_counts=True)
    return np.bincount(cell // n_neurons % n_neurons, count * (count - 1) // 2, minlength=n_neurons)


def in_degrees(network: Network):
    """(neurons,) mean and variance of the number of synapses that arrive, autapses among them."""
    mean, variance = np.zeros(network.n_neurons), np.zeros(network.n_neurons)
    for p, n in enumerate(np.diff(network.first_gid)):
        if row_width(network)[p]:
            _, target, _, part = overlaps(network, p)
            mean += n * np.bincount(target, part, network.n_neurons)
            variance += n * np.bincount(target, part * (1 - part), network.n_neurons)
    return mean, variance


# The definition and its second opinion -----------------------------------------------------------------------------


@settings(max_examples=100, deadline=None, derandomize=True)
@given(descriptions(), st.data())
def test_any_network_has_the_synapses_that_the_page_says(description, data):
    network = network_of(description)
    gid = data.draw(st.integers(0, network.n_neurons - 1))
    pairs = sorted({(post, pre) for p in description["projections"] for post, pre, *_ in p["pairs"]})
    cut = {pair: data.draw(st.floats(0, 1)) for pair in pairs}
    names = network.regions
    lesions = lesion_tracts(network, {(names[post], names[pre]): f for (post, pre), f in cut.items()})
    out = synapses(network, gid, lesions)
    answer, autapses, lesioned = by_hand.synapses(description, gid, [[*pair, f] for pair, f in cut.items()])
    columns = (out.j, out.target, out.weight, out.delay, out.kind)
    assert list(zip(*(a.tolist() for a in columns), strict=True)) == [tuple(synapse) for synapse in answer]
    assert out.autapses == autapses
    assert out_degree(network, [gid]).tolist() == [len(answer) + autapses + lesioned]


@settings(max_examples=50, deadline=None, derandomize=True)
@given(descriptions())
def test_any_network_counts_right(description):
    network = network_of(description)
    found = edges(network)
    counts_are_right(network, found)
    sent = np.bincount(found.pre, minlength=network.n_neurons)
    assert sent.tolist() == out_degree(network, np.arange(network.n_neurons)).tolist()


def test_edges_of_these_tests_are_the_synapses_of_every_neuron(network, found):
    ends = np.searchsorted(found.pre, np.arange(network.n_neurons + 1))
    for gid in range(0, network.n_neurons, 1 + network.n_neurons // 500):
        out, mine = synapses(network, gid), slice(*ends[gid : gid + 2])
        kept = found.post[mine] != gid
        for name in ("j", "weight", "delay", "projection"):
            assert getattr(out, name).tolist() == getattr(found, name)[mine][kept].tolist()
        assert out.target.tolist() == found.post[mine][kept].tolist()
        assert out.autapses == (~kept).sum()


# Totals ------------------------------------------------------------------------------------------------------------


def counts_are_right(network, found):
    """Every neuron has what its segments say to within two, and all neurons of a population together by chance."""
    for p, n in enumerate(np.diff(network.first_gid)):
        segments, first = row(network, p), network.first_gid[p]
        mine = slice(*np.searchsorted(found.pre, [first, first + n]))
        cell = (found.pre[mine] - first) * len(segments.n) + found.segment[mine]
        count = np.bincount(cell, minlength=n * len(segments.n)).reshape(n, -1)
        width = np.diff(segments.bound) / ONE
        assert (np.abs(count - width) < 2).all()  # full strata, and a part of one at each end
        low, high = segments.bound[:-1] / ONE, segments.bound[1:] / ONE
        left, right = np.minimum(np.ceil(low), high) - low, high - np.maximum(np.floor(high), low)
        one = np.floor(low) == np.floor(high)  # a segment within one stratum
        variance = np.where(one, width * (1 - width), left * (1 - left) + right * (1 - right))
        # + 12: a sum of rare throws is not normal; beyond 5 sd + 12 it is with probability below 1e-6 (Bernstein)
        assert (np.abs(count.sum(axis=0) - n * width) <= 5 * np.sqrt(n * variance) + 12).all()


def test_totals_of_every_population_pair_are_those_of_the_description(network, found):
    counts_are_right(network, found)


def test_widths_are_the_description_to_within_their_rounding(network):
    """in_degree · factor · targets, over all sources: what a projection says must be what its segments hold."""
    described = np.zeros((len(network.projections), len(network.regions), len(network.classes)))
    for number, p in enumerate(network.projections):
        received = np.bincount(p.pairs.post, p.pairs.in_degree, minlength=len(network.regions))
        k = network.class_indices(p.post)
        described[number][:, k] = received[:, None] * np.array(p.factor) * network.size[:, k]
    made = np.zeros_like(described)
    for p, n in enumerate(np.diff(network.first_gid)):
        s = row(network, p)
        at = (s.projection, network.population_region[s.population], network.population_class[s.population])
        np.add.at(made, at, n * np.diff(s.bound).astype(float) / ONE)
    # a width is rounded to 2^-33, its cuts by shares of 2^-33 each; no pair here is wider than 100 synapses
    rounding = network.n_neurons * len(network.regions) * 2.0**-32 * 101
    assert np.abs(made - described).max() < rounding
    assert made.sum() == pytest.approx(network.n_synapses, abs=rounding)
    assert list(network.synapses_by_projection().values()) == pytest.approx(described.sum(axis=(1, 2)))


def test_segments_lie_end_to_end_in_the_order_of_the_description(network):
    begin = offsets(network)
    for p in range(network.n_populations):
        s = row(network, p)
        assert (np.diff(s.bound.astype(np.int64)) > 0).all()
        assert s.bound[0] == 0
        assert s.bound[-1] == begin[p, -1] == row_width(network)[p]
        assert (np.diff(s.projection) >= 0).all()
        for number in np.unique(s.projection):
            here = s.projection == number
            pairs = network.projections[number].pairs
            assert (np.diff(s.pair[here]) >= 0).all()
            assert (pairs.post[s.pair[here]] == network.population_region[s.population[here]]).all()
            assert (pairs.pre[s.pair[here]] == network.population_region[p]).all()
            assert begin[p, number] <= s.bound[:-1][here][0]
            assert s.bound[1:][here][-1] <= begin[p, number + 1]


def test_out_degrees_are_exact_to_within_one(network, found):
    sent = np.bincount(found.pre, minlength=network.n_neurons)
    mean = np.repeat(row_width(network), np.diff(network.first_gid)) / ONE
    assert (np.abs(sent - mean) < 1).all()
    assert sent.tolist() == out_degree(network, np.arange(network.n_neurons)).tolist()
    extra = mean - np.floor(mean)
    z = (sent - mean).sum() / np.sqrt(max((extra * (1 - extra)).sum(), 1e-9))
    assert abs(z) < limit(1) or sent.tolist() == mean.tolist()


# Who meets whom ----------------------------------------------------------------------------------------------------


def test_every_pair_of_neurons_is_equally_likely():
    """Pearson's chi-square, exact here: 64 strata of 16 targets each, so that each is a fair die of 16 sides.

    Counted by target, and by target and group of sources; a right rule fails either with probability 1e-6.
    """
    n, d, groups = 1_024, 64, 32
    network = network_of(describe([[n]], [rule("r", ["E"], ["E"], [(0, 0, float(d), 1.0)])], ["E"], seed=5))
    found = edges(network)
    for parts in (1, groups):
        count = np.bincount(found.pre * parts // n * n + found.post, minlength=parts * n)
        mean = d / parts
        chi2 = ((count - mean) ** 2 / mean).sum()
        degrees = parts * (n - d)
        assert ALPHA / 2 < stats.chi2.sf(chi2, degrees) < 1 - ALPHA / 2


def test_every_target_of_any_segment_is_as_likely_as_its_part_of_it(network, found):
    """In-degrees of all neurons against mean and variance from the intervals that targets hold."""
    mean, variance = in_degrees(network)
    count = np.bincount(found.post, minlength=network.n_neurons)
    z = (count - mean) / np.sqrt(variance)
    assert np.abs(z).max() < limit(len(z)) + 0.3  # in-degrees near 100 are a little skewed
    # squares of z have mean 1 and variance 2; targets of one stratum share its one draw, which only lowers it
    assert abs((z**2).mean() - 1) < limit(1) * np.sqrt(2 / len(z))


def test_means_of_in_degree_are_equal_inside_a_population(network):
    """The chance of a pair is uniform by construction: intervals of one segment are equally long."""
    mean, _ = in_degrees(network)
    for p, (first, end) in enumerate(zip(network.first_gid, network.first_gid[1:], strict=False)):
        assert np.ptp(mean[first:end]) < 1e-6, network.population_name(p)


def test_in_degree_is_not_biased_in_populations_of_50():
    """Sums over 400 seeds. Strata rounded to whole targets would give some targets 0.6 and some 1.2 of the mean."""
    rules = [
        rule("in", ["E"], ["E"], [(0, 0, 41.7, 1.0), (0, 1, 7.3, 1.0)]),
        rule("out", ["I"], ["E"], [(0, 1, 13.1, 1.0)], kind="inhibitory"),
    ]
    description, seeds = describe([[50, 0], [50, 50]], rules), 400
    count = np.zeros(50)
    for seed in range(seeds):
        count += np.bincount(edges(network_of(description, seed)).post, minlength=150)[:50]
    mean, variance = in_degrees(network_of(description))
    assert mean[:50] == pytest.approx(41.7 + 7.3 + 13.1, abs=1e-6)
    z = (count - seeds * mean[:50]) / np.sqrt(seeds * variance[:50])
    assert np.abs(z).max() < limit(50)
    assert np.abs(count / count.mean() - 1).max() < 0.01


def test_in_degrees_are_nearly_binomial():
    """About a published fixed in-degree of 100, ours has the sd of a binomial one: 9.7, as architecture.md says."""
    network = network_of(ei(2_000, 100, seed=3))
    count = np.bincount(edges(network).post, minlength=2_000)
    mean, variance = in_degrees(network)
    assert mean == pytest.approx(100, abs=1e-6)
    binomial = 100 * (1 - 0.05)  # 100 of 2,000 sources at most once each
    assert variance.mean() == pytest.approx(binomial, rel=0.02)  # a target's interval may lie in two strata
    # sample mean: the sum of all is fixed but for parts of strata.  Sample sd: relative error 1/sqrt(2 n) = 0.016
    assert count.mean() == pytest.approx(100, abs=0.05)
    assert count.std() == pytest.approx(9.75, rel=limit(1) / np.sqrt(2 * 2_000))


def test_in_degrees_of_two_targets_are_hardly_correlated():
    """Neighbours share strata, and with them draws; correlation -1/16 among 16 targets of a stratum, none beyond."""
    network = network_of(describe([[1_024]], [rule("r", ["E"], ["E"], [(0, 0, 64.0, 1.0)])], ["E"], seed=6))
    count = np.bincount(edges(network).post, minlength=1_024).reshape(64, 16) - 64.0
    inside = (count.sum(axis=1) ** 2).mean() / (count**2).sum(axis=1).mean()
    assert inside == pytest.approx(0, abs=1e-12)  # a stratum's sum is the number of sources
    across = np.corrcoef(count[:-1].ravel(), count[1:].ravel())[0, 1]
    assert abs(across) < limit(1) / np.sqrt(63 * 16)


# Autapses and multapses --------------------------------------------------------------------------------------------


def test_autapses_are_dropped_and_counted_at_their_rate(network, found):
    own = (found.pre == found.post).sum()
    mean = expected_autapses(network)
    assert abs(own - mean) < limit(1) * np.sqrt(mean)  # sums of rare throws: the variance is below the mean
    total = 0
    for gid in range(200):
        out = synapses(network, gid)
        assert gid not in out.target
        total += out.autapses
    assert total == (found.pre == found.post)[found.pre < 200].sum()


def test_expected_autapses_are_the_intervals_that_neurons_hold_of_their_own_rows(network):
    """d/n for each of the n neurons of a population: the width of its segments into itself."""
    direct = sum(
        float(np.diff(s.bound)[s.population == p].sum()) / ONE
        for p in range(network.n_populations)
        for s in [row(network, p)]
    )
    assert expected_autapses(network) == pytest.approx(direct, rel=1e-6)


@pytest.mark.parametrize("delay_classes", [[1.0], [0.5, 1.0, 1.5, 4.0]])
@pytest.mark.parametrize("in_degree", [0.37, 9.3, 47.7, 390.0])
def test_multapses_come_at_their_rate(in_degree, delay_classes):
    """200 neurons, 0.002 to 2 synapses per pair: counted, from intervals exactly, and by the formula of the page."""
    local = rule("r", ["E"], ["E", "I"], [(0, 0, in_degree, 1.0)], delay_classes=delay_classes)
    description = describe([[161, 39]], [local, rule("i", ["I"], ["E"], [(0, 0, in_degree / 3, 1.0)])])
    counts = [coinciding(edges(network_of(description, seed)), 200) for seed in range(40)]
    network = network_of(description)
    exact = sum(n * multapses_of(network, p) for p, n in enumerate(np.diff(network.first_gid)))
    per_neuron = np.concatenate(counts).astype(float)
    error = per_neuron.std() / np.sqrt(len(per_neuron))
    assert abs(per_neuron.mean() - exact / 200) < limit(1) * error + 1e-4
    # the formula takes where strata begin as random; with 200 targets of few segments that is worth some per cent
    assert expected_multapses(network) == pytest.approx(exact, rel=0.06, abs=0.5)


def test_multapses_of_many_targets_follow_the_formula():
    """Where segments hold many targets the formula is exact: width 31.7 into 4,099 neurons, and 4,099 into 2,011."""
    for in_degree, tolerance in ((31.7, 0.01), (4_099.0, 0.0001)):
        n = 4_099 if in_degree < 100 else 2_011
        network = network_of(describe([[n]], [rule("r", ["E"], ["E"], [(0, 0, in_degree, 1.0)])], ["E"]))
        assert expected_multapses(network) == pytest.approx(n * multapses_of(network, 0), rel=tolerance)


def test_expected_multapses_is_the_formula_of_the_page():
    """n (w² - E)/2 with E = w² - w³/3 up to w = 1 and w - 1/3 from there on."""
    for n, d in ((1_000, 50.0), (50, 50.0), (20, 50.0), (3, 0.125)):
        w = d / n
        e = w**2 - w**3 / 3 if w <= 1 else w - 1 / 3
        network = network_of(describe([[n]], [rule("r", ["E"], ["E"], [(0, 0, d, 1.0)])], ["E"]))
        assert expected_multapses(network) == pytest.approx(n * n * (w**2 - e) / 2, rel=1e-9)


def test_expected_multapses_do_not_depend_on_chunks(monkeypatch):
    network = network_of(brainlike())
    whole = expected_multapses(network)
    monkeypatch.setattr(rule_module, "CHUNK", 2)
    assert expected_multapses(network) == pytest.approx(whole, rel=1e-12)


# Weights and delays ------------------------------------------------------------------------------------------------


def test_weights_have_the_distribution_of_their_projection(network, found):
    """256 quantiles, equally often: chi-square; and their mean and spread in units of activation."""
    for number, p in enumerate(network.projections):
        weight = found.weight[found.projection == number]
        table = weight_table(network, number)
        value, multiple = np.unique(table, return_counts=True)
        assert set(weight) <= set(value)
        if len(value) > 1:
            count = np.array([(weight == v).sum() for v in value])
            mean = len(weight) * multiple / 256
            assert ALPHA / 2 < stats.chi2.sf(((count - mean) ** 2 / mean).sum(), len(value) - 1) < 1 - ALPHA / 2
        unit, quantiles = weight_unit(network, p.kind), p.weights.quantiles()
        assert np.abs(table * unit - quantiles).max() <= unit / 2
        error = quantiles.std() / np.sqrt(len(weight)) + unit
        assert abs(weight.mean() * unit - quantiles.mean()) < limit(1) * error


def test_weights_do_not_follow_targets_strata_or_sources(network, found):
    w = (found.weight - found.weight.mean()) / found.weight.std()
    first = found.projection == 0
    for x in (found.post, found.pre, found.j, found.u & np.uint64(ONE - 1)):
        assert abs(np.corrcoef(w[first], x[first].astype(float))[0, 1]) < limit(1) / np.sqrt(first.sum())


def test_the_unit_of_weights_brings_the_largest_into_the_upper_half_of_its_range():
    for top in (1.0, 0.75, 2.0, 2.0**-20, 3e-7, 5e6):
        description = describe(
            [[9]], [rule("r", ["E"], ["E"], [(0, 0, 1.0, 1.0)], weights=("constant", top, 0.0))], ["E"]
        )
        network = network_of(description)
        largest = int(weight_table(network, 0).max())
        assert 2**13 < largest <= 2**14
        assert np.log2(weight_unit(network, "excitatory")).is_integer()
        assert weight_unit(network, "inhibitory") == 2.0**-14  # of no projection: as if the largest were 1


def test_delays_have_the_classes_of_their_projection():
    network = network_of(brainlike())
    found = edges(network)
    long = found.projection == 0
    pairs = network.projections[0].pairs
    for pair, of_pair in enumerate(pairs.delay):
        delay = found.delay[long & (found.pair == pair)]
        expected = np.float64(of_pair) * np.array([0.5, 0.9, 1.1, 1.5])
        assert set(delay) <= set(expected)
        count = np.array([(delay == d).sum() for d in expected])
        assert np.abs(count / len(delay) - 0.25).max() < limit(len(pairs) * 4) * np.sqrt(0.25 * 0.75 / len(delay))
    local = found.projection > 0
    assert set(found.delay[local]) == {1.0}


@given(width=st.integers(1, 2**52 - 1), delays=st.integers(1, 9), share=st.integers(0, ONE))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_shares_are_cut_in_whole_numbers(width, delays, share):
    assert int(rule_module.scale(np.uint64(width), np.uint64(share))) == width * share >> 32
    assert int(rule_module.scale(np.uint64(width), np.uint64(ONE))) == width


# What the graph does not depend on ---------------------------------------------------------------------------------


def test_edges_are_the_same_for_any_tile_size(network, found):
    """Tile by tile, each with the range of u that its own targets hold: the same list for 1,024 and 32,768, and 16.

    The same is asked of the compiled tables of each backend in tests/contracts, where events are delivered.
    """
    lists = []
    for size in (16, 1_024, MAX_TILE):
        tiles = tile(network, size)
        of = np.searchsorted(tiles.first, found.post, side="right") - 1
        inside = found.post - tiles.first[of]
        assert ((inside >= 0) & (inside < tiles.n[of])).all()
        order = np.lexsort((found.j, found.pre, of))  # as a backend delivers: by tile, then by spike
        edge = np.stack([found.pre, found.j, tiles.first[of] + inside, found.weight])[:, order]
        lists.append(edge[:, np.lexsort((edge[1], edge[0]))])
    assert (lists[0] == lists[1]).all()
    assert (lists[0] == lists[2]).all()
    assert (lists[0] == np.stack([found.pre, found.j, found.post, found.weight])).all()


def test_synapses_into_any_tile_are_contiguous_in_u(network, found):
    """Within a segment, what reaches a tile is one run of j: whoever owns the tile enumerates only that."""
    tiles = tile(network, 16)
    of = np.searchsorted(tiles.first, found.post, side="right") - 1
    same = (found.pre[1:] == found.pre[:-1]) & (found.segment[1:] == found.segment[:-1])
    assert (np.diff(of)[same] >= 0).all()
    assert (np.diff(found.post)[same] >= 0).all()
    assert (np.diff(found.u.astype(np.int64))[same] > 0).all()


def test_dt_changes_when_synapses_arrive_and_nothing_else(network):
    """The tables that place synapses know no dt; steps are rounded from ms when a run is compiled."""
    for number, p in enumerate(network.projections):
        before = [array.copy() for array in tables(network, number)]
        fine, coarse = (delay_steps(network, p, dt) for dt in (0.1, 0.5))
        ms = p.pairs.delay[:, None].astype(float) * np.array(p.delay_classes)
        assert np.abs(fine * 0.1 - ms).max() <= 0.05 + 1e-6
        assert np.abs(coarse * 0.5 - ms).max() <= 0.25 + 1e-6
        assert all((a == b).all() for a, b in zip(before, tables(network, number), strict=True))


def test_compiled_rows_of_the_cpu_backend_are_the_same_for_dt_of_a_tenth_and_1_ms():
    """The tables that find a synapse in small populations, field by field: only delays differ."""
    cpu_rows = pytest.importorskip("dtb.engine.backends.cpu_rows")
    network = build_network(default_brain(), n_neurons=2_000)
    fine, coarse = (cpu_rows.rows(network, dt, None) for dt in (0.1, 1.0))
    assert {name for name in fine._fields if (getattr(fine, name) != getattr(coarse, name)).any()} == {"delay"}
    assert np.abs(fine.delay / 10 - coarse.delay).max() <= 0.55


def test_a_seed_makes_its_own_synapses():
    first, same, other = (edges(network_of(brainlike(seed))) for seed in (4, 4, 5))
    assert all((a == b).all() for a, b in zip(first, same, strict=True))
    n = min(len(first.post), len(other.post))
    assert (first.u[:n] == other.u[:n]).mean() < 0.001


# Lesions -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.5, 1.0])
def test_a_lesion_of_one_tract_leaves_every_other_synapse_as_it_was(fraction):
    """And keeps a subset of its own, 1 - f of them."""
    network = network_of(brainlike())
    cut = lesion_tracts(network, {("R0", "R1"): fraction})
    kept = total = 0
    for gid in range(network.n_neurons):
        whole, left = synapses(network, gid), synapses(network, gid, cut)
        assert left.autapses == whole.autapses
        from_r1 = network.population_region[np.searchsorted(network.first_gid, gid, side="right") - 1] == 1
        into_r0 = whole.target < 253
        tract = into_r0 & from_r1
        still = np.isin(whole.j, left.j)
        assert still[~tract].all()
        for name in ("j", "target", "weight", "delay", "kind", "projection"):
            assert (getattr(whole, name)[still] == getattr(left, name)).all()
        kept, total = kept + still[tract].sum(), total + tract.sum()
    assert total > 1_000
    assert abs(kept - (1 - fraction) * total) <= limit(1) * np.sqrt(total * fraction * (1 - fraction))


def test_a_deeper_lesion_takes_what_a_lighter_one_took_and_more():
    network = network_of(ei(1_000, 100))
    cuts = [lesion_tracts(network, {("R0", "R0"): fraction}) for fraction in (0.0, 0.2, 0.6, 0.9)]
    for gid in (0, 500, 999):
        left = [set(synapses(network, gid, cut).j.tolist()) for cut in cuts]
        assert left[0] > left[1] > left[2] > left[3]


def test_a_lesion_falls_on_any_target_and_weight_alike():
    network = network_of(ei(1_000, 100))
    cut = lesion_tracts(network, {("R0", "R0"): 0.5})
    whole = [synapses(network, gid) for gid in range(400)]
    gone = np.concatenate([~np.isin(s.j, synapses(network, gid, cut).j) for gid, s in enumerate(whole)]).astype(float)
    for name in ("j", "target", "weight"):
        x = np.concatenate([getattr(s, name) for s in whole]).astype(float)
        assert abs(np.corrcoef(gone, x)[0, 1]) < limit(3) / np.sqrt(len(x))


@pytest.mark.parametrize(
    ("tracts", "says"),
    [
        ({("R0", "R11"): 0.5}, r"unknown region 'R11' in a lesion\. Did you mean 'R1'\?"),
        ({("nowhere", "R1"): 0.5}, r"unknown region 'nowhere' in a lesion\. Known are 3, such as 'R0'"),
        ({("R1", "R2"): 0.5}, r"no projection joins 'R2' to 'R1'.*the other way round"),
        ({("R0", "R1"): 1.2}, r"from 'R1' to 'R0' is 1\.2; allowed: 0 \(none\) to 1 \(all\)"),
        ({("R0", "R1"): -0.1}, r"is -0\.1; allowed"),
        ({("R0", "R1"): float("nan")}, r"is nan; allowed"),
    ],
)
def test_a_lesion_that_cannot_be_is_refused(tracts, says):
    with pytest.raises(ValueError, match=says):
        lesion_tracts(network_of(brainlike()), tracts)


# Where in a segment ------------------------------------------------------------------------------------------------

WIDTHS = st.one_of(st.integers(1, 2**21), st.integers(2**21, 2**40), st.integers(2**40, 2**52 - 1))
SIZES = st.one_of(st.integers(1, 100), st.integers(1, 2**36 - 1))
LIMITS = settings(max_examples=300, deadline=None, derandomize=True)


@LIMITS
@given(
    width=WIDTHS,
    n=SIZES,
    draws=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 2**32 - 1)), min_size=2, max_size=40),
)
@example(width=2**52 - 1, n=2**36 - 1, draws=[(1.0, 2**32 - 1), (1.0, 0)])
@example(width=1, n=1, draws=[(0.0, 0), (0.0, 2**32 - 1)])
def test_a_target_is_in_its_population_and_rises_with_u(width, n, draws):
    """The float product is the floor of the exact quotient, or beside it where that is a whole number to 2^-16."""
    offset = np.array([min(int(x * width), width - 1) for x, _ in draws], np.uint64)
    low = np.array([bits for _, bits in draws], np.uint64)
    order = np.lexsort((low, offset))
    offset, low = offset[order], low[order]
    k = place(offset, low, np.full(len(low), width, np.uint64), np.full(len(low), n))
    assert (np.diff(k) >= 0).all()
    assert ((k >= 0) & (k < n)).all()
    spare = int(spare_bits(np.array([width]))[0])
    for o, bits, found in zip(offset.tolist(), low.tolist(), k.tolist(), strict=True):
        exact = o << spare | bits >> 32 - spare
        quotient, rest = divmod(exact * n, width << spare)
        assert found == quotient or min(rest, (width << spare) - rest) / (width << spare) <= 2.0**-16
        assert abs(found - quotient) <= 1


@LIMITS
@given(width=WIDTHS)
def test_spare_bits_fill_the_mantissa(width):
    spare = int(spare_bits(np.array([width]))[0])
    assert spare == min(53 - width.bit_length(), 32)
    assert spare >= 1
    assert width << spare <= 2**53


@LIMITS
@given(width=WIDTHS, n=SIZES, k=st.floats(0, 1))
def test_the_range_of_u_of_a_run_of_targets_is_found_from_its_ends(width, n, k):
    """What backends do: u of target k is k/reciprocal to within 3 units of 2^-32; below it is k - 1, from it on k."""
    assume(width > 64)
    k = min(int(k * n), n - 1)
    spare = spare_bits(np.array([width]))
    scale = reciprocal(np.array([width]), np.array([n]))
    at = int(np.floor(k / scale[0] / 2.0 ** int(spare[0])))
    one = np.ones(1, np.uint64)
    if at + 3 < width:
        assert place(np.array([at + 3], np.uint64), 0 * one, width * one, np.array([n]))[0] >= k
    if at >= 3:
        assert place(np.array([at - 3], np.uint64), one * np.uint64(2**32 - 1), width * one, np.array([n]))[0] <= k


def test_u_beyond_the_mean_out_degree_is_no_synapse():
    """D = 2.5: a third synapse in half of the neurons, and none beyond."""
    network = network_of(describe([[4_000, 7]], [rule("r", ["E"], ["I"], [(0, 0, 2.5 * 4_000 / 7, 1.0)])]))
    found = edges(network)
    assert (found.u < row_width(network)[0]).all()
    third = (found.j == 2).sum()
    assert abs(third - 2_000) < limit(1) * np.sqrt(1_000)
    assert found.j.max() == 2


# What is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gid", [-1, 768, 2**63 - 1])
def test_a_gid_that_is_not_there_is_refused(gid):
    network = network_of(brainlike())
    with pytest.raises(ValueError, match=f"gid {gid} is not in this network; its neurons are 0 to 767"):
        synapses(network, gid)
    with pytest.raises(ValueError, match="is not in this network"):
        out_degree(network, [0, gid])


def test_a_row_of_2_to_the_20_synapses_is_refused():
    """One projection alone, and several together."""
    half = [rule(f"p{i}", ["E"], ["E"], [(0, 0, 2.0**19, 1.0)]) for i in range(2)]
    whole = [rule("p", ["E"], ["I"], [(0, 0, 2.0**20, 1.0)])]
    with pytest.raises(ValueError, match=r"'R0\.E' would have 1,048,576 synapses; limit 2\^20\. Lower in_degree"):
        synapses(network_of(describe([[10, 10]], half)), 0)
    with pytest.raises(ValueError, match=r"projection 'p' asks for 1\.05e\+06 synapses of one neuron; limit 2\^20"):
        synapses(network_of(describe([[10, 10]], whole)), 0)


def test_a_network_without_projections_has_no_synapses():
    network = network_of(describe([[3, 2]], []))
    out = synapses(network, 4)
    assert len(out.target) == out.autapses == 0
    assert out_degree(network, np.arange(5)).tolist() == [0] * 5
    assert expected_multapses(network) == expected_autapses(network) == 0
