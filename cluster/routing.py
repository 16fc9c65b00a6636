"""How spikes travel between ranks: straight, or by way of nodes.

A message holds the spikes of some tiles and steps: how many in each step of each tile, then the neurons' numbers in
their tile, all uint16; see `cpu_spikes.pack`. Both ends know which tiles it is about, so that is not in it.

flat: one message between any two ranks that need one.  two-level: each rank writes its spikes once into memory that
its node shares; between two nodes there is one message, of the tiles that the other node needs, and what arrives is
again shared. With 4 ranks on a node that is 16 times fewer messages, and each spike crosses to a node once.
"""

from __future__ import annotations

import os
import time

import numpy as np

from dtb.engine.comm import Incoming, Outgoing
from dtb.engine.routes import Routes

ROUTINGS = ("two-level", "flat")
TAG = 7
HEAD = 4  # uint16 of a slot that say how long its message is: one uint64
APART = 32  # uint16 between a rank's count of exchanges and its messages: a cache line
SPIN_S, YIELD_S, NAP_S = 20e-6, 1e-3, 50e-6  # how long a rank that waits looks again at once; then leaves its core
# between two looks, for what else there is to run; and then sleeps between them


class Messages:
    """From other ranks, one from each, of any length: they go on arriving in `poke`, while this rank computes."""

    def __init__(self, mpi, world, ranks: list[int]) -> None:
        self._mpi, self._world, self._ranks = mpi, world, ranks
        self.expect()

    def expect(self) -> None:
        """The next message of each."""
        self._found: dict[int, tuple] = {}  # rank: message and request

    def poke(self) -> bool:
        """Let messages that were announced come; whether all are here."""
        status = self._mpi.Status()
        for rank in self._ranks:
            if rank not in self._found and (found := self._world.Improbe(source=rank, tag=TAG, status=status)):
                self._begin(rank, found, status)
        if len(self._found) < len(self._ranks):
            return False
        return self._mpi.Request.Testall([request for _, request in self._found.values()])

    def wait(self) -> list[np.ndarray]:
        """All messages, in the order of ranks."""
        status = self._mpi.Status()
        for rank in self._ranks:
            if rank not in self._found:
                self._begin(rank, self._world.Mprobe(source=rank, tag=TAG, status=status), status)
        self._mpi.Request.Waitall([request for _, request in self._found.values()])
        return [self._found[rank][0] for rank in self._ranks]

    def _begin(self, rank: int, found, status) -> None:
        message = np.empty(status.Get_count(self._mpi.UINT16_T), np.uint16)
        self._found[rank] = message, found.Irecv(message)


class Flat:
    """One message from each rank to each other that needs its spikes."""

    def __init__(self, mpi, world, routes: Routes) -> None:
        self._mpi, self._world, self._routes = mpi, world, routes
        self._requests: list = []
        self._held: list[np.ndarray] = []  # until they are sent
        self._messages = Messages(mpi, world, list(routes.receives))
        self.messages = self.bytes = 0
        self.waited_s = 0.0

    def send(self, outgoing: Outgoing) -> None:
        self._mpi.Request.Waitall(self._requests)
        self._held = [outgoing(tiles) for tiles in self._routes.sends.values()]
        ends = zip(self._held, self._routes.sends, strict=True)
        self._requests = [self._world.Isend(message, dest=rank, tag=TAG) for message, rank in ends]
        self.messages += len(self._held)
        self.bytes += sum(message.nbytes for message in self._held)

    def poke(self) -> bool:
        return self._messages.poke() and self._mpi.Request.Testall(self._requests)

    def receive(self, incoming: Incoming) -> None:
        clock = time.perf_counter()
        messages = self._messages.wait()
        self.waited_s += time.perf_counter() - clock
        for tiles, message in zip(self._routes.receives.values(), messages, strict=True):
            incoming(tiles, message)
        self._messages.expect()
        self._mpi.Request.Waitall(self._requests)
        self._requests, self._held = [], []


