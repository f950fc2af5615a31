"""How a run gets its workers: in the trial's own process, in its slot, or under Ray Train."""

from dataclasses import dataclass
from pathlib import Path

from ray import tune

from dfpl.compute import Compute
from dfpl.config import RunConfig
from dfpl.fields import Row
from dfpl.study.records import Record, RecordStore
from dfpl.study.resources import Resources
from dfpl.study.rounds import Ask, Describing
from dfpl.study.slot import fit_in_slot
from dfpl.study.trial import Job
from dfpl.study.worker import Assignment, WorkersFailedError, train_alone


@dataclass(frozen=True, kw_only=True)
class Launch:
    """Where the runs of a study find their data, leave their records and get their workers."""

    store: RecordStore
    data: Path
    resources: Resources
    compute: Compute
    checkpoint_every_s: float


def execute(run: RunConfig, job: Job, launch: Launch, ask: Ask, describe: Describing) -> Record:
    """Train a run with the study's launcher, and return its record."""
    assignment = Assignment(
        run=run,
        job=job,
        ask=ask,
        compute=launch.compute,
        checkpoint_every_s=launch.checkpoint_every_s,
    )
    try:
        return _train(assignment, launch.resources, describe)
    except WorkersFailedError as error:
        reason = f"the workers failed again and again: {error}"
        done = launch.store.read(run.run_id)
        return done or launch.store.fail(run, job.search, job.trial, reason)


def _train(assignment: Assignment, resources: Resources, describe: Describing) -> Record:
    def tell(row: Row) -> None:
        tune.report(describe(row))

    match resources.launcher:
        case "inline":
            return train_alone(assignment, tell)
        case "slot":
            return fit_in_slot(assignment, resources, tell)
        case "train":
            from dfpl.study.trainer import fit_on_workers  # slow to import

            return fit_on_workers(assignment, resources, describe)
