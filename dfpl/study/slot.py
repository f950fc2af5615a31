"""A slot: data-parallel ranks that a trial's process keeps, joined, from trial to trial.

Tune reserves a placement group for the trial; the ranks live in its bundles. They belong to the
trial's process: when that ends, however it ends, Ray ends them.
"""

import os
import socket
from collections.abc import Iterator
from datetime import timedelta
from queue import SimpleQueue
from typing import Any

import ray
import torch.distributed as dist
from ray.exceptions import RayError, RayTaskError
from ray.util import get_node_ip_address
from ray.util.placement_group import PlacementGroup, get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from dfpl.fields import Row
from dfpl.storage import StorageError
from dfpl.study.records import Record
from dfpl.study.resources import MOST_DEATHS, Resources
from dfpl.study.worker import Assignment, Tell, WorkersFailedError, own_device, train_rank
from dfpl.train import EndedError

ATTEMPTS = 1 + MOST_DEATHS
"""How often a run is started, each time from its checkpoint, before it counts as failed."""
START_S = 120.0
"""Longest wait for new ranks: their processes, torch, and that they find each other."""
LOOPBACK = "127.0.0.1"


class Rank:
    """One of the processes of a slot. Trains one run after another, in one thread; in another it
    passes on what rank 0 is told about epochs."""

    def __init__(self) -> None:
        self.told: SimpleQueue[Row | None] = SimpleQueue()

    def node(self) -> str:
        return get_node_ip_address()

    def listen(self, host: str) -> int:
        """Open the port where the ranks meet, on this interface alone."""
        self.door = socket.create_server((host, 0))
        return self.door.getsockname()[1]

    def join(self, rank: int, resources: Resources, host: str, port: int) -> int:
        """Enter the process group, in which a rank that waits for another gives up after
        `hung_after_s`. Returns the number of this process."""
        wait = timedelta(seconds=resources.hung_after_s)
        if host == LOOPBACK:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", _loopback())
        door: Any = {"master_listen_fd": self.door.detach()} if rank == 0 else {}
        store = dist.TCPStore(  # pyright: ignore[reportPrivateImportUsage]
            host, port, is_master=rank == 0, timeout=timedelta(seconds=START_S), **door
        )
        dist.init_process_group(
            resources.backend, store=store, rank=rank, world_size=resources.workers, timeout=wait
        )
        return os.getpid()

    def train(self, assignment: Assignment) -> Record:
        leads = dist.get_rank() == 0
        try:
            return train_rank(assignment, own_device(), self.told.put if leads else _nobody)
        finally:
            if leads:
                self.told.put(None)

    @ray.method(concurrency_group="telling")
    def rows(self) -> Iterator[Row]:
        """The rows of the run that is trained, as they come."""
        while (row := self.told.get()) is not None:
            yield row


def _loopback() -> str:
    return next(name for _, name in socket.if_nameindex() if name.startswith("lo"))


def _nobody(row: Row) -> None:
    pass


RankActor: Any = ray.remote(concurrency_groups={"telling": 1})(Rank)  # pyright: ignore[reportCallIssue]


class Slot:
    """The ranks of one placement group; its bundle 0 is the trial's process."""

    def __init__(self, group: PlacementGroup, resources: Resources) -> None:
        self.fits = (group.id, resources)
        self.ranks = [_start(group, bundle, resources) for bundle in range(1, len(self) + 1)]
        self.pids: list[int] = []

    def __len__(self) -> int:
        return self.fits[1].workers

    def join(self) -> None:
        """Wait for the ranks and let them meet, on loopback where they share a node."""
        nodes = ray.get([rank.node.remote() for rank in self.ranks], timeout=START_S)
        host = LOOPBACK if len(set(nodes)) == 1 else nodes[0]
        port = ray.get(self.ranks[0].listen.remote(host), timeout=START_S)
        where = (self.fits[1], host, port)
        joining = [rank.join.remote(number, *where) for number, rank in enumerate(self.ranks)]
        self.pids = ray.get(joining, timeout=START_S)

    def train(self, assignment: Assignment, tell: Tell) -> Record:
        """Train a run on all ranks; raises RayError as soon as one of them fails or dies."""
        parts: list[Any] = [rank.train.remote(assignment) for rank in self.ranks]
        rows: Any = self.ranks[0].rows.remote()
        pending = [rows, *parts]
        while pending:
            (ready,), pending = ray.wait(pending, num_returns=1)
            if ready is not rows:
                ray.get(ready)
            elif (row := next(rows, None)) is not None:
                tell(ray.get(row))
                pending.append(rows)
        return ray.get(parts[0])

    def close(self) -> None:
        for rank in self.ranks:
            ray.kill(rank)


def _start(group: PlacementGroup, bundle: int, resources: Resources) -> Any:
    place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=bundle)
    actor = RankActor.options(
        scheduling_strategy=place,
        num_cpus=resources.cpus_per_worker,
        num_gpus=resources.gpus_per_worker,
    )
    return actor.remote()


_kept: list[Slot] = []
"""The slot of this process, or nothing."""


def fit_in_slot(assignment: Assignment, resources: Resources, tell: Tell) -> Record:
    """Train a run on this process's slot, and return its record.

    When a rank dies or hangs, new ones take over from the last checkpoint. Each epoch is told
    once. Raises WorkersFailedError when that does not help.
    """
    told, reason = 0, ""

    def tell_once(row: Row) -> None:
        nonlocal told
        if row["epoch"] > told:
            told = int(row["epoch"])
            tell(row)

    for _ in range(ATTEMPTS):
        try:
            return _slot_for(resources).train(assignment, tell_once)
        except (EndedError, StorageError):
            close()  # no new ranks would help
            raise
        except RayError as error:
            close()
            reason = _in_a_line(error)
        except BaseException:
            close()  # its ranks are in the middle of something
            raise
    raise WorkersFailedError(reason)


def _slot_for(resources: Resources) -> Slot:
    """The kept slot where it fits, else a new one in its place."""
    group = get_current_placement_group()
    assert group is not None, "a slot needs a placement group"
    if not _kept or _kept[0].fits != (group.id, resources):
        close()
        _kept.append(Slot(group, resources))
        _kept[0].join()
    return _kept[0]


def close() -> None:
    """End the ranks of this process's slot, whatever they do."""
    while _kept:
        _kept.pop().close()


def _in_a_line(error: RayError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if isinstance(error, RayTaskError) else lines[0]
