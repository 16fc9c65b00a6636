"""The description: what it says of itself, what it costs, what it refuses, and how a brain becomes one."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dtb
from dtb.brain import Brain, Tracts, default_brain
from dtb.network.build import COLUMN, EI, apportion, apportion_rows, build_network
from dtb.network.network import CellClass, Network, scaled
from dtb.network.neuron import CELLS, LIF, RECEPTORS, Background, cell_named
from dtb.network.projection import Pairs, Projection, Weights
from dtb.network.synapses import ONE, expected_autapses, expected_multapses, row, row_width
from dtb.network.tiles import LANES, MAX_TILE, tile
from tests.network.strategies import brainlike, describe, descriptions, ei, network_of, rule
from tests.synthetic import voxel_brain, voxel_network

ROOT = Path(__file__).parents[2]
HUMAN = {"n_neurons": 86_000_000_000, "in_degree": 556}


@pytest.fixture(scope="module")
def brain() -> Brain:
    return default_brain()


def toy_brain(kind=("cortical", "cortical", "subcortical"), density=(1.0, 2.0, 0.5)) -> Brain:
    """Three regions of 1, 2 and 5 ml; tracts 1 → 0, 2 → 0, 0 → 1, 0 → 2 and one from 0 to itself."""
    return Brain(
        name="toy",
        labels=("A_L", "B_L", "C_L"),
        hemisphere=("L", "L", "L"),
        centroid=np.array([[-10.0, 0, 0], [-20.0, 5, 0], [-30.0, 0, 9]]),
        kind=kind,
        volume=np.array([1e3, 2e3, 5e3]),
        tracts=Tracts(post=[0, 0, 1, 2, 0], pre=[1, 2, 0, 0, 0], weight=[3.0, 1, 2, 5, 7], length=[30.0, 60, 30, 1, 4]),
        density=np.array(density),
    )


def measured(code: str) -> dict:
    """Run code in a process of its own; its variable `out`, and the process's peak memory in MB and wall time in s."""
    script = f"""
import json, resource, time
start = time.perf_counter()
{code}
out |= dict(seconds=time.perf_counter() - start, megabytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
print(json.dumps(out))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return json.loads(done.stdout.splitlines()[-1])


# Law 2: descriptions are free ------------------------------------------------------------------------------------


def test_a_human_brain_is_described_and_summed_up_in_seconds():
    """86 billion neurons × 556 synapses, 94 regions: under 5 s and 300 MB with imports, and the screen says so."""
    out = measured(
        "import dtb\n"
        "n = dtb.build_network(dtb.default_brain(), n_neurons=86_000_000_000, in_degree=556)\n"
        "out = dict(text=str(n), neurons=n.n_neurons, synapses=n.n_synapses)"
    )
    assert out["neurons"] == 86_000_000_000
    assert out["synapses"] == pytest.approx(86e9 * 556, rel=1e-6)
    assert "86,000,000,000 neurons in 188 populations of 94 regions" in out["text"]
    assert "47,816,000,000,0" in out["text"]  # 47.8 trillion
    assert len(out["text"].splitlines()) < 24
    assert out["seconds"] < 5
    assert out["megabytes"] < 300


def test_a_description_holds_nothing_per_neuron(brain):
    """The same bytes for 10^4 and 10^11 neurons; no tile is made to describe, print or count."""
    tracemalloc.start()
    small, large = (build_network(brain, n_neurons=n, in_degree=556) for n in (10_000, 86_000_000_000))
    str(large), large.digest, row_width(large), expected_multapses(large), expected_autapses(large)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert small.description_bytes == large.description_bytes < 1e6
    assert peak < 20e6  # its 2.6 million tiles alone would take 42 MB


def test_tiles_of_a_human_brain_take_16_bytes_each(brain):
    network = build_network(brain, **HUMAN)
    start = time.perf_counter()
    tiles = tile(network)
    assert time.perf_counter() - start < 10
    assert sum(array.nbytes for array in tiles[:3]) == 16 * len(tiles.n)
    assert tiles.n.sum(dtype=np.int64) == network.n_neurons
    assert (tiles.first[1:] == tiles.first[:-1] + tiles.n[:-1]).all()
    assert len(tiles.n) < 1.01 * network.n_neurons / MAX_TILE + network.n_populations


@pytest.mark.slow
def test_a_human_brain_of_voxels_is_described_within_a_minute_and_a_gigabyte():
    """22,703 voxels × 10 populations, 4.5 million voxel pairs; made, summed up and its rows measured."""
    out = measured(
        "from tests.synthetic import voxel_brain, voxel_network\n"
        "from dtb.network.synapses import expected_multapses, row_width\n"
        "n = voxel_network(voxel_brain(), n_neurons=86_000_000_000, in_degree=556)\n"
        "out = dict(text=str(n), populations=n.n_populations, pairs=len(n.projections[0].pairs),"
        " bytes=n.description_bytes, widest=float(row_width(n).max()) / 2**32,"
        " multapses=expected_multapses(n), digest=n.digest)"
    )
    assert out["populations"] == 227_030
    assert out["pairs"] == 4_500_000
    assert out["bytes"] < 100e6
    assert out["widest"] < 2**20
    assert out["seconds"] < 60
    assert out["megabytes"] < 1_000


@pytest.fixture(scope="module")
def voxels():
    return voxel_brain(n_voxels=400, n_pairs=9_000)


def test_a_brain_of_voxels_is_plausible(voxels):
    """Sizes and lengths within what the Brain's own checks call normal; every voxel is reached."""
    assert (voxels.n_regions, len(voxels.tracts)) == (400, 9_000)
    assert (voxels.tracts.post != voxels.tracts.pre).all()
    assert set(voxels.tracts.post) == set(range(400))
    assert 10 < np.median(voxels.tracts.length) < 200
    assert 27 * 0.2 <= voxels.volume.min() < voxels.volume.max() <= 27 * 0.95
    assert 0.05 < np.mean([kind == "subcortical" for kind in voxels.kind]) < 0.12
    assert voxel_brain(400, 9_000).digest() == voxels.digest()
    assert voxel_brain(400, 9_000, seed=1).digest() != voxels.digest()


