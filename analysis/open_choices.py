"""The open choices of the paper: each alternative against the literal form.

Run       python -m analysis.open_choices runs/open_choices
Reads     the records, epochs and predictions that studies/open_choices.py left there
Prints    Markdown: per scenario and choice, on the test split, the mean over seeds, the difference
          to the literal form with its 95 % interval (bootstrap over groups, paired: same samples,
          masks and seeds) and seed by seed, and how alike the prototypes of a branch are at the
          end (mean pairwise cosine)
"""

import sys
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from analysis.confirm import percent, without_seed
from dfpl.config import Metric
from dfpl.data.scenario import Scenario
from dfpl.intervals import mean_over_seeds, paired_difference
from dfpl.predictions import Predictions
from dfpl.robustness import expectations
from dfpl.study.records import Record, RecordStore

METRICS: tuple[Metric, ...] = ("balanced_accuracy", "accuracy")


def build(store: RecordStore) -> pd.DataFrame:
    """One row per scenario, choice and metric; a scenario's first config is the literal form."""
    rows = []
    records = sorted(store.read_all(), key=lambda r: (r.scenario, r.trial))
    for _, found in groupby(records, key=lambda r: r.scenario):
        first, *others = [Choice.of(store, runs) for runs in configs(list(found))]
        for choice in (first, *others):
            rows += [compare(choice, first, metric) for metric in METRICS]
    return pd.DataFrame(rows)


def configs(records: list[Record]) -> list[list[Record]]:
    """The complete runs of each config, which differ in their seed alone, in order of trials."""
    found: dict[str, list[Record]] = {}
    for record in records:
        if record.state == "complete":
            found.setdefault(str(without_seed(record)), []).append(record)
    return list(found.values())


@dataclass(frozen=True)
class Choice:
    """The complete runs of one config, by seed."""

    records: dict[int, Record]
    test: dict[int, Predictions]
    cosine: float
    """Mean pairwise cosine of the prototypes of a branch in the last epoch."""

    @classmethod
    def of(cls, store: RecordStore, runs: list[Record]) -> "Choice":
        by_seed = {run.config["seed"]: run for run in runs}
        test = {k: store.predictions(r.run_id).of_split("test") for k, r in by_seed.items()}
        ends = [store.epochs(run.run_id)[-1]["train/prototype_cosine"] for run in runs]
        return cls(by_seed, test, float(np.mean(ends)))

    @property
    def example(self) -> Record:
        return next(iter(self.records.values()))


def compare(choice: Choice, first: Choice, metric: Metric) -> dict[str, Any]:
    """A choice and the literal form, on the seeds for which both are complete."""
    masks = Scenario.parse(choice.example.scenario)
    seeds = sorted(choice.records.keys() & first.records.keys())
    sides = [[side.test[seed] for seed in seeds] for side in (choice, first)]
    scores = [
        [expectations(found, [masks], [metric])[metric].item() for found in side] for side in sides
    ]
    return {
        "scenario": choice.example.scenario,
        "choice": change(choice.example, first.example),
        "metric": metric,
        "score": mean_over_seeds(sides[0], masks, metric),
        "difference": None
        if choice is first
        else paired_difference(sides[0], sides[1], masks, metric),
        "by seed": [a - b for a, b in zip(*scores, strict=True)],
        "cosine": choice.cosine,
        "seeds": len(seeds),
        "n": len(sides[0][0]),
    }


def change(record: Record, first: Record) -> str:
    """In which fields a config differs from the first, and how."""
    before = without_seed(first)
    told = [f"{name} = {v}" for name, v in without_seed(record).items() if v != before[name]]
    return ", ".join(told) or "literal form"


def render(frame: pd.DataFrame) -> str:
    """The table as Markdown, scores in percent."""
    lines = [
        "| scenario | choice | metric | score [95 %] | difference [95 %] | seed by seed | cosine |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in frame.to_dict("records"):
        literal = row["difference"] is None
        cells = [row["scenario"], row["choice"], row["metric"], percent(row["score"], "")]
        cells.append("" if literal else percent(row["difference"], "+"))
        cells.append("" if literal else ", ".join(f"{100 * gap:+.1f}" for gap in row["by seed"]))
        cells.append(f"{row['cosine']:.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    first = frame.iloc[0]
    lines.append(f"\n{first['seeds']} seeds, n = {first['n']} test samples, in percent")
    return "\n".join(lines)


if __name__ == "__main__":
    print(render(build(RecordStore(sys.argv[1]))))
