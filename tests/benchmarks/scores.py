"""Reading stored predictions at the size of the paper's data sets: seconds per run.

Run       python tests/benchmarks/scores.py
Makes     runs/benchmarks/scores.json, .md: per data set the seconds that one run takes in Table I
          (its scenario and three states, 1,000 resamples) and in the report (63 scenarios, 100
          draws, classes), reading included; and how many times as fast Table I is on all cores
Data      made-up predictions with the paper's numbers of samples and classes
"""

import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import joblib
import numpy as np
import tyro
from bench import Row, publish, time_once

sys.path.insert(0, str(Path(__file__).parents[1]))
from samples import make_packed, make_run

from analysis import cores
from analysis.comparison import STATES
from analysis.report.lines import Line
from analysis.report.scores import score_lines
from analysis.report.styles import of_method
from analysis.runs import Runs, score_runs
from dfpl.config import Metric
from dfpl.predictions import STATES as AVAILABLE
from dfpl.predictions import Predictions, Task
from dfpl.study.records import Record, RecordStore


@dataclass(frozen=True)
class Size:
    val: int
    test: int
    classes: int
    task: Task
    metric: Metric


SIZES = {
    "MIMIC": Size(857, 2_136, 25, "multilabel", "prauc"),
    "ADNI": Size(783, 642, 3, "multiclass", "accuracy"),
    "DVM-CAR": Size(17_642, 88_207, 283, "multiclass", "accuracy"),
}
GAP = 4.5
"""By how much the logit of what is true is higher: 93 % of DVM-CAR's answers are right."""


@dataclass(frozen=True)
class Settings:
    datasets: tuple[str, ...] = tuple(SIZES)
    share: float = 1.0
    """Of the rows."""
    seeds: int = 7


def measure(settings: Settings) -> list[Row]:
    return [of_size(name, settings) for name in settings.datasets]


def of_size(name: str, settings: Settings) -> Row:
    size = SIZES[name]
    with tempfile.TemporaryDirectory() as folder:
        store = RecordStore(Path(folder) / "study")
        run = make_run(make_packed()).with_values({"metric": size.metric})
        for seed in range(settings.seeds):
            own = run.with_values({"seed": seed})
            store.save(record_of(own), [], made_up(size, settings.share, seed))
        records = list(store.read_all())
        runs, asked = {"dfpl": Runs(records)}, [run.scenario, *STATES.values()]
        line = Line(label="dfpl", scenario="both-50", look=of_method("dfpl"), records=records[:1])
        table = partial(score_runs, store, runs, asked, size.metric)
        with patch.object(cores, "SOON_S", np.inf):  # in this process, however long it takes
            alone = time_once(table)
            report = time_once(partial(score_lines, store, [line], size.metric))
        start_processes()
        return {
            "data set": name,
            "Table I, s per run": alone / len(records),
            "report, s per run": report,
            f"{joblib.cpu_count()} cores, times as fast": alone / time_once(table),
        }


def start_processes() -> None:
    joblib.Parallel(n_jobs=joblib.cpu_count())(joblib.delayed(time.sleep)(0.1) for _ in range(8))


def record_of(run: Any) -> Record:
    names: dict[str, Any] = {"study": "s", "search": "both-50", "trial": 0, "state": "complete"}
    return Record(run_id=run.run_id, scenario="both-50", value=0.5, config=run.to_dict(), **names)


def made_up(size: Size, share: float, seed: int) -> Predictions:
    """Every second test sample is of the same group as the one before."""
    val, test = (max(8, round(share * rows)) for rows in (size.val, size.test))
    N, C, random = val + test, size.classes, np.random.default_rng(seed)
    of_rows = np.random.default_rng(0)  # the samples are the same for all seeds
    label: Any = (of_rows.random((N, C)) < 0.2).astype(np.float32)
    if size.task == "multiclass":
        label = of_rows.integers(0, C, N)
    truth = label if size.task == "multilabel" else np.eye(C, dtype=np.float32)[label]
    names = np.array([f"sample-{row:06d}" for row in range(N)], dtype=object)
    return Predictions(
        ids=names,
        groups=np.array([f"group-{row // 2:06d}" for row in range(N)], dtype=object),
        split=np.array(["val"] * val + ["test"] * test, dtype=object),
        label=label,
        present=np.ones((N, 2), dtype=bool),
        logits={
            s: (random.normal(size=(N, C)) + GAP * truth).astype(np.float32) for s in AVAILABLE
        },
        class_names=tuple(f"class-{c}" for c in range(C)),
        task=size.task,
    )


if __name__ == "__main__":
    settings = tyro.cli(Settings, description=__doc__)
    publish("scores", "Reading stored predictions", measure(settings), settings)
