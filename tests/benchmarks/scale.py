"""A study of 10,000 trials whose training is replaced by stored curves: what the driver costs.

Run       python tests/benchmarks/scale.py
Makes     runs/benchmarks/scale.json, .md: seconds and memory of the driver per trial as the study
          grows, what reading its records takes, and what a second start takes
Data      tests/benchmarks/curves.parquet, made by curves.py

Everything but training is the study's own: searcher (TPE), Tune, warm actors, referee, records.
"""

import os
import tempfile
import threading
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import ray
import tyro
from bench import Row, publish
from ray import tune
from replay import CURVES, Curves, base_run

from dfpl.compute import Compute
from dfpl.config import RunConfig
from dfpl.data.scenario import parse_scenarios
from dfpl.model import SEARCH_SPACE
from dfpl.study.connection import RAY_ENVIRONMENT
from dfpl.study.launch import Launch
from dfpl.study.objective import Objective
from dfpl.study.plan import SearchOptions
from dfpl.study.records import Record, RecordStore, load
from dfpl.study.resources import Resources
from dfpl.study.rounds import Ask, Describing
from dfpl.study.run import DRIVER_ENVIRONMENT, search
from dfpl.study.suggestion import Suggestion
from dfpl.study.tuning import SearchSettings, rounds_of

PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Settings:
    trials: int = 10_000
    steps: int = 5
    """Parts of the study whose cost is told one by one."""
    concurrent: int = 4
    curves: str = str(CURVES)


def simulated_trial(config: dict[str, Any], settings: SearchSettings) -> None:
    """A trial whose runs are read from the curves; `settings.data` says where those are."""
    suggestion = Suggestion.read(settings.store.root, config["search"], config["trial"])
    curves = Curves(settings.data)

    def train(run: RunConfig, ask: Ask, describe: Describing) -> Record:
        nearest = curves.nearest(suggestion.point, set())
        place = [str(scenario) for scenario in curves.scenarios].index(str(run.scenario))
        rows: list[Any] = []
        goes_on = True
        while len(rows) < curves.epochs and goes_on:
            value = float(curves.best_so_far[nearest, place, len(rows)])
            rows.append({"epoch": len(rows) + 1, "value": value})
            tune.report(describe(rows[-1]))
            goes_on = ask(rows[-1])
        record = Record(
            run_id=run.run_id,
            study=settings.store.name,
            search=suggestion.search,
            trial=suggestion.number,
            scenario=str(run.scenario),
            state="complete" if len(rows) == curves.epochs else "pruned",
            value=rows[-1]["value"],
            epochs=len(rows),
            config=run.to_dict(),
        )
        settings.store.save(record, rows, None)
        return record

    tune.report(rounds_of(settings, train).play(suggestion))


class Watch(threading.Thread):
    """Notes every second what this process has used, and how many records there are."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder = folder
        self.seen: list[tuple[int, float, float, float]] = []
        """Records, seconds passed, seconds of this process's CPU, MiB of its memory."""
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(1.0):
            self.look()

    def look(self) -> None:
        records = len(os.listdir(self.folder)) if self.folder.is_dir() else 0
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        used = (time.monotonic(), time.process_time(), pages * PAGE / 2**20)
        self.seen.append((records, *used))


def measure(settings: Settings) -> list[Row]:
    os.environ.update(RAY_ENVIRONMENT | DRIVER_ENVIRONMENT | {"RAY_AUTH_MODE": "disabled"})
    ray.init(
        address="local",
        num_cpus=settings.concurrent,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": RAY_ENVIRONMENT},
    )
    with tempfile.TemporaryDirectory() as folder:
        rows = parts(Path(folder), settings)
    ray.shutdown()
    return rows


def parts(folder: Path, settings: Settings) -> list[Row]:
    watch = Watch(folder / "study/records")
    watch.look()
    watch.start()
    simulate(folder, settings)
    watch.look()
    watch.over.set()
    marks = np.linspace(0, settings.trials, settings.steps + 1)
    done, wall, own, memory = np.array(watch.seen).T
    rows: list[Row] = []
    for start, end in pairwise(marks):
        count = end - start
        passed, spent, grown = (
            np.diff(np.interp([start, end], done, s))[0] for s in (wall, own, memory)
        )
        rows.append(
            {
                "trials": f"{start:.0f} to {end:.0f}",
                "seconds per trial": passed / count,
                "driver's CPU per trial": spent / count,
                "driver's KiB per trial": 1024 * grown / count,
            }
        )
    rows.append(
        {"trials": "records.load, s", "seconds per trial": timed(lambda: load(folder / "study"))}
    )
    rows.append(
        {
            "trials": "records.load again, s",
            "seconds per trial": timed(lambda: load(folder / "study")),
        }
    )
    return rows


def simulate(folder: Path, settings: Settings) -> None:
    launch = Launch(
        store=RecordStore(folder / "study"),
        data=Path(settings.curves).absolute(),
        resources=Resources(workers=1, gpus_per_worker=0, concurrent=settings.concurrent),
        compute=Compute(),
        checkpoint_every_s=30.0,
    )
    options = SearchOptions(trials=settings.trials)
    scenarios = parse_scenarios("both-50")
    base = base_run(Curves(Path(settings.curves)), 0)
    search(base, SEARCH_SPACE, scenarios, Objective(), options, launch, simulated_trial)


def timed(call: Any) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    settings = tyro.cli(Settings, description=__doc__)
    publish("scale", "The driver of a large study", measure(settings), settings)