class TwoLevel:
    """Shared memory within a node, one message from each node to each other that needs one.

    Memory is written and read in turns: what is written in one exchange stays until the one after the next. Each rank
    counts its exchanges where all can see it, and no rank counts on before it has read the last one of the others; so
    ranks of a node need no message to meet, and wait only where one is behind.
    """

    def __init__(self, mpi, world, node, routes: Routes, steps: int, spikes: int) -> None:
        self._mpi, self._world, self._node, self._steps = mpi, world, node, steps
        self._requests: list = []
        self._held: list[np.ndarray] = []
        self.messages = self.bytes = 0
        self._forwarded = True  # what this rank takes to other nodes
        self._tiles = np.unique(np.concatenate([*routes.sends.values(), np.zeros(0, np.int64)])).astype(np.int64)
        here = gather_lists(node, np.array([world.Get_rank()]))
        self._ranks = [int(ranks[0]) for ranks in here]  # of this node, in the world
        self._me = node.Get_rank()
        self._slots = Window(mpi, node, HEAD + len(self._tiles) * steps + spikes)
        self._slot_tiles = gather_lists(node, self._tiles)
        self._join_nodes(routes, spikes)

    def _join_nodes(self, routes: Routes, spikes: int) -> None:
        """Find which tiles other nodes need, and tell theirs; each rank of a node speaks with some of the others."""
        first = np.empty(self._world.Get_size(), np.int64)  # of each rank's node, the first rank
        self._world.Allgather(np.array([min(self._ranks)]), first)
        nodes = np.unique(first)
        members = {int(node): np.flatnonzero(first == node) for node in nodes}
        mine, sizes = int(first[self._world.Get_rank()]), gather_lists(self._node, np.array([spikes]))
        self._to: list[tuple[int, list[np.ndarray]]] = []  # rank, and of each slot which tiles
        self._from: list[tuple[int, np.ndarray]] = []  # rank, tiles
        room, requests, told = 0, [], []
        for number, node in enumerate(int(n) for n in nodes):
            if node == mine:
                continue
            wanted = [routes.sends[r] for r in members[node].tolist() if r in routes.sends]
            keep = gather_lists(self._node, np.isin(self._tiles, np.concatenate([*wanted, np.zeros(0, np.int64)])))
            if number % len(self._ranks) != self._me:
                continue
            there = int(members[node][np.searchsorted(nodes, mine) % len(members[node])])
            tiles = [of[k.astype(bool)] for of, k in zip(self._slot_tiles, keep, strict=True)]
            told.append(np.concatenate([[sum(int(s[0]) for s in sizes)], *tiles]).astype(np.int64))
            requests.append(self._world.Isend(told[-1], dest=there, tag=TAG))
            if len(told[-1]) > 1:
                self._to.append((there, [k.astype(bool) for k in keep]))
        for number, node in enumerate(int(n) for n in nodes):
            if node == mine or number % len(self._ranks) != self._me:
                continue
            status = self._mpi.Status()
            there = int(members[node][np.searchsorted(nodes, mine) % len(members[node])])
            found = self._world.Mprobe(source=there, tag=TAG, status=status)
            heard = np.empty(status.Get_count(self._mpi.INT64_T), np.int64)
            found.Recv(heard)
            if len(heard) > 1:
                self._from.append((there, heard[1:]))
                room += 2 * HEAD + (len(heard) - 1) * self._steps + int(heard[0])
        self._mpi.Request.Waitall(requests)
        lengths = gather_lists(self._node, np.array([len(tiles) for _, tiles in self._from]))
        flat = gather_lists(self._node, np.concatenate([*(tiles for _, tiles in self._from), np.zeros(0, np.int64)]))
        pairs = zip(flat, lengths, strict=True)
        self._inbound_tiles = [np.split(tiles, np.cumsum(n)[:-1]) if len(n) else [] for tiles, n in pairs]
        self._arrives = any(len(tiles) for tiles in self._inbound_tiles)
        self._inbound = Window(self._mpi, self._node, room)
        self._messages = Messages(self._mpi, self._world, [there for there, _ in self._from])

    @property
    def waited_s(self) -> float:
        return self._slots.waited_s + self._inbound.waited_s

    def send(self, outgoing: Outgoing) -> None:
        self._slots.write([outgoing(self._tiles)])
        self._forwarded = not self._to
        self.poke()

    def poke(self) -> bool:
        if not self._forwarded:
            if not self._slots.met():
                return False
            self._forward()
        return self._messages.poke() and self._mpi.Request.Testall(self._requests)

    def _forward(self) -> None:
        """Send to other nodes what ranks of this one have for them."""
        self._forwarded = True
        self._mpi.Request.Waitall(self._requests)
        self._held = []
        for _, keep in self._to:
            slots = [self._slots.read(k)[0] for k in range(len(self._ranks))]
            parts = [cut(slot, k, self._steps) for slot, k in zip(slots, keep, strict=True)]
            self._held.append(np.concatenate([p for part in zip(*parts, strict=True) for p in part]))
        ends = zip(self._held, self._to, strict=True)
        self._requests = [self._world.Isend(message, dest=there, tag=TAG) for message, (there, _) in ends]
        self.messages += len(self._held)
        self.bytes += sum(message.nbytes for message in self._held)

    def receive(self, incoming: Incoming) -> None:
        self._slots.meet()
        if not self._forwarded:
            self._forward()
        if self._arrives:
            clock = time.perf_counter()
            messages = self._messages.wait()
            self._slots.waited_s += time.perf_counter() - clock
            self._inbound.write(messages)
            self._messages.expect()
            self._inbound.meet()
        for k, tiles in enumerate(self._slot_tiles):
            if k != self._me and len(tiles):
                incoming(tiles, self._slots.read(k)[0])
        for k, lists in enumerate(self._inbound_tiles):
            if lists:
                for tiles, message in zip(lists, self._inbound.read(k, len(lists)), strict=True):
                    incoming(tiles, message)


