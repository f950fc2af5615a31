"""Which chest film of MIMIC-CXR-JPG belongs to which ICU stay of MIMIC-IV.

The rule is that of dorothy-yao/drfuse @ a1489790 (`process metadata.ipynb`): films of the stay's
patient, taken from its beginning to 48 h later (or, as in nyuad-cai/MedFuse, to its end), in AP
view; of those the last. Of films of one moment it is the last in the file. A film may belong to two
stays.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool

from dfpl.data.raw import Report

Frame = Any
"""A pandas table or column: pandas' own types do not tell the two apart."""

METADATA = "mimic-cxr-2.0.0-metadata.csv"
PLACES = (
    ".",
    "cxr",
    "mimic-cxr-jpg/2.0.0",
    "mimic-cxr-jpg",
    "mimic-cxr-jpg-2.0.0",
    "physionet.org/files/mimic-cxr-jpg/2.0.0",
)
COLUMNS = ["dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate", "StudyTime"]
NESTED = "files/pNN/pNNNNNNNN/sNNNNNNNN/"


def find_metadata(raw: Path, cxr: str) -> Path | None:
    """The table of films, plain or compressed: in the folder `cxr`, else in a usual place."""
    folders = [Path(cxr).expanduser()] if cxr else [raw / place for place in PLACES]
    names = (METADATA, f"{METADATA}.gz")
    found = (folder / name for folder in folders for name in names)
    return next((path for path in found if path.is_file()), None)


def no_metadata(raw: Path, cxr: str) -> str:
    """The problem of a table of films that is not there."""
    looked = cxr or ", ".join(str(raw / place) for place in PLACES)
    return (
        f"no {METADATA}(.gz) (looked in {looked}); it is part of MIMIC-CXR-JPG 2.0.0, and the "
        "films lie beside it; give the folder with cxr"
    )


def read_films(path: Path, report: Report) -> Frame | None:
    """The table of films as text, or None where `report` tells why not."""
    films = read_columns(path, COLUMNS, report)
    return None if films is None else films.assign(line=np.arange(len(films)) + 2)


def read_columns(
    path: Path, wanted: list[str], report: Report, others: bool = False
) -> Frame | None:
    """These columns of a table as text, empty where there is nothing, and `others` if asked for.

    None where `report` tells why not. What stands in rows is never told: it is a patient's.
    """
    try:
        found = pd.read_csv(path, nrows=0).columns.tolist()
        missing = [name for name in wanted if name not in found]
        if missing:
            report.problems.append(f"{path} has no {'/'.join(missing)}; expected are {wanted}")
            return None
        columns = found if others else wanted
        return pd.read_csv(path, dtype=str, usecols=columns, keep_default_na=False)
    except (OSError, EOFError, ValueError) as error:  # pandas' own errors are ValueErrors
        why = type(error).__name__
        report.problems.append(f"{path} cannot be read as comma-separated UTF-8: {why}")
        return None


def choose_films(
    films: Frame, stays: Frame, window: Literal["48h", "stay"], views: str, report: Report
) -> Frame:
    """Columns stay_id, subject_id, study_id, dicom_id: one film for each stay that has one.

    `films` are those of `read_films`; `stays` has stay_id and subject_id as text, and the times
    intime and outtime.
    """
    wanted = [view.strip() for view in views.split(",")]
    seen = films[films["ViewPosition"].isin(wanted)]
    if seen.empty:
        there = sorted(set(films["ViewPosition"]) - {""})
        report.problems.append(
            f"none of {len(films)} films has ViewPosition {views}; it is {there}"
        )
    pairs = seen.merge(stays, how="inner", on="subject_id")
    pairs = pairs.assign(time=study_times(pairs))
    _tell_unreadable(pairs, report)
    end = pairs["intime"] + pd.Timedelta(hours=48) if window == "48h" else pairs["outtime"]
    inside = pairs[(pairs["time"] >= pairs["intime"]) & (pairs["time"] <= end)]
    report.counts.append((f"{views} films within the window of a stay", len(inside), None))
    last = inside.sort_values("time", kind="stable").drop_duplicates("stay_id", keep="last")
    return last[["stay_id", "subject_id", "study_id", "dicom_id"]]


def study_times(films: Frame) -> Frame:
    """When films were taken: StudyDate YYYYMMDD, StudyTime HHMMSS.fff without leading zeros.

    Parts of a second are cut off, as in the reference. NaT where either cannot be read.
    """
    clock = pd.Series(pd.to_numeric(films["StudyTime"], errors="coerce"), dtype=float)
    digits = clock.where(clock.between(0, 235_959.999), -1).astype(int).astype(str).str.zfill(6)
    whole = films["StudyDate"].where(films["StudyDate"].str.fullmatch(r"\d{8}"), "")
    return pd.to_datetime(whole + " " + digits, format="%Y%m%d %H%M%S", errors="coerce")


def _tell_unreadable(pairs: Frame, report: Report) -> None:
    lines = pairs["line"][pairs["time"].isna()].drop_duplicates()
    if len(lines):
        report.problems.append(
            f"{len(lines)} films of patients with a stay have no readable time, first in line "
            f"{lines.min()} of the metadata: StudyDate is YYYYMMDD, StudyTime is HHMMSS.fff"
        )


def film_paths(chosen: Frame, root: Path, report: Report) -> list[str]:
    """Where the chosen films are: in `resized/`, which the reference reads, or as they came.

    A film that is not there keeps the path where it came; `report` counts those.
    """
    parts = (chosen[name] for name in ("subject_id", "study_id", "dicom_id"))
    paths = [_film_path(root, *names) for names in zip(*parts, strict=True)]
    absent: Bool[np.ndarray, " N"] = np.array([not path.is_file() for path in paths], dtype=bool)
    if absent.any():
        told = (
            f"dicom jpg missing for {absent.sum()} of {len(paths)} selected films; looked in "
            f"{NESTED} and resized/ of {root}; first missing {paths[absent.argmax()]}"
        )
        (report.problems if absent.all() else report.warnings).append(told)
    report.counts.append(("selected films found", int((~absent).sum()), len(paths)))
    return [str(path) for path in paths]


def _film_path(root: Path, subject: str, study: str, film: str) -> Path:
    shrunk = root / "resized" / f"{film}.jpg"
    nested = root / "files" / f"p{subject[:2]}" / f"p{subject}" / f"s{study}" / f"{film}.jpg"
    return shrunk if shrunk.is_file() else nested
