"""The training loop: nothing in it is about a method, and nothing about Ray."""

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from math import cos, nan, pi
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dfpl.checkpoint import Progress, clone
from dfpl.compute import Compute
from dfpl.config import OptimConfig, RunConfig
from dfpl.data.loader import Loader, Statistics, View
from dfpl.data.packed import PackedDataset
from dfpl.distributed import rank, use_global_statistics, world_size
from dfpl.evaluate import logits_under_scenario
from dfpl.fields import ConfigError, Row
from dfpl.method import Method, build, place
from dfpl.metrics import measure
from dfpl.step import Stepper, Wrap, learning, same
from dfpl.storage import Storage, StorageError


def _go_on(row: Row) -> bool:
    return True


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """What differs between a laptop, a Ray actor and one of many data-parallel workers."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    threads: int = 1
    """CPU threads of torch; another number may change the last bit of a result."""
    compute: Compute = field(default_factory=Compute)
    wrap: Wrap = same
    """How the model becomes a distributed one."""
    report: Callable[[Row], bool] = _go_on
    """Told about each epoch; False stops the run there (pruned), EndedError ends it for now."""
    checkpoints: Storage | None = None
    """Where a half-trained run is kept; None keeps nothing."""
    checkpoint_every_s: float = 30.0
    """Least seconds between two checkpoints."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A trained run: the method with the weights of its best epoch, and how it got there."""

    method: Method
    statistics: Statistics
    best_epoch: int
    best_value: float
    """Validation metric of the best epoch of the last stage, under the run's own scenario."""
    rows: list[Row]
    pruned: bool
    seconds: float
    first_batch_at: float
    """Time (seconds since 1970) of the first batch in this process."""


class NonFiniteError(FloatingPointError):
    """The objective became infinite or NaN; the message names term, epoch and step."""


class NotConvergedError(ArithmeticError):
    """Something that a step solves was not solved; the message names term, epoch and step."""


class EndedError(RuntimeError):
    """A run is ended before its time and leaves a checkpoint, from which it will go on."""


def fit(run: RunConfig, packed: PackedDataset, runtime: Runtime) -> Fitted:
    """Train `run` to its best epoch on validation. A pure function of the config and the data.

    Raises NonFiniteError when the objective is not finite, NotConvergedError when a term is
    above the method's limit for it, ConfigError when the config does not fit the data.
    """
    _check_fit(run, packed)
    torch.set_num_threads(runtime.threads)
    torch.manual_seed(run.seed)
    train, val, statistics = _loaders(run, packed, runtime.device)
    method = build(run.method, packed.schema)
    method.prepare(train.view, statistics, run.seed)
    method = place(method, runtime.device)
    if world_size() > 1:
        use_global_statistics(method)
    stages = stages_of(method, run.optim.epochs)
    progress, stepper = _resume(run, method, stages, runtime)
    first_batch_at = time.time()
    pruned = False
    saved_at = started = time.monotonic()
    before = progress.seconds
    while progress.epochs_done < stages[-1].end and not pruned:
        epoch = progress.epochs_done
        stage = stage_at(stages, epoch)
        if stepper is None or epoch == stage.start:
            stepper = _begin(stage, method, run, runtime)
        row: Row = {"epoch": epoch + 1, "seconds": 0.0, "value": nan}
        terms = _train_epoch(run, stepper, train, epoch, stage)
        row |= {f"train/{name}": value for name, value in terms.items()}
        if stage == stages[-1]:
            scores = _validate(method, val, packed, epoch)
            _keep_best(progress, method, epoch + 1, scores[run.metric])
            row |= {f"val/{name}": value for name, value in scores.items()}
            row["value"] = progress.best_value
        progress.epochs_done = epoch + 1
        row["seconds"] = progress.seconds = before + time.monotonic() - started
        progress.rows.append(row)
        if runtime.checkpoints and time.monotonic() - saved_at >= runtime.checkpoint_every_s:
            _save(progress, stepper, runtime.checkpoints)
            saved_at = time.monotonic()
        goes_on = _report(row, progress, stepper, runtime) or stage != stages[-1]
        pruned = not goes_on and progress.epochs_done < stages[-1].end
    method.load_state_dict(progress.best)
    return Fitted(
        method=method,
        statistics=statistics,
        best_epoch=progress.best_epoch,
        best_value=progress.best_value,
        rows=progress.rows,
        pruned=pruned,
        seconds=progress.seconds,
        first_batch_at=first_batch_at,
    )


def _check_fit(run: RunConfig, packed: PackedDataset) -> None:
    if run.data_hash != packed.schema.content_hash:
        raise ConfigError(
            f"the run is for data {run.dataset} with content {run.data_hash}, but the data given "
            f"is {packed.schema.name} with content {packed.schema.content_hash}; results would "
            "not be comparable. Point --data at the data that the study used"
        )


def _loaders(
    run: RunConfig, packed: PackedDataset, device: torch.device
) -> tuple[Loader, Loader, Statistics]:
    train = View.of(packed, "train", run.scenario)
    val = View.of(packed, "val", run.scenario)
    statistics = train.statistics()
    size = run.optim.batch_size
    return (
        Loader(train, statistics, size, device),
        Loader(val, statistics, size, device),
        statistics,
    )


class Stage(NamedTuple):
    """A part of the training with a schedule and an optimiser of its own."""

    number: int
    start: int
    """Epochs before it."""
    end: int


