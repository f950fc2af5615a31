"""Parallel coordinates: every whole trial as a line through its hyperparameters and its value."""

from math import ceil
from operator import itemgetter
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.search_figures.axes import places, ticks
from analysis.search_figures.drawing import DARK, MANY, PALE, About, legend, line, new_figure
from analysis.search_figures.views import Rows, View
from dfpl.fields import ConfigError, SearchSpace

TOP = 0.1
"""Share of the whole trials that is told from the rest."""
THIN: dict[str, Any] = {"color": PALE, "linewidth": 0.8, "alpha": 0.7}
PAPER: dict[str, Any] = {"color": DARK, "linewidth": 1.8, "linestyle": (0, (4.0, 2.0))}


def draw(view: View, space: SearchSpace, about: About) -> Figure:
    """One axis per hyperparameter, in its real units, and the value at the right. The best tenth of
    the whole trials stands out, the best one most. Pruned trials have no comparable value and are
    left out. Raises ConfigError where no trial is whole."""
    if not view.whole:
        raise ConfigError(f"no trial of {view.name} ran to the end; let the search go on")
    figure = new_figure(1.6 + 1.55 * (len(space) + 1), 4.6)
    axes = figure.add_subplot()
    scale = value_ticks(view.whole)
    best = best_tenth(view.whole)
    paper = [row for row in view.whole if row["trial"] == 0]
    layers = [
        (view.whole, THIN | {"rasterized": len(view.whole) > MANY}),
        (best, thick(about)),
        (best[:1], thick(about) | {"linewidth": 3.0}),
        (paper, PAPER),
    ]
    for rows, style in filter(itemgetter(0), layers):
        axes.plot(range(len(space) + 1), heights(rows, space, scale), **style)
    for place, wanted in enumerate(space.values()):
        upright(axes, place, ticks(wanted))
    reach = scale[-1] - scale[0]
    upright(axes, len(space), {(tick - scale[0]) / reach: f"{tick:g}" for tick in scale})
    axes.set_xticks(range(len(space) + 1), [*space, about.value.replace(" on ", "\non ")])
    axes.tick_params(axis="x", length=0, labelsize=8)
    axes.set_xlim(-0.35, len(space) + 0.35)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    legend(figure, handles(best, paper, about), 4)
    figure.suptitle(about.title(view.title, told(view)), fontsize=10)
    return figure


def best_tenth(whole: Rows) -> Rows:
    """The best trials, the best one first: a tenth of them, rounded up."""
    ordered = sorted(whole, key=lambda row: -row["value"])
    return ordered[: ceil(TOP * len(ordered))]


def value_ticks(whole: Rows) -> list[float]:
    """Round numbers, in percent, from below the least value to above the greatest."""
    values = [100 * row["value"] for row in whole]
    reach = (min(values), max(values)) if min(values) < max(values) else (values[0], values[0] + 1)
    return list(map(float, MaxNLocator(5).tick_values(*reach)))


def heights(rows: Rows, space: SearchSpace, scale: list[float]) -> list[list[float]]:
    """Where each line crosses each axis, by axis and trial; the value is the last."""
    by_axis = [places(wanted, [row[name] for row in rows]) for name, wanted in space.items()]
    reach = scale[-1] - scale[0]
    return [*by_axis, [(100 * row["value"] - scale[0]) / reach for row in rows]]


def upright(axes: Any, place: int, texts: dict[float, str]) -> None:
    axes.plot([place, place], [0, 1], color="black", linewidth=0.8, zorder=3)
    halo = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6}
    for height, text in texts.items():
        axes.plot([place - 0.03, place], [height] * 2, color="black", linewidth=0.8, zorder=3)
        where = (place - 0.05, height, text)
        axes.text(*where, ha="right", va="center", fontsize=8, bbox=halo, zorder=4)


def thick(about: About) -> dict[str, Any]:
    return {"color": about.colour, "linewidth": 1.5}


def handles(best: Rows, paper: Rows, about: About) -> list[Any]:
    found = [line("best trial", **thick(about) | {"linewidth": 3.0})]
    if len(best) > 1:
        found.append(line(f"best tenth ({len(best)})", **thick(about)))
    found.append(line("other whole trials", **THIN))
    return found + ([line("the paper's config", **PAPER)] if paper else [])


def told(view: View) -> str:
    cut = len(view.trials) - len(view.whole)
    return f"{len(view.whole)} whole trials; {cut} that were cut are left out"
