"""SmallCrush of TestU01 on position and weight of the same synapse, where TestU01 and gcc are installed.

One stream of six; benchmarks/rng_battery.py asks more of all of them, and docs/random-numbers.md has the answers.
"""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import numpy as np
import pytest

from dtb.network import rng
from dtb.network.rng import Stream

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "rng_battery.py"
HALF, LOW = np.uint64(32), np.uint64(0xFFFFFFFF)
N = 1_000  # words that `rng_battery STREAM words` prints


@pytest.fixture(scope="module")
def battery():
    """The module benchmarks/rng_battery.py, which is a script and on no path."""
    spec = importlib.util.spec_from_file_location("rng_battery", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def program(battery, tmp_path_factory):
    try:
        return battery.compile_battery(tmp_path_factory.mktemp("battery"))
    except RuntimeError as reason:
        pytest.skip(str(reason))


def word(stream, gids, rows=0):
    return rng.hash64(gids, rng.key(1, stream, rows))


def in_turn(first, second):
    return np.stack([first, second], axis=-1).ravel()


EXPECTED = {
    "a": lambda: word(Stream.POSITION, np.arange(N)) >> HALF,
    "b": lambda: word(Stream.POSITION, np.arange(N)) & LOW,
    "c": lambda: in_turn(*np.divmod(word(Stream.NOISE, 333_333, np.arange(N // 2)), LOW + np.uint64(1))),
    "d": lambda: (word(Stream.WEIGHT, np.arange(4 * N)) >> np.uint64(56)).astype(np.uint8).view(">u4"),
    "e": lambda: in_turn(*(word(stream, np.arange(N // 2)) >> HALF for stream in (Stream.POSITION, Stream.WEIGHT))),
    "f": lambda: np.ravel(word(Stream.POSITION, np.arange(N // 100)[:, None], np.arange(100)) >> HALF),
}


@pytest.mark.parametrize("stream", EXPECTED)
def test_testu01_is_given_the_words_of_rng_py(program, stream):
    printed = subprocess.run([program, stream, "words"], capture_output=True, text=True, check=True).stdout
    assert [int(line) for line in printed.split()] == EXPECTED[stream]().tolist()


def test_position_and_weight_of_a_synapse_pass_small_crush(battery, program):
    """15 p-values, none within 1e-10 of 0 or 1: an ideal generator fails with probability 3e-9. Takes 7 s."""
    result = battery.run_battery(program, "e", "small")
    assert result["statistics"] == 15
    assert result["failed"] == []
