"""Which stays of a raw MIMIC-IV are episodes, of which subject and split each is."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from dfpl.data.extraction.layout import STAYS, Column, Frame, Layout, read_table
from dfpl.data.packed import DataError, Split
from dfpl.data.raw import Report

ADULT = 18  # years
TEST, VAL = 0.2, 0.1  # shares of the subjects, of all and of those not in test
COLUMNS = ["subject_id", "hadm_id", "stay_id", "last_careunit", "intime", "outtime", "los"]
COLUMNS += ["admittime", "dischtime", "deathtime", "ethnicity", "gender", "anchor_age", "dod"]
COLUMNS += ["age", "mortality_inunit", "mortality", "mortality_inhospital"]
"""Of all_stays.csv."""


class Cohort(NamedTuple):
    """The stays, ordered by subject and time, and what the events are matched by."""

    stays: Frame
    """The columns of all_stays.csv and `episode`: 1 for a subject's first stay; ids are numbers."""
    admission: Int64[np.ndarray, " S"]
    """hadm_id of each stay, sorted."""
    order: Int64[np.ndarray, " S"]
    """The stay of each entry of `admission`, as its row in `stays`."""
    start: Int64[np.ndarray, " S"]
    """Seconds since 1970 at which a stay began."""
    hours: Float64[np.ndarray, " S"]
    """Its length."""
    number: Int64[np.ndarray, " S"]
    """Its stay_id."""

    @classmethod
    def of(cls, stays: Frame) -> "Cohort":
        admissions = stays["hadm_id"].to_numpy(np.int64)
        order = np.argsort(admissions)
        return cls(
            stays,
            admissions[order],
            order.astype(np.int64),
            stays["intime"].to_numpy().astype("datetime64[s]").astype(np.int64),
            24 * stays["los"].to_numpy(np.float64),
            stays["stay_id"].to_numpy(np.int64),
        )


def read_cohort(layout: Layout, report: Report) -> Cohort:
    """The stays in one care unit, the only such of their admission, of adults.

    They are filtered in the reference's order: an admission with two stays, one of which saw a
    transfer, is kept for the other one.
    """
    stays = _read_stays(layout)
    report.counts.append(("ICU stays", len(stays), None))
    stays = stays[stays["first_careunit"] == stays["last_careunit"]]
    report.counts.append(("without a transfer", len(stays), None))
    stays = stays.merge(_admissions(layout), on=["subject_id", "hadm_id"])
    stays = stays.merge(_patients(layout), on="subject_id")
    stays = stays[stays.groupby("hadm_id")["stay_id"].transform("size") == 1]
    report.counts.append(("the only one of their admission", len(stays), None))
    stays = stays.assign(age=stays["anchor_age"].where(stays["anchor_age"] >= 0, 90))
    stays = stays[stays["age"] >= ADULT]
    report.counts.append(("of adults", len(stays), None))
    stays = stays[stays["intime"].notna() & stays["los"].notna()]
    report.counts.append(("of known length", len(stays), None))
    if stays.empty:
        raise DataError(f"{layout.folder}: no ICU stay is left after the cohort's filters")
    stays = _with_mortality(stays).sort_values(["subject_id", "intime", "outtime", "stay_id"])
    stays = stays[COLUMNS].reset_index(drop=True)
    episode = stays.groupby("subject_id").cumcount() + 1
    return Cohort.of(stays.assign(episode=episode))


def _read_stays(layout: Layout) -> Frame:
    names = ["subject_id", "hadm_id", "stay_id", "first_careunit", "last_careunit"]
    names += ["intime", "outtime", "los"]
    table = read_table(layout.path(STAYS), names, times=("intime", "outtime"))
    return _numbers(table, ["subject_id", "hadm_id", "stay_id"], layout.path(STAYS)).assign(
        los=pd.to_numeric(table["los"], errors="coerce")
    )


def _admissions(layout: Layout) -> Frame:
    path, times = layout.path("admissions"), ("admittime", "dischtime", "deathtime")
    table = read_table(path, ["subject_id", "hadm_id", *times, layout.ethnicity], times)
    table = table.rename(columns={layout.ethnicity: "ethnicity"})
    return _numbers(table, ["subject_id", "hadm_id"], path)


def _patients(layout: Layout) -> Frame:
    path = layout.path("patients")
    table = read_table(path, ["subject_id", "gender", "anchor_age", "dod"], times=("dod",))
    return _numbers(table, ["subject_id", "anchor_age"], path)


def _numbers(table: Frame, names: list[str], path: Path) -> Frame:
    found = table.copy()
    for name in names:
        try:
            found[name] = table[name].astype(np.int64)
        except (ValueError, TypeError):
            raise DataError(f"{path}: {name} is not a whole number in every row") from None
    return found


def _with_mortality(stays: Frame) -> Frame:
    """Whether a person died between admission and discharge, or within the stay."""

    def died(start: str, end: str) -> Column:
        times = (stays[name] for name in ("dod", "deathtime"))
        within = [(stays[start] <= time) & (time <= stays[end]) for time in times]
        return (within[0] | within[1]).astype(int)

    hospital = died("admittime", "dischtime")
    return stays.assign(
        mortality=hospital,
        mortality_inhospital=hospital,
        mortality_inunit=died("intime", "outtime"),
    )


def split_subjects(
    subjects: list[int], testset: Path | None, valset: Path | None, seed: int, report: Report
) -> dict[int, Split]:
    """The split of each subject: as the lists say, or drawn, 20 % test and 10 % of the rest val.

    A drawn split depends on the seed and the subject's number alone, not on the order of rows.
    """
    test = _chosen(subjects, testset, TEST, f"{seed}/test", report)
    rest = [subject for subject in subjects if subject not in test]
    val = _chosen(rest, valset, VAL, f"{seed}/val", report)
    return {
        subject: "test" if subject in test else "val" if subject in val else "train"
        for subject in subjects
    }


def _chosen(
    subjects: list[int], listed: Path | None, share: float, draw: str, report: Report
) -> set[int]:
    if listed is None:

        def lot(subject: int) -> bytes:
            return hashlib.blake2b(f"{draw}/{subject}".encode(), digest_size=8).digest()

        return set(sorted(subjects, key=lot)[: round(share * len(subjects))])
    flags = _read_flags(listed)
    unlisted = sum(subject not in flags for subject in subjects)
    if unlisted:
        report.warnings.append(
            f"{unlisted} of {len(subjects)} subjects are not listed in {listed}: taken as 0 there"
        )
    return {subject for subject in subjects if flags.get(subject)}


def _read_flags(path: Path) -> dict[int, bool]:
    """Lines `<subject_id>,<0 or 1>` without a header, as the benchmark's lists of subjects."""
    try:
        lines = path.read_text(encoding="utf-8").split()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    flags = {}
    for number, line in enumerate(lines, start=1):
        subject, _, flag = line.partition(",")
        if not subject.isdigit() or flag not in ("0", "1"):
            raise DataError(f"{path}: line {number} is not `<subject_id>,<0 or 1>`")
        flags[int(subject)] = flag == "1"
    return flags
