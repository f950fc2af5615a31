"""The tables of DVM-CAR on disk: where they lie, and the columns that are read, all as text."""

import warnings
from pathlib import Path
from typing import Any

import pandas as pd

from dfpl.data.raw import Report

Frame = Any
Column = Any
"""A pandas table and one of its columns: pandas' own types do not tell the two apart."""

CATEGORY = ["Color", "Bodytype", "Gearbox", "Fuel_type"]
SIZES = ["Wheelbase", "Height", "Width", "Length"]
ADVERT = ["Adv_year", "Adv_month", "Reg_year", "Runned_Miles", "Price", "Seat_num", "Door_num"]
NUMERIC = [*SIZES, *ADVERT, "Entry_price", "Engine_size"]

TABLES = {
    "Ad_table.csv": ["Adv_ID", "Genmodel_ID", *CATEGORY, *ADVERT, "Engin_size"],
    "Price_table.csv": ["Genmodel_ID", "Year", "Entry_price"],
    "Image_table.csv": ["Image_ID", "Image_name", "Predicted_viewpoint", "Quality_check"],
    "Ad_table (extra).csv": ["Adv_ID", "Genmodel_ID", *SIZES],
}
"""The tables that packing needs, and their columns that it reads."""
UNUSED = {
    "Basic_table.csv": ["Automaker", "Automaker_ID", "Genmodel", "Genmodel_ID"],
    "Sales_table.csv": ["Maker", "Genmodel", "Genmodel_ID"],
    "Trim_table.csv": ["Genmodel_ID", "Trim", "Year", "Price", "Engine_size"],
}
"""The other tables of the download, which only tell whether it is whole."""
ROWS_OF_TABLES = {
    "Ad_table.csv": 268_255,
    "Ad_table (extra).csv": 268_255,
    "Basic_table.csv": 1_011,
    "Image_table.csv": 1_451_784,
    "Price_table.csv": 6_333,
    "Sales_table.csv": 772,
    "Trim_table.csv": 335_562,
}
"""In tables V2.0."""
TABLE_PLACES = (".", "tables_V2.0", "tables_V2", "tables", "tables/tables")
FIGSHARE = "tables_V2.0.zip of figshare 19586296"


def table_folder(raw: Path) -> Path | None:
    folders = (raw / place for place in TABLE_PLACES)
    return next((folder for folder in folders if (folder / "Ad_table.csv").is_file()), None)


def read_tables(raw: Path, report: Report) -> dict[str, Frame]:
    """Read the tables that can be read; every other one is a problem."""
    folder = table_folder(raw)
    if folder is None:
        looked = ", ".join(str(raw / place) for place in TABLE_PLACES)
        there = "" if raw.is_dir() else f"; {raw} is no folder"
        report.problems.append(
            f"no `Ad_table.csv` under {raw} (looked in {looked}){there}. Expected from {FIGSHARE}"
        )
        return {}
    return _read_all(folder, TABLES, report)


def report_on_tables(raw: Path, tables: dict[str, Frame]) -> Report:
    """Rows of all seven tables next to the published counts; an unused one that is absent or
    wrong is a warning. `tables` are those that `read_tables` found below `raw`."""
    folder, others = table_folder(raw), Report()
    if folder is None:
        return others
    found = tables | _read_all(folder, UNUSED, others)
    return Report(
        counts=[
            (f"rows of {name}", len(found[name]), expected)
            for name, expected in ROWS_OF_TABLES.items()
            if name in found
        ],
        warnings=[f"{told} (this table is not needed for packing)" for told in others.problems],
    )


def _read_all(folder: Path, wanted: dict[str, list[str]], report: Report) -> dict[str, Frame]:
    found = {name: _read_table(folder / name, wanted[name], report) for name in wanted}
    return {name: table for name, table in found.items() if table is not None}


def _read_table(path: Path, wanted: list[str], report: Report) -> Frame | None:
    """Read the needed columns as text, so that a model called 500 stays a name."""
    if not path.is_file():
        report.problems.append(_table_missing(path))
        return None
    try:
        found = pd.read_csv(path, nrows=0, index_col=False).columns.tolist()
        names = [name.strip() for name in found]
        wrong = [name for name in wanted if names.count(name) != 1]
        if wrong:
            report.problems.append(_wrong_columns(path, wrong, found))
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
            table = pd.read_csv(path, dtype=str, index_col=False)
    except (OSError, ValueError, pd.errors.ParserWarning) as error:  # pandas' are ValueErrors
        report.problems.append(f"{path} cannot be read as comma-separated UTF-8: {error}")
        return None
    table = table.rename(columns=str.strip)
    return table[[name for name in table.columns if name in wanted]]


def _wrong_columns(path: Path, wrong: list[str], found: list[str]) -> str:
    names = [name.strip() for name in found]
    lacking = [name for name in wrong if name not in names]
    twice = [name for name in wrong if name in names]
    what = [f"lacks {', '.join(lacking)}"] if lacking else []
    what += [f"has more than one column {', '.join(twice)}"] if twice else []
    return (
        f"{path} {' and '.join(what)}; its columns are {found!r} (headers are stripped before the "
        f"check). Expected from {FIGSHARE}"
    )


def _table_missing(path: Path) -> str:
    if "extra" in path.name:
        return (
            f"no `{path.name}` in {path.parent}: needed for {', '.join(SIZES)}; without it only "
            "13 of 17 attributes. It is a file of its own in figshare 19586296 (version 2)"
        )
    return f"no `{path.name}` in {path.parent}. Expected from {FIGSHARE}"


def numbers(column: Column) -> Column:
    """Numbers of text cells; NaN where a cell is empty or no number."""
    return pd.Series(pd.to_numeric(column, errors="coerce"), dtype=float)
