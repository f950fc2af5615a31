"""How much each searched hyperparameter matters: the metric over its values, all else held.

Run       python -m analysis.sensitivity runs/sensitivity
Reads     the records and predictions that studies/sensitivity.py left in RUN_DIR
Makes     sensitivity.svg, .png and .csv in RUN_DIR or in --out: one panel per hyperparameter; each
          point the mean over seeds on the test split in the runs' own scenario, with a 95 %
          interval (mask draws, bootstrap over groups, for the seeds given); the CSV also has the
          difference to the base point with its interval, paired: same samples, masks and seeds
Paper     has the number of prototypes alone (Table III)

The test split says how much a choice matters; to choose, search: that reads validation alone.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import pandas as pd
import tyro
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from analysis import curves
from analysis.confirm import without_seed
from analysis.curves import curve, mean_scores, place, read, rows_of, scored, told, write, y_label
from analysis.runs import Runs
from analysis.style import style_of
from analysis.table1 import label, method_of, scenarios_of
from dfpl.config import Metric
from dfpl.data.scenario import Scenario
from dfpl.fields import ConfigError
from dfpl.intervals import difference
from dfpl.predictions import PredictionError
from dfpl.study.records import Record, RecordStore

COLUMNS = 4
WIDE = 20
"""Ratio of the largest to the smallest value from which an axis is logarithmic."""


@dataclass(frozen=True, kw_only=True)
class Options(curves.Options):
    scenario: str = ""
    """Needed where RUN_DIR has runs in several."""


def build(store: RecordStore, metric: Metric | None = None, scenario: str = "") -> pd.DataFrame:
    """One row per hyperparameter and value (`setting`), the base point's in each; scores as
    fractions. Raises ConfigError where the runs do not lie around one point."""
    records, chosen = read(store, metric)
    here = in_scenario(records, scenario)
    base, *others = configs(here)
    masks = Scenario.parse(here[0].scenario)
    base_row = row_of(store, base, base, masks, chosen)
    before = settings(base)
    rows: list[dict[str, Any]] = []
    for other in others:
        name, setting = change(other, base)
        if name not in {row["hyperparameter"] for row in rows}:
            known = {"hyperparameter": name, "setting": before[name], "base": True}
            rows.append({**known, **base_row})
        found = {"hyperparameter": name, "setting": setting, "base": False}
        rows.append({**found, **row_of(store, other, base, masks, chosen)})
    if not rows:
        raise ConfigError(f"{store.root} has one config in {masks}: nothing was varied")
    order = list(dict.fromkeys(row["hyperparameter"] for row in rows))
    rows.sort(key=lambda row: (order.index(row["hyperparameter"]), row["setting"]))
    frame = scored(rows, here, chosen)
    return frame.assign(scenario=str(masks), method=method_of(here[0]))


def in_scenario(records: Sequence[Record], scenario: str) -> list[Record]:
    """The records of a scenario, or of the only one, in the order of the study's list."""
    known = scenarios_of(records)
    if scenario not in known and (scenario or len(known) > 1):
        raise ConfigError(f"the runs are in {', '.join(known)}; choose one with --scenario")
    here = [record for record in records if scenario in ("", record.scenario)]
    return sorted(here, key=lambda record: record.trial)


def configs(records: Sequence[Record]) -> list[Runs]:
    """The runs of each config, the base point first."""
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(str(without_seed(record)), []).append(record)
    return [Runs(own) for own in found.values()]


def settings(runs: Runs) -> dict[str, Any]:
    return without_seed([*runs.of_seed.values(), *runs.others][0])


def change(runs: Runs, base: Runs) -> tuple[str, Any]:
    """The one field in which a config differs from the base point, and its value."""
    before = settings(base)
    found = {name: value for name, value in settings(runs).items() if value != before[name]}
    if len(found) != 1:
        raise ConfigError(
            f"a config differs from the base point in {', '.join(found)}, not in one field alone: "
            "studies around several points need a --name each"
        )
    return found.popitem()


def row_of(
    store: RecordStore, runs: Runs, base: Runs, masks: Scenario, metric: Metric
) -> dict[str, Any]:
    """The score of a config, and its difference to the base point on the seeds that both have."""
    [row] = rows_of(store, runs, [masks], metric)
    common = sorted(runs.of_seed.keys() & base.of_seed.keys())
    gap = [np.nan] * 3
    if runs is not base and common:
        sides = [
            mean_scores(
                (store.predictions(own.of_seed[k].run_id).of_split("test") for k in common),
                [masks],
                metric,
            )
            for own in (runs, base)
        ]
        gap = difference(sides[0].drawn[0], sides[1].drawn[0])
    names = ("difference", "difference_low", "difference_high")
    return {**row, **dict(zip(names, gap, strict=True))}


def panels_of(frame: pd.DataFrame) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for name, rows in frame.groupby("hyperparameter", sort=False):
        yield str(name), rows.to_dict("records")


def draw(frame: pd.DataFrame) -> Figure:
    """One panel per hyperparameter; bars are intervals, the star is the base point."""
    panels = list(panels_of(frame))
    rows: list[dict[str, Any]] = frame.to_dict("records")
    columns = min(COLUMNS, len(panels))
    lines = ceil(len(panels) / columns)
    figure = Figure(figsize=(1.0 + 2.5 * columns, 1.1 + 2.5 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(lines, columns, sharey=True, squeeze=False).ravel()
    style = style_of(rows[0]["method"]).of_line()
    for axes, (name, own) in zip(grid, panels, strict=False):
        panel(axes, name, own, style)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    for axes in grid[::columns]:
        axes.set_ylabel(y_label(rows), fontsize=9)
    handles = [Line2D([], [], label=label(rows[0]["method"]), **style), Line2D([], [], **BASE)]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=9)
    figure.suptitle(f"Trained and tested in {rows[0]['scenario']}\n{told(rows)}", fontsize=9)
    return figure


BASE: dict[str, Any] = {
    "label": "base point",
    "color": "black",
    "marker": "*",
    "markersize": 9,
    "linestyle": "none",
}


def panel(axes: Any, name: str, rows: list[dict[str, Any]], style: dict[str, Any]) -> None:
    values = [row["setting"] for row in rows]
    curve(axes, values, rows, **style)
    base = next(row for row in rows if row["base"])
    axes.axvline(base["setting"], color="0.6", linestyle=":", linewidth=1.0, zorder=0)
    axes.plot(base["setting"], 100 * base["value"], **BASE, zorder=5)
    if min(values) > 0 and max(values) / min(values) >= WIDE:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    elif all(float(value).is_integer() for value in values):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(name, fontsize=9)


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    store = RecordStore(options.run_dir)
    try:
        frame = build(store, options.metric, options.scenario)
    except (ConfigError, PredictionError) as error:
        sys.exit(f"error: {error}")
    write(frame, draw(frame), place(options, store), "sensitivity")


if __name__ == "__main__":
    main()