class Window:
    """Memory that the ranks of a node share: each writes messages into its own part, for all to read, twice over.

    In front of its messages, each has the number of times that it wrote.
    """

    def __init__(self, mpi, node, room: int) -> None:
        self._me, self._written, self.waited_s = node.Get_rank(), 0, 0.0
        room = max(-(-room // HEAD) * HEAD, HEAD)
        self._window = mpi.Win.Allocate_shared(2 * (APART + 2 * room), 2, comm=node)
        self._window.Lock_all(mpi.MODE_NOCHECK)
        self._parts, self._counts = [], []
        for rank in range(node.Get_size()):
            memory, _ = self._window.Shared_query(rank)
            part = np.frombuffer(memory, np.uint16)
            self._counts.append(part[:HEAD].view(np.uint64))
            self._parts.append(part[APART:].reshape(2, -1))
        self._counts[self._me][0] = 0
        self._window.Sync()
        node.Barrier()

    def write(self, messages: list[np.ndarray]) -> None:
        """Write the messages of the next exchange, and say so."""
        part, at = self._parts[self._me][(self._written + 1) % 2], 0
        for message in messages:
            if at + HEAD + len(message) > len(part):
                raise RuntimeError(
                    f"a message of {len(message):,} numbers does not fit shared memory for {len(part):,}. This is a "
                    'fault of dtb; routing = "flat" works without it.'
                )
            part[at : at + HEAD].view(np.uint64)[0] = len(message)
            part[at + HEAD : at + HEAD + len(message)] = message
            at += HEAD + -(-len(message) // HEAD) * HEAD
        self._window.Sync()  # the messages are there before the number that says so
        self._written += 1
        self._counts[self._me][0] = self._written
        self._window.Sync()

    def read(self, rank: int, messages: int = 1) -> list[np.ndarray]:
        """What a rank wrote in the exchange for which all have met."""
        part, at, found = self._parts[rank][self._written % 2], 0, []
        for _ in range(messages):
            n = int(part[at : at + HEAD].view(np.uint64)[0])
            found.append(part[at + HEAD : at + HEAD + n])
            at += HEAD + -(-n // HEAD) * HEAD
        return found

    def met(self) -> bool:
        """Whether all have written as often as this rank."""
        if any(int(count[0]) < self._written for count in self._counts):
            return False
        self._window.Sync()
        return True

    def meet(self) -> None:
        """Wait until all have."""
        if self.met():
            return
        begin = time.perf_counter()
        while not self.met():
            waited = time.perf_counter() - begin
            if waited > YIELD_S:
                time.sleep(NAP_S)
            elif waited > SPIN_S:
                os.sched_yield()
        self.waited_s += time.perf_counter() - begin


def cut(message: np.ndarray, keep: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts and neurons of some tiles of a message, keep (t,) bool."""
    counts = message[: len(keep) * steps].reshape(len(keep), steps)
    neurons = message[len(keep) * steps :]
    if keep.all():
        return counts.ravel(), neurons
    return counts[keep].ravel(), neurons[np.repeat(keep, counts.sum(axis=1, dtype=np.int64))]


def gather_lists(comm, values: np.ndarray) -> list[np.ndarray]:
    """Integers of all ranks, as many as each has, everywhere."""
    values = np.ascontiguousarray(values, np.int64)
    n = np.empty(comm.Get_size(), np.int64)
    comm.Allgather(np.array([len(values)]), n)
    out = np.empty(int(n.sum()), np.int64)
    comm.Allgatherv(values, [out, n.tolist()])
    return np.split(out, np.cumsum(n)[:-1])
