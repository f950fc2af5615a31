"""The printed form of an ablation, and its command."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import tyro

from analysis.ablation import build
from analysis.confirm import percent
from analysis.table1 import cell_of
from analysis.tables import RENDER, Cell, Format, Table, publish
from dfpl.ablation import Ablation
from dfpl.config import Metric
from dfpl.fields import ConfigError
from dfpl.study.records import RecordStore


@dataclass(frozen=True, kw_only=True)
class Options:
    run_dirs: tyro.conf.Positional[tuple[str, ...]]
    """Folders or URIs of the runs of the study, one per data set."""
    format: Literal["markdown", "latex", "csv", "html"] = "markdown"
    """`csv`: one row per data set, scenario and row, with all numbers as fractions."""
    metric: Metric | None = None
    """Default: the metric by which the runs chose their best epoch."""
    out: str = ""
    """File to write instead of printing."""


class Head(NamedTuple):
    """The first columns of the printed table."""

    header: list[str]
    cells: Callable[[str, str], list[str]]
    """Of a row, from its group and name."""


GROUPED = Head(["", "configuration"], lambda group, name: [group, name])


def table_of(frame: pd.DataFrame, table: Ablation, head: Head = GROUPED) -> Table:
    """The paper's rows; for each data set and scenario a column of scores and one of
    differences."""
    lines: list[dict[str, Any]] = frame.to_dict("records")
    columns: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for line in lines:
        columns.setdefault((line["dataset"], line["scenario"]), []).append(line)
    seeds = {line["seeds"] for line in lines} - {0}
    rows = []
    for place, row in enumerate(table.rows):
        cells = [Cell(text) for text in head.cells(row.group, row.name)]
        for column in columns.values():
            line = column[place]
            cells += [cell_of({**line, "as_good": False}, seeds), difference_of(line)]
        rows.append(cells)
    titles = []
    for (dataset, scenario), (first, *_) in columns.items():
        titles += [f"{dataset} {scenario}, {first['metric'].replace('_', ' ')}", "difference"]
    return Table(
        title=f"{table.title}; on the test split in percent",
        header=[*head.header, *titles],
        rows=rows,
        notes=notes_of(lines, table),
    )


def difference_of(line: dict[str, Any]) -> Cell:
    """The difference with its interval and p-value, and the paper's."""
    numbers = [line[f"difference{end}"] for end in ("", "_low", "_high")]
    own = "" if np.isnan(numbers[0]) else f"{percent(numbers, '+')}, p = {line['p_holm']:.2g}"
    gap = line["paper_difference"]
    paper = "" if np.isnan(gap) else f"paper {100 * gap:+.2f}"
    return Cell("; ".join(text for text in (own, paper) if text))


def notes_of(lines: list[dict[str, Any]], table: Ablation) -> list[str]:
    def either(name: str) -> str:
        return " or ".join(map(str, sorted({line[name] for line in lines} - {0}))) or "no"

    compared = sum(not np.isnan(line["p_holm"]) for line in lines)
    notes = [
        f"Mean over {either('seeds')} seed(s) [95 % interval by bootstrap over groups, for these "
        f"seeds]; n = {either('n')} test samples. Bold: best of its group.",
        f"Difference to {table.compared_with}, on the same samples, masks and seeds [paired "
        f"bootstrap over groups]; p after Holm's correction for {compared} comparison"
        f"{'s' * (compared != 1)}.",
    ]
    if not all(np.isnan(line["paper"]) for line in lines):
        notes.append("paper: as printed there; to be compared with runs on its data alone.")
    return notes


def render(
    frame: pd.DataFrame, table: Ablation, form: Format | Literal["csv"], head: Head = GROUPED
) -> str:
    if form == "csv":
        return frame.to_csv(index=False)
    return RENDER[form](table_of(frame, table, head)) + "\n"


def main(table: Ablation, description: str | None, head: Head = GROUPED) -> None:
    """Print or write a table, from the command line."""
    options = tyro.cli(Options, description=description)

    def make() -> str:
        if not options.run_dirs:
            raise ConfigError(f"no folder of runs; try python -m analysis.{table.name} RUN_DIR")
        frame = build([RecordStore(folder) for folder in options.run_dirs], table, options.metric)
        return render(frame, table, options.format, head)

    publish(make, options.out)
