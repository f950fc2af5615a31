"""The open choices of the paper: each alternative against the literal form.

Run       python -m analysis.open_choices runs/open_choices
Reads     the records, epochs and predictions that studies/open_choices.py left there
Prints    Markdown: per scenario and choice, on the test split, the mean over seeds, the difference
          to the literal form with its 95 % interval (bootstrap over groups, paired: same samples,
          masks and seeds) and seed by seed, how alike the prototypes of a branch are at the end
          (mean pairwise cosine), and the time of a run relative to the literal form's
"""

import sys
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from analysis.confirm import of_all_seeds, percent
from dfpl.config import Metric
from dfpl.data.scenario import Scenario
from dfpl.fields import flatten
from dfpl.intervals import expected, mean_over_seeds, paired_difference
from dfpl.study.records import Record, RecordStore

METRICS: tuple[Metric, ...] = ("balanced_accuracy", "accuracy")


def build(store: RecordStore) -> pd.DataFrame:
    """One row per scenario, choice and metric; a scenario's first config is the literal form."""
    rows = []
    records = sorted(store.read_all(), key=lambda r: (r.scenario, r.trial))
    for scenario, found in groupby(records, key=lambda r: r.scenario):
        first, *others = configs(list(found))
        for runs in (first, *others):
            rows += [compare(store, scenario, metric, runs, first) for metric in METRICS]
    return pd.DataFrame(rows)


def configs(records: list[Record]) -> list[list[Record]]:
    """The complete runs of each config, which differ in their seed alone, in order of trials."""
    found: dict[str, list[Record]] = {}
    for record in records:
        if record.state == "complete":
            key = str([(k, v) for k, v in flatten(record.config) if k != "seed"])
            found.setdefault(key, []).append(record)
    return list(found.values())


def compare(
    store: RecordStore, scenario: str, metric: Metric, runs: list[Record], first: list[Record]
) -> dict[str, Any]:
    masks = Scenario.parse(scenario)
    ours, literal = of_all_seeds(store, runs[0]), of_all_seeds(store, first[0])
    pairs = zip(ours, literal, strict=True)
    same = runs is first
    return {
        "scenario": scenario,
        "choice": change(runs[0], first[0]),
        "metric": metric,
        "score": mean_over_seeds(ours, masks, metric),
        "difference": None if same else paired_difference(ours, literal, masks, metric),
        "by seed": [expected(a, masks)[metric] - expected(b, masks)[metric] for a, b in pairs],
        "cosine": float(np.mean([last(store, run, "train/prototype_cosine") for run in runs])),
        "time": sum(run.seconds for run in runs) / sum(run.seconds for run in first),
        "seeds": len(ours),
        "n": len(ours[0]),
    }


def change(record: Record, first: Record) -> str:
    """In which fields a config differs from the first, and how."""
    before = dict(flatten(first.config))
    told = [f"{k} = {v}" for k, v in flatten(record.config) if v != before[k] and k != "seed"]
    return ", ".join(told) or "literal form"


def last(store: RecordStore, record: Record, name: str) -> float:
    return float(store.epochs(record.run_id)[-1][name])


def render(frame: pd.DataFrame) -> str:
    """The table as Markdown, scores in percent."""
    lines = [
        "| scenario | choice | metric | score [95 %] | difference [95 %] | seed by seed | cosine "
        "| time |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in frame.to_dict("records"):
        literal = row["difference"] is None
        cells = [row["scenario"], row["choice"], row["metric"], percent(row["score"], "")]
        cells.append("" if literal else percent(row["difference"], "+"))
        cells.append("" if literal else ", ".join(f"{100 * gap:+.1f}" for gap in row["by seed"]))
        cells += [f"{row['cosine']:.2f}", f"{row['time']:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    first = frame.iloc[0]
    lines.append(f"\n{first['seeds']} seeds, n = {first['n']} test samples, in percent")
    return "\n".join(lines)


if __name__ == "__main__":
    print(render(build(RecordStore(sys.argv[1]))))
