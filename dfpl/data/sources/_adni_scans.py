"""ADNI's scans: where they lie, what their paths say, and to which visit each belongs.

Layouts      IDA download  <PTID>/<series>/<YYYY-MM-DD_HH_MM_SS.0>/I<image>/..._I<image>.nii
             Clinica       sub-ADNI<PTID without _>_ses-M<months>[_<entities>]_T1w.nii.gz, as in
                           its BIDS folder and its outputs
             flat          any path with a PTID and _I<image>, or I<image> alone where a collection
                           table of IDA (column `Image Data ID`) lies beside the scans
Rule         a scan belongs to the visit of its subject that names it (IMAGEUID); else, in Clinica's
             layout, to the visit of its month; else to the one nearest in time, within `join_days`
"""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd

SUFFIXES = (".nii", ".nii.gz")
PTID = re.compile(r"(?<!\d)(\d{3}_S_\d{4,5})(?!\d)")
IMAGE = re.compile(r"(?:^|[_/])I(\d+)(?=$|[_./])")
ACQUIRED = re.compile(r"/(\d{4}-\d{2}-\d{2})_\d{2}_\d{2}_\d{2}[.\d]*/")
CLINICA = re.compile(
    r"sub-ADNI(\d{3})S(\d{4,5})_ses-[Mm](\d+)_(?:(.+)_)?T1w\.nii(?:\.gz)?", re.ASCII
)
OTHER_CLINICA = re.compile(r"sub-ADNI\d{3}S\d{4,5}_ses-")
How = Literal["IMAGEUID", "session", "date"]
Frame = Any


class Scan(NamedTuple):
    """A file, and what its path and the collection tables say of it."""

    path: str
    subject: str
    """PTID."""
    name: str
    """What tells it from other scans of its visit: I<image>, or entities such as run-01."""
    image: int | None
    date: pd.Timestamp | None
    """Of acquisition."""
    month: int | None
    """Of the session, in Clinica's layout."""


class Visit(NamedTuple):
    """The visit that a scan belongs to: its row, by which rule, and how many days apart."""

    row: int
    how: How
    days: int


class Found(NamedTuple):
    """Everything below the folder of scans."""

    scans: list[Scan]
    nameless: list[str]
    """Paths of NIfTI files that name no subject."""
    copies: list[str]
    """Paths of second files of a scan, as X.nii.gz beside X.nii."""
    dicom: bool


def find_scans(folder: Path, listed: dict[int, tuple[str, pd.Timestamp | None]]) -> Found:
    """Every T1-weighted scan below `folder`; `listed` is what `read_collections` found."""
    paths, dicom = _walk(folder)
    scans: dict[tuple[object, ...], Scan] = {}
    nameless, copies = [], []
    for path in sorted(paths):
        if OTHER_CLINICA.search(Path(path).name) and not CLINICA.search(path):
            continue  # another contrast, or a map made of a scan
        scan = parse(path, str(folder), listed)
        if scan is None:
            nameless.append(path)
        elif (scan.subject, scan.name, scan.month, scan.date) in scans:
            copies.append(path)
        else:
            scans[scan.subject, scan.name, scan.month, scan.date] = scan
    return Found(list(scans.values()), nameless, copies, dicom)


def _walk(root: Path) -> tuple[list[str], bool]:
    """Paths of all NIfTI files, through links, each folder once; and whether there is DICOM."""
    seen: set[str] = set()
    paths, dicom = [], False
    for folder, folders, files in os.walk(root, followlinks=True):
        if os.path.realpath(folder) in seen:
            folders.clear()
            continue
        seen.add(os.path.realpath(folder))
        paths += [os.path.join(folder, name) for name in files if name.endswith(SUFFIXES)]
        dicom = dicom or any(name.lower().endswith(".dcm") for name in files)
    return paths, dicom


def parse(
    path: str, folder: str, listed: dict[int, tuple[str, pd.Timestamp | None]]
) -> Scan | None:
    """What a path below `folder` says of its scan; None if nothing tells whose it is."""
    if match := CLINICA.search(path):
        site, number, month, entities = match.groups()
        return Scan(path, f"{site}_S_{number}", entities or "T1w", None, None, int(month))
    below = path.removeprefix(folder)
    images = IMAGE.findall(below)
    image = int(images[-1]) if images else None
    subject, date = listed.get(image, ("", None)) if image is not None else ("", None)
    subjects, days = PTID.findall(below), ACQUIRED.findall(below)
    if subjects:
        subject = subjects[-1]
    if days:
        date = _day(days[-1])
    if not subject:
        return None
    name = Path(path).name.removesuffix(".gz").removesuffix(".nii")
    return Scan(path, subject, f"I{image}" if image is not None else name, image, date, None)


