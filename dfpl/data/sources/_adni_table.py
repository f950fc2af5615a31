"""ADNIMERGE: which file it is, which columns become features, and what its cells mean.

Messages name files, columns, rows and ids, and no other cell: the data is of patients.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dfpl.data.raw import Report

Frame = Any
Column = Any
"""A pandas table and one of its columns: pandas' own types do not tell the two apart."""

SIGNED = ["RAVLT_learning", "RAVLT_forgetting", "RAVLT_perc_forgetting"]
SIGNED += ["mPACCdigit", "mPACCtrailsB"]
"""Scores that may be negative, so that -1 and -4 are values."""
CATEGORY = ["PTGENDER", "PTETHCAT", "PTRACCAT", "PTMARRY", "APOE4"]
PARTS = ("Mem", "Lang", "Visspat", "Plan", "Organ", "Divatt", "Total")
DEFAULT = ["AGE", "PTGENDER", "PTEDUCAT", "PTETHCAT", "PTRACCAT", "PTMARRY", "APOE4"]
DEFAULT += ["FDG", "PIB", "AV45", "ABETA", "TAU", "PTAU"]
DEFAULT += ["CDRSB", "ADAS11", "ADAS13", "ADASQ4", "MMSE", "RAVLT_immediate", *SIGNED[:3]]
DEFAULT += ["LDELTOTAL", "DIGITSCOR", "TRABSCOR", "FAQ", "MOCA"]
DEFAULT += [f"Ecog{who}{part}" for who in ("Pt", "SP") for part in PARTS]
DEFAULT += ["mPACCdigit", "mPACCtrailsB"]
"""What is measured in ADNIMERGE, without volumes of the scan, and without FBB: 43."""
TEXTS = {*CATEGORY, "COLPROT", "ORIGPROT", "SITE", "FLDSTRENG", "FSVERSION"}
KEYS = ["PTID", "VISCODE", "EXAMDATE", "IMAGEUID", "DX"]
NO_FEATURES = {*KEYS, "RID", "update_stamp"}
DIAGNOSTIC = ("CDRSB", "MMSE", "FAQ")
OF_IMAGES = ("Ventricles", "Hippocampus", "WholeBrain", "Entorhinal", "Fusiform", "MidTemp", "ICV")
CLASSES = ("CN", "MCI", "Dementia")
MISSING = ("", "unknown", "-4", "-1", "-4.0", "-1.0")
TABLE_NAME = re.compile(r"ADNIMERGE(_(?!DICT).*)?\.csv", re.IGNORECASE)
PLACES = (".", "tables")


def chosen_columns(names: str, report: Report) -> list[str]:
    """The columns that become features; those that must not are problems."""
    columns = [name.strip() for name in names.split(",") if name.strip()] or DEFAULT
    refused = {
        "occur more than once": [name for name in columns if columns.count(name) > 1],
        "are of the first visit (_bl), which they repeat with DX_bl, its diagnosis": [
            name for name in columns if name.lower().endswith("_bl")
        ],
        "are keys, dates or the diagnosis": [name for name in columns if name in NO_FEATURES],
    }
    for why, of_those in refused.items():
        if of_those:
            listed = ", ".join(dict.fromkeys(of_those))
            report.problems.append(f"option columns: {listed} {why}; take them out")
    if diagnostic := [name for name in DIAGNOSTIC if name in columns]:
        report.warnings.append(
            f"{', '.join(diagnostic)} enter the clinical diagnosis itself, so the table alone "
            "tells much of it by construction; choose columns without them to see the rest"
        )
    if volumes := [name for name in OF_IMAGES if name in columns]:
        report.warnings.append(
            f"{', '.join(volumes)} are measured in the scan: they put the image into the table, "
            "also where the image counts as missing"
        )
    return columns


def table_paths(raw: Path) -> list[Path]:
    """ADNIMERGE and its dated copies, the one to read first: undated, else the newest."""
    paths = [
        path
        for place in PLACES
        for path in sorted((raw / place).glob("*.csv"))
        if TABLE_NAME.fullmatch(path.name)
    ]
    return sorted(paths, key=_age)


def _age(path: Path) -> tuple[bool, float]:
    stamp = path.stem.partition("_")[2]
    day = pd.to_datetime(stamp, format="%d%b%Y", errors="coerce")
    return bool(stamp), 0.0 if pd.isna(day) else -day.timestamp()


