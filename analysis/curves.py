"""What the figures share: means over seeds with intervals, curves by method, and their files.

S scenarios, R draws. An interval is that of `intervals.intervals_around`: each draw of who is
incomplete meets a resample of the groups of its own, the same ones for every run. It holds for the
seeds given.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import tyro
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.diagram import KINDS, image
from analysis.runs import Runs
from analysis.style import style_of
from analysis.table1 import label, method_of
from dfpl.config import Metric
from dfpl.data.scenario import PATTERNS, Scenario
from dfpl.fields import ConfigError
from dfpl.intervals import Estimate, estimate, resample_weights
from dfpl.predictions import Predictions
from dfpl.robustness import curves, scores_of_draws
from dfpl.storage import Storage
from dfpl.study.records import Record, RecordStore

DRAWS = 200
MISSING = {
    "tabular": "table missing",
    "image": "image missing",
    "both": "image or table missing",
}
"""Titles of panels by pattern."""
DODGE, WIDEST = 0.7, 5.0
"""Between the intervals of two methods, and of all, at the same rate; in percent."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of every figure."""

    run_dir: tyro.conf.Positional[str]
    """Folder or URI of the runs."""
    metric: Metric | None = None
    """Default: the metric by which the runs chose their best epoch."""
    out: str = ""
    """Folder for the files. Default: that of the runs."""


class Scores(NamedTuple):
    """Of one config: the mean over its seeds."""

    drawn: Float[np.ndarray, "S R"]
    """Expected over mask draws of the rows as they are; then each draw on its resample."""
    n: int
    """Test samples."""


def mean_scores(
    runs: Iterable[Predictions], scenarios: Sequence[Scenario], metric: Metric, draws: int = DRAWS
) -> Scores:
    """The mean over runs, all of the same samples, with the same masks and resamples for each;
    one run is held at a time."""
    ids, found = None, []
    for run in runs:
        ids = run.ids if ids is None else ids
        run = run.in_order_of(ids)
        points = curves(run, scenarios, metrics=[metric], draws=draws)
        weights = resample_weights(run.groups, draws, seed=0)
        drawn = scores_of_draws(run, scenarios, [metric], draws=draws, seed=0, weights=weights)
        values = np.array([[point.value] for point in points])
        found.append(np.concatenate([values, drawn[metric]], axis=1))
    return Scores(np.mean(found, axis=0), len(ids) if ids is not None else 0)


def bounded(scores: Float[np.ndarray, " R"]) -> Estimate:
    """A score and its 95 % interval, within the range that a score has."""
    value, low, high = estimate(scores)
    return Estimate(value, max(low, 0.0), min(high, 1.0))


def test_splits(store: RecordStore, runs: Runs) -> Iterator[Predictions]:
    """Of each seed, one after another."""
    for seed in sorted(runs.of_seed):
        yield store.predictions(runs.of_seed[seed].run_id).of_split("test")


def rows_of(
    store: RecordStore, runs: Runs, scenarios: Sequence[Scenario], metric: Metric
) -> Iterator[dict[str, Any]]:
    """Per scenario, the score of one config on the test split; NaN, with the reason, where no run
    of it is complete."""
    found = mean_scores(test_splits(store, runs), scenarios, metric) if runs.of_seed else None
    for place, scenario in enumerate(scenarios):
        score = bounded(found.drawn[place]) if found else Estimate(np.nan, np.nan, np.nan)
        yield {
            "tested": str(scenario),
            **score._asdict(),
            "seeds": len(runs.of_seed),
            "n": found.n if found else 0,
            "reason": runs.reason,
            "older_configs": runs.older_configs,
        }


def read(store: RecordStore, metric: Metric | None) -> tuple[list[Record], Metric]:
    """All records, and the metric asked for or theirs. Raises ConfigError where there is none."""
    records = list(store.read_all())
    if not records:
        raise ConfigError(f"no records below {store.root}/records; run the study first")
    return records, metric or records[0].config["metric"]


def by_method(records: Sequence[Record]) -> dict[str, Runs]:
    """The runs of the latest config of each method."""
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(method_of(record), []).append(record)
    return {name: Runs(own) for name, own in found.items()}


