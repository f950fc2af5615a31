"""A run under Ray Train, which starts its workers for it alone and replaces those that die."""

from math import ceil
from typing import Any

import ray.train
import ray.train.torch
from ray.train import FailureConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError
from ray.tune.integration.ray_train import TuneReportCallback

from dfpl.fields import Row
from dfpl.storage import StorageError
from dfpl.study.records import Record
from dfpl.study.resources import MOST_DEATHS, Resources
from dfpl.study.worker import Assignment, WorkersFailedError, train_rank
from dfpl.train import EndedError


def train_worker(config: dict[str, Any]) -> None:
    """What Ray Train runs in each worker."""

    def tell(row: Row) -> None:
        ray.train.report(config["describe"](row))

    train_rank(config["assignment"], ray.train.torch.get_device(), tell)


def fit_on_workers(assignment: Assignment, resources: Resources, describe: Any) -> Record:
    """Train a run on its own group of workers, and return its record.

    A worker that dies is replaced, and the group goes on from the last checkpoint. `describe`
    turns the row of an epoch into what Tune is told.
    """
    store, run_id = assignment.job.store, assignment.run.run_id
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"assignment": assignment, "describe": describe},
        scaling_config=ScalingConfig(
            num_workers=resources.workers,
            use_gpu=resources.gpus_per_worker > 0,
            resources_per_worker=resources.per_worker,
        ),
        torch_config=TorchConfig(backend=resources.backend, timeout_s=ceil(resources.hung_after_s)),
        run_config=ray.train.RunConfig(
            name=run_id,
            storage_path=str(store.root / "train"),
            failure_config=FailureConfig(max_failures=MOST_DEATHS),
            callbacks=[TuneReportCallback()],
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        for reason in getattr(error, "worker_failures", {}).values():
            if isinstance(reason, (EndedError, StorageError)):
                raise reason from error
        raise WorkersFailedError(str(error)) from error
    record = store.read(run_id)
    assert record is not None
    return record
