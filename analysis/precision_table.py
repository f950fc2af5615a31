"""The printed form of what scores vary with, and of what differences could be shown."""

from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.pairs_table import about, legend, short_names
from analysis.tables import RENDER, Cell, Format, Table
from dfpl.smallest import ALPHA, POWER

Rows = list[dict[str, Any]]
ONE_SEED = "cannot be told of one seed"
WAYS = {
    "assumed": "{:.1f} % of the answers differ, assumed in advance",
    "observed": "{:.1f} % of the answers differ, as on average of the pairs here",
    "bootstrap": "paired bootstrap over groups, median of the pairs here",
}


def render(parts: pd.DataFrame, smallest: pd.DataFrame, form: Format | Literal["csv"]) -> str:
    """Both tables; as CSV one below the other in the same columns."""
    if form == "csv":
        return pd.concat([parts, smallest]).to_csv(index=False)
    return "\n\n".join(RENDER[form](table) for table in tables(parts, smallest)) + "\n"


def tables(parts: pd.DataFrame, smallest: pd.DataFrame) -> list[Table]:
    rows: Rows = parts.to_dict("records")
    names = short_names([row["entry"] for row in rows])
    return [*legend(names), of_parts(rows, names), of_smallest(smallest.to_dict("records"))]


def of_parts(rows: Rows, names: dict[str, str]) -> Table:
    header = ["scenario", "", "score", "measured once", "masks", "seeds", "samples", "our mean"]
    return Table(
        title=f"Standard deviations of a score: {about(rows)}",
        header=header,
        rows=[
            [
                Cell(row["scenario"]),
                Cell(names[row["entry"]]),
                Cell(f"{100 * row['value']:.1f}"),
                Cell(points(row["once"])),
                *(deviation(row, source) for source in ("masks", "seeds", "samples")),
                Cell(points(row["of_mean"]), beside=f" ({row['num_seeds']})"),
            ]
            for row in rows
        ],
        notes=[told(rows)],
    )


def deviation(row: dict[str, Any], source: str) -> Cell:
    """A part with its interval, and its share of the variance."""
    if np.isnan(row[source]):
        return Cell(ONE_SEED if row["num_seeds"] == 1 else "does not exist")
    ends = f" [{points(row[f'{source}_low'])}, {points(row[f'{source}_high'])}]"
    share = row[f"{source}_share"]
    return Cell(points(row[source]) + ends, beside="" if np.isnan(share) else f"; {share:.0%}")


def points(value: float) -> str:
    """A fraction in percentage points."""
    return "" if np.isnan(value) else f"{100 * value:.2f}"


def told(rows: Rows) -> str:
    first = rows[0]
    return (
        "In points. Measured once: one seed, one draw of masks, one test set. Masks: another draw; "
        "seeds: another training; samples: other groups of samples [95 % interval]; share of the "
        "variance. Our mean: over the seeds (their number), expected over masks. "
        f"{first['draws']} draws; n = {first['n']} test samples of {first['groups']} groups."
    )


def of_smallest(rows: Rows) -> Table:
    metric = rows[0]["metric"].replace("_", " ")
    accuracy = "accuracy" if rows[0]["task"] == "multiclass" else "accuracy of a label"
    return Table(
        title=f"The smallest difference that the test split can show, {rows[0]['dataset']}",
        header=["scenario", "if", "of", "significant", f"found with power {100 * POWER:g} %"],
        rows=[
            [
                Cell(row["scenario"]),
                Cell(WAYS[row["way"]].format(100 * row["disagreement"])),
                Cell(metric if row["way"] == "bootstrap" else accuracy),
                *(Cell(span(row, name)) for name in ("significant", "found")),
            ]
            for row in rows
        ],
        notes=[
            f"In points, two-sided at {100 * ALPHA:g} %, for one pair. From n = {rows[0]['n']} "
            "samples, as if they were independent, to samples that are right or wrong together "
            f"within their groups ({rows[0]['groups']}). The bootstrap is of means over seeds, "
            "expected over masks."
        ],
    )


def span(row: dict[str, Any], name: str) -> str:
    ends = dict.fromkeys(points(row[f"{name}_{end}"]) for end in ("low", "high"))
    return " to ".join(end for end in ends if end)