def test_a_network_of_voxels_is_the_expanded_product_without_expanding_it(voxels):
    """Rows of a few populations, made on demand, hold as many synapses as the factorised sum says."""
    network = voxel_network(voxels, n_neurons=40_000)
    assert network.n_populations == 4_000
    total = sum(
        float(row_width(network)[p]) / ONE * n for p, n in enumerate(np.diff(network.first_gid))
    )  # fmt: skip
    assert total == pytest.approx(network.n_synapses, rel=1e-6)
    for p in (0, 1_999, 3_999):
        assert row(network, p).bound[-1] == row_width(network)[p]
    assert not tile(network).pure
    with pytest.raises(ValueError, match=r"10 pairs of 400 voxels; allowed: 400 to 159,600"):
        voxel_brain(400, 10)


def test_both_microcircuits_work_on_a_brain_of_voxels(voxels):
    for microcircuit, per_kind in (
        ("ei", {"cortical": 2, "subcortical": 2}),
        ("column", {"cortical": 8, "subcortical": 2}),
    ):
        network = build_network(voxels, n_neurons=20_000, microcircuit=microcircuit)
        assert network.n_populations == sum(per_kind[kind] for kind in voxels.kind)


# Populations -----------------------------------------------------------------------------------------------------


def test_gids_run_over_the_populations_without_holes():
    network = network_of(describe([[3, 0], [0, 5], [2, 1]], []))
    assert [network.population_name(p) for p in range(4)] == ["R0.E", "R1.I", "R2.E", "R2.I"]
    assert network.first_gid.tolist() == [0, 3, 8, 10, 11]
    assert network.population_index.tolist() == [[0, -1], [-1, 1], [2, 3]]
    assert (network.n_neurons, network.n_populations) == (11, 4)
    third = network.population(2)
    assert (third.name, third.region, third.cell_class.name, third.n, third.first) == ("R2.E", "R2", "E", 2, 8)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(descriptions())
def test_any_description_is_consistent_with_itself(description):
    network = network_of(description)
    p = np.arange(network.n_populations)
    assert (network.population_index[network.population_region, network.population_class] == p).all()
    assert network.first_gid[-1] == network.n_neurons == np.sum(description["size"])
    assert (np.diff(network.first_gid) > 0).all()
    assert network.digest == network_of(description).digest
    width = row_width(network).astype(float) / ONE
    assert (width * np.diff(network.first_gid)).sum() == pytest.approx(network.n_synapses, rel=1e-6, abs=1e-6)
    assert str(network)


