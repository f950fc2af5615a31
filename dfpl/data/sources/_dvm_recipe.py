"""The recipe of DVM-CAR's authors, step by step, from whole tables to the adverts that are left."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Int

from dfpl.data.raw import Report
from dfpl.data.sources._dvm_tables import ADVERT, SIZES, Column, Frame, numbers

STEPS = {
    "adverts in Ad_table.csv": 268_255,
    "with an entry price of their model and year": 224_724,
    "with a picture in Image_table.csv": 209_035,
    "without an empty cell": 184_562,
    "with readable numbers": None,
    "of models with enough adverts": 176_414,
    "with physical sizes": 176_414,
}
"""Adverts left after each step of the recipe, with all views and tables V2.0."""
LATE = ["Runned_Miles", "Price", "Engine_size"]  # made numbers after empty cells were dropped
SET_BY_HAND = (("69_36", "Wheelbase", 2612), ("29_20", "Wheelbase", 2788))
WRONG = (
    ("29_30", "Height", 805, 1805),  # Ford Ranger
    ("59_29", "Wheelbase", 5246, 3106),  # Mercedes
    ("43_9", "Wheelbase", 4065, 2580),  # Kia Rio
)
JITTER, JITTER_SEED = 50, 2022  # mm either way


class Steps:
    """Adverts on their way through the recipe: those left, those dropped and why."""

    def __init__(self, adverts: Frame, report: Report, expected: bool) -> None:
        self.left = adverts
        self.dropped: list[Frame] = []
        self.report = report
        self.expected = STEPS if expected else {}
        self.count("adverts in Ad_table.csv")

    def count(self, step: str) -> None:
        self.report.counts.append((step, len(self.left), self.expected.get(step)))

    def join(self, table: Frame, keys: list[str], step: str, reason: str) -> None:
        """Add the columns of `table`; adverts without a row in it are dropped."""
        joined = self.left.merge(table, how="left", on=keys, indicator="found")
        self.left = joined.drop(columns="found")
        self.keep(step, joined["found"] == "both", reason)

    def keep(self, step: str, rows: Column, reason: str | Column) -> None:
        why = reason if isinstance(reason, str) else reason[~rows]
        self.dropped.append(pd.DataFrame({"id": self.left["Adv_ID"][~rows], "reason": why}))
        self.left = self.left[rows]
        self.count(step)


def follow_recipe(tables: dict[str, Frame], view: str, min_adverts: int, report: Report) -> Steps:
    """The adverts that the recipe keeps, in the order of Ad_table.csv, with all attributes."""
    standard = view == "all" and min_adverts == 100
    steps = Steps(_adverts(tables["Ad_table.csv"]), report, expected=standard)
    _, priced, pictured, full, readable, populated, sized = STEPS
    prices = _prices(tables["Price_table.csv"])
    steps.join(prices, ["Genmodel_ID", "Reg_year"], priced, "no entry price of its model and year")
    images = _first_images(tables["Image_table.csv"], view)
    steps.join(images, ["Adv_ID"], pictured, f"no picture listed (view {view})")
    _refuse_repeats(steps, report)
    _drop_empty(steps, full, "empty cell in ")
    steps.left = steps.left.assign(**{name: numbers(steps.left[name]) for name in LATE})
    _drop_empty(steps, readable, "no number in ")
    per_model = steps.left.groupby("Genmodel_ID")["Adv_ID"].transform("size")
    few = f"model with fewer than {min_adverts} adverts"
    steps.keep(populated, per_model >= min_adverts, few)
    sizes = find_sizes(tables["Ad_table (extra).csv"], report)
    steps.join(sizes, ["Adv_ID"], sized, "no row in Ad_table (extra).csv")
    for column in SIZES:
        steps.left[column] += jitter(steps.left["Adv_ID"].tolist(), column)
        empty = int(steps.left[column].isna().sum())
        if empty:
            report.warnings.append(f"{column}: no advert of the model states it, {empty} empty")
    return steps


def _adverts(table: Frame) -> Frame:
    now = [name for name in ADVERT if name not in LATE]
    engine = table["Engin_size"].str.strip().str.removesuffix("L")
    parsed = {name: numbers(table[name]) for name in now}
    return table.assign(**parsed, Engine_size=engine).drop(columns="Engin_size")


def _prices(table: Frame) -> Frame:
    """Columns Genmodel_ID, Reg_year, Entry_price; a row without a year joins nothing."""
    prices = pd.DataFrame(
        {
            "Genmodel_ID": table["Genmodel_ID"],
            "Reg_year": numbers(table["Year"]),
            "Entry_price": numbers(table["Entry_price"]),
        }
    )
    return prices[prices["Reg_year"].notna()]


def _first_images(table: Frame, view: str) -> Frame:
    """The picture of each advert: its first row in the order of the file."""
    if view == "front":
        front = numbers(table["Predicted_viewpoint"]) == 0
        table = table[(table["Quality_check"] == "P") & front]
    advert = table["Image_ID"].str.replace(r"(?s)^(.*)\$\$.*$", r"\1", regex=True)
    found = pd.DataFrame({"Adv_ID": advert, "Image_name": table["Image_name"]})
    return found.dropna(subset="Adv_ID").drop_duplicates("Adv_ID")


def _refuse_repeats(steps: Steps, report: Report) -> None:
    twice = steps.left["Adv_ID"][steps.left["Adv_ID"].duplicated()].tolist()
    if twice:
        report.problems.append(
            f"{len(twice)} adverts occur more than once after the joins, e.g. {twice[0]!r}: "
            "Ad_table.csv repeats an Adv_ID, or Price_table.csv a model and year; unpack the "
            "tables again"
        )


def _drop_empty(steps: Steps, step: str, reason: str) -> None:
    empty = steps.left.isna()
    steps.keep(step, ~empty.any(axis=1), reason + empty.idxmax(axis=1).astype(str))


def find_sizes(extra: Frame, report: Report) -> Frame:
    """Columns Adv_ID and the four sizes in mm: 0 is empty, and the model's first size fills it."""
    extra = extra.drop_duplicates("Adv_ID")
    sizes = pd.DataFrame({name: numbers(extra[name]) for name in SIZES}, index=extra.index)
    for model, column, value in SET_BY_HAND:
        sizes.loc[extra["Genmodel_ID"] == model, column] = value
    for model, column, wrong, right in WRONG:
        rows = (extra["Genmodel_ID"] == model) & (sizes[column] == wrong)
        sizes.loc[rows, column] = right
    sizes = sizes.where(sizes > 0)
    filled = sizes.fillna(sizes.groupby(extra["Genmodel_ID"]).transform("first"))
    report.counts.append(("sizes filled from the model", int(_gaps(sizes) - _gaps(filled)), None))
    return filled.assign(Adv_ID=extra["Adv_ID"])


def _gaps(table: Frame) -> int:
    return int(table.isna().to_numpy().sum())


def jitter(ids: Sequence[str], column: str) -> Int[np.ndarray, " N"]:
    """Whole millimetres in [-50, 50], drawn for each advert and column, in whatever order."""
    lots = (f"{JITTER_SEED}/{column}/{name}".encode() for name in ids)
    drawn = (int.from_bytes(hashlib.blake2b(lot, digest_size=8).digest()) for lot in lots)
    return np.array([lot % (2 * JITTER + 1) - JITTER for lot in drawn], dtype=np.int64)
