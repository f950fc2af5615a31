"""An ablation of DFPL from records: its rows side by side for each data set and scenario.

A record belongs to a row if its config is that of the study's base run with what the row sets, in
any scenario and with any seed. So several tables may share one folder of runs.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.comparison import Scores
from analysis.runs import Runs, score_runs
from analysis.statistics import holm
from analysis.table1 import PAPER_METRICS, scenarios_of
from dfpl.ablation import Ablation, Row
from dfpl.config import Metric
from dfpl.data.scenario import Scenario
from dfpl.fields import ConfigError, flatten
from dfpl.intervals import Estimate, difference, estimate, p_value
from dfpl.study.records import Record, RecordStore

PAPER = Path(__file__).parent / "paper"
COLUMNS = [
    *("dataset", "metric", "scenario", "group", "row", "value", "low", "high", "best", "seeds"),
    *("n", "reason", "paper", "against", "difference", "difference_low", "difference_high"),
    *("common_seeds", "p", "paper_difference"),
]
Values = dict[str, Any]
Found = dict[str, dict[str, Runs]]
"""The runs by scenario, then by row: group/name."""


def build(
    stores: Sequence[RecordStore], table: Ablation, metric: Metric | None = None
) -> pd.DataFrame:
    """One line per data set, scenario and row of the table; scores as fractions. Raises ConfigError
    where a folder has no run of the table, or two have the same data set."""
    lines = [line for store in stores for line in lines_of_store(store, table, metric)]
    places = Counter((line["dataset"], line["scenario"]) for line in lines)
    if twice := [" ".join(key) for key, count in places.items() if count > len(table.rows)]:
        raise ConfigError(f"several folders have {', '.join(twice)}: give one per data set")
    frame = pd.DataFrame(lines, columns=COLUMNS)
    frame["p_holm"] = holm(frame["p"].tolist())
    return frame


def lines_of_store(
    store: RecordStore, table: Ablation, metric: Metric | None
) -> Iterator[dict[str, Any]]:
    base = base_of(store, table)
    dataset, chosen = base["dataset"], metric or base["metric"]
    paper = paper_values(table, dataset, chosen)
    for scenario, found in runs_by_scenario(store, table, base).items():
        facts = {"dataset": dataset, "metric": chosen, "scenario": scenario}
        lines = list(lines_of_scenario(store, table, Scenario.parse(scenario), found, chosen))
        for row, line in zip(table.rows, lines, strict=True):
            rivals = [other["value"] for other in lines if other["group"] == row.group]
            own = paper.get((scenario, row.group, row.name), np.nan)
            other = paper.get((scenario, row.group, row.against), np.nan)
            of_paper = {"paper": own, "paper_difference": own - other}
            best = line["value"] == max(rivals, key=lambda value: np.nan_to_num(value, nan=-1.0))
            yield {**facts, **line, **of_paper, "best": best}


def base_of(store: RecordStore, table: Ablation) -> Values:
    """The base run by dotted names, without scenario and seed."""
    try:
        return settings(store.root.read_json("study.json")["base"])
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise ConfigError(
            f"no study in {store.root} (looked for study.json there); run studies/{table.name}.py "
            "first"
        ) from error


def settings(config: Values) -> Values:
    """A config by dotted names: equal for runs that differ in scenario and seed alone."""
    return {
        name: value
        for name, value in flatten(config)
        if name != "seed" and not name.startswith("scenario.")
    }


def runs_by_scenario(store: RecordStore, table: Ablation, base: Values) -> Found:
    """The records that belong to a row."""
    records = [(record, settings(record.config)) for record in store.read_all()]
    of_row: dict[str, list[Record]] = {}
    for row in table.rows:
        wanted = {**base, **row.values}
        of_row[key_of(row.group, row.name)] = [r for r, values in records if values == wanted]
    scenarios = scenarios_of([record for own in of_row.values() for record in own])
    if not scenarios:
        raise ConfigError(
            f"no run of {table.name} below {store.root}/records; run studies/{table.name}.py first"
        )
    found: Found = {scenario: {} for scenario in scenarios}
    for key, own in of_row.items():
        for scenario in dict.fromkeys(record.scenario for record in own):
            found[scenario][key] = Runs([r for r in own if r.scenario == scenario])
    return found


def key_of(group: str, name: str) -> str:
    """Names a row of a table."""
    return f"{group}/{name}"


def paper_values(table: Ablation, dataset: str, metric: str) -> dict[tuple[str, str, str], float]:
    """What the paper reports, as fractions, by scenario, group and row; nothing for other data."""
    return {
        (line["scenario"], line["group"], line["row"]): line["value"] / 100
        for line in pd.read_csv(PAPER / f"{table.name}.csv").to_dict("records")
        if line["dataset"].lower() == dataset and PAPER_METRICS[line["metric"]] == metric
    }


def lines_of_scenario(
    store: RecordStore,
    table: Ablation,
    masks: Scenario,
    found: dict[str, Runs],
    metric: Metric,
) -> Iterator[dict[str, Any]]:
    """All rows of the table with their scores, each against the row that it is compared with."""
    of_row, size = scores_of_rows(store, found, masks, metric)
    for row in table.rows:
        runs = found.get(key_of(row.group, row.name))
        yield {
            **line_of(row, of_row),
            "n": size,
            "reason": runs.reason if runs else "not there",
        }


def scores_of_rows(
    store: RecordStore, found: dict[str, Runs], masks: Scenario, metric: Metric
) -> tuple[dict[str, Scores], int]:
    """Per row and seed the test score and those of its resamples, the same resamples for all; and
    the number of test samples."""
    scored = score_runs(store, found, [masks], metric)
    return scored.under(0), scored.n


def line_of(row: Row, scores: dict[str, Scores]) -> dict[str, Any]:
    """The mean over seeds of a row; how much more that is than the other's on the seeds that both
    have."""
    own = scores.get(key_of(row.group, row.name), {})
    other = scores.get(key_of(row.group, row.against), {})
    score = estimate(np.mean(list(own.values()), axis=0)) if own else Estimate(*[np.nan] * 3)
    common = sorted(own.keys() & other.keys())
    line = {
        "group": row.group,
        "row": row.name,
        **score._asdict(),
        "seeds": len(own),
        "against": row.against,
        "common_seeds": len(common),
    }
    if common:
        sides = [np.mean([of[seed] for seed in common], axis=0) for of in (own, other)]
        gap = difference(*sides)
        line |= {"difference": gap.difference, "difference_low": gap.low}
        line |= {"difference_high": gap.high, "p": p_value(*sides)}
    return line
