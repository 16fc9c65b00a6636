"""How spikes travel between ranks: straight, or by way of nodes.

A message holds the spikes of some tiles and steps: how many in each step of each tile, then the neurons' numbers in
their tile, all uint16; see `cpu_spikes.pack`. Both ends know which tiles it is about, so that is not in it.

flat: one message between any two ranks that need one.  two-level: each rank writes its spikes once into memory that
its node shares; between two nodes there is one message, of the tiles that the other node needs, and what arrives is
again shared. With 4 ranks on a node that is 16 times fewer messages, and each spike crosses to a node once.
"""

from __future__ import annotations

import numpy as np

from dtb.engine.comm import Incoming, Outgoing
from dtb.engine.routes import Routes

ROUTINGS = ("two-level", "flat")
TAG = 7
HEAD = 4  # uint16 of a slot that say how long its message is: one uint64


class Flat:
    """One message from each rank to each other that needs its spikes."""

    def __init__(self, mpi, world, routes: Routes) -> None:
        self._mpi, self._world, self._routes = mpi, world, routes
        self._requests: list = []
        self._held: list[np.ndarray] = []  # until they are sent
        self.messages = self.bytes = 0

    def send(self, outgoing: Outgoing) -> None:
        self._mpi.Request.Waitall(self._requests)
        self._held = [outgoing(tiles) for tiles in self._routes.sends.values()]
        ends = zip(self._held, self._routes.sends, strict=True)
        self._requests = [self._world.Isend(message, dest=rank, tag=TAG) for message, rank in ends]
        self.messages += len(self._held)
        self.bytes += sum(message.nbytes for message in self._held)

    def receive(self, incoming: Incoming) -> None:
        for rank, tiles in self._routes.receives.items():
            incoming(tiles, take(self._mpi, self._world, rank))
        self._mpi.Request.Waitall(self._requests)
        self._requests, self._held = [], []


def take(mpi, comm, rank: int) -> np.ndarray:
    """The next message from a rank, however long."""
    status = mpi.Status()
    found = comm.Mprobe(source=rank, tag=TAG, status=status)
    message = np.empty(status.Get_count(mpi.UINT16_T), np.uint16)
    found.Recv(message)
    return message


class TwoLevel:
    """Shared memory within a node, one message from each node to each other that needs one.

    Memory is written and read in turns: what is written in one exchange stays until the one after the next. Between
    lies a meeting of the node, at which no rank arrives before it has read the last exchange.
    """

    def __init__(self, mpi, world, node, routes: Routes, steps: int, spikes: int) -> None:
        self._mpi, self._world, self._node, self._steps = mpi, world, node, steps
        self._requests: list = []
        self._held: list[np.ndarray] = []
        self.messages = self.bytes = 0
        self._turn = 0
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

    def send(self, outgoing: Outgoing) -> None:
        self._turn ^= 1
        self._slots.write(self._turn, [outgoing(self._tiles)])
        self._slots.arrive()
        if not self._to:  # nobody waits for this rank but its node, and that later
            return
        self._slots.meet()
        self._mpi.Request.Waitall(self._requests)
        self._held = []
        for _, keep in self._to:
            slots = [self._slots.read(self._turn, k)[0] for k in range(len(self._ranks))]
            parts = [cut(slot, k, self._steps) for slot, k in zip(slots, keep, strict=True)]
            self._held.append(np.concatenate([p for part in zip(*parts, strict=True) for p in part]))
        ends = zip(self._held, self._to, strict=True)
        self._requests = [self._world.Isend(message, dest=there, tag=TAG) for message, (there, _) in ends]
        self.messages += len(self._held)
        self.bytes += sum(message.nbytes for message in self._held)

    def receive(self, incoming: Incoming) -> None:
        self._slots.meet()
        if self._arrives:
            self._inbound.write(self._turn, [take(self._mpi, self._world, there) for there, _ in self._from])
            self._inbound.arrive()
            self._inbound.meet()
        for k, tiles in enumerate(self._slot_tiles):
            if k != self._me and len(tiles):
                incoming(tiles, self._slots.read(self._turn, k)[0])
        for k, lists in enumerate(self._inbound_tiles):
            if lists:
                for tiles, message in zip(lists, self._inbound.read(self._turn, k, len(lists)), strict=True):
                    incoming(tiles, message)


class Window:
    """Memory that the ranks of a node share: each writes messages into its own part, for all to read, twice over."""

    def __init__(self, mpi, node, room: int) -> None:
        self._node = node
        room = max(-(-room // HEAD) * HEAD, HEAD)
        self._window = mpi.Win.Allocate_shared(2 * 2 * room, 2, comm=node)
        self._window.Lock_all(mpi.MODE_NOCHECK)
        self._parts = []
        for rank in range(node.Get_size()):
            memory, _ = self._window.Shared_query(rank)
            self._parts.append(np.frombuffer(memory, np.uint16).reshape(2, -1))

    def write(self, turn: int, messages: list[np.ndarray]) -> None:
        part, at = self._parts[self._node.Get_rank()][turn], 0
        for message in messages:
            if at + HEAD + len(message) > len(part):
                raise RuntimeError(
                    f"a message of {len(message):,} numbers does not fit shared memory for {len(part):,}. This is a "
                    'fault of dtb; routing = "flat" works without it.'
                )
            part[at : at + HEAD].view(np.uint64)[0] = len(message)
            part[at + HEAD : at + HEAD + len(message)] = message
            at += HEAD + -(-len(message) // HEAD) * HEAD

    def read(self, turn: int, rank: int, messages: int = 1) -> list[np.ndarray]:
        part, at, found = self._parts[rank][turn], 0, []
        for _ in range(messages):
            n = int(part[at : at + HEAD].view(np.uint64)[0])
            found.append(part[at + HEAD : at + HEAD + n])
            at += HEAD + -(-n // HEAD) * HEAD
        return found

    def arrive(self) -> None:
        """Say that this rank has written."""
        self._window.Sync()
        self._meeting = self._node.Ibarrier()

    def meet(self) -> None:
        """Wait until all have."""
        self._meeting.Wait()  # at once, if it did before
        self._window.Sync()


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