@pytest.mark.parametrize(
    ("names", "populations"),
    [
        (["R0.E"], [0]),
        (["R1"], [2, 3]),
        (["*.I"], [1, 3]),
        (["*.I", "R1", "R1.I"], [1, 2, 3]),
        (["X.Y.E"], [4]),
        (["X.Y"], [4]),
        ([], []),
    ],
)
def test_populations_are_found_by_name_region_and_class(names, populations):
    """A region's name may hold a dot."""
    description = describe([[3, 2], [4, 1], [5, 0]], []) | {"regions": ["R0", "R1", "X.Y"]}
    assert network_of(description).find_populations(names).tolist() == populations


@pytest.mark.parametrize("name", ["R2.I", "R9", "R0.Q", "*.Q", "E", "", "*"])
def test_a_population_that_is_not_there_is_an_error_that_says_how_they_are_named(name):
    network = network_of(describe([[3, 2], [4, 1], [5, 0]], []))
    with pytest.raises(ValueError, match=r"no population '.*REGION\.CLASS, REGION or \*\.CLASS.*'R0' and classes E, I"):
        network.find_populations([name])


def test_a_description_cannot_be_changed_through_what_it_was_made_from():
    size, degree = np.array([[10]]), np.array([3.0])
    pairs = Pairs(np.array([0, 1]), np.array([0]), degree, np.array([1.0]))
    network = Network(
        ("A",), (CellClass("E", LIF()),), size, (Projection("r", "excitatory", ("E",), ("E",), (1,), pairs),)
    )
    before = network.digest
    size[0, 0], degree[0] = 99, 50.0
    assert network.n_neurons == 10
    assert network.n_synapses == 30
    assert before == Network(network.regions, network.classes, network.size, network.projections).digest
    for array in (network.size, pairs.in_degree, pairs.post, pairs.start, pairs.delay):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_the_digest_knows_everything_that_makes_the_spikes_and_not_how_numbers_were_written():
    base = brainlike()
    changes = [
        {"seed": 2},
        {"regions": ["R0", "R1", "R3"]},
        {"classes": ["E", "J"]} | {"projections": []},
        {"size": [[203, 50], [97, 31], [310, 78]]},
        {"projections": base["projections"][::-1]},
    ]
    for key, value in (
        ("kind", "inhibitory"), ("factor", [1.0, 0.25]), ("weights", ["uniform", 0.0, 2.0]), ("name", "other"),
        ("delay_classes", [0.5, 0.9, 1.1, 1.6]), ("pairs", base["projections"][0]["pairs"][1:]),
    ):  # fmt: skip
        changes.append({"projections": [base["projections"][0] | {key: value}, *base["projections"][1:]]})
    digests = [network_of(base | change).digest for change in ({}, *changes)]
    assert len(set(digests)) == len(digests)
    assert all(len(digest) == 16 for digest in digests)

    def written(one, ten, name):
        r = Projection(
            name,
            "excitatory",
            ["E"],
            ["E"],
            [one],
            Pairs.from_triplets(1, [0], [0], [ten], one),
            Weights("uniform", 0, one),
        )
        return Network([name], [CellClass("E", LIF(t_ref=one))], [[10]], [r], seed=one).digest

    assert written(1, 10, "A") == written(np.int64(1), np.float32(10), np.str_("A"))
    assert LIF(e_leak=-70, g=[2, 0, 10, 0]) == LIF()
    assert hash(LIF(g=[2, 0, 10, 0])) == hash(LIF())


def test_delays_and_counts_of_a_description():
    network = network_of(brainlike())
    assert (network.min_delay, network.max_delay) == (1.0, 37.5)
    sizes = {"R0": (203, 50), "R1": (97, 31), "R2": (310, 77)}
    long = sum(
        d * (sizes[f"R{r}"][0] + 0.5 * sizes[f"R{r}"][1]) for r, _, d, _ in brainlike()["projections"][0]["pairs"]
    )
    assert network.synapses_by_projection()["long"] == pytest.approx(long)
    assert network.n_synapses == pytest.approx(sum(network.synapses_by_projection().values()))
    silent = network_of(describe([[3, 2]], []))
    assert (silent.min_delay, silent.max_delay, silent.n_synapses) == (float("inf"), 0, 0)


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (2048, "2 KiB"), (1536 * 2**20, "1.5 GiB"), (2**60, "1,024.0 PiB")],
)
def test_bytes_are_said_as_people_say_them(n_bytes, text):
    assert scaled(n_bytes) == text


