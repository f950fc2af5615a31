"""How a check of raw data is shown to a person."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from dfpl.data.raw import Report


def print_report(report: Report, console: Console) -> None:
    """Counts beside the expected ones, then warnings, then everything that forbids training."""
    shown = Table(title="Counts")
    shown.add_column("what")
    shown.add_column("found", justify="right")
    shown.add_column("expected", justify="right")
    for what, found, expected in report.counts:
        differs = expected is not None and expected != found
        shown.add_row(
            what,
            _number(found),
            "" if expected is None else _number(expected),
            style="yellow" if differs else None,
        )
    console.print(shown)
    for text in report.warnings:
        console.print(f"warning: {text}", style="yellow", markup=False)
    for text in report.problems:
        console.print(f"problem: {text}", style="red", markup=False)
    verdict = "training is impossible" if report.problems else "training is possible"
    console.print(f"{len(report.problems)} problems, {len(report.warnings)} warnings: {verdict}")


def columns_table(columns: Sequence[Any]) -> Table:
    """What each column of a table was taken for, and why."""
    shown = Table(title="Columns")
    for heading in ("column", "used as", "because", "empty", "example"):
        shown.add_column(heading)
    for c in columns:
        shown.add_row(repr(c.name)[1:-1], c.kind, c.why, f"{c.empty:.1%}", c.example)
    return shown


def _number(value: int | str) -> str:
    return f"{value:,}" if isinstance(value, int) else value
