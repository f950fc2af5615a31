"""What a search saw: its trials over the space, what decides, where runs were stopped, the front.

Run       python -m analysis.search RUN_DIR [--scenario both-50]
Reads     the suggestions, records and epochs of a search in RUN_DIR
Makes     in RUN_DIR or in --out, as SVG, PNG and CSV: importance (fANOVA, PED-ANOVA); pareto, where
          configs met several scenarios; and of each scenario slices (value over hyperparameter),
          parallel (coordinates) and learning (curves with where they were stopped); the first two
          also by the objective of a search over several scenarios. Says what it leaves out and why
Paper     has none of these

Every number here is of the validation split; the test split chooses nothing and is not read.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import tyro

from analysis import importance
from analysis.curves import save
from analysis.importance import searched
from analysis.search_figures import importances, learning, parallel, pareto, slices
from analysis.search_figures.drawing import About
from analysis.search_figures.views import views
from analysis.table1 import method_of
from dfpl.data.scenario import Scenario
from dfpl.fields import ConfigError, SearchSpace
from dfpl.storage import Storage
from dfpl.study import best
from dfpl.study.objective import Objective, outcome
from dfpl.study.records import Record, RecordStore
from dfpl.study.suggestion import Suggestion

UNFINISHED = "unfinished"


@dataclass(frozen=True, kw_only=True)
class Options:
    run_dir: tyro.conf.Positional[str]
    """Folder or URI of the runs of a search."""
    scenario: str = ""
    """Draw this scenario alone."""
    out: str = ""
    """Folder for the files. Default: that of the runs."""


def trials(store: RecordStore) -> pd.DataFrame:
    """One row per run of a trial that has a record, by search, trial and order of its runs; under
    its dotted name a column for each searched hyperparameter.

    `value` is the validation metric of the best epoch that the run reached, as a fraction, `low`
    and `high` its 95 % interval, where it has one; `complete` says that the run was not cut.
    `trial_state` is how its whole trial ended, which may be given up after whole runs. Reads
    records and suggestions alone. Raises ConfigError where nothing was searched or has ended.
    """
    objective, space = searched(store)
    rows = [
        row
        for suggestion in Suggestion.read_all(store.root)
        for row in rows_of(suggestion, objective, space, store)
    ]
    if not rows:
        raise ConfigError(f"no run of a search in {store.root} has ended; let the search go on")
    return pd.DataFrame(rows)


def rows_of(
    suggestion: Suggestion, objective: Objective, space: SearchSpace, store: RecordStore
) -> Iterator[dict[str, Any]]:
    """The runs of a trial, up to the first that has no record."""
    records: list[Record] = []
    for run_id in suggestion.run_ids:
        record = store.read(run_id)
        if record is None:
            break
        records.append(record)
    several = len(suggestion.run_ids) > 1
    dropped = store.dropped(suggestion.name) if several else ""
    ended = outcome(objective, records, len(suggestion.run_ids), dropped)
    for record in records:
        metric = f"val/{record.config['metric']}"
        yield {
            "search": suggestion.search,
            "scenario": record.scenario,
            "trial": suggestion.number,
            "seed": record.config["seed"],
            "state": record.state,
            "reason": record.reason,
            "value": np.nan if record.value is None else record.value,
            "low": record.metrics.get(f"{metric}_low", np.nan),
            "high": record.metrics.get(f"{metric}_high", np.nan),
            "epochs": record.epochs,
            "best_epoch": record.best_epoch,
            "seconds": record.seconds,
            "run_id": record.run_id,
            "complete": record.state == "complete",
            "trial_state": ended.state if ended else UNFINISHED,
            **{name: suggestion.point[name] for name in space},
        }


def learning_curves(store: RecordStore, run_ids: Iterable[str]) -> pd.DataFrame:
    """One row per run and epoch: the validation metric after it, as a fraction. `stopped_at` is the
    last epoch of a run that was pruned or failed, NaN of a whole one. A run without epochs, as one
    whose process died, has no row."""
    rows = []
    for record in filter(None, map(store.read, run_ids)):
        epochs = store.epochs(record.run_id)
        whole = record.state == "complete"
        facts = {
            "run_id": record.run_id,
            "search": record.search,
            "scenario": record.scenario,
            "trial": record.trial,
            "state": record.state,
            "stopped_at": np.nan if whole or not epochs else epochs[-1]["epoch"],
        }
        values = f"val/{record.config['metric']}"
        rows += [{**facts, "epoch": int(row["epoch"]), "value": row[values]} for row in epochs]
    names = ("run_id", "search", "scenario", "trial", "epoch", "value", "state", "stopped_at")
    return pd.DataFrame(rows, columns=list(names))


def front(frame: pd.DataFrame, store: RecordStore) -> pd.DataFrame:
    """One row per config that ran to the end in every scenario of the search: how good it is where
    nothing is missing against how good it is where it is worst, and whether another is better.

    With v_s the mean over the seeds in scenario s, of which 0 is complete data:

        first    v_0; where complete data was not among the scenarios, mean_s v_s
        worst    min_s v_s over the others, or over all

    `axis` names which of the two `first` is, `worst_scenario` the one of the minimum; `on_front`
    is False where another config is as good in both and better in one. Intervals are those of the
    runs: the same formula over their lower and upper ends. A config is what has the same point, in
    whatever search it was, as where a search began with the best of another; it is named by the
    first. `frame` is that of `trials`. Raises ConfigError where fewer than two configs can be
    compared, as where each scenario had a search of its own: what a run that was trained in one
    scenario reaches in another is not measured on validation.
    """
    _, space = searched(store)
    done: Any = frame[frame["complete"]]
    scenarios = list(dict.fromkeys(done["scenario"]))
    complete = [name for name in scenarios if Scenario.parse(name).rate == 0]
    others = [name for name in scenarios if name not in complete] or scenarios
    by_point = list(space)
    met = done.groupby(by_point, sort=False, dropna=False)["scenario"].transform("nunique")
    whole = done[met == len(scenarios)]
    rows = [
        {**facts_of(own, space), **two_values(own, complete, others)}
        for _, own in whole.groupby(by_point, sort=False, dropna=False)
    ]
    if len(rows) < 2 or len(scenarios) < 2:
        raise ConfigError(
            f"{len(rows)} config(s) ran to the end in all of {', '.join(scenarios) or 'no run'}; a "
            "Pareto front is of two or more that met several scenarios, as with --objective pareto"
        )
    kept = best.front({place: (row["first"], row["worst"]) for place, row in enumerate(rows)})
    return pd.DataFrame(rows).assign(on_front=[place in kept for place in range(len(rows))])


def facts_of(own: Any, space: SearchSpace) -> dict[str, Any]:
    """A config's name, as its first trial, and its point."""
    row = own.iloc[0]
    return {name: row[name] for name in ("search", "trial", *space)}


