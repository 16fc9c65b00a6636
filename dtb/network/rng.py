"""Randomness as a function: no generator state anywhere.

Every random number of the product is `hash64(index, key)`: a 64-bit word that depends on an index (a gid, or a gid and
a field) and on a 128-bit key. Keys come from Philox-4x32-10, `key(seed, stream, row)`, where the row is a synapse
number or a step. Keys are made a few thousand at a time; the hash is what the hot loops run, so it is short: the
finaliser of SplitMix64 (Stafford's variant 13) with half of the key mixed in before each multiplication. One half
alone would not do: neuron i at one step and neuron i XOR k at another would then share a number.

The integers are fixed in docs/decisions/0001-synapse.md; tests/network/test_rng.py has the known answers and the
battery that the streams pass.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # odd, 2^64 / golden ratio: Steele, Lea & Flood (2014), OOPSLA, SplitMix64
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)  # Stafford's mix 13, as in SplitMix64
MIX_2 = np.uint64(0x94D049BB133111EB)

PHILOX_M = (0xD2511F53, 0xCD9E8D57)  # multipliers and Weyl increments: Salmon et al. (2011), SC11, Random123
PHILOX_W = (0x9E3779B9, 0xBB67AE85)
PHILOX_ROUNDS = 10

NOISE_CENTRE = 131_070  # mean of the sum of four integers uniform on 0..65535, times one: 4 · 65535 / 2
NOISE_SD = float(np.sqrt(4 * (65536.0**2 - 1) / 12))  # its standard deviation, 37 837.2


class Stream(IntEnum):
    """Who draws: no two users of randomness share a stream, so no two share a key."""

    POSITION = 0  # Network.seed, row = synapse number j: where synapse j of a neuron lands
    WEIGHT = 1  # Network.seed, row = j: which weight it has
    LESION = 2  # Network.seed, row = j: whether a lesion of fraction f drops it
    PARAMETER = 3  # Network.seed, row = parameter number: what makes one neuron unlike the next
    INITIAL = 4  # Simulation.seed, row = field: membrane and background at step 0
    NOISE = 5  # Simulation.seed, row = step: the background current
    ARRIVAL = 6  # any seed, row = step: spikes of other ranks that a dry run makes up


def philox4x32(counter: np.ndarray, key: np.ndarray, rounds: int = PHILOX_ROUNDS) -> np.ndarray:
    """Philox-4x32 of Random123: (..., 4) uint32 counters and (..., 2) uint32 keys to (..., 4) uint32 words."""
    c0, c1, c2, c3 = (np.asarray(counter[..., i], np.uint64) for i in range(4))
    k0, k1 = (np.asarray(key[..., i], np.uint64) for i in range(2))
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    for _ in range(rounds):
        left, right = c0 * np.uint64(PHILOX_M[0]), c2 * np.uint64(PHILOX_M[1])
        c0, c1, c2, c3 = (right >> half) ^ c1 ^ k0, right & low, (left >> half) ^ c3 ^ k1, left & low
        k0, k1 = (k0 + np.uint64(PHILOX_W[0])) & low, (k1 + np.uint64(PHILOX_W[1])) & low
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def key(seed: int, stream: Stream, row: int | np.ndarray, member: int = 0) -> np.ndarray:
    """The 128-bit keys of rows of a stream, as (..., 2) uint64.

    Philox runs under the key (seed low, seed high) on the counter (row low, row high, stream, member); its words
    w0..w3 make the two halves w1·2³² + w0 and w3·2³² + w2.

    Examples
    --------
    >>> key(1, Stream.POSITION, np.arange(3)).shape
    (3, 2)
    """
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed is {seed}; allowed: 0 to 2^64 - 1.")
    rows = np.asarray(row, np.uint64)
    words = np.empty((*rows.shape, 4), np.uint32)
    words[..., 0] = rows & np.uint64(0xFFFFFFFF)
    words[..., 1] = rows >> np.uint64(32)
    words[..., 2] = int(stream)
    words[..., 3] = member
    seeds = np.empty((*rows.shape, 2), np.uint32)
    seeds[..., 0] = seed & 0xFFFFFFFF
    seeds[..., 1] = seed >> 32
    w = philox4x32(words, seeds).astype(np.uint64)
    return np.stack([w[..., 0] | w[..., 1] << np.uint64(32), w[..., 2] | w[..., 3] << np.uint64(32)], axis=-1)


def hash64(index: int | np.ndarray, key: np.ndarray) -> np.ndarray:
    """The random word of an index under a key: uint64, bits mixed as SplitMix64 does, with the key inside.

    Parameters
    ----------
    index : (...) integers below 2^64
    key : (..., 2) uint64, from `key`
    """
    with np.errstate(over="ignore"):
        z = np.asarray(index).astype(np.uint64) * GOLDEN ^ key[..., 0]
        z = (z ^ z >> np.uint64(30)) * MIX_1 ^ key[..., 1]
        z = (z ^ z >> np.uint64(27)) * MIX_2
        return z ^ z >> np.uint64(31)


def noise4(word: np.ndarray) -> np.ndarray:
    """A centred, nearly Gaussian integer from a word: the sum of its four 16-bit parts minus its mean, int32.

    Standard deviation NOISE_SD, excess kurtosis -0.3, never beyond 3.46 standard deviations.
    """
    word = np.asarray(word, np.uint64)
    part, mask = np.uint64(16), np.uint64(0xFFFF)
    total = (word & mask) + (word >> part & mask) + (word >> part + part & mask) + (word >> np.uint64(48))
    return total.astype(np.int32) - np.int32(NOISE_CENTRE)


def mix(z: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser, unkeyed: what digests are made with."""
    with np.errstate(over="ignore"):
        z = np.asarray(z, np.uint64)
        z = (z ^ z >> np.uint64(30)) * MIX_1
        z = (z ^ z >> np.uint64(27)) * MIX_2
        return z ^ z >> np.uint64(31)
