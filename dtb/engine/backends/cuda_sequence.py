"""Which kernels make a block of steps, in what order, and how many blocks are started at once."""

from __future__ import annotations

from typing import Any

from dtb.engine.backends import cuda_plan
from dtb.engine.backends.cuda_device import Device, Launch
from dtb.engine.backends.cuda_plan import Plan

BLOCKS_IN_A_GRAPH = 8  # of steps: what starting a graph costs the host, is paid once for all of them


def kernels(plan: Plan, threads: int, record: Any) -> list[Launch]:
    """The kernels of one block of steps; record: of a state, on the device.

    Where there are several groups, those that draw have a queue of their own: `scatter` computes, `advance` waits
    for memory, so one of a group can run beside the other of the next. What a group's buckets held before must be
    taken out before they are filled again, and a block must have ended (kernel -1) before the next one is drawn.
    """
    update = cuda_plan.advance_bytes(plan.width, plan.scattered)
    queue = int(len(plan.groups) > 1)
    launches: list[Launch] = []
    taken: list[int] = []  # number of each group's `advance`
    for g, group in enumerate(plan.groups):
        first, n = int(plan.item[g]), int(plan.item[g + 1] - plan.item[g])
        if n:
            shared = cuda_plan.scatter_bytes(int(group["tiles"]) * plan.block, threads)
            after = (taken[g - cuda_plan.TURNS] if g >= cuda_plan.TURNS else -1,) if queue else ()
            launches.append(Launch("scatter", n, threads, shared, (record, first), queue, after))
        after = (len(launches) - 1,) if queue and n else ()
        taken.append(len(launches))
        launches.append(Launch("advance", int(group["tiles"]), threads, update, (record, g), 0, after))
    if not plan.scattered:
        launches.append(Launch("spread", len(plan.tiles.n), threads, 0, (record,)))
        launches.append(Launch("advance_spread", len(plan.layout.own), threads, update, (record,)))
    return [*launches, Launch("tick", 1, cuda_plan.WARP, 0, (record,))]


class Sequence:
    """Blocks of steps of one or more states, started again and again: a graph of one block, and one of several.

    Parameters
    ----------
    members : list of the kernels of a block
        Those of different members can run at the same time.
    """

    def __init__(self, device: Device, members: list[list[Launch]]) -> None:
        self._many, self._one = (device.sequence(repeated(members, blocks)) for blocks in (BLOCKS_IN_A_GRAPH, 1))

    def start(self, blocks: int) -> None:
        self._many(blocks // BLOCKS_IN_A_GRAPH)
        self._one(blocks % BLOCKS_IN_A_GRAPH)


def repeated(members: list[list[Launch]], blocks: int) -> list[Launch]:
    """Kernels of some blocks of steps: a member waits for its own block before, and for no other member."""
    launches: list[Launch] = []
    for member, kernels in enumerate(members):
        for block in range(blocks):
            first = len(launches)  # the number before it is the last kernel of the block before
            for launch in kernels:
                after = tuple(first + number for number in launch.after if block or number >= 0)
                launches.append(launch._replace(queue=2 * member + launch.queue, after=after))
    return launches
