"""The critical-difference diagram: methods by mean rank, bars over those that do not differ."""

import io
from typing import Literal, get_args

import matplotlib
import scikit_posthocs
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis.statistics import Ranks

Kind = Literal["svg", "png"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def draw(ranks: Ranks, title: str) -> Figure:
    """The diagram; rank 1, the best, is at the left."""
    figure = Figure(figsize=(8, 1.2 + 0.22 * len(ranks.mean)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    scikit_posthocs.critical_difference_diagram(
        ranks.mean,
        ranks.pairs,
        alpha=ranks.alpha,
        ax=axes,
        label_fmt_left="{label} ({rank:.2f})",
        label_fmt_right="({rank:.2f}) {label}",
    )
    axes.set_title(f"{title} (critical difference {ranks.critical_difference:.2f})", fontsize=10)
    return figure


def image(figure: Figure, kind: Kind) -> bytes:
    """The figure as the bytes of a file; the same figure gives the same bytes."""
    stream = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {}
    with matplotlib.rc_context({"svg.hashsalt": "dfpl"}):
        figure.savefig(stream, format=kind, dpi=200, metadata=metadata)
    return stream.getvalue()