# Errors ----------------------------------------------------------------------------------------------------------


def refused(change=None, says="", **kwargs):
    with pytest.raises(ValueError, match=says):
        network_of(brainlike() | (change or {}) | kwargs)


def first_rule(**kwargs):
    return {"projections": [rule("r", **({"pre": ["E"], "post": ["E"], "pairs": [(0, 0, 1.0, 1.0)]} | kwargs))]}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"size": [[1, 2]]}, r"size is \(1, 2\), but there are 3 regions and 2 classes; it needs one row per region"),
        ({"size": [[1.5, 2]] * 3}, r"size must hold whole numbers"),
        ({"size": [[0, 0]] * 3, "projections": []}, r"no neurons; at least one entry of size must be above zero"),
        ({"size": [[5, 5], [5, -1], [5, 5]]}, r"population 'R1\.I' has -1 neurons; allowed: 0 to 2\^36 - 1"),
        ({"size": [[5, 5], [5, 5], [2**36, 5]]}, r"'R2\.E' has 68,719,476,736 neurons; allowed.*Divide"),
        ({"regions": ["A", "B", "A"]}, r"region 'A' is there twice; names must differ"),
        ({"classes": ["E", "E"]}, r"class 'E' is there twice"),
        ({"projections": brainlike()["projections"][:1] * 2}, r"projection 'long' is there twice"),
        ({"seed": -1}, r"seed is -1; allowed: 0 to 2\^64 - 1"),
        ({"seed": 2**64}, r"seed is 18446744073709551616; allowed"),
        (first_rule(pre=["Q"]), r"projection 'r' names class 'Q'\. Known: E, I"),
        (first_rule(post=["E", "Q"]), r"projection 'r' names class 'Q'\. Known: E, I"),
        (first_rule(pre=["E", "E"]), r"pre of projection 'r' is \('E', 'E'\); it needs classes, each one once"),
        (first_rule(post=[]), r"post of projection 'r' is \(\); it needs classes"),
        (first_rule(kind="modulatory"), r"projection 'r' is 'modulatory'\. Known kinds: excitatory, inhibitory"),
        (first_rule(factor=[1.0, 2.0]), r"projection 'r' needs one factor ≥ 0 per target class, got \(1\.0, 2\.0\)"),
        (first_rule(factor=[float("nan")]), r"projection 'r' needs one factor"),
        (first_rule(factor=[-1.0]), r"projection 'r' needs one factor"),
        (first_rule(delay_classes=[1.0, 0.0]), r"delay classes of 'r' must be positive multiples, got \(1\.0, 0\.0\)"),
        (first_rule(delay_classes=[]), r"delay classes of 'r' must be positive"),
        (first_rule(delay_classes=[float("nan")]), r"delay classes of 'r' must be positive"),
        (first_rule(pairs=[(0, 1, -2.0, 1.0)]), r"projection 'r' has an in-degree that is negative or not a number"),
        (first_rule(pairs=[(0, 1, float("inf"), 1.0)]), r"projection 'r' has an in-degree"),
        (first_rule(pairs=[(2, 1, 2.0, 0.0)]), r"delay of 0\.0 ms from region 1 to region 2; delays must be above"),
        (first_rule(pairs=[(2, 1, 2.0, float("nan"))]), r"delay of nan ms from region 1 to region 2"),
        (first_rule(pairs=[(3, 1, 2.0, 1.0)]), r"post of pairs names region 3; regions are numbered 0 to 2"),
        (first_rule(pairs=[(0, 3, 2.0, 1.0)]), r"pre of pairs names region 3; regions are numbered 0 to 2"),
        (first_rule(pairs=[(-1, 0, 2.0, 1.0)]), r"post of pairs names region -1"),
        (first_rule(weights=["gamma", 1.0, 1.0]), r"weight distribution 'gamma'\. Known: uniform, constant, normal"),
        (first_rule(weights=["uniform", -1.0, 1.0]), r"uniform\(-1\.0, 1\.0\) are not finite or fall below zero"),
        (first_rule(weights=["constant", float("nan"), 0.0]), r"weights constant\(nan, 0\.0\) are not finite"),
        (
            {"size": [[5, 5], [0, 5], [5, 5]]} | first_rule(pairs=[(0, 1, 2.0, 1.0)]),
            r"'r' feeds region 'R0' from region 'R1', which has no neurons of class E\. Add neurons or remove",
        ),
    ],
)  # fmt: skip
def test_a_network_that_cannot_be_is_refused_with_what_where_and_what_is_allowed(change, says):
    refused(change, says)


