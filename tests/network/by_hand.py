"""docs/decisions/0001-synapse.md once more, in integers of any size and without NumPy or dtb: a second opinion.

A description is what the JSON file of known answers holds: regions, classes, size, seed, projections.
"""

from __future__ import annotations

import math
import struct
from itertools import pairwise
from statistics import NormalDist
from typing import Any, NamedTuple

MASK_32, MASK_64 = 2**32 - 1, 2**64 - 1
POSITION, WEIGHT, LESION = 0, 1, 2
KINDS = ("excitatory", "inhibitory")


class Segment(NamedTuple):
    """bound: where it ends on the u axis, 32.32; n neurons from gid first; pair: of its projection, sorted."""

    begin: int
    end: int
    first: int
    n: int
    delay: float
    projection: int
    pair: tuple[int, int]


class Synapse(NamedTuple):
    j: int
    target: int
    weight: int
    delay: float
    kind: int


def philox(counter: list[int], key: list[int]) -> list[int]:
    c, k = list(counter), list(key)
    for _ in range(10):
        left, right = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [right >> 32 ^ c[1] ^ k[0], right & MASK_32, left >> 32 ^ c[3] ^ k[1], left & MASK_32]
        k = [k[0] + 0x9E3779B9 & MASK_32, k[1] + 0xBB67AE85 & MASK_32]
    return c


def word(seed: int, stream: int, row: int, gid: int) -> int:
    """hash64(gid, key(seed, stream, row))."""
    w = philox([row & MASK_32, row >> 32, stream, 0], [seed & MASK_32, seed >> 32])
    z = gid * 0x9E3779B97F4A7C15 & MASK_64 ^ (w[1] << 32 | w[0])
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK_64 ^ (w[3] << 32 | w[2])
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK_64
    return z ^ z >> 31


def float32(x: float) -> float:
    return struct.unpack("f", struct.pack("f", x))[0]


def gids(description: dict[str, Any]) -> dict[tuple[int, int], range]:
    """gids of every population, by region and class."""
    found, first = {}, 0
    for r, sizes in enumerate(description["size"]):
        for k, n in enumerate(sizes):
            if n:
                found[r, k] = range(first, first + n)
            first += n
    return found


def segments(description: dict[str, Any], region: int, cell: int) -> list[Segment]:
    """The row of a population, empty segments left out."""
    names, size, populations = description["classes"], description["size"], gids(description)
    found, at = [], 0
    for number, p in enumerate(description["projections"]):
        if names[cell] not in p["pre"]:
            continue
        post, factor = [names.index(c) for c in p["post"]], [float(f) for f in p["factor"]]
        pool = sum(size[region][names.index(c)] for c in p["pre"])
        for target, pre, in_degree, delay in sorted(p["pairs"], key=lambda pair: (pair[1], pair[0])):
            if pre != region:
                continue
            fed = [0.0]
            for k, f in zip(post, factor, strict=True):
                fed.append(fed[-1] + size[target][k] * f)
            width = round(in_degree * fed[-1] / float(pool) * 2.0**32)
            share = [round(f / fed[-1] * 2.0**32) if fed[-1] > 0 else 0 for f in fed]
            classes = p["delay_classes"]
            m = len(classes)
            cuts = [b + (e - b) * s // m for b, e in pairwise(share) for s in range(m)]
            cuts = [width * cut >> 32 for cut in [*cuts, share[-1]]]
            for c in range(len(post) * m):
                if cuts[c + 1] > cuts[c]:
                    hit = populations[target, post[c // m]]
                    late = float32(delay) * float(classes[c % m])
                    ends = (at + cuts[c], at + cuts[c + 1])
                    found.append(Segment(*ends, hit.start, len(hit), late, number, (target, pre)))
            at += width
    return found


def quantiles(shape: str, a: float, b: float) -> list[float]:
    p = [(i + 0.5) / 256 for i in range(256)]
    if shape == "uniform":
        return [a + (b - a) * x for x in p]
    if shape == "constant":
        return [a] * 256
    return [max(a + b * NormalDist().inv_cdf(x), 0.0) for x in p]


def unit(description: dict[str, Any], kind: str) -> float:
    """The power of two that brings the largest weight of a kind above 2^13 and to at most 2^14."""
    largest = max(max(quantiles(*p["weights"])) for p in description["projections"] if p["kind"] == kind)
    return 2.0 ** (math.ceil(math.log2(largest)) - 14) if largest > 0 else 2.0**-14


def synapses(description: dict[str, Any], gid: int, lesions: list | None = None) -> tuple[list[Synapse], int, int]:
    """Synapses in the order of j, and how many autapses and lesioned ones are missing.

    lesions: [post region, pre region, fraction] each, of all projections.
    """
    region, cell = next(rk for rk, of_population in gids(description).items() if gid in of_population)
    row = segments(description, region, cell)
    projections, seed = description["projections"], description["seed"]
    units = {p["kind"]: unit(description, p["kind"]) for p in projections}
    tables = [[round(q / units[p["kind"]]) for q in quantiles(*p["weights"])] for p in projections]
    fraction = {(post, pre): f for post, pre, f in lesions or []}
    end, at, found, autapses, lesioned = row[-1].end if row else 0, 0, [], 0, 0
    for j in range(-(-end // 2**32)):
        r = word(seed, POSITION, j, gid)
        u = j << 32 | r >> 32
        if u >= end:
            continue
        while u >= row[at].end:
            at += 1
        s = row[at]
        width = s.end - s.begin
        spare = min(53 - width.bit_length(), 32)
        exact = u - s.begin << spare | (r & MASK_32) >> 32 - spare
        target = s.first + min(int(float(exact) * (float(s.n) / float(width << spare))), s.n - 1)
        p = projections[s.projection]
        if target == gid:
            autapses += 1
        elif word(seed, LESION, j, gid) >> 32 < round(fraction.get(s.pair, 0.0) * 2.0**32):
            lesioned += 1
        else:
            weight = tables[s.projection][word(seed, WEIGHT, j, gid) >> 56]
            found.append(Synapse(j, target, weight, s.delay, KINDS.index(p["kind"])))
    return found, autapses, lesioned
