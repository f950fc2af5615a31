"""The printed form of the comparisons two by two."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from analysis.confirm import percent
from analysis.entries import BASE
from analysis.table1 import LEVEL, label
from analysis.tables import Cell, Table

Rows = list[dict[str, Any]]
DIFFERENCE = ["first", "second", "first's", "second's", "difference [95 %]", "p"]


def tables(frame: pd.DataFrame) -> list[Table]:
    """What configs there are, the pairs of each scenario, and those over all scenarios."""
    rows: Rows = frame.to_dict("records")
    names = short_names([row[side] for side in ("first", "second") for row in rows])
    found = legend(names)
    each = [row for row in rows if np.isnan(row["scenarios"])]
    over_all = [row for row in rows if not np.isnan(row["scenarios"])]
    notes = [told_of_bootstrap(each), told_of_mcnemar(rows)]
    for scenario, own in groupby(each, key=lambda row: row["scenario"]):
        found.append(of_scenario(scenario, list(own), names, notes))
    if over_all:
        found.append(of_all(over_all, names))
    return found


def short_names(entries: Sequence[str]) -> dict[str, str]:
    """What entries are called in the tables: methods by their names, configs by numbers."""
    full = list(dict.fromkeys(entries))
    if any(name == BASE or " = " in name for name in full):
        return {name: f"config {number}" for number, name in enumerate(full, 1)}
    return {name: label(name) for name in full}


def legend(names: dict[str, str]) -> list[Table]:
    """A table of the configs, where the entries are such."""
    rows = [[Cell(short), Cell(full)] for full, short in names.items()]
    configs = any(short != label(full) for full, short in names.items())
    return [Table(title="Configs", header=["", "changes"], rows=rows)] if configs else []


def of_scenario(scenario: str, rows: Rows, names: dict[str, str], notes: list[str]) -> Table:
    mcnemar = rows[0]["task"] == "multiclass"
    header = [*DIFFERENCE, *(["b; c", "McNemar's p"] if mcnemar else []), "seeds"]
    return Table(
        title=f"Two by two in {scenario}: {about(rows)}",
        header=header,
        rows=[
            [
                *pair_cells(row, names),
                *([counts_of(row), p_cell(row, "p_mcnemar")] if mcnemar else []),
                Cell(f"{row['seeds']:g}"),
            ]
            for row in rows
        ],
        notes=notes,
    )


def of_all(rows: Rows, names: dict[str, str]) -> Table:
    return Table(
        title=f"Two by two, mean over scenarios: {about(rows)}",
        header=[*DIFFERENCE, "Wilcoxon's p", "scenarios"],
        rows=[
            [
                *pair_cells(row, names),
                p_cell(row, "p_wilcoxon"),
                Cell(f"{row['scenarios']:g}"),
            ]
            for row in rows
        ],
        notes=[
            told_of_bootstrap(rows),
            "Wilcoxon's signed-rank test over the scenarios, of six or more. They share their test "
            "samples, so it describes them; it is no test over independent data sets.",
        ],
    )


def about(rows: Rows) -> str:
    metric = rows[0]["metric"].replace("_", " ")
    return f"{rows[0]['dataset']}, {metric} on the test split in percent"


def pair_cells(row: dict[str, Any], names: dict[str, str]) -> list[Cell]:
    """The names, both scores, their difference and its p-value; why there is none."""
    sides = [Cell(names[row["first"]]), Cell(names[row["second"]])]
    if np.isnan(row["difference"]):
        return [*sides, Cell(""), Cell(""), Cell(row["reason"] or "does not exist"), Cell("")]
    scores = [Cell(f"{100 * row[name]:.1f}") for name in ("first_value", "second_value")]
    gap = percent((row["difference"], row["low"], row["high"]), "+")
    return [*sides, *scores, Cell(gap, best=row["p_holm"] < LEVEL), p_cell(row, "p")]


def p_cell(row: dict[str, Any], name: str) -> Cell:
    """The corrected p-value."""
    p = row[f"{name}_holm"]
    return Cell("" if np.isnan(p) else f"{p:.2g}", best=p < LEVEL)


def counts_of(row: dict[str, Any]) -> Cell:
    counts = row["only_first"], row["only_second"]
    return Cell("" if np.isnan(counts[0]) else "{:.4g}; {:.4g}".format(*counts))


def told_of_bootstrap(rows: Rows) -> str:
    compared = sum(not np.isnan(row["p_holm"]) for row in rows)
    return (
        "Difference: first minus second, in points, on the same samples, masks and seeds [95 % "
        f"interval by paired bootstrap over groups, for these seeds]; n = {rows[0]['n']} test "
        f"samples of {rows[0]['groups']} groups. p-values after Holm for {compared} comparisons. "
        f"Bold: below {LEVEL:g}."
    )


def told_of_mcnemar(rows: Rows) -> str:
    first = rows[0]
    if first["task"] != "multiclass":
        return (
            "No McNemar test: the labels of a sample are right or wrong together, so (sample, "
            "label) pairs are not independent. The bootstrap keeps them together."
        )
    parts = [
        "b; c: samples that the first, or the second, alone has right under the masks of the runs, "
        "means over seeds. McNemar's p: of several seeds twice the median."
    ]
    if first["metric"] != "accuracy":
        parts.append(f"It is about accuracy, not {first['metric'].replace('_', ' ')}.")
    if first["groups"] < first["n"]:
        parts.append(
            "It takes samples for independent, and here groups hold several: trust the bootstrap."
        )
    return " ".join(parts)
