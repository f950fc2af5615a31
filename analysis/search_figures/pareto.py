"""The Pareto front: how good configs are with complete data, and in their worst scenario."""

from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.search_figures.drawing import PALE, STAR, About, legend, line, new_figure

OTHER: dict[str, Any] = {
    **{"marker": "o", "markersize": 5, "markerfacecolor": "none", "markeredgecolor": PALE},
    "linestyle": "none",
}

BAR: dict[str, Any] = {"ecolor": "0.75", "elinewidth": 0.7}
SIDES: list[dict[str, Any]] = [
    {"xytext": (6, 5), "ha": "left"},
    {"xytext": (-6, -12), "ha": "right"},
]
"""Where the number of a trial stands; neighbours take turns."""


def draw(frame: pd.DataFrame, about: About) -> Figure:
    """`frame` is that of `search.front`; configs on the front have bars, their 95 % intervals, and
    the number of their first trial, with its search where there are several."""
    rows: list[dict[str, Any]] = frame.to_dict("records")
    front = sorted((row for row in rows if row["on_front"]), key=lambda row: row["first"])
    several = len({row["search"] for row in rows}) > 1
    rest = [row for row in rows if not row["on_front"]]
    figure = new_figure(6.0, 5.4)
    axes = figure.add_subplot()
    axes.plot(*points(rest), **OTHER)
    axes.step(*points(front), where="pre", color=about.colour, linewidth=1.4, zorder=3)
    axes.errorbar(
        *points(front), xerr=reach(front, "first"), yerr=reach(front, "worst"), **best(about), **BAR
    )
    for side, row in zip(cycle(SIDES), front, strict=False):
        place = (100 * row["first"], 100 * row["worst"])
        name = f"{row['search']} {row['trial']}" if several else str(row["trial"])
        axes.annotate(name, place, textcoords="offset points", fontsize=9, **side)
    paper = [row for row in rows if row["trial"] == 0]
    axes.plot(*points(paper), **STAR, zorder=5)
    axes.set_xlabel(f"{rows[0]['axis']}: {about.value}", fontsize=9)
    axes.set_ylabel(f"worst scenario: {about.value}", fontsize=9)
    axes.grid(alpha=0.3, linewidth=0.5)
    entries = [line("Pareto front, with its trial [95 %]", **best(about))]
    entries += [line("another is as good in both, better in one", **OTHER)] if rest else []
    entries += [line("the paper's config", **STAR)] if paper else []
    legend(figure, entries, 1)
    told = f"of {len(rows)} that met all scenarios, {len(front)} on the front"
    figure.suptitle(about.title("configs over several scenarios", told), fontsize=10)
    return figure


def points(rows: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    return [100 * row["first"] for row in rows], [100 * row["worst"] for row in rows]


def reach(rows: list[dict[str, Any]], name: str) -> np.ndarray:
    """How far bars go down and up."""
    value, low, high = (
        100 * np.array([row[key] for row in rows]) for key in (name, f"{name}_low", f"{name}_high")
    )
    return np.maximum([value - low, high - value], 0.0)


def best(about: About) -> dict[str, Any]:
    return {"marker": "o", "markersize": 6, "color": about.colour, "linestyle": "none"}
