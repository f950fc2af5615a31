"""What a trial costs beside its training, per launcher: one after another, on two CPUs.

Run       python tests/benchmarks/launchers.py
Makes     runs/benchmarks/launchers.json
Shows     `to first batch`: seconds from the suggestion to the first batch. `beside training`:
          seconds of a whole trial, from the record before it to its own, without those spent in
          training: with Ray's bookkeeping, evaluation and the record. The first trial of a process
          is cold; under Ray Train every trial is.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import ray
import tyro
from bench import Row, Spread, publish

sys.path.append(str(Path(__file__).parents[1]))
from samples import make_run, save_packed

from dfpl.compute import Compute
from dfpl.config import RunConfig
from dfpl.data.scenario import parse_scenarios
from dfpl.fields import FloatRange
from dfpl.study.connection import RAY_ENVIRONMENT
from dfpl.study.launch import Launch
from dfpl.study.objective import Objective
from dfpl.study.plan import SearchOptions
from dfpl.study.records import Record, RecordStore
from dfpl.study.resources import Launcher, fit_to_cluster
from dfpl.study.run import DRIVER_ENVIRONMENT, search

SPACE = {"method.alpha": FloatRange(0.01, 10.0, log=True)}
RAYS_DEFAULTS = {"RAY_CHDIR_TO_TRIAL_DIR": "0"}


@dataclass(frozen=True)
class Settings:
    trials: int = 12
    """Per launcher that keeps its processes."""
    train_trials: int = 3
    """Per case of Ray Train."""
    epochs: int = 3
    samples: int = 60
    train_workers: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Case:
    name: str
    launcher: Launcher
    workers: int
    trials: int
    environment: dict[str, str]


def cases(settings: Settings) -> list[Case]:
    return [
        Case("inline", "inline", 1, settings.trials, RAY_ENVIRONMENT),
        Case("slot, 2 ranks", "slot", 2, settings.trials, RAY_ENVIRONMENT),
        *(
            Case(f"Ray Train, {n} worker(s), {how}", "train", n, settings.train_trials, variables)
            for n in settings.train_workers
            for how, variables in (("Ray's polling", RAYS_DEFAULTS), ("ours", RAY_ENVIRONMENT))
        ),
    ]


def measure(settings: Settings) -> list[Row]:
    rows: list[Row] = []
    for case in cases(settings):
        with tempfile.TemporaryDirectory() as folder, cluster(case.environment):
            rows += run(case, settings, Path(folder))
    return rows


@contextmanager
def cluster(environment: dict[str, str]) -> Iterator[None]:
    for name, value in DRIVER_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": environment},
    )
    try:
        yield
    finally:
        ray.shutdown()


def run(case: Case, settings: Settings, folder: Path) -> list[Row]:
    packed = save_packed(folder / "data", num_samples=settings.samples)
    launch = Launch(
        store=RecordStore(folder / "study"),
        data=folder / "data",
        resources=fit_to_cluster(case.workers, 0.0, 1, case.launcher),
        compute=Compute(),
        checkpoint_every_s=30.0,
    )
    started = time.time()
    base = make_run(packed, optim__epochs=settings.epochs)
    search_all(base, case.trials, launch)
    records = sorted(launch.store.read_all(), key=lambda record: record.trial)
    assert [record.state for record in records] == ["complete"] * case.trials
    waits = [record.overhead_s or 0.0 for record in records]
    beside = beside_training(records, started, folder / "study/records")
    if case.launcher == "train":
        return [row(case.name, waits[1:], beside[1:])]
    return [
        row(f"{case.name}, cold", waits[:1], beside[:1]),
        row(f"{case.name}, warm", waits[1:], beside[1:]),
    ]


def search_all(base: RunConfig, trials: int, launch: Launch) -> None:
    options = SearchOptions(trials=trials, grace=base.optim.epochs, sampler="random", transfer=0)
    search(base, SPACE, parse_scenarios("both-50"), Objective(), options, launch)


def beside_training(records: list[Record], started: float, folder: Path) -> list[float]:
    """Seconds of each trial without its training, one after the other."""
    ends = [(folder / f"{record.run_id}.json").stat().st_mtime for record in records]
    begins = [started, *ends[:-1]]
    return [
        end - begin - record.seconds
        for record, begin, end in zip(records, begins, ends, strict=True)
    ]


def row(name: str, waits: list[float], beside: list[float]) -> Row:
    return {
        "launcher": name,
        "trials": len(waits),
        "to first batch": Spread.of(waits),
        "beside training": Spread.of(beside),
    }


if __name__ == "__main__":
    settings = tyro.cli(Settings, description=__doc__)
    publish("launchers", "Seconds of a trial beside its training", measure(settings), settings)