def _day(text: str) -> pd.Timestamp | None:
    day = pd.to_datetime(text, format="%Y-%m-%d", errors="coerce")
    return day if isinstance(day, pd.Timestamp) else None


def read_collections(folders: Iterable[Path]) -> dict[int, tuple[str, pd.Timestamp | None]]:
    """Subject and day of acquisition of each image that IDA's collection tables list."""
    listed: dict[int, tuple[str, pd.Timestamp | None]] = {}
    for path in sorted({path for folder in folders for path in folder.glob("*.csv")}):
        try:
            if "Image Data ID" not in pd.read_csv(path, nrows=0).columns:
                continue
            table: Frame = pd.read_csv(path, dtype=str)
        except (OSError, ValueError):  # some other file, which nobody needs
            continue
        images = table["Image Data ID"].str.extract(r"^[ID]?(\d+)$")[0]
        subjects = table.get("Subject", pd.Series("", index=table.index)).fillna("")
        dates = parse_dates(table.get("Acq Date", pd.Series("", index=table.index)))
        rows = zip(images, subjects, dates, strict=True)
        listed |= {int(image): (subject, day) for image, subject, day in rows if pd.notna(image)}
    return listed


def parse_dates(cells: Iterable[object]) -> list[pd.Timestamp | None]:
    """Days as ADNI's tables write them, 2006-11-08 or 11/8/2006; None for anything else."""
    texts = pd.Series(list(cells), dtype=object).astype("string").str.strip().str.slice(0, 10)
    iso = pd.to_datetime(texts, format="%Y-%m-%d", errors="coerce")
    days = iso.fillna(pd.to_datetime(texts, format="%m/%d/%Y", errors="coerce"))
    return [day if isinstance(day, pd.Timestamp) else None for day in days]


def month_of(viscode: str) -> int | None:
    """Months since baseline that a VISCODE means: bl, m0 -> 0, m06 -> 6, y1 -> 12; else None."""
    if viscode in ("bl", "sc", "scmri"):
        return 0
    match = re.fullmatch(r"([my])(\d+)", viscode)
    return None if match is None else int(match[2]) * (12 if match[1] == "y" else 1)


class Visits:
    """The visits of a table, in its order, to be looked up by scan."""

    def __init__(
        self,
        subjects: Sequence[str],
        images: Sequence[int | None],
        dates: Sequence[pd.Timestamp | None],
        months: Sequence[int | None],
    ) -> None:
        self._subjects = set(subjects)
        self._by_image: dict[tuple[str, int], int] = {}
        self._by_month: dict[tuple[str, int], int] = {}
        self._dated: dict[str, list[tuple[pd.Timestamp, int]]] = {}
        self._dates = dates
        for row, subject in enumerate(subjects):
            image, date, month = images[row], dates[row], months[row]
            if image is not None:
                self._by_image.setdefault((subject, image), row)
            if month is not None:
                self._by_month.setdefault((subject, month), row)
            if date is not None:
                self._dated.setdefault(subject, []).append((date, row))

    def of(self, scan: Scan, join_days: int) -> Visit | str:
        """The visit of a scan, or why it has none."""
        if scan.subject not in self._subjects:
            return "scan of a subject that is not in ADNIMERGE"
        if scan.image is not None and (scan.subject, scan.image) in self._by_image:
            row = self._by_image[scan.subject, scan.image]
            return Visit(row, "IMAGEUID", _apart(scan.date, self._dates[row]))
        if scan.month is not None:
            row = self._by_month.get((scan.subject, scan.month))
            return "scan without a visit of its month" if row is None else Visit(row, "session", 0)
        if scan.date is None:
            return "scan without a date in its path or a collection table"
        dated = self._dated.get(scan.subject, [])
        near = [(_apart(scan.date, date), row) for date, row in dated]
        days, row = min(near, default=(join_days + 1, -1))
        if days > join_days:
            return f"scan without a visit within {join_days} days"
        return Visit(row, "date", days)


def _apart(one: pd.Timestamp | None, other: pd.Timestamp | None) -> int:
    return 0 if one is None or other is None else abs((one - other).days)
