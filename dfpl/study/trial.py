"""One run of a study: train, evaluate, leave a record. The same in every launcher."""

import traceback
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from ray.exceptions import RayError

from dfpl.config import RunConfig
from dfpl.data.loader import Loader, View
from dfpl.data.packed import DataError, PackedDataset, Split
from dfpl.distributed import gather_objects, rank, world_size
from dfpl.evaluate import predict_split
from dfpl.fields import ConfigError
from dfpl.intervals import interval_of, summarise
from dfpl.metrics import measure
from dfpl.predictions import Predictions, concatenate
from dfpl.study.records import Record, RecordStore, provenance
from dfpl.train import EndedError, Fitted, NonFiniteError, NotConvergedError, Runtime, fit

EVERYWHERE = (NonFiniteError, NotConvergedError, ConfigError, DataError)
"""Failures that all workers of a run meet alike, in the same step."""
OF_THE_MACHINE = (OSError, RayError, EndedError, getattr(torch, "AcceleratorError", RayError))
"""Not the run's fault: storage, a lost actor, a study that is to end, a broken device. The run goes
on from its checkpoint, elsewhere or another time."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Where a run belongs and where its data and results lie: nothing that decides a result."""

    store: RecordStore
    data: Path
    search: str
    trial: int
    suggested_at: float | None = None
    """When the run's trial was suggested; None where other runs came in between."""
    launcher: str = "inline"


def run_once(run: RunConfig, job: Job, runtime: Runtime) -> Record:
    """Train and evaluate one run and write its record; a failure is a record, too.

    Failures of the machine are not caught, nor, with several workers, those that one of them
    may meet alone: the launcher then starts the run again from its checkpoint.
    """
    record = _open_record(run, job, runtime)
    catch = Exception if world_size() == 1 else EVERYWHERE
    rows, found = [], None
    try:
        packed = load_alike(job.data)
        fitted = fit(run, packed, runtime)
        rows = fitted.rows
        _refuse_no_number(fitted, run)
        record = _trained(record, job, fitted)
        if not fitted.pruned:
            found = predict_splits(run, packed, fitted, runtime.device)
            record = replace(record, metrics=score(found, run))
    except OF_THE_MACHINE:
        raise
    except catch as error:
        record = replace(record, state="failed", reason=explain(error, run))
    if rank() == 0:
        record = replace(record, finished_at=datetime.now(UTC).isoformat(timespec="seconds"))
        job.store.save(record, rows, found)
    return record


def load_alike(folder: Path) -> PackedDataset:
    """Open the data on every worker; a folder that one node lacks is an error on all of them."""
    problem, packed = "", None
    try:
        packed = PackedDataset.load(folder)
    except DataError as error:
        problem = str(error)
    problems = [text for text in gather_objects(problem) if text]
    if problems or packed is None:
        raise DataError(problems[0])
    return packed


def _open_record(run: RunConfig, job: Job, runtime: Runtime) -> Record:
    device = runtime.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return Record(
        run_id=run.run_id,
        study=job.store.name,
        search=job.search,
        trial=job.trial,
        scenario=str(run.scenario),
        state="complete",
        config=run.to_dict(),
        launcher=job.launcher,
        workers=world_size(),
        threads=runtime.threads,
        compute=asdict(runtime.compute),
        device=name,
        data=str(job.data),
        versions=provenance(),
    )


def _refuse_no_number(fitted: Fitted, run: RunConfig) -> None:
    if not np.isfinite(fitted.best_value):
        raise ConfigError(
            f"val/{run.metric} is {fitted.best_value} on this validation split, which cannot be "
            "compared; choose another --metric"
        )


def _trained(record: Record, job: Job, fitted: Fitted) -> Record:
    waited = None
    if job.suggested_at is not None:
        waited = max(0.0, fitted.first_batch_at - job.suggested_at)  # clocks can be set back
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
    """Validation with what the run's scenario leaves, test in all three states."""
    views: dict[Split, View] = {
        "val": View.of(packed, "val", run.scenario),
        "test": View.of(packed, "test"),
    }
    size = run.optim.batch_size
    return concatenate(
        [
            predict_split(fitted.method, Loader(view, fitted.statistics, size, device), split)
            for split, view in views.items()
        ]
    )


def score(found: Predictions, run: RunConfig) -> dict[str, float]:
    """The numbers of a record: validation under the run's mask, test over mask draws and states.

    A metric that does not exist (a class without positives) is left out.
    """
    val = found.of_split("val")
    logits = val.pick(val.present)
    numbers = {f"val/{name}": x for name, x in measure(logits, val.label, val.task).items()}
    for name, (low, high) in interval_of(logits, val.label, val.groups, val.task).items():
        numbers |= {f"val/{name}_low": low, f"val/{name}_high": high}
    test = summarise(found.of_split("test"), run.scenario)
    numbers |= {f"test/{name}": x for name, x in test.items()}
    return {name: float(x) for name, x in numbers.items() if np.isfinite(x)}


def explain(error: Exception, run: RunConfig) -> str:
    """Why a run failed, in a line; with the place in the code where we did not foresee it."""
    if isinstance(error, EVERYWHERE):
        return f"{type(error).__name__}: {error}"
    if isinstance(error, torch.OutOfMemoryError):
        return (
            f"out of GPU memory with optim.batch_size = {run.optim.batch_size}; lower it, or give "
            f"a trial more with --gpus-per-worker: {str(error).splitlines()[0]}"
        )
    if isinstance(error, MemoryError):
        return f"out of memory with optim.batch_size = {run.optim.batch_size}: {error}"
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
