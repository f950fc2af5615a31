"""From the events of some stays to their time-series files.

A row is a moment at which something was measured. Of several values of a variable at one moment
the largest is kept, of texts the last in alphabetical order, as in the reference; so the order of
events has no influence.
"""

import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from dfpl.data.extraction.layout import Column, Frame
from dfpl.data.extraction.variables import (
    EYE_NAME,
    LEVELS,
    MOTOR_NAME,
    NAMES,
    POINTS,
    TEXTS,
    TOTAL_NAME,
    VERBAL_NAME,
    Recipe,
    cleaned,
    mapped_items,
)

HEADER = ["Hours", *NAMES]


def to_series(events: pa.Table, recipe: Recipe, counts: Counter[str]) -> Frame:
    """Columns stay, Hours and the 17 variables; rows by stay and time. Events without a value that
    can be used are counted, and left out."""
    of_item = mapped_items(recipe)
    frame: Frame = events.to_pandas()
    variable = frame["item"].map(of_item)
    parts = {
        str(name): _values(str(name), part, recipe, counts)
        for name, part in frame.groupby(variable)
    }
    found = (
        pd.concat([part.rename(name) for name, part in parts.items()], axis=1)
        if parts
        else (pd.DataFrame(index=pd.MultiIndex.from_arrays([[], []], names=["stay", "seconds"])))
    )
    found = found.reindex(columns=NAMES).sort_index()
    if recipe == "repair":
        found[TOTAL_NAME] = _total(found)
    rows = found.reset_index()
    hours = rows.pop("seconds") / 3600
    rows.insert(1, "Hours", hours)
    return rows


def _values(name: str, events: Frame, recipe: Recipe, counts: Counter[str]) -> Column:
    """The value of one variable at each (stay, seconds) at which it has one."""
    if name in TEXTS:
        values = events["value"].str.strip().map(LEVELS[name])
    else:
        numbers: Any = pd.to_numeric(events["value"], errors="coerce")
        numbers = numbers.to_numpy(np.float64)
        numbers = np.where(np.isfinite(numbers), numbers, np.nan)
        numbers = cleaned(name, events["item"].to_numpy(np.int64), numbers, recipe)
        values = pd.Series(numbers, index=events.index)
    counts[f"{name}: without a usable value"] += int(values.isna().sum())
    table = events[["stay", "seconds"]].assign(value=values).dropna()
    table = table.sort_values(["stay", "seconds", "value"])
    table = table.drop_duplicates(["stay", "seconds"], keep="last")
    return table.set_index(["stay", "seconds"])["value"]


def _total(rows: Frame) -> Column:
    """Eye + motor + verbal as text, where all three were charted at the same moment."""
    points = [
        rows[name].map(POINTS[name]).astype(float) for name in (EYE_NAME, MOTOR_NAME, VERBAL_NAME)
    ]
    total = points[0] + points[1] + points[2]
    return total.map(lambda value: f"{value:.0f}", na_action="ignore").astype(object)


def write_series(rows: Frame, paths: Sequence[Path]) -> None:
    """Write the rows of each stay to its file; `rows` has a column `stay`, places in `paths`."""
    text = io.StringIO()
    rows.to_csv(text, columns=HEADER, index=False, lineterminator="\n")
    header, *lines = text.getvalue().splitlines(keepends=True)
    stays = rows["stay"].to_numpy()
    starts = np.flatnonzero(np.r_[True, stays[1:] != stays[:-1]]) if len(stays) else []
    for start, end in zip(starts, [*starts[1:], len(stays)], strict=False):
        part = paths[stays[start]].with_suffix(".part")
        part.write_text(header + "".join(lines[start:end]), encoding="utf-8")
        part.replace(paths[stays[start]])
