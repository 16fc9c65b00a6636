"""The twenty known answers of docs/decisions/0001-synapse.json. If one fails, the code is wrong, not the answer."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from dtb.engine.backends.state import spike_digest, state_digest
from dtb.network import rng
from dtb.network.lesion import lesion_tracts
from dtb.network.synapses import out_degree, synapses
from tests.network import by_hand
from tests.network.strategies import network_of

PAGE = Path(__file__).parents[2] / "docs" / "decisions" / "0001-synapse.md"
KNOWN = json.loads(PAGE.with_suffix(".json").read_text())
VECTORS = [pytest.param(vector, id=f"{i + 1}: {vector['about']}") for i, vector in enumerate(KNOWN["vectors"])]
FIELDS = {"j": "<i8", "target": "<i8", "weight": "<i8", "kind": "<i8", "delay": "<f8"}


def as_known(out, autapses):
    """What the file says about a list of synapses: the first twelve, how many, and the hash of all."""
    h = hashlib.sha256()
    for name, kind in FIELDS.items():
        h.update(np.asarray(getattr(out, name), kind).tobytes())
    first = {name: np.asarray(getattr(out, name))[:12].tolist() for name in FIELDS}
    return first | {"synapses": len(out.j), "autapses": autapses, "sha256": h.hexdigest()}


def cut_of(vector, network):
    """The lesions of a vector."""
    regions = network.regions
    tracts = {(regions[post], regions[pre]): fraction for post, pre, fraction in vector.get("lesions", [])}
    return lesion_tracts(network, tracts) if tracts else None


def test_there_are_twenty_known_answers():
    assert len(VECTORS) == 20


@pytest.mark.parametrize("vector", VECTORS)
def test_synapses_are_the_known_ones(vector):
    network = network_of(vector["network"])
    out = synapses(network, vector["gid"], cut_of(vector, network))
    found = as_known(out, out.autapses)
    assert found == {name: vector[name] for name in found}
    assert out_degree(network, [vector["gid"]]).tolist() == [vector["emitted"]]
    assert vector["emitted"] == vector["synapses"] + vector["autapses"] + vector["lesioned"]


@pytest.mark.parametrize("vector", VECTORS)
def test_the_page_followed_in_whole_numbers_gives_the_known_ones(vector):
    found, autapses, lesioned = by_hand.synapses(vector["network"], vector["gid"], vector.get("lesions"))
    columns = by_hand.Synapse(*zip(*found, strict=True)) if found else by_hand.Synapse((), (), (), (), ())
    answer = as_known(columns, autapses)
    assert answer == {name: vector[name] for name in answer}
    assert lesioned == vector["lesioned"]


@pytest.mark.parametrize("known", KNOWN["words"])
def test_words_are_the_known_ones(known):
    key = rng.key(known["seed"], rng.Stream(known["stream"]), known["row"], known["member"])
    word = rng.hash64(known["index"], key)
    assert [f"{int(half):016x}" for half in key] == known["key"]
    assert f"{int(word):016x}" == known["word"]
    assert rng.noise4(word) == known["noise4"]


def test_digests_are_the_known_ones():
    known = KNOWN["digests"]
    step, gid = np.array(known["spikes"]).T
    fields = np.array(known["fields"], np.float32)
    assert f"{spike_digest(step, gid):016x}" == known["spike_digest"]
    assert f"{state_digest(fields, known['first_gid']):016x}" == known["state_digest"]


def test_digests_do_not_depend_on_the_order_of_spikes_or_on_how_neurons_are_split():
    known = KNOWN["digests"]
    step, gid = np.array(known["spikes"]).T
    fields, first = np.array(known["fields"], np.float32), known["first_gid"]
    assert spike_digest(step[::-1], gid[::-1]) == spike_digest(step, gid)
    parts = sum(state_digest(fields[i : i + 1], first + i) for i in range(len(fields)))
    assert parts % 2**64 == state_digest(fields, first)


def test_the_page_shows_what_the_file_says():
    """Rows of the page's table: number, gid, synapses, first targets, first weights."""
    rows = [line.split("|")[1:-1] for line in PAGE.read_text().splitlines() if line.startswith("| #")]
    assert len(rows) >= 5
    for number, _, gid, count, targets, weights in rows:
        vector = KNOWN["vectors"][int(number.strip().lstrip("#")) - 1]
        assert int(gid.replace(",", "")) == vector["gid"]
        assert int(count) == vector["synapses"]
        for text, name in ((targets, "target"), (weights, "weight")):
            shown = [int(x) for x in text.split()]
            assert shown == vector[name][: len(shown)]
