"""The files of the MIMIC-IV benchmark: where they are, the list files, and the times of stays.

Laid out as mimic4extract of nyuad-cai/MedFuse @ 3f8b54ec writes them, or as dorothy-yao/drfuse
@ a1489790 names them afterwards.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from dfpl.data.episodes import episode
from dfpl.data.extraction.layout import not_raw
from dfpl.data.extraction.phenotypes import PHENOTYPES
from dfpl.data.packed import SPLITS
from dfpl.data.raw import Report
from dfpl.data.sources._mimic_films import read_columns

Frame = Any
"""A pandas table or column: pandas' own types do not tell the two apart."""

LABELS = list(PHENOTYPES)
KEYS = ["stay", "period_length", "stay_id"]
PLACES = (".", "data", "benchmark", "mimic4extract/data")
STAYS = ("root/all_stays.csv", "all_stays.csv")
LISTS = (
    "phenotyping/{}_listfile.csv",
    "ehr/ehr_list_phenotyping_48h_{}.csv",
    "{}_listfile.csv",
    "ehr_list_phenotyping_48h_{}.csv",
)
SERIES = ("phenotyping", "ehr", ".")
FILE = r"(\d+)_episode\d+_timeseries\.csv"


class Benchmark(NamedTuple):
    """The folders of the benchmark: its own, and that of the list files."""

    root: Path
    lists: Path

    def file(self, names: tuple[str, ...]) -> Path | None:
        places = [self.root / name for name in names]
        return next((path for path in places if path.is_file()), None)

    def list_of(self, split: str) -> Path | None:
        """The list file of a split."""
        places = [self.lists / name.format(split) for name in LISTS]
        return next((path for path in places if path.is_file()), None)

    @property
    def series(self) -> list[Path]:
        """Where the folders train and test of the time series may lie."""
        bases = dict.fromkeys([self.lists, self.root])
        return [base / place for base in bases for place in SERIES]


def find_benchmark(raw: Path, lists: str) -> Benchmark | None:
    """The benchmark in `raw` or a usual place below, its list files in `lists` if that is given."""
    for place in PLACES:
        own = raw / place
        found = Benchmark(own, Path(lists).expanduser() if lists else own)
        if found.file(STAYS) or (not lists and any(map(found.list_of, SPLITS))):
            return found
    return None


def nothing_found(raw: Path) -> str:
    """The problem of a folder that is neither the benchmark nor what it is extracted from."""
    looked = ", ".join(str(raw / place) for place in PLACES)
    return (
        f"no root/all_stays.csv and no phenotyping/train_listfile.csv under {raw} (looked in "
        f"{looked}), nor raw MIMIC-IV to extract them from: {not_raw(raw)}. Films alone are given "
        "with cxr"
    )


def read_lists(benchmark: Benchmark, report: Report) -> Frame | None:
    """A row per listed stay: KEYS, subject_id, split, and the labels as 0 and 1."""
    paths = {split: benchmark.list_of(split) for split in SPLITS}
    missing = [split for split, path in paths.items() if path is None]
    if missing:
        report.problems.append(
            f"list files of {', '.join(missing)} are missing under {benchmark.lists}: run the "
            "benchmark extraction to its end (split_train_val makes them); expected are "
            f"phenotyping/{{train,val,test}}_listfile.csv with header {','.join(KEYS)} + 25 labels"
        )
    read = [_read_list(path, split, report) for split, path in paths.items() if path is not None]
    parts = [part for part in read if part is not None]
    if len(parts) < len(SPLITS):
        return None
    listed = pd.concat(parts, ignore_index=True)
    _tell_repeats(listed, report)
    return listed


