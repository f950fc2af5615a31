"""One run of a study: train, evaluate, leave a record. The same in every launcher."""

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dfpl.config import RunConfig
from dfpl.data.loader import Loader, Statistics, View
from dfpl.data.packed import DataError, PackedDataset, Split
from dfpl.distributed import rank, world_size
from dfpl.evaluate import logits_in_states, logits_under_scenario
from dfpl.fields import ConfigError
from dfpl.method import Method
from dfpl.metrics import interval_of, summarise
from dfpl.predictions import Predictions, concatenate
from dfpl.study.records import Record, RecordStore, provenance
from dfpl.train import Fitted, NonFiniteError, Runtime, fit

EVERYWHERE = (NonFiniteError, ConfigError, DataError)
"""Failures that all workers of a run meet alike, in the same step."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Where a run belongs and where its data and results lie: nothing that decides a result."""

    store: RecordStore
    data: Path
    trial: int
    suggested_at: float | None = None
    """When the run's trial was suggested; None where other runs came in between."""
    launcher: str = "inline"


def run_once(run: RunConfig, job: Job, runtime: Runtime) -> Record:
    """Train and evaluate one run and write its record; a failure is a record, too.

    With several workers, only failures that all of them meet are caught; after any other the
    launcher starts the workers again from the checkpoint.
    """
    record = _open_record(run, job, runtime)
    catch = Exception if world_size() == 1 else EVERYWHERE
    rows, found = [], None
    try:
        packed = PackedDataset.load(job.data)
        fitted = fit(run, packed, runtime)
        rows = fitted.rows
        record = _trained(record, job, fitted)
        if not fitted.pruned:
            found = predict_splits(run, packed, fitted, runtime.device)
            record = replace(record, metrics=score(found, run))
    except catch as error:
        record = replace(record, state="failed", reason=explain(error, run))
    if rank() == 0:
        record = replace(record, finished_at=datetime.now(UTC).isoformat(timespec="seconds"))
        job.store.save(record, rows, found)
        if runtime.checkpoints:
            runtime.checkpoints.delete("last.pt")
    return record


def _open_record(run: RunConfig, job: Job, runtime: Runtime) -> Record:
    device = runtime.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return Record(
        run_id=run.run_id,
        study=str(job.store.root).rsplit("/", 1)[-1],
        trial=job.trial,
        scenario=str(run.scenario),
        state="complete",
        config=run.to_dict(),
        launcher=job.launcher,
        workers=world_size(),
        threads=runtime.threads,
        device=name,
        data=str(job.data),
        versions=provenance(),
    )


def _trained(record: Record, job: Job, fitted: Fitted) -> Record:
    waited = None if job.suggested_at is None else fitted.first_batch_at - job.suggested_at
    done = len(fitted.rows)
    reason = f"ASHA stopped it after epoch {done}, at value {fitted.best_value:.4f}"
    return replace(
        record,
        state="pruned" if fitted.pruned else "complete",
        reason=reason if fitted.pruned else "",
        value=fitted.best_value,
        best_epoch=fitted.best_epoch,
        epochs=done,
        num_parameters=sum(p.numel() for p in fitted.method.parameters()),
        seconds=fitted.seconds,
        overhead_s=waited,
    )


def predict_splits(
    run: RunConfig, packed: PackedDataset, fitted: Fitted, device: torch.device
) -> Predictions:
    """Validation logits as the run saw them (one state each), test logits in all three."""
    size = run.optim.batch_size
    val = Loader(View.of(packed, "val", run.scenario), fitted.statistics, size, device)
    seen = _in_own_state(logits_under_scenario(fitted.method, val), val.view.available)
    return concatenate(
        [
            _predictions(val.view, "val", seen, val.view.available),
            test_predictions(fitted.method, packed, fitted.statistics, size, device),
        ]
    )


def test_predictions(
    method: Method, packed: PackedDataset, statistics: Statistics, size: int, device: torch.device
) -> Predictions:
    """Logits of every test row in the three states, from one pass."""
    loader = Loader(View.of(packed, "test"), statistics, size, device)
    return _predictions(
        loader.view, "test", logits_in_states(method, loader), loader.view.available
    )
