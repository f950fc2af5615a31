"""Which hyperparameters decide, as bars: fANOVA and PED-ANOVA."""

from math import ceil
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis.importance import ALL, LEAST
from analysis.search_figures.drawing import About, new_figure

COLUMNS = 4
HALF = 0.38
"""Thickness of a bar; two fill 0.76 of a row."""
PALE_BAR: dict[str, Any] = {
    **{"facecolor": "white", "edgecolor": "0.35", "hatch": "////", "linewidth": 0.6}
}
INTERVAL: dict[str, Any] = {"ecolor": "black", "elinewidth": 1.0, "capsize": 2.5}


def draw(frame: pd.DataFrame, about: About) -> Figure:
    """One panel per scenario, and over all; the order is that of the first. `frame` is that of
    `importance.build`."""
    groups: list[tuple[Any, Any]] = list(frame.groupby("scenario", sort=False))
    order = groups[0][1].sort_values("ped_anova", ascending=False)["hyperparameter"].tolist()
    columns = min(COLUMNS, len(groups))
    lines = ceil(len(groups) / columns)
    figure = new_figure(2.0 + 2.5 * columns, 1.3 + (0.5 + 0.36 * len(order)) * lines)
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for axes, (name, rows) in zip(grid.ravel(), groups, strict=False):
        panel(axes, str(name), rows.set_index("hyperparameter").loc[order], about)
    for axes in grid.ravel()[len(groups) :]:
        axes.set_axis_off()
    grid[0, 0].invert_yaxis()  # shared: the most important one is on top
    grid[0, 0].set_xlim(0, 100)
    for axes in grid[-1]:
        axes.set_xlabel("share (%)", fontsize=9)
    entries = [
        Patch(label="PED-ANOVA: for the best tenth, with 95 % interval", facecolor=about.colour),
        Patch(label="fANOVA: over the whole space", **PALE_BAR),
    ]
    figure.legend(handles=entries, loc="outside lower center", ncols=min(columns, 2), fontsize=9)
    of = f"what decides {about.metric.replace('_', ' ')} on the validation split"
    figure.suptitle(about.title(of, "n: configs of full length"), fontsize=10)
    return figure


def panel(axes: Any, name: str, rows: Any, about: About) -> None:
    title = "all scenarios" if name == ALL else name
    axes.set_title(f"{title}, n = {rows['n'].iloc[0]}", fontsize=9)
    axes.set_yticks(range(len(rows)), rows.index, fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", alpha=0.3, linewidth=0.5)
    if rows["ped_anova"].isna().all():
        few = rows["n"].iloc[0] < LEAST
        text = f"fewer than {LEAST} configs" if few else "all values are equal"
        axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", fontsize=9)
        return
    places = np.arange(len(rows))
    shares, low, high = (100 * rows[key].to_numpy() for key in ("ped_anova", "low", "high"))
    reach = np.maximum([shares - low, high - shares], 0.0)
    axes.barh(places - HALF / 2, shares, HALF, color=about.colour, xerr=reach, error_kw=INTERVAL)
    axes.barh(places + HALF / 2, 100 * rows["fanova"], HALF, **PALE_BAR)
