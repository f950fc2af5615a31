"""Figure 5: which representations each class attends to when a modality is absent.

Run       python -m analysis.figure5 FILE.parquet [--state image]
Reads     what dfpl evaluate MODEL --data DATA --save-representations FILE.parquet wrote, of a
          method whose classes attend to representations (dfpl with CMA, drfuse)
Makes     figure5.svg, .png and .csv beside FILE or in --out: a heat map, per class the mean weight
          of each representation over the samples whose probability of the class exceeds 0.5 in that
          state, with 95 % intervals (bootstrap over groups) in the CSV
Paper     DFPL on MIMIC, the table absent; no numbers printed

Attention says what was mixed, not what decided: a large weight on a vector that the class's own
weights do not read changes no logit.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tyro
from jaxtyping import Float, Shaped
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.curves import bounded, save
from analysis.table1 import label
from dfpl.data.packed import DataError
from dfpl.fields import ConfigError
from dfpl.intervals import Estimate, resample_weights
from dfpl.predictions import State
from dfpl.representations import Representations, read
from dfpl.storage import Storage

SURE = 0.5
"""A sample counts for a class whose probability exceeds this."""
RESAMPLES = 1000
MOST_CLASSES = 40
"""In the drawing; the CSV has all."""
AVAILABLE = {
    "both": "image and table available",
    "image": "table absent",
    "tabular": "image absent",
}
COLUMNS = [
    *("dataset", "split", "method", "scenario", "state", "class", "n", "groups"),
    *("representation", "visible", "value", "low", "high"),
]


@dataclass(frozen=True)
class Options:
    file: tyro.conf.Positional[str]
    """Representations that dfpl evaluate saved."""
    state: State = "image"
    """What is available: the image alone, the table alone (tabular), or both."""
    out: str = ""
    """Folder for the files. Default: that of the file."""


def build(found: Representations) -> pd.DataFrame:
    """One line per class and representation; those that the state hides have weight 0 and are not
    `visible`. NaN where no sample counts for the class; no interval where all that count are of
    one group. Raises ConfigError where there is no attention, or no sample in the state."""
    facts = found.facts
    if found.attention is None:
        raise ConfigError(
            f"{facts.method} has no attention of each class to show: give a file of dfpl with "
            "method.fusion = 'cma', or of drfuse"
        )
    if not len(found):
        raise ConfigError(f"none of the {found.num_rows} samples can be in state {found.state!r}")
    lines = []
    for c, name in enumerate(facts.class_names):
        sure = found.probabilities[:, c] > SURE
        groups = found.groups[sure]
        weights = weights_of(found.attention[sure, c].astype(np.float64), groups)
        counted = {"class": name, "n": int(sure.sum()), "groups": len(set(groups.tolist()))}
        rows = zip(facts.rows, facts.visible(found.state), weights, strict=True)
        lines += [
            {**counted, "representation": row, "visible": visible, **weight._asdict()}
            for row, visible, weight in rows
        ]
    told = {"dataset": facts.dataset, "split": facts.split, "method": facts.method}
    told |= {"scenario": facts.scenario, "state": found.state}
    return pd.DataFrame([{**told, **line} for line in lines], columns=COLUMNS)


def weights_of(
    attention: Float[np.ndarray, "N R"], groups: Shaped[np.ndarray, " N"]
) -> Iterator[Estimate]:
    """The mean weight of each representation over some samples, with its interval."""
    if not len(groups):
        yield from [Estimate(np.nan, np.nan, np.nan)] * attention.shape[1]
        return
    means = attention.mean(axis=0)
    if len(set(groups.tolist())) == 1:
        yield from (Estimate(float(mean), np.nan, np.nan) for mean in means)
        return
    drawn = resample_weights(groups, RESAMPLES, seed=0)
    resampled = drawn @ attention / drawn.sum(axis=1, keepdims=True)
    yield from (bounded(scores) for scores in np.vstack([means, resampled]).T)


def draw(frame: pd.DataFrame) -> Figure:
    """A row per class, a column per representation that the state leaves; the weight in each cell.

    Of more than 40 classes, those that most samples count for.
    """
    sizes: dict[str, int] = dict(zip(frame["class"], frame["n"], strict=True))
    shown = set(sorted(sizes, key=lambda name: -sizes[name])[:MOST_CLASSES])
    classes = [name for name in sizes if name in shown]
    visible: Any = frame[frame["visible"]]
    columns: list[str] = visible["representation"].unique().tolist()
    cells = visible.pivot(index="class", columns="representation", values="value")
    values = cells.loc[classes, columns].to_numpy()
    named = [f"{name} (n = {sizes[name]})" for name in classes]
    figure = _canvas(named, columns)
    axes = figure.add_subplot()
    top = max(float(np.nanmax(values)), 1 / len(columns)) if not np.isnan(values).all() else 1.0
    mesh = axes.imshow(values, cmap="viridis", vmin=0.0, vmax=top, aspect="auto")
    _write_cells(axes, values, top)
    axes.set_xticks(range(len(columns)), [name.replace(" ", "\n") for name in columns], fontsize=8)
    axes.set_yticks(range(len(classes)), named, fontsize=8)
    axes.set_xlabel("representation")
    axes.set_ylabel("class")
    bar = figure.colorbar(mesh, ax=axes, shrink=min(1.0, 8 / len(classes) + 0.2))
    bar.ax.tick_params(labelsize=8)
    bar.set_label("mean attention weight\n(a row sums to 1)", fontsize=8)
    figure.suptitle(told(frame, len(classes), len(sizes)), fontsize=9)
    return figure


def _canvas(named: list[str], columns: list[str]) -> Figure:
    """Large enough for the names of the classes and a number in each cell, in inches."""
    width = 2.0 + 0.075 * max(map(len, named)) + 0.85 * len(columns)
    figure = Figure(figsize=(max(width, 5.5), 2.3 + 0.28 * len(named)), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _write_cells(axes: Any, values: Float[np.ndarray, "C R"], top: float) -> None:
    """The number in each cell, dark on light and light on dark; hatching where there is none."""
    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value):
            corner = (column - 0.5, row - 0.5)
            style = {"facecolor": "white", "edgecolor": "0.6", "hatch": "///", "linewidth": 0.0}
            axes.add_patch(Rectangle(corner, 1, 1, **style))
            continue
        colour = "black" if value > 0.6 * top else "white"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=7)


def told(frame: Any, num_shown: int, num_classes: int) -> str:
    """What the figure is of, how its cells are made, and what is left out."""
    first = frame.iloc[0].to_dict()
    num_visible = frame[frame["visible"]]["representation"].nunique()
    lines = [
        f"{label(first['method'])}, {AVAILABLE[first['state']]}: {first['dataset']}, "
        f"{first['split']} split, trained in {first['scenario']}",
        f"mean over n samples with probability > {SURE:g}; all alike: {1 / num_visible:.2f}",
    ]
    if frame["value"].isna().any():
        lines.append("hatched: no such sample")
    if num_shown < num_classes:
        lines.append(f"the {num_shown} of {num_classes} classes with the largest n")
    return "\n".join(lines)


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    path = Path(options.file).expanduser()
    try:
        frame = build(read(path, options.state))
    except (ConfigError, DataError) as error:
        sys.exit(f"error: {error}")
    save(frame, draw(frame), Storage(options.out or path.parent), "figure5")


if __name__ == "__main__":
    main()