def test_a_pair_without_sources_is_fine_where_nothing_is_asked_of_it():
    """A column's rule may be paired with a region that lacks the target class, or ask for 0 synapses."""
    size = [[5, 0], [0, 5]]
    network_of(describe(size, [rule("r", ["E"], ["E"], [(1, 1, 3.0, 1.0), (0, 1, 0.0, 1.0), (0, 0, 2.0, 1.0)])]))


def test_pairs_of_another_brain_are_refused():
    pairs = Pairs.from_triplets(5, [4], [0], [1.0], 1.0)
    with pytest.raises(ValueError, match="the pairs of projection 'r' are not over 1 regions"):
        Network(
            ("A",), (CellClass("E", LIF()),), [[3]], (Projection("r", "excitatory", ("E",), ("E",), (1.0,), pairs),)
        )


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        (([0, 2], [0], [1.0], [1.0]), "start of pairs must rise from 0 to their number, 1"),
        (([0, 1], [0], [1.0, 2.0], [1.0]), r"pairs have 1 post, \(2,\) in_degree and \(1,\) delay"),
        (([0, 1], [-2], [1.0], [1.0]), "pairs name region -2; regions are numbered from 0"),
        (([0, 2, 1], [0], [1.0], [1.0]), "start of pairs must rise"),
    ],
)
def test_pairs_that_do_not_fit_together_are_refused(arrays, says):
    with pytest.raises(ValueError, match=says):
        Pairs(*(np.array(array) for array in arrays))


def test_triplets_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match=r"post \(2,\), pre \(2,\), in_degree \(1,\) and delay \(2,\).*equally long"):
        Pairs.from_triplets(2, [0, 1], [0, 1], [1.0], 1.0)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"c_m": 0.0}, "c_m of a cell is 0.0; it must be above zero"),
        ({"t_ref": float("nan")}, "t_ref of a cell is nan"),
        ({"tau_syn": (2.0, 0.0, 20.0, 50.0)}, "tau_syn of NMDA of a cell is 0.0"),
        ({"g": (2.0, 0.0, -1.0, 0.0)}, "g of GABA_A is -1.0 nS"),
        ({"v_reset": -50.0}, "v_reset -50.0 mV is not below v_threshold -50.0 mV"),
        ({"e_leak": float("nan")}, "e_leak of a cell is nan mV; it must be finite"),
        ({"e_rev": (0.0, 0.0, float("inf"), 0.0)}, "e_rev of GABA_A of a cell is inf mV"),
    ],
)
def test_a_cell_that_cannot_be_is_refused(parameters, says):
    with pytest.raises(ValueError, match=says):
        LIF(**parameters)


@pytest.mark.parametrize(
    "values", [(1.0, -1.0, 4.0), (1.0, 1.0, 0.0), (float("nan"), 1.0, 4.0), (1.0, float("nan"), 4.0)]
)
def test_a_background_that_cannot_be_is_refused(values):
    with pytest.raises(ValueError, match=r"background has mean .* pA, sd .* pA and tau .* ms"):
        Background(*values)


def test_cells_are_named():
    assert cell_named("nsr2023") is CELLS["nsr2023"]
    with pytest.raises(
        ValueError, match=r"unknown cell 'release2025'\. Known: release2024, nsr2023\. Did you mean 'rel"
    ):
        cell_named("release2025")


