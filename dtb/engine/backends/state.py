"""What a backend is, and the canonical form in which states of all backends are compared, digested and kept."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import numpy as np

from dtb.engine.checkpoint_file import Piece
from dtb.engine.constants import Constants, Control
from dtb.network import rng
from dtb.network.network import Network

DIGEST_KEY = np.uint64(0x6A09E667F3BCC908)  # K of the digests: first 64 fractional bits of sqrt(2)


class Snapshot(NamedTuple):
    """State of all neurons in gid order.

    fields (n, 6) float32: V mV, S of four receptors, background pA, as in `tiles.FIELDS`; hold (n,) uint16 steps.
    """

    fields: np.ndarray
    hold: np.ndarray


class Counters(NamedTuple):
    """Synapses by emission step: what left must equal what arrived, was dropped as autapse, or was lesioned."""

    delivered: np.ndarray
    autapses: np.ndarray
    lesioned: np.ndarray


class Backend(Protocol):
    """One network compiled for one kind of hardware; holds tables that never change, and is handed the state.

    longest: the longest delay in steps.  constants: replaced by those of a checkpoint.
    """

    name: str
    threads: int
    synapse_storage: str
    longest: int
    constants: Constants

    def start(self, seed: int) -> Any:
        """The state at step 0."""

    def step(self, state: Any) -> int:
        """Steps done."""

    def advance(
        self, state: Any, steps: int, control: Control, stimulus: np.ndarray, samples: np.ndarray
    ) -> tuple[int, np.ndarray]:
        """Run `steps` steps or fewer; return how many, and the fields (steps, s, 6) of the gids in `samples`.

        stimulus (steps or 1, p) float32 pA.
        """

    # what the last call left behind; start and stop are steps within it

    def totals(self, state: Any, start: int, stop: int) -> tuple[int, int, np.ndarray]:
        """Number of spikes, their digest, and (steps,) synapses emitted."""

    def counts(self, state: Any, start: int, stop: int) -> np.ndarray:
        """(steps, p) int32: spikes of each population."""

    def spikes(
        self, state: Any, start: int, stop: int, stride: int, wanted: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Steps and gids, ordered so, of populations wanted (p,) bool and of gids that `stride` divides."""

    def counters(self, state: Any, start: int, stop: int) -> Counters:
        """What became of the synapses emitted in these steps; forgotten once told."""

    def failure(self, state: Any) -> tuple[int, int, float] | None:
        """(step, gid, V) where a membrane left all bounds."""

    def neuron_bytes(self, state: Any) -> int:
        """Memory of everything that grows with the neurons."""

    def synapse_bytes(self, state: Any) -> int:
        """Memory of stored synapses; 0 where they are computed."""

    def snapshot(self, state: Any) -> Snapshot:
        """A copy in gid order."""

    def state_digest(self, state: Any) -> int: ...

    # checkpoints

    def settled(self, state: Any) -> bool:
        """Whether nothing has been delivered that arrives later; the sums of `Stored` do not count, see `arrived`."""

    def piece(self, state: Any, first: int, stop: int) -> Piece:
        """A copy of the state of the gids first..stop-1."""

    def arrived(self, state: Any, start: int, stop: int) -> Counters:
        """What has become, before the next step, of the synapses emitted in these steps, in whatever way a backend
        counts; nothing is forgotten.
        """

    def restore(
        self, seed: int, step: int, pieces: Iterable[Piece], spike_step: np.ndarray, spike_gid: np.ndarray,
        arrived: Counters,
    ) -> Any:  # fmt: skip
        """The state before `step`. Of pieces, and of the spikes of the last `longest` steps, ordered by step and gid,
        it takes what it owns; arrived: of the steps up to the last one.
        """


class RankBackend(Backend, Protocol):
    """A backend that can hold the tiles of one rank of many."""

    block: int
    burst: int

    def prepare(self, state: Any, steps: int, control: Control, stimulus: np.ndarray, samples: np.ndarray) -> Any:
        """What `go` needs for as many steps or fewer: begin, steps, probes.out as `advance` returns it."""

    def go(self, state: Any, prepared: Any, stop: int, epoch: int | None = None) -> int:
        """Run up to step `stop`, or fewer; return how many. epoch: steps that spikes of other ranks take at least."""

    def outgoing(self, state: Any, tiles: np.ndarray, start: int, stop: int) -> np.ndarray:
        """The spikes of some tiles in steps start..stop-1, as uint16."""

    def incoming(self, state: Any, tiles: np.ndarray, start: int, stop: int, message: np.ndarray) -> int:
        """Take in such a message, of tiles that are -1 nothing; return how many spikes that were."""

    def learn(self, state: Any, stop: int) -> None:
        """All spikes of other ranks before step `stop` were taken in."""


def initial(network: Network, seed: int, reset, threshold, control: Control, gids: np.ndarray, population: np.ndarray):
    """(g, 6) float32: fields of neurons at step 0.

    V is uniform between reset and threshold, S is zero, the background is drawn from its stationary distribution.
    """
    fields = np.zeros((len(gids), 6), np.float32)
    k = network.population_class[population]
    word = rng.hash64(gids, rng.key(seed, rng.Stream.INITIAL, 0))
    part = (word >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
    fields[:, 0] = reset[k] + (threshold[k] - reset[k]) * part
    noise = rng.noise4(rng.hash64(gids, rng.key(seed, rng.Stream.INITIAL, 1))).astype(np.float32)
    per_unit = (control.sd.astype(np.float64) / rng.NOISE_SD).astype(np.float32)
    fields[:, 5] = control.mean[population] + per_unit[population] * noise
    return fields


def spike_digest(step: np.ndarray, gid: np.ndarray) -> int:
    """Σ mix(mix(gid XOR K) + step) mod 2⁶⁴: the same in whatever order spikes are counted."""
    with np.errstate(over="ignore"):
        return int(rng.mix(rng.mix(gid.astype(np.uint64) ^ DIGEST_KEY) + step.astype(np.uint64)).sum(dtype=np.uint64))


def state_digest(fields: np.ndarray, first_gid: int = 0) -> int:
    """Σ mix(mix((8 gid + field) XOR K) + bits) mod 2⁶⁴ over the bits of all fields, from gid `first_gid` on."""
    gid = np.arange(first_gid, first_gid + len(fields)).astype(np.uint64)[:, None]
    which = gid * np.uint64(8) + np.arange(6).astype(np.uint64)
    bits = np.ascontiguousarray(fields).view(np.uint32).astype(np.uint64)
    with np.errstate(over="ignore"):
        return int(rng.mix(rng.mix(which ^ DIGEST_KEY) + bits).sum(dtype=np.uint64))
