"""`dtb plan`: the whole human brain on the published machine, refusals, and what is printed."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from typer.testing import CliRunner

import dtb
from cluster.devices import DEVICES, Device, device_named, measure_cpu
from cluster.plan import plan
from cluster.plan_report import SCHEMA, schema_text
from dtb.cli import app
from tests.synthetic import HETEROGENEOUS_HZ, heterogeneous_network, voxel_brain, voxel_network

REPOSITORY = Path(__file__).parents[2]
HUMAN = """
[build_network]
n_neurons = 86_000_000_000
in_degree = 556
[Simulation]
synapses = "procedural"
[run]
duration = 1000
"""
SMALL = """
[build_network]
n_neurons = 2000
in_degree = 30
[Simulation]
threads = 1
tile_size = 64
[run]
duration = 100
"""


def invoke(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


@pytest.fixture(scope="module")
def human(tmp_path_factory):
    """The plan of 86 billion neurons on 3,503 nodes of four, made by a process of its own, and that one's memory."""
    path = tmp_path_factory.mktemp("human") / "human.toml"
    path.write_text(HUMAN)
    code = (
        "import resource, sys; from dtb.cli import app\n"
        "try: app(sys.argv[1:])\n"
        "finally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    options = (
        "plan",
        str(path),
        "--ranks",
        "14012",
        "--ranks-per-node",
        "4",
        "--device",
        "dcu-16gb",
        "--json",
        "--history",
        "sender",
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *options], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout), int(done.stderr.split()[-1]) * 1024


def test_the_human_brain_is_planned_within_a_gigabyte(human):
    assert human[1] < 1e9


def test_the_human_brain_is_even_on_the_published_machine(human):
    even = human[0]["imbalance"]
    assert even["compute"] <= even["allowed"] == 1.05 and even["memory"] <= even["allowed"]


def test_two_levels_send_sixteen_times_fewer_messages_than_flat(human):
    routes = human[0]["routes"]
    assert routes["flat"]["messages"] == 14_011
    assert routes["flat"]["messages"] / routes["two-level"]["messages"] == pytest.approx(16.0, abs=0.01)
    assert routes["grid"]["messages"] < routes["two-level"]["messages"] / 20
    assert (
        routes["two-level"]["bytes_total"] < routes["grid"]["bytes_total"] < 1.05 * routes["two-level"]["bytes_total"]
    )


def test_all_neurons_and_synapses_are_on_some_rank(human):
    found = human[0]
    assert found["neurons_rank"]["total"] == 86e9
    assert found["synapses_rank"]["total"] == pytest.approx(found["synapses"], rel=1e-9)
    assert found["events_rank"]["total"] == pytest.approx(found["synapses"] * found["mean_rate_hz"], rel=1e-9)
    assert found["spikes_out_rank"]["total"] == pytest.approx(found["spikes_in_rank"]["total"])


def test_the_human_brain_fits_a_hundred_large_accelerators():
    network = dtb.build_network(dtb.default_brain(), 86_000_000_000, 556)
    found = plan(network, 100, device_named("h200"), ranks_per_node=4, history="sender")
    assert found.fits and found.nodes == 25
    assert found.imbalance.compute <= 1.05 and found.imbalance.memory <= 1.05
    assert found.memory_rank.max > 860e6 * 36


def test_what_does_not_fit_is_refused_with_a_number_of_ranks_that_does(small):
    large = ("--set", "build_network.n_neurons=20_000_000_000", "--set", "Simulation.tile_size=32768")
    result = invoke("plan", small, *large, "--ranks", 2, "--device", "h200")
    assert result.exit_code == 4 and "out of memory" not in result.stderr
    needed = int(result.stderr.split("--ranks ")[1].rstrip(".\n"))
    network = dtb.build_network(dtb.default_brain(), 20_000_000_000, 30)
    assert plan(network, needed, device_named("h200")).fits
    assert not plan(network, needed - 1, device_named("h200")).fits


def test_a_tile_size_that_would_make_a_billion_tiles_is_refused(small):
    result = invoke("plan", small, "--set", "build_network.n_neurons=86_000_000_000", "--ranks", 16, "--device", "h200")
    assert result.exit_code == 3 and "Raise tile_size" in result.stderr


def test_where_arrivals_alone_fill_the_memory_no_number_of_ranks_is_named():
    tiny = Device("tiny", memory=2e7, neuron_ns=1.0, event_ns=1.0, visit_ns=0.0, base_bytes=0.0)
    network = dtb.build_network(dtb.default_brain(), 2_000_000_000)
    found = plan(network, 8, tiny)
    assert not found.fits and found.ranks_that_fit is None
    assert "more ranks would not need less" in found.refusal("c.toml")


def test_receivers_that_keep_all_spikes_need_more_than_senders_that_do():
    """E cells, 8 in 10, are heard everywhere: 2 bytes a spike for half as long again as a call, 159 ms."""
    network = dtb.build_network(dtb.default_brain(), 86_000_000_000, 556)
    kept = {h: plan(network, 100, device_named("h200"), 4, history=h) for h in ("receiver", "sender")}
    spikes, tiles = 0.8 * 7.7 * 86e9 * 2 * 1.5 * 0.159, 2_624_605 * 256 * 4
    assert kept["receiver"].arrivals_rank.max == pytest.approx(spikes + tiles, rel=0.05)
    assert not kept["receiver"].fits and kept["sender"].arrivals_rank.max < 2e9


