"""ADNI: normal, impaired or demented, from an MRI scan and the clinical table of the same visit.

Raw files    ADNIMERGE.csv, or a dated copy, in RAW or RAW/tables (LONI, adni.loni.usc.edu, by
             application), and T1 scans as NIfTI anywhere below RAW; `_adni_scans` says how they lie
Label        DX of the visit: CN, MCI, Dementia. Old releases' NL is CN, and `MCI to Dementia` what
             it ends with. Visits without DX are left out, never filled from DX_bl
Sample       a visit with a diagnosis and a scan: <PTID>_<VISCODE>. Scans find their visit among all
             visits, so that none moves from one without a diagnosis to its neighbour
Columns      The paper has 43 clinical variables and names none. The default is a reconstruction:
             the 43 of ADNIMERGE that are measured, no volume of an image, and not FBB
Cells        AGE at the visit is AGE (at baseline) + Years_bl. `>1700` and `<80` lose their sign,
             Unknown is empty, and so are -4 and -1, but for the scores that may be negative
Split        by subject, 80/10/10, drawn; the paper's 1,531/191/191 subjects are not published
Deviations   none known; how the paper chose among scans and variables is not known either
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field

from dfpl.data import packing
from dfpl.data.packed import SPLITS, PackedDataset
from dfpl.data.preparing import prepare
from dfpl.data.raw import PackOptions, RawSamples, Report, nothing_dropped
from dfpl.data.reading import Spread
from dfpl.data.sources._adni_scans import (
    Found,
    Scan,
    Visit,
    Visits,
    find_scans,
    month_of,
    parse_dates,
    read_collections,
)
from dfpl.data.sources._adni_table import (
    CLASSES,
    DEFAULT,
    TEXTS,
    chosen_columns,
    identified,
    levels,
    numbers,
    read_table,
    table_paths,
)

Frame = Any
Column = Any
"""A pandas table and one of its columns: pandas' own types do not tell the two apart."""
Pairs = list[tuple[int, Scan | None]]
"""Row of a visit and its scan, for each sample."""

SUBJECTS = {"train": 1_531, "val": 191, "test": 191}
SCANS = {"train": 5_880, "val": 783, "test": 642}
"""The paper's numbers."""


class Options(PackOptions):
    """Which visits, scans and columns of ADNI are packed."""

    val: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the samples in the validation split, drawn by subject."""
    test: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the samples in the test split, drawn by subject."""
    images: str = ""
    """Folder of the scans, and of IDA's collection tables if there are any; default: RAW."""
    columns: str = ""
    """Clinical columns of ADNIMERGE, separated by commas; default: 43, a reconstruction."""
    join_days: Annotated[int, Field(ge=0)] = 180
    """Most days between a scan and the visit that it is joined to by date."""
    scans: Literal["one", "all"] = "one"
    """Of several scans of a visit take one (that of IMAGEUID, else the nearest in time, else the
    image numbered last, or the first run), or make each a sample, <PTID>_<VISCODE>_<image>."""
    unpaired: Literal["drop", "keep"] = "drop"
    """Visits without a scan: leave them out, as the paper's pairs do, or keep their table."""


def looks_raw(path: Path) -> bool:
    """Whether `path` is a folder of raw ADNI."""
    return bool(table_paths(path))


def read(raw: Path, options: Options) -> RawSamples:
    """Join scans and visits to samples. Raises DataError with all problems."""
    return packing.read_all(lambda report: _read(raw, options, report))


def check(raw: Path, options: Options) -> Report:
    """Count what every step leaves, next to the paper's counts, and list all problems."""
    report = Report()
    samples = _read(raw, options, report)
    if samples is None:
        return report
    _compare(prepare(samples, options), options, report)
    return report + packing.check(samples, options)


def pack(
    raw: Path, out: Path, options: Options, workers: int | Spread | None = None
) -> PackedDataset:
    """Pack the raw data set in `raw` below `out`."""
    return packing.pack(read(raw, options), out, options, workers)


