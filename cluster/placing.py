"""Compiled loops of `balance`: millions of tiles onto thousands of ranks in a second.

t tile, r rank.   time, memory (t,): of each tile, as shares of all.   share (r,): what each rank should have of all.
level: of a rank, the larger of its time and its memory over its share; 1 is exactly what it should have.
"""

from __future__ import annotations

import heapq

import numpy as np
from numba import njit

TRIALS = 4  # changes per rank that `refine` may make, and a thousand more
MOST_TILES = 64  # of a rank that swaps look at


@njit(cache=True)
def spread(time, memory, order, share):
    """Longest processing time: each tile, in `order`, to the rank whose level is least; (t,) int32 owners."""
    owner = np.zeros(len(time), np.int32)
    used = np.zeros((len(share), 2))
    heap = [(0.0, -share[r], r) for r in range(len(share))]
    heapq.heapify(heap)
    for t in order:
        r = heap[0][2]
        owner[t] = r
        used[r, 0] += time[t]
        used[r, 1] += memory[t]
        heapq.heapreplace(heap, (max(used[r, 0], used[r, 1]) / share[r], -share[r], r))
    return owner


@njit(cache=True)
def walk(time, memory, dense, other, share):
    """Fill rank after rank from two queues of tiles, one of those that take more time than memory; (t,) int32 owners.

    Whichever of time and memory is ahead so far, the next tile comes from the queue that lets the other catch up. So
    after each rank both are where they should be, to within half a tile, and a rank holds runs of few regions.
    """
    owner = np.zeros(len(time), np.int32)
    i = j = 0
    spent = kept = goal = 0.0
    for r in range(len(share)):
        goal += share[r]
        last, first = r == len(share) - 1, True
        while i < len(dense) or j < len(other):
            from_dense = j == len(other) or (i < len(dense) and spent < kept)
            t = dense[i] if from_dense else other[j]
            left = len(dense) - i + len(other) - j
            over = (spent + kept + 0.5 * (time[t] + memory[t])) / 2 > goal or left < len(share) - r
            if over and not last and not first:
                break
            owner[t] = r
            spent += time[t]
            kept += memory[t]
            first = False
            if from_dense:
                i += 1
            else:
                j += 1
    return owner


@njit(cache=True)
def refine(time, memory, owner, share, goal):
    """Move or swap tiles between the ranks of highest and least level, in place, while that helps towards `goal`."""
    ranks, tiles = len(share), len(time)
    used, head, after = np.zeros((ranks, 2)), np.full(ranks, -1), np.full(tiles, -1)
    held = np.zeros(ranks, np.int64)
    for t in range(tiles):  # tiles of a rank are a chain: head[r], after[head[r]], …
        r = owner[t]
        after[t], head[r] = head[r], t
        held[r] += 1
        used[r, 0] += time[t]
        used[r, 1] += memory[t]
    for _ in range(TRIALS * ranks + 1000):
        worst = least = 0
        high, low = -1.0, 1e300
        for r in range(ranks):
            level = max(used[r, 0], used[r, 1]) / share[r]
            if level > high:
                high, worst = level, r
            if level < low:
                low, least = level, r
        if high <= goal:
            return
        give, take = best_change(time, memory, used, head, after, held, worst, least, share, high)
        if give < 0:
            return
        detach(head, after, worst, give)
        attach(head, after, least, give)
        owner[give] = least
        held[worst] -= 1
        held[least] += 1
        sign = 1.0
        for t in (give, take):
            if t >= 0:
                used[worst, 0] -= sign * time[t]
                used[worst, 1] -= sign * memory[t]
                used[least, 0] += sign * time[t]
                used[least, 1] += sign * memory[t]
            sign = -1.0
        if take >= 0:
            detach(head, after, least, take)
            attach(head, after, worst, take)
            owner[take] = worst
            held[worst] += 1
            held[least] -= 1


@njit(cache=True)
def best_change(time, memory, used, head, after, held, worst, least, share, high):
    """(tile to give, tile to take or -1) that lowers the higher level of both ranks most; (-1, -1) where none does."""
    give = take = -1
    best = high * (1 - 1e-9)
    a, seen = head[worst], 0
    while a >= 0 and seen < MOST_TILES:
        b, others = -1, 0
        while True:
            dt, dm = time[a], memory[a]
            if b >= 0:
                dt -= time[b]
                dm -= memory[b]
            level = max(
                max(used[worst, 0] - dt, used[worst, 1] - dm) / share[worst],
                max(used[least, 0] + dt, used[least, 1] + dm) / share[least],
            )
            if level < best and (b >= 0 or held[worst] > 1):
                best, give, take = level, a, b
            b = head[least] if b < 0 else after[b]
            others += 1
            if b < 0 or others > MOST_TILES:
                break
        a = after[a]
        seen += 1
    return give, take


@njit(cache=True)
def detach(head, after, r, t):
    if head[r] == t:
        head[r] = after[t]
        return
    before = head[r]
    while after[before] != t:
        before = after[before]
    after[before] = after[t]


@njit(cache=True)
def attach(head, after, r, t):
    after[t] = head[r]
    head[r] = t
