"""The value of every trial over each hyperparameter."""

from math import ceil
from typing import Any

from matplotlib.figure import Figure

from analysis.search_figures.axes import Wanted, places, ticks
from analysis.search_figures.drawing import BEST, CROSS, MANY, STAR, About, legend, line, new_figure
from analysis.search_figures.views import Rows, View
from dfpl.fields import ConfigError, SearchSpace

COLUMNS = 4


def draw(view: View, space: SearchSpace, about: About) -> Figure:
    """One panel per hyperparameter. Whole trials filled, pruned ones hollow (what they had reached
    when they were), failed ones as crosses at the foot; the band is the 95 % interval of the best.

    Raises ConfigError where no trial has a value.
    """
    if not view.whole and not view.of_state("pruned"):
        raise ConfigError(f"no trial of {view.name} has a value; all {len(view.trials)} failed")
    columns = min(COLUMNS, len(space))
    lines = ceil(len(space) / columns)
    figure = new_figure(1.0 + 2.6 * columns, 1.3 + 2.4 * lines)
    grid = figure.subplots(lines, columns, sharey=True, squeeze=False).ravel()
    for axes, (name, wanted) in zip(grid, space.items(), strict=False):
        panel(axes, name, wanted, view, about)
    for axes in grid[len(space) :]:
        axes.set_axis_off()
    figure.supylabel(about.value, fontsize=9)
    legend(figure, handles(view, about), 3)
    figure.suptitle(about.title(view.title, view.counts), fontsize=10)
    return figure


def panel(axes: Any, name: str, wanted: Wanted, view: View, about: About) -> None:
    def dots(rows: Rows, **style: Any) -> None:
        values = [100 * row["value"] for row in rows]
        axes.plot(places(wanted, [row[name] for row in rows]), values, **style)

    dots(view.of_state("pruned"), **hollow(about), rasterized=len(view.trials) > MANY)
    dots(view.whole, **filled(about), rasterized=len(view.trials) > MANY)
    failed = places(wanted, [row[name] for row in view.of_state("failed")])
    axes.plot(failed, [0.03] * len(failed), transform=axes.get_xaxis_transform(), **CROSS)
    if view.best:
        axes.axhspan(100 * view.best["low"], 100 * view.best["high"], color="0.93", zorder=0)
        dots([view.best], **BEST, zorder=4)
    if view.paper:
        dots([view.paper], **STAR, zorder=5)
    axes.set_xlim(-0.06, 1.06)
    axes.set_xticks(list(ticks(wanted)), list(ticks(wanted).values()), fontsize=8)
    axes.tick_params(axis="y", labelsize=8)
    axes.set_xlabel(name, fontsize=9)
    axes.grid(alpha=0.3, linewidth=0.5)


def filled(about: About) -> dict[str, Any]:
    return {"marker": "o", "markersize": 5, "color": about.colour, "linestyle": "none"}


def hollow(about: About) -> dict[str, Any]:
    return {
        **{"marker": "o", "markersize": 4, "markerfacecolor": "none", "linestyle": "none"},
        **{"markeredgecolor": about.colour, "markeredgewidth": 0.7},
    }


def handles(view: View, about: About) -> list[Any]:
    """What the legend says: only what there is."""
    band = {"color": "0.88", "linewidth": 8}
    found = [
        (view.whole, "whole trial", filled(about)),
        (view.of_state("pruned"), "pruned, at its best so far", hollow(about)),
        (view.of_state("failed"), "failed, without a value", CROSS),
        (view.best, "best", BEST),
        (view.best, "95 % interval of the best", band),
        (view.paper, "the paper's config", STAR),
    ]
    return [line(text, **style) for there, text, style in found if there]