def _read(raw: Path, options: Options, report: Report) -> RawSamples | None:
    """What `read` returns, or None where `report` tells why there is nothing to return."""
    columns = chosen_columns(options.columns, report)
    table = read_table(raw, columns, report)
    found = _find_scans(raw, options, report)
    visits = None if table is None else identified(table, report)
    joined = None if visits is None or found is None else _join(found, visits, options, report)
    if report.problems or visits is None or joined is None:
        return None
    pairs = _pairs(visits, joined, options, report)
    if not pairs:
        report.problems.append("no visit has both a diagnosis and a scan")
        return None
    samples = _to_samples(visits, pairs, columns, options, report)
    return dataclasses.replace(samples, dropped=_dropped(visits, pairs, joined))


def _find_scans(raw: Path, options: Options, report: Report) -> Found | None:
    folder = Path(options.images).expanduser() if options.images else raw
    if not folder.is_dir():
        if options.images:
            report.problems.append(f"there is no folder {folder} (option images)")
        return None  # that RAW is no folder is told with its table
    listed = read_collections([raw, folder])
    found = find_scans(folder, listed)
    if not found.scans:
        dicom = "; found DICOM (*.dcm): convert with dcm2niix or Clinica first"
        nameless = f"; of {len(found.nameless)} NIfTI files none names its subject, NNN_S_NNNN"
        report.problems.append(
            f"no *.nii or *.nii.gz of a subject under {folder}"
            f"{nameless if found.nameless else ''}{dicom if found.dicom else ''}"
        )
        return None
    for paths, what in ((found.nameless, "name no subject"), (found.copies, "are second copies")):
        if paths:
            report.warnings.append(f"{len(paths)} NIfTI files {what}, first {paths[0]}")
    if listed:
        there = {scan.image for scan in found.scans} & listed.keys()
        report.counts.append(("images in collection tables", len(listed), None))
        report.counts.append(("of them on disk", len(there), None))
    return found


class _Joined(NamedTuple):
    """Scans by row of their visit, the best first, and scans without one with the reason."""

    scans: dict[int, list[Scan]]
    left_out: list[tuple[Scan, str]]


def _join(found: Found, visits: Frame, options: Options, report: Report) -> _Joined:
    images: Column = pd.to_numeric(visits["IMAGEUID"], errors="coerce")
    index = Visits(
        visits["PTID"].fillna("").tolist(),
        [None if pd.isna(image) else int(image) for image in images],
        parse_dates(visits["EXAMDATE"]),
        [month_of(code) for code in visits["VISCODE"].fillna("")],
    )
    of_visit: dict[int, list[tuple[Visit, Scan]]] = {}
    left_out: list[tuple[Scan, str]] = []
    for scan in found.scans:
        visit = index.of(scan, options.join_days)
        if isinstance(visit, str):
            left_out.append((scan, visit))
        else:
            of_visit.setdefault(visit.row, []).append((visit, scan))
    hows = [visit.how for pairs in of_visit.values() for visit, _ in pairs]
    report.counts.append(("scans found", len(found.scans), None))
    for how in ("IMAGEUID", "session", "date"):
        report.counts.append((f"scans joined to a visit by {how}", hows.count(how), None))
    if not of_visit:
        report.problems.append(_nothing_joined(found, visits, left_out))
    best = {row: [scan for _, scan in sorted(pairs, key=_rank)] for row, pairs in of_visit.items()}
    return _Joined(best, left_out)


def _rank(pair: tuple[Visit, Scan]) -> tuple[bool, int, int, str]:
    visit, scan = pair
    return visit.how != "IMAGEUID", visit.days, -(scan.image or 0), scan.name


def _nothing_joined(found: Found, visits: Frame, left_out: list[tuple[Scan, str]]) -> str:
    of_scans = sorted({scan.subject for scan in found.scans})[:3]
    of_table = sorted(set(visits["PTID"].dropna()))[:3]
    reasons = ", ".join(sorted({reason for _, reason in left_out}))
    return (
        f"0 of {len(found.scans)} scans could be joined ({reasons}): subjects of scans are e.g. "
        f"{', '.join(of_scans)}, those of ADNIMERGE {', '.join(of_table)}"
    )