# Published parameters --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "published"),
    [
        # architecture.md section 6: nF, µS, nA, mV, ms as the published code writes them
        ("release2024", (0.5, 0.025, (0.002, 0, 0.01, 0), (0, 0, -70, -100), (2, 40, 20, 50), (0.45, 0.20, 4))),
        ("nsr2023", (0.5, 0.025, (0.0025, 0, 0.0098, 0), (0, 0, -70, 0), (2, 40, 20, 1), (0.40, 0.15, 4))),
    ],
)
def test_published_parameters_are_converted_to_our_units(name, published):
    """nF → pF, µS → nS and nA → pA are factors of 1000; mV and ms stay. τ = C/g is 20 ms either way."""
    c, g_l, g, e_rev, tau, ou = published
    cell = CELLS[name]
    assert (cell.c_m, cell.g_leak) == (pytest.approx(1000 * c), pytest.approx(1000 * g_l))
    assert (cell.e_leak, cell.v_threshold, cell.v_reset, cell.t_ref) == (-70, -50, -55, 2)
    assert cell.g == pytest.approx([1000 * x for x in g])
    assert (cell.e_rev, cell.tau_syn) == (e_rev, tau)
    bg = cell.background
    assert (bg.mean, bg.sd, bg.tau) == (pytest.approx(1000 * ou[0]), pytest.approx(1000 * ou[1]), ou[2])
    assert cell.tau == pytest.approx(c / g_l)
    assert len(RECEPTORS) == len(cell.g) == 4


def test_the_default_cell_is_the_release():
    assert LIF() == CELLS["release2024"]
    assert repr(LIF()) == repr(CELLS["release2024"])


def test_the_column_has_the_published_in_degrees():
    """reference-dtb.md 2.3: 122, 61, 99, 57, 120, 52, 107, 48 at degree 100, rounded down as published; 4 : 1 : 2."""
    local, outer = COLUMN.in_degrees()
    assert np.floor(100 * (local.sum(axis=1) + outer)).tolist() == [122, 61, 99, 57, 120, 52, 107, 48]
    share, excitatory = np.array(COLUMN.share) / sum(COLUMN.share), np.array(COLUMN.excitatory)
    assert share.round(4).tolist() == [0.2679, 0.0756, 0.2837, 0.0709, 0.0633, 0.0139, 0.1864, 0.0382]
    mix = share @ np.column_stack([local[:, excitatory].sum(axis=1), local[:, ~excitatory].sum(axis=1), outer])
    assert mix.round(3).tolist() == [0.598, 0.146, 0.256]
    assert mix.sum() == pytest.approx(1)


def test_ei_has_the_published_in_degrees():
    local, outer = EI.in_degrees()
    assert local.tolist() == [[pytest.approx(4 / 7), pytest.approx(1 / 7)]] * 2
    assert outer.tolist() == [pytest.approx(2 / 7)] * 2


# From a brain to a network ---------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(0, 10**11), st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=200))
def test_apportioned_parts_add_up_and_are_within_one_of_exact(total, weight):
    parts = apportion(total, np.array(weight))
    assert parts.sum() == total
    exact = total * np.array(weight) / np.sum(weight)
    assert (np.abs(parts - exact) < 1 + 1e-4).all()


def test_remainders_go_to_the_largest_and_ties_to_the_earlier():
    assert apportion(7, np.array([1, 1, 1])).tolist() == [3, 2, 2]
    assert apportion(10, np.array([0.55, 0.26, 0.19])).tolist() == [5, 3, 2]
    assert apportion(0, np.array([1.0, 2.0])).tolist() == [0, 0]
    assert apportion_rows(np.array([3, 8]), np.array([2.0, 1.0])).tolist() == [[2, 1], [5, 3]]


@pytest.mark.parametrize("microcircuit", ["ei", "column"])
@pytest.mark.parametrize("n_neurons", [700, 200_000, 86_000_000_000])
def test_neurons_follow_grey_matter_and_shares(brain, microcircuit, n_neurons):
    """By largest remainder after one neuron for every population, so to within one of exact."""
    network = build_network(brain, n_neurons, microcircuit=microcircuit)
    assert network.n_neurons == n_neurons
    columns = np.array([8 if microcircuit == "column" and kind == "cortical" else 2 for kind in brain.kind])
    assert ((network.size > 0).sum(axis=1) == columns).all()
    exact = columns + (n_neurons - columns.sum()) * brain.volume / brain.volume.sum()
    assert np.abs(network.size.sum(axis=1) - exact).max() < 1.001
    if n_neurons > 1e6:
        names = [c.name for c in network.classes]
        assert network.size.sum(axis=1) / n_neurons == pytest.approx(brain.volume / brain.volume.sum(), rel=1e-6)
        cortical = network.size[[kind == "cortical" for kind in brain.kind]]
        circuit = COLUMN if microcircuit == "column" else EI
        share = cortical[:, [names.index(name) for name in circuit.classes]] / cortical.sum(axis=1)[:, None]
        assert share == pytest.approx(np.tile(np.array(circuit.share) / sum(circuit.share), (len(share), 1)), rel=1e-5)