def test_unlike_regions_run_faster_than_with_equal_counts():
    network = heterogeneous_network(4_000_000)
    found = plan(
        network,
        8,
        Device("core", memory=4e9, neuron_ns=1.1, event_ns=5.2, visit_ns=0.0),  # of an EPYC, measured
        4,
        rates=HETEROGENEOUS_HZ,
        tile_size=2048,
        compare=("even", "published"),
    )
    ours, even, published = found.compared
    assert [row.method for row in found.compared] == ["regions", "even", "published"]
    assert even.slowdown > 1.3 * ours.slowdown and published.slowdown > ours.slowdown


def test_ranks_of_unlike_speed_are_planned_for():
    network = heterogeneous_network(4_000_000)
    found = plan(network, 4, device_named("h200"), speeds=np.array([1, 1, 0.5, 0.5]), tile_size=1024, per_rank=True)
    n = found.neurons_rank.each
    assert found.imbalance.compute < 1.05 and n[0] + n[1] > 1.8 * (n[2] + n[3])


def test_a_network_of_voxels_is_planned():
    network = voxel_network(voxel_brain(n_voxels=400, n_pairs=20_000), n_neurons=200_000)
    found = plan(network, 12, device_named("a100"), ranks_per_node=4, tile_size=1024)
    assert found.neurons_rank.total == 200_000 and 0 < found.peers_rank.max <= 11


def test_one_rank_exchanges_nothing():
    found = plan(dtb.build_network(dtb.default_brain(), 1_000_000), 1, device_named("h200"))
    assert found.epoch_ms is None and found.routes["two-level"].exchange_s == 0 and found.bound in ("update", "events")


def test_json_follows_the_published_schema(small):
    result = invoke(
        "plan", small, "--ranks", 3, "--ranks-per-node", 2, "--device", "a100", "--json", "--per-rank", "--compare"
    )
    content = json.loads(result.stdout)
    jsonschema.validate(content, json.loads(SCHEMA.read_text(encoding="utf-8")))
    assert len(content["neurons_rank"]["each"]) == 3 and len(content["compared"]) == 4


def test_the_published_schema_is_up_to_date():
    assert SCHEMA.read_text(encoding="utf-8") == schema_text()


def test_the_table_names_device_routes_and_assumptions(small):
    result = invoke("plan", small, "--ranks", 4, "--ranks-per-node", 2, "--device", "h200", "--speeds", "1,0.5")
    assert result.exit_code == 0, result.output
    for text in ("two-level *", "grid", "spikes looked at", "imbalance", "assumed:", "4.3 TB/s", "research use only"):
        assert text in result.stdout


def test_rates_of_an_earlier_run_are_expected_again(small, tmp_path):
    assert invoke("run", small, "-o", tmp_path / "run", "--no-report").exit_code == 0
    rate = json.loads((tmp_path / "run" / "summary.json").read_bytes())["mean_rate_hz"]
    options = ("--ranks", 2, "--device", "h200", "--json")
    content = json.loads(invoke("plan", small, *options, "--rates", tmp_path / "run").stdout)
    assert content["mean_rate_hz"] == pytest.approx(rate, rel=1e-3) and content["rates_from"] == "run run"


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--ranks", 2, "--device", "h20"), 3, "Did you mean 'h200'"),
        (("--ranks", 2, "--device", "h200", "--routing", "x"), 3, "Known: two-level"),
        (("--ranks", 2, "--device", "h200", "--speeds", "fast"), 3, "commas"),
        (("--ranks", 4000, "--device", "h200"), 3, "smaller tile_size"),
        (("--ranks", 0, "--device", "h200"), 2, "--ranks"),
    ],
)
def test_wrong_options_are_one_clear_error(small, options, code, message):
    result = invoke("plan", small, *options)
    assert result.exit_code == code and message in result.stderr


def test_every_profile_says_where_it_comes_from_and_what_was_measured():
    for device in DEVICES.values():
        assert len(device.source) > 40
    assert DEVICES["a100"].measured == () and DEVICES["h200"].measured


def test_the_published_device_takes_what_was_published():
    """65 s at 7 spikes/s and 118.8 s at 30, with 86e9 · 556 synapses on 14,012 devices; communication is within."""
    network = dtb.build_network(dtb.default_brain(), 86_000_000_000, 556)
    for rate, wall in ((7.0, 65.0), (30.0, 118.8)):
        device = DEVICES["published-16gb"]
        n, synapses = network.n_neurons / 14_012, network.n_synapses / 14_012
        assert 1e-9 * (n * 1000 * device.neuron_ns + synapses * rate * device.event_ns) == pytest.approx(wall, rel=0.01)


def test_this_machine_is_measured():
    found = measure_cpu(n_neurons=20_000, repetitions=1)
    assert 0.05 < found.neuron_ns < 100 and 0.1 < found.event_ns + found.visit_ns < 1000
    assert 26 < found.neuron_bytes < 100 and found.memory > 1e9


def test_planning_allocates_nothing_for_neurons():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    plan(dtb.build_network(dtb.default_brain(), 10_000_000_000), 128, device_named("h200"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024  # KiB; state would take 335 GiB
