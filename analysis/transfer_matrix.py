"""Best configs in the scenarios of each other: who was tuned where, scored where.

With v_ij what config i, trained in scenario j, reached on validation and t_ij on the test split
(means over seeds), and r(j) the config tuned in j or, where none was, the best there on validation:

    regret on validation = max_k v_kj - v_ij
    regret on test       = t_r(j)j - t_ij,  on the same samples, masks, seeds and resamples

R: the test split as it is, then its resamples.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.ablation import Values, settings
from analysis.comparison import Scores
from analysis.runs import Runs, score_runs
from analysis.table1 import scenarios_of
from dfpl.config import Metric
from dfpl.data.scenario import Scenario
from dfpl.fields import ConfigError
from dfpl.intervals import Estimate, estimate
from dfpl.study.objective import Objective
from dfpl.study.records import Record, RecordStore
from dfpl.study.regret import OneForAll, one_for_all

ALL = "all"
"""In place of a scenario: the mean over them, of configs that have a score in each."""
SHARE = Objective().share
"""Of the scenarios, the worst ones, that CVaR counts."""
COLUMNS = [
    *("dataset", "metric", "tuned", "scenario", "validation", "validation_regret", "value", "low"),
    *("high", "reference", "regret", "regret_low", "regret_high", "seeds", "common_seeds", "n"),
    "reason",
]
NOTHING = Estimate(np.nan, np.nan, np.nan)
Row = dict[str, Any]


class Reached(NamedTuple):
    """One config in one scenario."""

    validation: float
    scores: Scores
    n: int
    reason: str


class Column(NamedTuple):
    """All configs in one scenario."""

    cells: Mapping[str, Reached]
    reference: str
    """Whom the test compares the others with."""
    regret: Mapping[str, Float[np.ndarray, " R"]]
    """On the test split, of those that have a seed in common with the reference."""


def build(store: RecordStore) -> pd.DataFrame:
    """One row per config and scenario, then one per config over all scenarios; scores as fractions.
    Raises ConfigError where studies/transfer.py left nothing there."""
    study = study_of(store)
    records = records_of_points(store, study)
    scenarios = scenarios_of([record for own in records.values() for record in own])
    if not scenarios:
        raise ConfigError(f"no run of a point below {store.root}/records; run studies/transfer.py")
    metric: Metric = study["base"]["metric"]
    columns: dict[str, Column] = {}
    for scenario in scenarios:
        here = {n: [r for r in own if r.scenario == scenario] for n, own in records.items()}
        columns[scenario] = compared(scenario, cells_of(store, scenario, here, metric))
    rows = [row for scenario, column in columns.items() for row in rows_of(scenario, column)]
    rows += [
        row_over_all([row for row in rows if row["tuned"] == name], columns) for name in records
    ]
    facts = {"dataset": study["base"]["dataset"], "metric": metric}
    return pd.DataFrame([{**facts, **row} for row in rows], columns=COLUMNS)


def study_of(store: RecordStore) -> Values:
    """What study.json says, which must name the points."""
    try:
        study = store.root.read_json("study.json")
        _ = dict(study["points"]), dict(study["base"])
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise ConfigError(
            f"no transfer of configs in {store.root} (looked for its points in study.json); run "
            "studies/transfer.py first"
        ) from error
    return study


def records_of_points(store: RecordStore, study: Values) -> dict[str, list[Record]]:
    """The records of each point by its name: their config is the base run's with its values, in any
    scenario and with any seed."""
    records = [(record, settings(record.config)) for record in store.read_all()]
    found = {}
    for name, values in study["points"].items():
        wanted = {**settings(study["base"]), **values}
        found[name] = [record for record, own in records if own == wanted]
    return found


def cells_of(
    store: RecordStore, scenario: str, here: Mapping[str, list[Record]], metric: Metric
) -> dict[str, Reached]:
    """What the runs of one scenario reached; a run that stands for two points is read once."""
    runs = {name: Runs(own) for name, own in here.items() if own}
    scored = score_runs(store, runs, [Scenario.parse(scenario)], metric)
    scores, cells = scored.under(0), {}
    for name in here:
        of_seed = runs[name].of_seed if name in runs else {}
        cells[name] = Reached(
            validation=mean([record.value or 0.0 for record in of_seed.values()]),
            scores=scores.get(name, {}),
            n=scored.n,
            reason=runs[name].reason if name in runs else "not there",
        )
    return cells


def mean(values: list[float]) -> float:
    """NaN of none."""
    return float(np.mean(values)) if values else np.nan


def compared(scenario: str, cells: Mapping[str, Reached]) -> Column:
    """The cells, each against that of the config tuned in the scenario, or of the best there."""
    known = {name: cell.validation for name, cell in cells.items() if cell.scores}
    best = max(known, key=lambda name: known[name], default="")
    reference = scenario if scenario in known else best
    regret = {}
    for name in known:
        own, other = cells[name].scores, cells[reference].scores
        if common := own.keys() & other.keys():
            regret[name] = np.mean([other[seed] - own[seed] for seed in common], axis=0)
    return Column(cells, reference, regret)


def rows_of(scenario: str, column: Column) -> Iterator[Row]:
    best = np.nanmax([np.nan_to_num(cell.validation) for cell in column.cells.values()])
    for name, cell in column.cells.items():
        scores = np.mean(list(cell.scores.values()), axis=0) if cell.scores else None
        common = column.cells[column.reference].scores.keys() if column.reference else {}
        yield {
            "tuned": name,
            "scenario": scenario,
            "validation": cell.validation,
            "validation_regret": best - cell.validation,
            **scored(scores, column.regret.get(name)),
            "reference": column.reference,
            "seeds": len(cell.scores),
            "common_seeds": len(cell.scores.keys() & common),
            "n": cell.n,
            "reason": cell.reason,
        }


def scored(
    scores: Float[np.ndarray, " R"] | None, regret: Float[np.ndarray, " R"] | None
) -> dict[str, float]:
    """Score and regret on the test split, each with its interval."""
    score = NOTHING if scores is None else estimate(scores)
    cost = NOTHING if regret is None else estimate(regret)
    return {
        **score._asdict(),
        **dict(zip(("regret", "regret_low", "regret_high"), cost, strict=True)),
    }


def row_over_all(own: list[Row], columns: Mapping[str, Column]) -> Row:
    """The means over scenarios of one config. Test samples and resamples are the same in all of
    them, so the intervals are those of the means."""
    name = own[0]["tuned"]
    scores = [list(column.cells[name].scores.values()) for column in columns.values()]
    regret = [column.regret.get(name) for column in columns.values()]
    means = [np.mean(of_seed, axis=0) for of_seed in scores if of_seed]
    gaps = [gap for gap in regret if gap is not None]
    return {
        "tuned": name,
        "scenario": ALL,
        "validation": np.mean([row["validation"] for row in own]),
        "validation_regret": np.mean([row["validation_regret"] for row in own]),
        **scored(
            np.mean(means, axis=0) if len(means) == len(columns) else None,
            np.mean(gaps, axis=0) if len(gaps) == len(columns) else None,
        ),
        "reference": "",
        **{key: min(row[key] for row in own) for key in ("seeds", "common_seeds", "n")},
        "reason": "; ".join(dict.fromkeys(row["reason"] for row in own if row["reason"])),
    }


def best_for_all(frame: pd.DataFrame) -> list[OneForAll]:
    """By each rule the config that is best over all scenarios on validation, of those that have a
    value in each."""
    reached: dict[str, dict[str, float]] = {}
    rows: list[Row] = frame.to_dict("records")
    for row in rows:
        if row["scenario"] != ALL and not np.isnan(row["validation"]):
            reached.setdefault(row["tuned"], {})[row["scenario"]] = row["validation"]
    return one_for_all(reached, SHARE)