def received(network: Network) -> dict[str, np.ndarray]:
    """By projection (regions, classes): mean synapses that one neuron receives."""
    found = {}
    for p in network.projections:
        found[p.name] = np.zeros(network.size.shape)
        arriving = np.bincount(p.pairs.post, p.pairs.in_degree, minlength=len(network.regions))
        found[p.name][:, network.class_indices(p.post)] = arriving[:, None] * np.array(p.factor)
    return found


def test_in_degree_follows_density_and_is_clipped():
    """Density 1, 2, 0.5 is 1, 1.3, 0.7 after clipping; 4/7 local E, 1/7 local I, 2/7 from afar."""
    degree = received(build_network(toy_brain(), 10_000, in_degree=70))
    for name, part in (("local.E", 40), ("local.I", 10), ("long_range", 20)):
        assert degree[name] == pytest.approx(np.outer([1.0, 1.3, 0.7], [part, part]))


def test_in_degree_of_a_column_is_the_published_one_in_every_class():
    """At 100: rounded down 122, 61, 99, 57, 120, 52, 107, 48 where cortical, 100 in both classes elsewhere."""
    network = build_network(toy_brain(density=(1.0, 1.0, 1.0)), 10_000, microcircuit="column")
    total = sum(received(network).values())
    names = [c.name for c in network.classes]
    assert names == [*COLUMN.classes, "E", "I"]
    assert np.floor(total[0, :8]).tolist() == [122, 61, 99, 57, 120, 52, 107, 48]
    assert total[2, 8:].tolist() == [pytest.approx(100)] * 2
    assert (network.size[:2, 8:] == 0).all()
    assert (network.size[2, :8] == 0).all()
    mean = (total * network.size).sum(axis=1) / network.size.sum(axis=1)
    assert mean == pytest.approx(100, rel=0.002)  # shares of whole neurons
    assert network.n_synapses == pytest.approx((total * network.size).sum())


def test_long_range_sources_follow_the_row_of_tract_weights():
    """Region A hears B and C as 3 : 1; a tract within a region is a local matter and left out."""
    network = build_network(toy_brain(), 10_000, in_degree=70)
    long = network.projections[0]
    assert long.name == "long_range"
    assert long.pre == ("E",)
    pairs = {
        (int(post), int(pre)): d
        for post, pre, d in zip(long.pairs.post, long.pairs.pre, long.pairs.in_degree, strict=True)
    }
    share = {(0, 1): 3 / 4, (0, 2): 1 / 4, (1, 0): 1, (2, 0): 1}
    clipped = (1.0, 1.3, 0.7)
    assert pairs == {pair: pytest.approx(70 * clipped[pair[0]] * x) for pair, x in share.items()}


def test_long_range_sources_are_all_excitatory_classes_in_proportion():
    """All E layers of a region are one pool, so a layer sends as its neurons are many."""
    network = build_network(toy_brain(), 100_000, microcircuit="column")
    assert network.projections[0].pre == ("L23E", "L4E", "L5E", "L6E", "E")
    width = []
    for p in network.find_populations(["A_L.L23E", "A_L.L4E", "A_L.L5E", "A_L.L6E"]):
        s = row(network, p)
        width.append(int(np.diff(s.bound)[s.projection == 0].sum()))
    assert len(set(width)) == 1
    inhibitory = network.find_populations(["*.L23I", "*.L6I", "*.I"])
    assert all((row(network, p).projection > 0).all() for p in inhibitory)


