"""Learning curves of the runs of a scenario, with where they were stopped."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.search_figures.drawing import CROSS, DARK, PALE, About, legend, line, new_figure
from analysis.search_figures.views import Rows
from dfpl.fields import ConfigError

MOST = 60
"""Curves that a figure holds."""
STOPPED: dict[str, Any] = {
    **{"marker": "o", "markersize": 5, "linestyle": "none"},
    **{"markerfacecolor": "white", "markeredgecolor": "0.35"},
}
CUT: dict[str, Any] = {"color": PALE, "linewidth": 0.9}
PAPER: dict[str, Any] = {"color": "black", "linewidth": 1.8, "linestyle": (0, (4.0, 2.0))}


def chosen(runs: Rows, most: int = MOST) -> list[str]:
    """The ids of the runs to be drawn, in their order: the best whole one, the paper's, and of the
    others as many as there is room for, at equal distances in the order of their trials. Of runs
    without an epoch none."""
    runs = [row for row in runs if row["epochs"]]
    first = [row for row in [best_of(runs)] if row] + [row for row in runs if row["trial"] == 0]
    kept = {row["run_id"] for row in first}
    others = [row for row in runs if row["run_id"] not in kept]
    room = min(max(most - len(kept), 0), len(others))
    kept |= {others[k * len(others) // room]["run_id"] for k in range(room)}
    return [row["run_id"] for row in runs if row["run_id"] in kept]


def best_of(runs: Rows) -> dict[str, Any] | None:
    whole = [row for row in runs if row["state"] == "complete"]
    return max(whole, key=lambda row: row["value"], default=None)


def draw(curves: pd.DataFrame, runs: Rows, of: str, about: About) -> Figure:
    """The metric after each epoch. Whole runs in the method's colour, the best one bold, the
    paper's dashed; runs that were stopped in grey, with a mark where. `curves` is that of
    `search.learning_curves`, of some of `runs`. Raises ConfigError where none has an epoch."""
    if curves.empty:
        raise ConfigError(f"no run of {of} has an epoch to show")
    figure = new_figure(7.2, 4.8)
    axes = figure.add_subplot()
    best = best_of(runs)
    groups = [rows for _, rows in curves.groupby("run_id", sort=False)]
    for rows in groups:
        curve(axes, rows, best["run_id"] if best else "", about)
    axes.set_xlabel("epoch")
    axes.set_ylabel(about.value)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3, linewidth=0.5)
    legend(figure, handles(groups, about), 3)
    told = f"{len(groups)} of {len(runs)} runs shown{without_epochs(runs)}"
    figure.suptitle(about.title(f"in {of}", told), fontsize=10)
    return figure


def without_epochs(runs: Rows) -> str:
    count = sum(row["epochs"] == 0 for row in runs)
    return f"; {count} failed before the end of an epoch" if count else ""


def curve(axes: Any, rows: Any, best: str, about: About) -> None:
    last = rows.iloc[-1]
    style = style_of_run(last, best, about)
    axes.plot(rows["epoch"], 100 * rows["value"], **style, zorder=2 + style["linewidth"])
    mark = {"pruned": STOPPED, "failed": CROSS}.get(last["state"])
    if mark:
        axes.plot(last["stopped_at"], 100 * last["value"], **mark, zorder=4)


def style_of_run(last: Any, best: str, about: About) -> dict[str, Any]:
    if last["run_id"] == best:
        return {"color": about.colour, "linewidth": 3.0}
    if last["trial"] == 0:
        return PAPER
    return CUT if last["state"] != "complete" else whole(about)


def whole(about: About) -> dict[str, Any]:
    return {"color": about.colour, "linewidth": 1.0, "alpha": 0.6}


def handles(groups: Sequence[Any], about: About) -> list[Any]:
    """What the legend says: only what there is."""
    states = {rows["state"].iloc[-1] for rows in groups}
    paper = any(rows["trial"].iloc[-1] == 0 for rows in groups)
    found = [
        ("complete" in states, "best whole run", {"color": about.colour, "linewidth": 3.0}),
        ("complete" in states, "whole run", whole(about)),
        (paper, "the paper's config", PAPER),
        ("pruned" in states, "pruned here", CUT | STOPPED | {"linestyle": "-"}),
        ("failed" in states, "failed here", CUT | {"marker": "x", "markeredgecolor": DARK}),
    ]
    return [line(text, **style) for there, text, style in found if there]
