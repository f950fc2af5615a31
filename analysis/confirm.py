"""The best config of a search against the paper's, over seeds, on the test split.

Run       python -m analysis.confirm RUN_DIR
Reads     the records and predictions that studies/confirm.py left in RUN_DIR
Prints    Markdown: per scenario, and per state (what is available), the mean over seeds of each
          config and the difference with its 95 % interval (bootstrap over groups, paired: same
          samples, same masks)
"""

import sys
from collections.abc import Sequence

import pandas as pd

from dfpl.data.scenario import Scenario
from dfpl.fields import flatten
from dfpl.intervals import mean_over_seeds, paired_difference
from dfpl.predictions import Predictions
from dfpl.study.best import best
from dfpl.study.records import Record, RecordStore

METRICS = ("balanced_accuracy", "accuracy")
STATES = {
    "both": Scenario(pattern="both", rate=0.0),
    "image only": Scenario(pattern="tabular", rate=1.0),
    "table only": Scenario(pattern="image", rate=1.0),
}


def build(store: RecordStore) -> pd.DataFrame:
    """One row per scenario, availability and metric: scores of both configs, their difference."""
    rows = []
    for entry in best(store):
        if entry.paper is None:
            continue
        sides = of_all_seeds(store, entry.record), of_all_seeds(store, entry.paper)
        scenario = Scenario.parse(entry.scenario)
        for available, masks in {f"as in {scenario}": scenario, **STATES}.items():
            for metric in METRICS:
                rows.append(
                    {
                        "scenario": entry.scenario,
                        "available": available,
                        "metric": metric,
                        "best": mean_over_seeds(sides[0], masks, metric),
                        "paper": mean_over_seeds(sides[1], masks, metric),
                        "difference": paired_difference(*sides, masks, metric),
                        "seeds": min(len(side) for side in sides),
                        "n": len(sides[0][0]),
                    }
                )
    return pd.DataFrame(rows)


def of_all_seeds(store: RecordStore, record: Record) -> list[Predictions]:
    """Test predictions of all complete runs that differ from `record` in their seed alone."""
    wanted = without_seed(record)
    runs = [r for r in store.read_all() if r.state == "complete" and without_seed(r) == wanted]
    runs.sort(key=lambda r: r.config["seed"])
    return [store.predictions(run.run_id).of_split("test") for run in runs]


def without_seed(record: Record) -> dict[str, object]:
    """A run's config by dotted names: equal for runs that differ in their seed alone."""
    return {name: value for name, value in flatten(record.config) if name != "seed"}


def render(frame: pd.DataFrame) -> str:
    """The table as Markdown, in percent."""
    lines = [
        "| scenario | available | metric | best [95 %] | paper's [95 %] | difference [95 %] |",
        "|---|---|---|---|---|---|",
    ]
    for row in frame.to_dict("records"):
        cells = [percent(row["best"], ""), percent(row["paper"], "")]
        cells.append(percent(row["difference"], "+"))
        names = f"| {row['scenario']} | {row['available']} | {row['metric']} |"
        lines.append(f"{names} {' | '.join(cells)} |")
    first = frame.iloc[0]
    lines.append(f"\n{first['seeds']} seeds, n = {first['n']} test samples, in percent")
    return "\n".join(lines)


def percent(numbers: Sequence[float], sign: str) -> str:
    value, low, high = (100 * number for number in numbers)
    return f"{value:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"


if __name__ == "__main__":
    print(render(build(RecordStore(sys.argv[1]))))
