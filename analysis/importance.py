"""Which of the searched hyperparameters decide, per scenario and over all of them.

Run       python -m analysis.importance RUN_DIR
Reads     the records of a search in RUN_DIR: runs of full length alone, since what was pruned says
          how fast a config learns rather than how good it is
Prints    Markdown: per scenario and hyperparameter its share by fANOVA (over the whole space) and
          by PED-ANOVA (for being among the best tenth) with a 95 % interval (bootstrap over
          configs), and n, the number of configs

Over all scenarios, the validation values are standardised within each scenario; a config that met
several has the mean over those, one that met a single one that value, and all are pooled. So a
scenario that is harder, or spreads its values wider, decides no more than another.
"""

import sys
from statistics import fmean, pstdev
from typing import Any

import numpy as np
import pandas as pd

from dfpl.config import RunConfig
from dfpl.fields import ConfigError, SearchSpace
from dfpl.study.importance import importances
from dfpl.study.objective import Objective
from dfpl.study.records import Record, RecordStore
from dfpl.study.space import Point, distributions, point_of, read_space
from dfpl.study.suggestion import Suggestion, ended

LEAST = 10
"""Configs of full length without which nothing is said."""
ALL = "all"
Reached = dict[str, float]
"""What was reached, by point (as text, so that equal points meet)."""


def build(store: RecordStore, seed: int = 0, most: int | None = None) -> pd.DataFrame:
    """One row per scenario, and over all, and hyperparameter; empty cells where a scenario has too
    few configs. Where there are more than `most` in a group, as many are drawn: 100 configs take
    seconds. Raises ConfigError where there are too few over all."""
    objective, space = searched(store)
    points, by_scenario = full_length(store, objective, space)
    groups = dict(sorted(by_scenario.items()))
    if len(groups) != 1:
        groups = {ALL: pooled(by_scenario), **groups}
    groups = {name: drawn(reached, most, seed) for name, reached in groups.items()}
    largest = max(map(len, groups.values()))
    if largest < LEAST:
        raise ConfigError(
            f"{store.root} has {largest} configs of full length; {LEAST} are the least from which "
            "importances can be told: let the search go on with more --trials"
        )
    return pd.DataFrame(
        [
            row
            for name, reached in groups.items()
            for row in rows_of(name, reached, points, space, seed)
        ]
    )


def searched(store: RecordStore) -> tuple[Objective, SearchSpace]:
    """What a study's searches look for, and where. Raises ConfigError where it has none."""
    facts = store.root.read_json("study.json") if store.root.exists("study.json") else {}
    if "space" not in facts:
        raise ConfigError(f"no search in {store.root} (looked for its space in study.json)")
    return Objective.of(facts), read_space(facts["space"])


def full_length(
    store: RecordStore, objective: Objective, space: SearchSpace
) -> tuple[dict[str, Point], dict[str, Reached]]:
    """The points by name, and what each reached in each scenario where its runs were not cut: the
    mean over its seeds. Runs that are of no trial, as those of a sweep, do not count."""
    points: dict[str, Point] = {}
    values: dict[str, dict[str, dict[str, float]]] = {}
    for suggestion in Suggestion.read_all(store.root):
        found = ended(suggestion, objective, store)
        for record in found.records if found else []:
            point = point_of(RunConfig.from_dict(record.config), space)
            points[str(point)] = point
            of_scenario = values.setdefault(record.scenario, {})
            of_scenario.setdefault(str(point), {})[record.run_id] = value_of(record)
    means = {
        scenario: {name: fmean(runs.values()) for name, runs in reached.items()}
        for scenario, reached in values.items()
    }
    return points, means


def value_of(record: Record) -> float:
    assert record.value is not None  # of a complete run
    return record.value


def pooled(by_scenario: dict[str, Reached]) -> Reached:
    """Values standardised within each scenario, and their mean over the scenarios of a point."""
    found: dict[str, list[float]] = {}
    for reached in by_scenario.values():
        centre, spread = fmean(reached.values()), pstdev(reached.values()) or 1.0
        for name, value in reached.items():
            found.setdefault(name, []).append((value - centre) / spread)
    return {name: fmean(values) for name, values in found.items()}


def drawn(reached: Reached, most: int | None, seed: int) -> Reached:
    """At most so many configs, in their order, each as likely as the others."""
    if most is None or len(reached) <= most:
        return reached
    places = np.random.default_rng(seed).choice(len(reached), most, replace=False)
    names = list(reached)
    return {names[place]: reached[names[place]] for place in sorted(places)}


def rows_of(
    scenario: str, reached: Reached, points: dict[str, Point], space: SearchSpace, seed: int
) -> list[dict[str, Any]]:
    known: dict[str, Any] = {}
    if len(reached) >= LEAST:
        chosen = [points[name] for name in reached]
        known = importances(chosen, list(reached.values()), distributions(space), seed)
    return [
        {
            "scenario": scenario,
            "hyperparameter": name,
            **(known[name]._asdict() if known else {}),
            "n": len(reached),
        }
        for name in space
    ]


def render(frame: pd.DataFrame) -> str:
    """The table as Markdown, in percent; within a scenario the most important one first."""
    lines = [
        "| scenario | hyperparameter | fANOVA | PED-ANOVA [95 %] | n |",
        "|---|---|---|---|---|",
    ]
    for _, rows in frame.groupby("scenario", sort=False):
        for row in rows.sort_values("ped_anova", ascending=False).to_dict("records"):
            cells = [row["scenario"], row["hyperparameter"], *shares(row), str(row["n"])]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def shares(row: dict[str, Any]) -> tuple[str, str]:
    if pd.isna(row["ped_anova"]):
        return "", ""
    names = ("fanova", "ped_anova", "low", "high")
    fanova, ped_anova, low, high = (f"{100 * row[name]:.0f}" for name in names)
    return fanova, f"{ped_anova} [{low}, {high}]"


if __name__ == "__main__":
    try:
        print(render(build(RecordStore(sys.argv[1]))))
    except ConfigError as error:
        sys.exit(f"error: {error}")
