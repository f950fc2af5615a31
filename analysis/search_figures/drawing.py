"""What the figures of a search share: who is drawn, colours, titles, marks."""

from typing import Any, NamedTuple

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.style import style_of
from analysis.table1 import label

PALE, DARK = "0.65", "0.15"
STAR: dict[str, Any] = {"marker": "*", "markersize": 12, "color": "black", "linestyle": "none"}
BEST: dict[str, Any] = {
    "marker": "o",
    "markersize": 10,
    "markerfacecolor": "none",
    "markeredgecolor": "black",
    "markeredgewidth": 1.6,
    "linestyle": "none",
}
CROSS: dict[str, Any] = {"marker": "x", "markersize": 6, "color": "black", "linestyle": "none"}
MANY = 1000
"""Marks from which they are kept as pixels in an SVG, which would be too large else."""


class About(NamedTuple):
    """Of the runs of a search."""

    dataset: str
    method: str
    metric: str

    @property
    def colour(self) -> str:
        return style_of(self.method).colour

    @property
    def value(self) -> str:
        """What values are."""
        return f"{self.metric.replace('_', ' ')} on the validation split (%)"

    def title(self, of: str, told: str) -> str:
        return f"{self.dataset}, {label(self.method)}, {of}\n{told}"


def new_figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def line(name: str, **style: Any) -> Line2D:
    """An entry of a legend."""
    return Line2D([], [], label=name, **style)


def legend(figure: Figure, handles: list[Line2D], columns: int) -> None:
    figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, fontsize=9, handlelength=3
    )