def _read_list(path: Path, split: str, report: Report) -> Frame | None:
    found = read_columns(path, KEYS, report, others=True)
    if found is None:
        return None
    labels = [name for name in found.columns if name not in KEYS]
    missing = [name for name in LABELS if name not in labels]
    unexpected = [name for name in labels if name not in LABELS]
    if missing or unexpected:
        report.problems.append(
            f"{path}: {len(labels)} labels found, 25 expected; unexpected: {unexpected}; "
            f"missing: {missing}"
        )
        return None
    hours = pd.Series(pd.to_numeric(found["period_length"], errors="coerce"), dtype=float)
    truth = found[LABELS].apply(pd.to_numeric, errors="coerce")
    rules = {
        f"stay is {FILE}": found["stay"].str.fullmatch(FILE),
        "period_length is a number of hours above 0": (hours > 0) & (hours < np.inf),
        "stay_id is a whole number": found["stay_id"].str.fullmatch(r"\d+"),
        "a label is 0 or 1": truth.isin([0, 1]).all(axis=1),
    }
    for rule, right in rules.items():
        if not right.all():
            report.problems.append(
                f"{path}: {(~right).sum()} rows break the rule that {rule}, first in line "
                f"{int(np.argmin(right.to_numpy(dtype=bool))) + 2}"
            )
    subject = found["stay"].str.extract(FILE, expand=False)
    keys = {"period_length": hours, "subject_id": subject, "split": split}
    return pd.concat([found[KEYS].assign(**keys), truth], axis=1)


def _tell_repeats(listed: Frame, report: Report) -> None:
    """Say which stays are listed twice and which subjects lie in two splits."""
    twice = listed["stay_id"][listed["stay_id"].duplicated()]
    if len(twice):
        report.problems.append(
            f"the list files repeat {len(twice)} stays, e.g. stay_id {twice.iloc[0]}"
        )
    splits = listed.groupby("subject_id")["split"].nunique()
    torn = splits.index[splits > 1]
    if len(torn):
        report.problems.append(
            f"{len(torn)} subjects lie in more than one list file, e.g. subject {torn[0]}: a "
            "patient of the training split may not be tested"
        )


def read_stays(benchmark: Benchmark, report: Report) -> Frame | None:
    """stay_id and subject_id as text, intime and outtime of every stay; nothing else is read."""
    path = benchmark.file(STAYS)
    if path is None:
        report.problems.append(
            f"no root/all_stays.csv in {benchmark.root}: it tells when stays began"
        )
        return None
    times = ["intime", "outtime"]
    stays = read_columns(path, ["subject_id", "stay_id", *times], report)
    if stays is None:
        return None
    for name in times:
        stays[name] = pd.to_datetime(stays[name], format="ISO8601", errors="coerce")
        bad = stays[name].isna().to_numpy()
        if bad.any():
            report.problems.append(
                f"{path}: {name} cannot be read in {bad.sum()} rows, first in line "
                f"{bad.argmax() + 2}; it is YYYY-MM-DD HH:MM:SS"
            )
    twice = stays["stay_id"][stays["stay_id"].duplicated()]
    if len(twice):
        report.problems.append(f"{path} repeats {len(twice)} stays, e.g. stay_id {twice.iloc[0]}")
    report.counts.append(("stays in all_stays.csv", len(stays), None))
    return stays


def tell_other_subjects(listed: Frame, stays: Frame, report: Report) -> None:
    both = listed.merge(stays, on="stay_id", suffixes=("", "_of_stay"))
    other = both["stay_id"][both["subject_id"] != both["subject_id_of_stay"]]
    if len(other):
        report.problems.append(
            f"{len(other)} stays belong to another subject in all_stays.csv than in the list "
            f"files, e.g. stay_id {other.iloc[0]}: they are not of one extraction"
        )


def series_entries(benchmark: Benchmark, stays: Frame, report: Report) -> Frame:
    """The entry of each stay for the reader, None where its file is not there.

    The time series of val lie among those of train.
    """
    entries: list[str | None] = []
    rows = zip(stays["stay"], stays["period_length"], stays["split"], strict=True)
    for name, hours, split in rows:
        part = "test" if split == "test" else "train"
        places = (folder / part / name for folder in benchmark.series)
        path = next((path for path in places if path.is_file()), None)
        entries.append(None if path is None else episode(path, hours))
    absent = [name for name, entry in zip(stays["stay"], entries, strict=True) if entry is None]
    if absent:
        looked = ", ".join(map(str, benchmark.series))
        report.warnings.append(
            f"time series missing for {len(absent)} of {len(stays)} stays, which are left out; "
            f"first missing {absent[0]} (looked in train/ or test/ of {looked})"
        )
    return pd.Series(entries, dtype=object, index=stays.index)
