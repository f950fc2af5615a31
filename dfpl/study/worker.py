"""A run under Ray Train: one function per data-parallel worker, and how a trial starts them."""

import os
from typing import Any

import ray.train
import ray.train.torch
from ray.train import FailureConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dfpl.config import RunConfig
from dfpl.distributed import of_rank_0
from dfpl.fields import Row
from dfpl.study.resources import Resources
from dfpl.study.trial import Job, run_once
from dfpl.train import Runtime


def train_worker(config: dict[str, Any]) -> None:
    """One of the workers of a run; rank 0 asks for the others whether the run may go on."""
    run, job, ask = RunConfig.from_dict(config["run"]), config["job"], config["ask"]
    device = ray.train.torch.get_device()

    def wrap(model: nn.Module) -> nn.Module:
        return DistributedDataParallel(
            model,
            device_ids=[device] if device.type == "cuda" else None,
            broadcast_buffers=False,  # statistics of the global batch are the same everywhere
        )

    def report(row: Row) -> bool:
        answer = of_rank_0(lambda: ask(row))
        ray.train.report(config["describe"](row))
        return bool(answer)

    if of_rank_0(lambda: job.store.read(run.run_id) is not None):
        return  # a worker died after the record was written
    runtime = Runtime(
        device=device,
        threads=int(os.environ.get("OMP_NUM_THREADS", "1")),
        compute=config["compute"],
        wrap=wrap,
        report=report,
        checkpoints=job.store.root / f"checkpoints/{run.run_id}",
        checkpoint_every_s=config["checkpoint_every_s"],
    )
    run_once(run, job, runtime)


def fit_on_workers(
    run: RunConfig,
    job: Job,
    resources: Resources,
    settings: dict[str, Any],
) -> None:
    """Train a run on its own group of workers; returns when its record is written.

    A worker that dies is replaced, and the group goes on from the last checkpoint.
    """
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"run": run.to_dict(), "job": job, **settings},
        scaling_config=ScalingConfig(
            num_workers=resources.workers,
            use_gpu=resources.gpus_per_worker > 0,
            resources_per_worker=resources.per_worker,
        ),
        torch_config=TorchConfig(backend="nccl" if resources.gpus_per_worker >= 1 else "gloo"),
        run_config=ray.train.RunConfig(
            name=run.run_id,
            storage_path=str(job.store.root / "train"),
            failure_config=FailureConfig(max_failures=2),
            callbacks=[TuneReportCallback()],
        ),
    )
    trainer.fit()