def read_table(raw: Path, columns: list[str], report: Report) -> Frame | None:
    """The needed columns as text, and those of the keys; None where a problem was found."""
    paths = table_paths(raw)
    if not paths:
        report.problems.append(_no_table(raw))
        return None
    path = paths[0]
    if len(paths) > 1:
        others = ", ".join(other.name for other in paths[1:])
        report.warnings.append(f"{path.name} is read, and {others} not; take away what is old")
    wanted = [*KEYS, *columns, *(["Years_bl"] if "AGE" in columns else [])]
    try:
        there = [name.strip() for name in pd.read_csv(path, nrows=0).columns]
        if missing := [name for name in wanted if name not in there]:
            report.problems.append(_lacking(path, missing, there))
            return None
        table = pd.read_csv(path, dtype=str, usecols=lambda name: name.strip() in wanted)
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        name = type(error).__name__  # its text may quote a row
        report.problems.append(f"{path} cannot be read as comma-separated UTF-8 ({name})")
        return None
    if table.empty:
        report.problems.append(f"{path} has no rows")
        return None
    report.counts.append((f"visits in {path.name}", len(table), None))
    return table.rename(columns=str.strip).apply(lambda cells: cells.astype(str).str.strip())


def _no_table(raw: Path) -> str:
    others = [path.name for place in PLACES for path in sorted((raw / place).glob("*.csv"))]
    found = f"; found {', '.join(others[:5])}: that is a different table" if others else ""
    there = "" if raw.is_dir() else f"; {raw} is no folder"
    return (
        f"ADNIMERGE.csv not found in {raw} or {raw / 'tables'} (also accepted: ADNIMERGE_*.csv)"
        f"{found}{there}. Expected from LONI's Study Data or the R package ADNIMERGE"
    )


def _lacking(path: Path, missing: list[str], there: list[str]) -> str:
    if any(name in KEYS for name in missing):
        return f"{path} lacks {', '.join(missing)}, so it is no ADNIMERGE; its columns are {there}"
    return (
        f"{path} lacks {', '.join(missing)}; your release seems older or newer: name the columns "
        "that it has with the option columns"
    )


def identified(table: Frame, report: Report) -> Frame:
    """The table with the id and the label of each visit, empty where it has none."""
    ids = table["PTID"] + "_" + table["VISCODE"]
    twice = ids[ids.notna() & ids.duplicated()].tolist()
    if twice:
        report.problems.append(
            f"{len(twice)} visits occur more than once in ADNIMERGE, e.g. {twice[0]}; take away "
            "the rows that repeat"
        )
    label, odd = diagnoses(table["DX"])
    if odd.any():
        report.problems.append(
            f"DX of {odd.sum()} visits, first in row {first_row(odd)} of ADNIMERGE, is none of "
            f"{', '.join(CLASSES)} (NL, and A to B, are understood); mend or empty them"
        )
    return table.assign(id=ids, label=label)


def first_row(rows: Column) -> int:
    """The first of these rows as a spreadsheet numbers it, the header being row 1."""
    return int(np.argmax(np.asarray(rows, dtype=bool))) + 2


def diagnoses(cells: Column) -> tuple[Column, Column]:
    """Classes of DX cells, None where there is none, and which cells are something else.

    `A to B` is said of a visit at which A had become B, so B is its diagnosis.
    """
    texts = cells.fillna("").str.split(" to ").str[-1].str.strip().replace("NL", "CN")
    known = texts.isin(CLASSES)
    return texts.astype(object).where(known, None), ~known & ~texts.str.lower().isin(MISSING)


def numbers(table: Frame, name: str, report: Report) -> Column:
    """Numbers of a column, NaN where empty; `>1700` is 1700. Cells that are no numbers are told."""
    texts = table[name].fillna("").str.replace(r"^[<>]=?\s*", "", regex=True)
    found: Column = pd.Series(pd.to_numeric(texts, errors="coerce"), dtype=float)
    odd = found.isna() & ~texts.str.lower().isin(MISSING)
    if odd.any():
        report.warnings.append(
            f"{name} of {odd.sum()} visits, first in row {first_row(odd)} of ADNIMERGE, is no "
            "number and counts as empty"
        )
    return found if name in SIGNED else found.where(~found.isin((-1, -4)))


def levels(table: Frame, name: str) -> Column:
    """Levels of a column, None where empty; 1.0 is 1."""
    texts = table[name].fillna("").str.replace(r"^(\d+)\.0+$", r"\1", regex=True)
    return texts.astype(object).where(~texts.str.lower().isin(MISSING), None)