def test_delays_are_length_over_velocity_and_never_below_the_floor():
    network = build_network(toy_brain(), 1_000, velocity=5.0, local_delay=1.5)
    pairs = network.projections[0].pairs
    delay = {(int(post), int(pre)): float(d) for post, pre, d in zip(pairs.post, pairs.pre, pairs.delay, strict=True)}
    assert delay == {(0, 1): 6.0, (0, 2): 12.0, (1, 0): 6.0, (2, 0): 1.5}
    assert all((p.pairs.delay == 1.5).all() for p in network.projections[1:])
    lower = build_network(toy_brain(), 1_000, velocity=5.0, local_delay=1.5, min_delay=0.1)
    assert lower.projections[0].pairs.delay.min() == np.float32(0.2)
    assert (network.min_delay, network.max_delay) == (1.5, 12.0)


def test_delays_of_the_default_brain(brain):
    network = build_network(brain, 10_000)
    between = brain.tracts.post != brain.tracts.pre
    order = np.lexsort((brain.tracts.post[between], brain.tracts.pre[between]))
    expected = np.maximum(brain.tracts.length[between].astype(float) / 3.0, 1.0)[order]
    assert network.projections[0].pairs.delay == pytest.approx(expected)


def test_the_seed_and_the_cell_reach_the_network(brain):
    network = build_network(brain, 1_000, seed=77, cell="nsr2023")
    assert network.seed == 77
    assert all(c.cell == CELLS["nsr2023"] for c in network.classes)
    own = LIF(t_ref=3.0)
    assert build_network(brain, 1_000, cell=own).classes[0].cell is own
    assert network.digest != build_network(brain, 1_000, seed=78, cell="nsr2023").digest


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"n_neurons": 5}, r"n_neurons is 5, but this brain needs at least 6: one for each population"),
        ({"in_degree": 0}, r"in_degree is 0; it must be above zero"),
        ({"in_degree": float("nan")}, r"in_degree is nan; it must be above zero"),
        ({"velocity": -3.0}, r"velocity is -3\.0; it must be above zero"),
        ({"local_delay": 0.0}, r"local_delay is 0\.0; it must be above zero"),
        ({"microcircuit": "colum"}, r"unknown microcircuit 'colum'\. Known: ei, column\. Did you mean 'column'\?"),
        ({"cell": "release2023"}, r"unknown cell 'release2023'\. Known: .* Did you mean"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        build_network(toy_brain(), **({"n_neurons": 1_000} | arguments))


def test_a_region_that_no_tract_reaches_is_an_error():
    brain = toy_brain()
    tracts = Tracts(post=[0, 1, 0], pre=[1, 0, 2], weight=[1.0, 1.0, 1.0], length=[30.0, 30.0, 60.0])
    lonely = Brain(
        **{
            name: getattr(brain, name)
            for name in ("name", "labels", "hemisphere", "centroid", "kind", "volume", "density")
        },
        tracts=tracts,
    )
    with pytest.raises(ValueError, match=r"no tract arrives at region 'C_L'.*Leave the region out"):
        build_network(lonely, 1_000)


# Tiles -----------------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None, derandomize=True)
@given(descriptions(), st.sampled_from([16, 17, 100, 1_024, MAX_TILE]))
def test_tiles_cover_every_neuron_once_and_keep_lanes_together(description, size):
    network = network_of(description)
    tiles = tile(network, size)
    assert (tiles.n > 0).all()
    assert (tiles.n <= size).all()
    assert tiles.first.tolist() == [0, *np.cumsum(tiles.n)[:-1].tolist()]
    assert tiles.n.sum() == network.n_neurons
    last = tiles.first + tiles.n - 1
    assert (tiles.population == np.searchsorted(network.first_gid, tiles.first, side="right") - 1).all()
    if tiles.pure:
        assert (last < network.first_gid[tiles.population + 1]).all()
        assert ((tiles.first - network.first_gid[tiles.population]) % LANES == 0).all()
    else:
        assert (tiles.first % LANES == 0).all()


@pytest.mark.parametrize("size", [0, 15, MAX_TILE + 1])
def test_a_tile_size_that_cannot_be_is_refused(size):
    with pytest.raises(ValueError, match=f"tile size is {size}; allowed: 16 to 32768"):
        tile(network_of(ei(100, 10)), size)


def test_build_network_is_the_one_that_dtb_exports():
    assert dtb.build_network is build_network
