"""How a run gets its workers: in the trial's own process, or under Ray Train."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ray import tune

from dfpl.compute import Compute
from dfpl.config import RunConfig
from dfpl.fields import Row
from dfpl.study.records import Record, RecordStore
from dfpl.study.resources import Resources
from dfpl.study.trial import Job, run_once
from dfpl.train import Runtime

Ask = Callable[[Row], bool]
"""Told about an epoch, says whether the run may go on."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """Where the runs of a study find their data, leave their records and get their workers."""

    store: RecordStore
    data: Path
    resources: Resources
    compute: Compute
    checkpoint_every_s: float


def execute(run: RunConfig, job: Job, launch: Launch, ask: Ask, describe: "Describing") -> Record:
    """Train a run with the launcher that fits its workers, and return its record."""
    if launch.resources.launcher == "inline":
        return run_once(run, job, _inline_runtime(run, launch, ask, describe))
    return _train_on_workers(run, job, launch, ask, describe)


@dataclass(frozen=True)
class Describing:
    """Turns the row of an epoch into what Tune, TensorBoard and the sampler see."""

    runs_before: int
    epochs: int

    def __call__(self, row: Row) -> dict[str, Any]:
        step = self.runs_before * self.epochs + int(row["epoch"])
        return {**row, "step": step, "state": "running"}


def _inline_runtime(run: RunConfig, launch: Launch, ask: Ask, describe: Describing) -> Runtime:
    def report(row: Row) -> bool:
        tune.report(describe(row))
        return ask(row)

    return Runtime(
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        threads=int(os.environ.get("OMP_NUM_THREADS", "1")),
        compute=launch.compute,
        report=report,
        checkpoints=launch.store.root / f"checkpoints/{run.run_id}",
        checkpoint_every_s=launch.checkpoint_every_s,
    )


def _train_on_workers(
    run: RunConfig, job: Job, launch: Launch, ask: Ask, describe: Describing
) -> Record:
    from ray.train.v2.api.exceptions import TrainingFailedError

    from dfpl.study.worker import fit_on_workers

    shared = {
        "ask": ask,
        "describe": describe,
        "compute": launch.compute,
        "checkpoint_every_s": launch.checkpoint_every_s,
    }
    try:
        fit_on_workers(run, job, launch.resources, shared)
    except TrainingFailedError as error:
        reason = f"the workers failed again and again: {error}"
        done = launch.store.read(run.run_id)
        return done or launch.store.fail(run, job.search, job.trial, reason)
    record = launch.store.read(run.run_id)
    assert record is not None
    return record
