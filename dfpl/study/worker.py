"""One of the workers of a run: the same alone, in a slot and under Ray Train."""

import gc
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dfpl.compute import Compute
from dfpl.config import RunConfig
from dfpl.distributed import of_rank_0, world_size
from dfpl.fields import Row
from dfpl.step import Wrap, same
from dfpl.study.records import Record
from dfpl.study.rounds import Ask
from dfpl.study.trial import Job, run_once
from dfpl.train import Runtime

Tell = Callable[[Row], None]
"""Told about an epoch."""


class WorkersFailedError(RuntimeError):
    """The workers of a run failed again and again; the message says how the last time."""


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """What every worker of a run is told."""

    run: RunConfig
    job: Job
    ask: Ask
    compute: Compute
    checkpoint_every_s: float

    def train(self, device: torch.device, report: Ask, wrap: Wrap = same) -> Record:
        """Train the run in this process, on what Ray gave it, and return its record."""
        runtime = Runtime(
            device=device,
            threads=int(os.environ.get("OMP_NUM_THREADS", "1")),
            compute=self.compute,
            wrap=wrap,
            report=report,
            checkpoints=self.job.store.root / f"checkpoints/{self.run.run_id}",
            checkpoint_every_s=self.checkpoint_every_s,
        )
        try:
            return run_once(self.run, self.job, runtime)
        finally:
            _leave_device(device)


def _leave_device(device: torch.device) -> None:
    """Give back what torch would keep of a shared GPU until this process ends."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


_training = ThreadPoolExecutor(1, "training")
"""One thread for all trials of a process: memory and more is kept per thread."""


def train_alone(assignment: Assignment, tell: Tell) -> Record:
    """A run on one worker, in the trial's own process.

    It trains in another thread, so as not to wait until Tune has taken in an epoch.
    """
    told: SimpleQueue[Row | None] = SimpleQueue()
    stopped = Event()

    def report(row: Row) -> bool:
        if stopped.is_set():
            raise SystemExit
        told.put(row)
        return assignment.ask(row)

    def train() -> Record:
        try:
            return assignment.train(own_device(), report)
        finally:
            told.put(None)

    record = _training.submit(train)
    try:
        while (row := told.get()) is not None:
            tell(row)
    finally:
        stopped.set()  # where Tune ends the trial instead of taking a row
        wait([record])
    return record.result()


def own_device() -> torch.device:
    """The first of the devices that Ray gave this process; it sees no others."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def train_rank(assignment: Assignment, device: torch.device, tell: Tell) -> Record:
    """One rank's part of a run; rank 0 asks for the others whether the run may go on."""

    def report(row: Row) -> bool:
        answer = of_rank_0(lambda: assignment.ask(row))
        tell(row)
        return bool(answer)

    def wrap(model: nn.Module) -> nn.Module:
        return DistributedDataParallel(
            model,
            device_ids=[device] if device.type == "cuda" else None,
            broadcast_buffers=False,  # statistics of the global batch are the same everywhere
        )

    job = assignment.job
    finished: Record | None = of_rank_0(lambda: job.store.read(assignment.run.run_id))
    if finished is not None:
        return finished  # a worker died after the record was written
    return assignment.train(device, report, wrap if world_size() > 1 else same)