def stages_of(method: Method, epochs: int) -> list[Stage]:
    """The stages of a run in whole epochs. The last gets one epoch at least, before the others;
    one that gets none is left out. A method without parameters is done after one epoch."""
    if not list(method.parameters()):
        epochs = 1
    shares = (*method.stages(), 1.0)
    at = [min(round(share * epochs), epochs - 1) for share in shares[:-1]] + [epochs]
    found = [Stage(i, *pair) for i, pair in enumerate(pairwise(at))]
    return [stage for stage in found if stage.start < stage.end]


def stage_at(stages: list[Stage], epoch: int) -> Stage:
    """The stage that an epoch, counted from 0, belongs to."""
    return next(stage for stage in stages if epoch < stage.end)


def _begin(stage: Stage, method: Method, run: RunConfig, runtime: Runtime) -> Stepper:
    method.enter(stage.number)
    return Stepper(method, run.optim, runtime.compute, runtime.wrap)


def _resume(
    run: RunConfig, method: Method, stages: list[Stage], runtime: Runtime
) -> tuple[Progress, Stepper | None]:
    """What was saved of a run, and its stepper, in the stage of its last epoch."""
    progress = Progress.load(runtime.checkpoints) if runtime.checkpoints else None
    if progress is None:
        return Progress(), None
    stepper = _begin(stage_at(stages, progress.epochs_done - 1), method, run, runtime)
    method.load_state_dict(progress.model)
    stepper.optimizer.load_state_dict(progress.optimizer)
    torch.set_rng_state(progress.generator)
    for row in progress.rows:
        runtime.report(row)
    return progress, stepper


def _report(row: Row, progress: Progress, stepper: Stepper, runtime: Runtime) -> bool:
    try:
        return runtime.report(row)
    except EndedError:
        if runtime.checkpoints:
            _save(progress, stepper, runtime.checkpoints)
        raise


def _save(progress: Progress, stepper: Stepper, folder: Storage) -> None:
    """Keep a half-trained run. Where that fails the last checkpoint stays, and the run goes on: it
    may never need one, and its record will tell whether results can be written."""
    if rank() == 0:
        progress.model = stepper.method.state_dict()
        progress.optimizer = stepper.optimizer.state_dict()
        try:
            progress.save(folder)
        except StorageError as error:
            warnings.warn(f"no checkpoint, but the run goes on: {error}", stacklevel=1)


def _keep_best(progress: Progress, method: Method, epoch: int, value: float) -> None:
    if value > progress.best_value or not progress.best:
        progress.best_value = value
        progress.best_epoch = epoch
        progress.best = clone(method.state_dict())


def _train_epoch(
    run: RunConfig, stepper: Stepper, loader: Loader, epoch: int, stage: Stage
) -> dict[str, float]:
    """One pass over the training split; returns the mean of each term over its steps."""
    if not learning(stepper.method):
        return {}
    stepper.model.train()
    seen: list[Tensor] = []
    names: list[str] = []
    batches = loader.epoch(epoch, run.seed, run.augment, (rank(), world_size()))
    schedule = run.optim.with_values({"epochs": stage.end - stage.start})
    rates = learning_rates(schedule, loader.steps, epoch - stage.start)
    for batch, rate in zip(batches, rates, strict=True):
        terms = stepper.step(batch, rate)
        names = list(terms)
        seen.append(torch.stack([term.detach() for term in terms.values()]))
    table = torch.stack(seen).cpu()  # (steps, terms)
    _check_finite(table, names, epoch)
    _check_limits(stepper.method, table, names, epoch)
    return dict(zip(names, table.mean(dim=0).tolist(), strict=True))


def _check_finite(table: Tensor, names: list[str], epoch: int) -> None:
    bad = (~table.isfinite().all(dim=1)).nonzero()
    if len(bad):
        step = int(bad[0])
        values = ", ".join(
            f"{n} = {v:.3g}" for n, v in zip(names, table[step].tolist(), strict=True)
        )
        raise NonFiniteError(
            f"the objective is not finite in epoch {epoch + 1}, step {step + 1}: {values}"
        )


def _check_limits(method: Method, table: Tensor, names: list[str], epoch: int) -> None:
    for column, name in enumerate(names):
        limit, worst = method.limit(name), int(table[:, column].argmax())
        if (value := table[worst, column].item()) > limit:
            raise NotConvergedError(
                f"{name} = {value:.3g} in epoch {epoch + 1}, step {worst + 1}, but it must not "
                f"exceed {limit:g}: what the objective holds of it is not what it should be"
            )


def learning_rates(config: OptimConfig, steps: int, epoch: int) -> Iterator[float]:
    """The rate of each step of an epoch: a straight rise, then half a cosine down to 0.

    At share t of the stage, with warm-up share w:  t / w  up to w, then
    (1 + cos(pi (t - w) / (1 - w))) / 2,  times the learning rate.
    """
    warm = config.warmup
    for step in range(steps):
        after = (epoch + (step + 1) / steps) / config.epochs
        before = max((epoch + step / steps) / config.epochs, warm)
        rising = after <= warm
        share = after / warm if rising else (1 + cos(pi * (before - warm) / (1 - warm))) / 2
        yield config.learning_rate * share


def _validate(
    method: Method, loader: Loader, packed: PackedDataset, epoch: int
) -> dict[str, float]:
    logits = logits_under_scenario(method, loader)
    if not np.isfinite(logits).all():
        rows = int((~np.isfinite(logits)).any(axis=1).sum())
        raise NonFiniteError(
            f"after epoch {epoch + 1} the logits of {rows} of {len(logits)} validation rows are "
            "not finite: its last steps spoilt the weights"
        )
    return measure(logits, packed.label[loader.view.rows], packed.schema.task)