def two_values(own: Any, complete: list[str], others: list[str]) -> dict[str, Any]:
    """`first` and `worst` of a config, with their intervals, from its runs in all scenarios."""
    means = own.groupby("scenario")[["value", "low", "high"]].mean()
    worst = str(means.loc[others, "value"].idxmin())
    first = means.loc[complete or others].mean(skipna=False)
    ends = means.loc[others].min(skipna=False)
    return {
        "axis": "complete data" if complete else f"mean of {len(others)} scenarios",
        "first": first["value"],
        "first_low": first["low"],
        "first_high": first["high"],
        "worst": means.loc[worst, "value"],
        "worst_scenario": worst,
        "worst_low": ends["low"],
        "worst_high": ends["high"],
    }


def draw_all(store: RecordStore, where: Storage, scenario: str = "") -> None:
    """Write every figure that can be drawn, of one scenario or of all, and say why the others
    cannot. Raises ConfigError where nothing was searched, or not in `scenario`."""
    objective, space = searched(store)
    frame = trials(store)
    chosen = views(frame, objective, scenario)
    about = about_runs(store, frame)
    with left_out("importance"):
        shown = importances_of(store, scenario)
        save(shown, importances.draw(shown, about), where, "importance")
    with left_out("pareto"):
        shown = front(frame, store)
        save(shown, pareto.draw(shown, about), where, "pareto")
    for view in chosen:
        shown = pd.DataFrame(view.trials)
        for name, draw in (("slices", slices.draw), ("parallel", parallel.draw)):
            with left_out(f"{name}_{view.name}"):
                save(shown, draw(view, space, about), where, f"{name}_{view.name}")
        runs: Any = frame[frame["scenario"] == view.name]
        if len(runs):
            draw_learning(store, runs.to_dict("records"), where, about)


def draw_learning(
    store: RecordStore, runs: list[dict[str, Any]], where: Storage, about: About
) -> None:
    """The curves of the runs of one scenario."""
    of = runs[0]["scenario"]
    with left_out(f"learning_{of}"):
        shown = learning_curves(store, learning.chosen(runs))
        save(shown, learning.draw(shown, runs, of, about), where, f"learning_{of}")


@contextmanager
def left_out(name: str) -> Iterator[None]:
    """Go on without a figure that cannot be drawn, and say why."""
    try:
        yield
    except ConfigError as error:
        print(f"left out {name}: {error}")


def importances_of(store: RecordStore, scenario: str) -> pd.DataFrame:
    frame: Any = importance.build(store)
    return frame[frame["scenario"].isin([scenario])] if scenario else frame


def about_runs(store: RecordStore, frame: pd.DataFrame) -> About:
    """Data, method and metric, which all runs of a study share."""
    record = store.read(frame["run_id"].iloc[0])
    assert record is not None  # it made a row of the frame
    return About(record.config["dataset"], method_of(record), record.config["metric"])


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    store = RecordStore(options.run_dir)
    try:
        draw_all(store, Storage(options.out) if options.out else store.root, options.scenario)
    except ConfigError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