def _pairs(visits: Frame, joined: _Joined, options: Options, report: Report) -> Pairs:
    """The samples that there are, as far as the options want them."""
    diagnosed = visits["label"].notna() & visits["id"].notna()
    rows = np.flatnonzero(diagnosed.to_numpy()).tolist()
    scanned = [row for row in rows if row in joined.scans]
    report.counts.append(("visits with a diagnosis", len(rows), None))
    report.counts.append(("visits with a diagnosis and a scan", len(scanned), None))
    several = sum(len(joined.scans[row]) > 1 for row in scanned)
    report.counts.append(("of them with several scans", several, None))
    kept = scanned if options.unpaired == "drop" else rows
    most = 1 if options.scans == "one" else None
    return [(row, scan) for row in kept for scan in (joined.scans.get(row) or [None])[:most]]


def _to_samples(
    visits: Frame, pairs: Pairs, columns: list[str], options: Options, report: Report
) -> RawSamples:
    numeric = {name: numbers(visits, name, report) for name in columns if name not in TEXTS}
    if "AGE" in numeric:
        numeric["AGE"] += numbers(visits, "Years_bl", report)
    category = {name: levels(visits, name) for name in columns if name in TEXTS}
    rows = [row for row, _ in pairs]

    def of_samples(cells: Any) -> Any:
        return cells.iloc[rows].reset_index(drop=True)

    return RawSamples(
        name="adni",
        private=True,
        source=f"ADNI, {options.scans} of several scans of a visit, joined within "
        f"{options.join_days} days, visits without a scan: {options.unpaired}",
        id=pd.Series([_name(visits, *pair, options) for pair in pairs], dtype=object),
        group=of_samples(visits["PTID"]),
        label=of_samples(visits["label"]),
        split=None,
        image=pd.Series([scan and scan.path for _, scan in pairs], dtype=object),
        image_kind="volume",
        numeric=of_samples(pd.DataFrame(numeric, index=visits.index)),
        category=of_samples(pd.DataFrame(category, index=visits.index)),
        dropped=nothing_dropped(),
    )


def _name(visits: Frame, row: int, scan: Scan | None, options: Options) -> str:
    visit = str(visits["id"].iloc[row])
    return f"{visit}_{scan.name}" if scan and options.scans == "all" else visit


def _dropped(visits: Frame, pairs: Pairs, joined: _Joined) -> Frame:
    """Visits that are no sample, with the first reason that fits, and scans without a visit."""
    taken = {row for row, _ in pairs}
    lines = []
    for row, (name, label) in enumerate(zip(visits["id"], visits["label"], strict=True)):
        if pd.isna(name):
            lines.append((f"row {row + 2}", "no PTID or no VISCODE"))
        elif row not in taken:
            why = (
                "no diagnosis at the visit (DX is empty)"
                if pd.isna(label)
                else "no scan of the visit"
            )
            lines.append((name, why))
    lines += [(Path(scan.path).name, reason) for scan, reason in joined.left_out]
    return pd.DataFrame(lines, columns=["id", "reason"], dtype=str)


def _compare(ready: RawSamples, options: Options, report: Report) -> None:
    """Set the totals beside the paper's, and say it where they differ."""
    found, subjects = int(ready.image.notna().sum()), int(ready.group.nunique())
    columns = ready.numeric.shape[1] + ready.category.shape[1]
    expected = {"scans": sum(SCANS.values()), "subjects": sum(SUBJECTS.values())}
    report.counts.extend(
        [
            ("scans", found, expected["scans"]),
            ("subjects", subjects, expected["subjects"]),
            ("clinical columns", columns, len(DEFAULT)),
            ("diagnoses", int(ready.label.nunique()), len(CLASSES)),
        ]
    )
    assert ready.split is not None
    paper = (options.val, options.test) == (0.1, 0.1)
    for split in SPLITS:
        here = ready.take(np.asarray(ready.split == split))
        scans, groups = int(here.image.notna().sum()), int(here.group.nunique())
        report.counts.append((f"{split} scans", scans, SCANS[split] if paper else None))
        report.counts.append((f"{split} subjects", groups, SUBJECTS[split] if paper else None))
    if {"scans": found, "subjects": subjects} != expected:
        report.warnings.append(
            f"{expected['subjects']:,} subjects / {expected['scans']:,} scans expected, got "
            f"{subjects:,} / {found:,}; the paper does not say from which release, nor which of "
            "several scans it takes"
        )
