"""Where the tables of a raw MIMIC-IV lie: version 1 with core/, version 2 and later without."""

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from dfpl.data.packed import DataError

Frame = Any
Column = Any
"""A pandas table and one of its columns: pandas' own types do not tell the two apart."""

PLACES = (".", "mimiciv", "mimiciv/*", "mimic-iv-*", "files/mimiciv/*")
PLACES += ("physionet.org/files/mimiciv/*",)
"""Below RAW, as PhysioNet's downloads leave them; versions in their order, 1.0 before 2.2."""
STAYS = "icu/icustays"
NEEDED = ("patients", "admissions", STAYS, "icu/chartevents", "hosp/labevents")
NEEDED += ("hosp/diagnoses_icd", "hosp/d_icd_diagnoses")


class Layout(NamedTuple):
    """A folder of raw MIMIC-IV and how it is arranged."""

    folder: Path
    persons: str
    """Folder of patients and admissions: `core` (version 1) or `hosp`."""

    @property
    def ethnicity(self) -> str:
        """What the column of admissions is called."""
        return "ethnicity" if self.persons == "core" else "race"

    def find(self, table: str) -> Path | None:
        """The file of a table such as `icu/icustays`, plain or compressed."""
        name = table if "/" in table else f"{self.persons}/{table}"
        files = (self.folder / f"{name}.csv{ending}" for ending in ("", ".gz"))
        return next((file for file in files if file.is_file()), None)

    def path(self, table: str) -> Path:
        """The file of a table that `missing_tables` did not name."""
        found = self.find(table)
        assert found is not None
        return found


def find_raw(root: Path) -> Layout | None:
    """The raw MIMIC-IV in or below `root`, or None; of several versions the first."""
    for place in PLACES:
        for folder in [root] if place == "." else sorted(root.glob(place)):
            persons = "core" if (folder / "core").is_dir() else "hosp"
            layout = Layout(folder, persons)
            if layout.find(STAYS):
                return layout
    return None


def missing_tables(layout: Layout) -> list[str]:
    """One line per needed table that is not there."""
    return [
        f"{layout.folder}/{name}.csv(.gz) not found; it is part of MIMIC-IV on PhysioNet"
        for table in NEEDED
        if layout.find(table) is None
        for name in [table if "/" in table else f"{layout.persons}/{table}"]
    ]


def not_raw(root: Path) -> str:
    """Why `find_raw` found nothing, as far as that can be told."""
    hint = ""
    if not root.is_dir():
        hint = f"; {root} is no folder"
    elif any(root.glob("**/ICUSTAYS.csv*")):
        hint = ": this is MIMIC-III (upper-case ICUSTAYS.csv), MIMIC-IV is needed"
    elif any((root / place).is_dir() for place in ("files/p10", "p10", "mimic-cxr-jpg")):
        hint = ": this is MIMIC-CXR, the tables of MIMIC-IV are needed"
    looked = ", ".join(str(root / place) for place in PLACES)
    return f"icu/icustays.csv(.gz) not found under {root} (looked in {looked}){hint}"


def read_table(path: Path, columns: list[str], times: tuple[str, ...] = ()) -> Frame:
    """These columns of a table as text, `times` as times of whole seconds, None where empty.

    Raises DataError naming the file and the columns it lacks, or what cannot be read.
    """
    try:
        found = pd.read_csv(path, nrows=0).columns.tolist()
        lacks = [name for name in columns if name not in found]
        if lacks:
            raise DataError(f"{path} lacks {', '.join(lacks)}; its columns are {found!r}")
        table = pd.read_csv(path, dtype=str, usecols=columns)[columns]
        for name in times:
            table[name] = pd.to_datetime(table[name], format="ISO8601").astype("datetime64[s]")
    except DataError:
        raise
    except (OSError, EOFError, ValueError) as error:  # pandas' own errors are ValueErrors
        # the error's own text may quote a cell, which is a patient's
        what = type(error).__name__
        raise DataError(f"{path} cannot be read ({what}); download it again") from None
    return table