def scored(rows: list[dict[str, Any]], records: Sequence[Record], metric: Metric) -> pd.DataFrame:
    """The rows as a frame. Raises ConfigError, with the reasons, where none has a score."""
    if all(np.isnan(row["value"]) for row in rows):
        reasons = "; ".join(sorted({row["reason"] for row in rows} - {""}))
        raise ConfigError(f"no run has a test {metric} to show; {reasons or 'it does not exist'}")
    return pd.DataFrame(rows).assign(dataset=records[0].config["dataset"], metric=metric)


def draw(frame: pd.DataFrame, x_label: str, title: str) -> Figure:
    """One panel per pattern, one curve per method, over the column `rate`; bars are intervals."""
    rows: list[dict[str, Any]] = frame.to_dict("records")
    patterns = [name for name in PATTERNS if name in {row["pattern"] for row in rows}]
    methods = list(dict.fromkeys(row["method"] for row in rows if not np.isnan(row["value"])))
    figure = Figure(figsize=(2.4 + 3.6 * len(patterns), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(patterns), sharey=True, squeeze=False)[0]
    for axes, pattern in zip(panels, patterns, strict=True):
        for method, aside in zip(methods, asides(len(methods)), strict=True):
            own = [row for row in rows if (row["pattern"], row["method"]) == (pattern, method)]
            rates = [100 * row["rate"] + aside for row in own]
            curve(axes, rates, own, **style_of(method).of_line())
        axes.set_title(MISSING[pattern], fontsize=10)
        axes.set_xlabel(x_label)
        axes.set_xticks(sorted({100 * row["rate"] for row in rows}))
    panels[0].set_ylabel(y_label(rows))
    lines = [Line2D([], [], label=label(m), **style_of(m).of_line()) for m in methods]
    figure.legend(handles=lines, loc="outside right center", fontsize=9, handlelength=4)
    figure.suptitle(f"{title}\n{told(rows)}", fontsize=9)
    return figure


def asides(count: int) -> list[float]:
    """How far each method's points are moved along the axis, so that their bars stay apart."""
    reach = min(DODGE * max(count - 1, 0), WIDEST) / 2
    return np.linspace(-reach, reach, count).tolist()


def curve(axes: Any, places: list[float], rows: list[dict[str, Any]], **line: Any) -> None:
    """A line through scores, in percent, each with its interval."""
    value, low, high = (100 * np.array([row[k] for row in rows]) for k in ("value", "low", "high"))
    reach = np.maximum([value - low, high - value], 0.0)
    axes.errorbar(places, value, reach, markersize=5, linewidth=1.4, elinewidth=0.7, **line)
    axes.grid(alpha=0.3, linewidth=0.5)


def y_label(rows: list[dict[str, Any]]) -> str:
    metric = rows[0]["metric"].replace("_", " ")
    return f"{metric} on the test split (%)"


def told(rows: list[dict[str, Any]]) -> str:
    """What points and bars are."""

    n, seeds = (sorted({row[name] for row in rows} - {0}) for name in ("n", "seeds"))
    return (
        f"{rows[0]['dataset']}, n = {' or '.join(map(str, n))} test samples\n"
        f"mean over {' or '.join(map(str, seeds))} seed{'s' * (seeds != [1])}; "
        "bars: 95 % interval (masks, groups)"
    )


def write(frame: pd.DataFrame, figure: Figure, where: Storage, name: str) -> None:
    """The figure as SVG and PNG, its numbers as CSV (scores as fractions); says what is not shown
    or was chosen."""
    for row in frame.drop_duplicates(["method", "reason", "older_configs"]).to_dict("records"):
        if row["reason"]:
            print(f"{row['method']}: {row['reason']}", file=sys.stderr)
        if row["older_configs"]:
            several = row["older_configs"] + 1
            print(f"{row['method']}: the latest of {several} configs", file=sys.stderr)
    save(frame, figure, where, name)


def save(frame: pd.DataFrame, figure: Figure, where: Storage, name: str) -> None:
    """The figure as SVG and PNG and its numbers as CSV."""
    where.write(f"{name}.csv", frame.to_csv(index=False).encode())
    for kind in KINDS:
        where.write(f"{name}.{kind}", image(figure, kind))
    print(f"wrote {where}/{name}.svg, .png and .csv")


def place(options: Options, store: RecordStore) -> Storage:
    return Storage(options.out) if options.out else store.root
