"""From the raw tables of MIMIC-IV to the benchmark level, which the source `mimic` reads.

Follows the extraction of nyuad-cai/MedFuse @ 3f8b54ec (mimic4extract, a fork of YerevaNN/
mimic3-benchmarks): cohort -> events of its stays -> hourly-ready time series, 25 phenotypes, split
by subject. MIMIC-IV 1.0 (of the paper) and 2.x, plain or gzipped. What lies below OUT afterwards:

    data/root/all_stays.csv
    data/phenotyping/{train,test}/<subject_id>_episode<k>_timeseries.csv    (val lies in train)
    data/phenotyping/{train,val,test}_listfile.csv    stay,period_length,stay_id,<25 labels>

A stay without a diagnosis or without a measurement is in all_stays.csv alone. `recipe` chooses
between the reference's defects and their repair: see `variables` and `phenotypes`.
Deviations   One pass over each event table, in bounded memory; outputevents is not read, for none
             of its items is mapped. A moment belongs to the stay of its admission; the reference
             adds moments of other admissions within the stay. Texts that are no level are left out.
             Without lists of subjects the split is drawn anew, in the benchmark's shares.
"""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from dfpl.data.extraction import series, spill
from dfpl.data.extraction.cohort import COLUMNS, Cohort, read_cohort, split_subjects
from dfpl.data.extraction.layout import Frame, Layout, find_raw, missing_tables, not_raw
from dfpl.data.extraction.phenotypes import (
    DEFINITIONS,
    PHENOTYPES,
    SOURCE,
    read_definition,
    read_labels,
)
from dfpl.data.extraction.progress import progress
from dfpl.data.extraction.variables import Recipe, mapped_items
from dfpl.data.packed import SPLITS, DataError, Split
from dfpl.data.raw import Report
from dfpl.fields import Config, ConfigError

__all__ = ["Options", "extract", "find_raw"]

VERSION = 1  # raise it when the same options give other files
TABLES = ("icu/chartevents", "hosp/labevents")
MARKER, WORK = "extraction.json", ".extraction"
BUCKET = 32 << 20  # bytes of CSV whose events are assembled at a time, about
UNPACKED = 12  # times the size of a gzipped table
ROWS = {"icu/chartevents": 329_499_788, "hosp/labevents": 122_103_667}  # of MIMIC-IV 1.0


class Options(Config):
    """How raw MIMIC-IV becomes the benchmark level."""

    recipe: Recipe = "repair"
    """With the defects of the reference extraction, or without."""
    phenotypes: str = ""
    """File that maps ICD codes to the 25 phenotypes: MedFuse's icd_9_10_definitions_2.yaml, or a
    CSV icd_code,icd_version,phenotype. Empty: the former in RAW."""
    testset: str = ""
    """File `<subject_id>,<0 or 1>` of the test subjects, as MedFuse's testset_iv.csv. Empty: that
    file in RAW or, without it, 20 % of the subjects are drawn."""
    valset: str = ""
    """The same for val among the subjects not in test: valset_iv.csv, or 10 % of them."""
    split_seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the split, where it is drawn."""


def extract(root: Path, out: Path, options: Options, report: Report) -> None:
    """Write the benchmark level of the raw MIMIC-IV in `root` below `out`; counts go to `report`.

    A run that was cut off goes on where it was: after the last table read, or bucket assembled.
    Raises DataError with what is missing or cannot be read, and ConfigError where `out` holds
    other things.
    """
    layout, files = _inputs(root, options)
    data = out / "data"
    key = _key(layout, files, options)
    if _is_finished(data, key):
        done = json.loads((data / MARKER).read_text())
        report.counts.extend((what, number, expected) for what, number, expected in done["counts"])
        report.warnings.extend(done["warnings"])
        return
    cohort = read_cohort(layout, report)
    definition = read_definition(files["phenotypes"])
    labels = read_labels(layout, cohort, definition, options.recipe)
    subjects = sorted(set(cohort.stays["subject_id"].tolist()))
    lists = files.get("testset"), files.get("valset")
    split = split_subjects(subjects, *lists, options.split_seed, report)
    work = _Work(data, key, cohort, labels, split, options)
    for table in TABLES:
        expected = ROWS[table] if layout.persons == "core" else None
        work.read(layout.path(table), expected, report)
    listed, counts = work.assemble()
    report.counts.extend((name, number, None) for name, number in sorted(counts.items()))
    _write_lists(data, cohort, labels, listed, split, report)
    _finish(data, key, report)


def _inputs(root: Path, options: Options) -> tuple[Layout, dict[str, Path]]:
    """The raw tables and the other files that are read; all that is missing in one DataError."""
    layout = find_raw(root)
    problems = [not_raw(root)] if layout is None else missing_tables(layout)
    files = {}
    for name, default in (
        ("phenotypes", DEFINITIONS),
        ("testset", "testset_iv.csv"),
        ("valset", "valset_iv.csv"),
    ):
        given = getattr(options, name)
        path = Path(given).expanduser() if given else root / default
        if path.is_file():
            files[name] = path
        elif given or name == "phenotypes":
            what = SOURCE if name == "phenotypes" else f"{default} of the same folder there"
            problems.append(f"{name}: no file {path}; take {what}")
    if problems or layout is None:
        raise DataError("\n".join(problems))
    return layout, files


def _key(layout: Layout, files: dict[str, Path], options: Options) -> dict[str, Any]:
    """What the output depends on; two runs with the same key write the same."""
    sources = [layout.path(table) for table in (*TABLES, "icu/icustays", "hosp/diagnoses_icd")]
    sizes = {str(path.name): path.stat().st_size for path in [*sources, *files.values()]}
    return {"version": VERSION, "options": options.to_dict(), "sizes": sizes}


def _is_finished(data: Path, key: dict[str, Any]) -> bool:
    for marker in (data / MARKER, data / WORK / MARKER):
        if marker.is_file():
            found = json.loads(marker.read_text())["key"]
            if found == key:
                return marker.parent == data
            raise ConfigError(
                f"{data} holds an extraction of other files or with other options ({marker}: "
                f"{found}); choose another folder or delete this one"
            )
    if data.exists() and (not data.is_dir() or any(data.iterdir())):
        raise ConfigError(f"{data} holds files that no extraction wrote; choose another folder")
    return False


class _Work:
    """The part of an extraction that takes long, in steps that are done once."""

    def __init__(
        self,
        data: Path,
        key: dict[str, Any],
        cohort: Cohort,
        labels: Frame,
        split: dict[int, Split],
        options: Options,
    ) -> None:
        self.folder = data / WORK
        self.cohort = cohort
        self.recipe: Recipe = options.recipe
        self.labelled = cohort.stays["stay_id"].isin(labels.index).to_numpy()
        self.paths = [
            data / "phenotyping" / ("test" if split[subject] == "test" else "train") / name
            for subject, name in zip(cohort.stays["subject_id"], _names(cohort), strict=True)
        ]
        for folder in (self.folder, *sorted({path.parent for path in self.paths})):
            folder.mkdir(parents=True, exist_ok=True)
        _save(self.folder / MARKER, {"key": key})
        sizes = key["sizes"].items()
        size = sum(n * (UNPACKED if name.endswith("gz") else 1) for name, n in sizes)
        self.buckets = max(1, min(size // BUCKET, 2000))

    def read(self, table: Path, expected: int | None, report: Report) -> None:
        """Spill a table's events, unless that was done before."""
        done = self.folder / f"{table.name}.json"
        if not done.is_file():
            items = list(mapped_items(self.recipe))
            with progress(table.name, table.stat().st_size) as advance:
                counts = spill.spill(table, self.folder, self.cohort, items, self.buckets, advance)
            _save(done, counts)
        for name, number in json.loads(done.read_text()).items():
            report.counts.append(
                (f"{table.name}: {name}", number, expected if name == "rows" else None)
            )

    def assemble(self) -> tuple[list[int], Counter[str]]:
        """Write the time series; the stays that have one, as rows of the cohort, and counts."""
        listed: list[int] = []
        counts: Counter[str] = Counter()
        with progress("time series", self.buckets) as advance:
            for bucket in range(self.buckets):
                done = self.folder / f"bucket-{bucket}.json"
                if not done.is_file():
                    _save(done, self._assemble(bucket))
                found = json.loads(done.read_text())
                listed += found["stays"]
                counts.update(found["counts"])
                advance(1)
        return sorted(listed), counts

    def _assemble(self, bucket: int) -> dict[str, Any]:
        counts: Counter[str] = Counter()
        events = spill.read_bucket(self.folder, bucket)
        rows = series.to_series(events, self.recipe, counts)
        rows = rows[self.labelled[rows["stay"].to_numpy(int)]]
        series.write_series(rows, self.paths)
        counts["rows of time series"] += len(rows)
        return {"stays": sorted(set(rows["stay"].tolist())), "counts": counts}


def _names(cohort: Cohort) -> list[str]:
    pairs = zip(cohort.stays["subject_id"], cohort.stays["episode"], strict=True)
    return [f"{subject}_episode{episode}_timeseries.csv" for subject, episode in pairs]


def _write_lists(
    data: Path,
    cohort: Cohort,
    labels: Frame,
    listed: list[int],
    split: dict[int, Split],
    report: Report,
) -> None:
    (data / "root").mkdir(exist_ok=True)
    cohort.stays.to_csv(data / "root/all_stays.csv", columns=COLUMNS, index=False)
    table = cohort.stays[["subject_id", "stay_id"]].assign(
        stay=_names(cohort), period_length=cohort.hours
    )
    unlabelled = int((~table["stay_id"].isin(labels.index)).sum())
    report.counts.append(("stays without a diagnosis", unlabelled, None))
    report.counts.append(
        ("stays without a measurement", len(table) - unlabelled - len(listed), None)
    )
    table = table.iloc[listed].merge(labels, left_on="stay_id", right_index=True)
    for name in SPLITS:
        rows = table[table["subject_id"].map(split) == name]
        columns = ["stay", "period_length", "stay_id", *PHENOTYPES]
        path = data / "phenotyping" / f"{name}_listfile.csv"
        rows.to_csv(path, columns=columns, index=False, float_format="%.6f")
        report.counts.append((f"stays in {name}", len(rows), None))


def _finish(data: Path, key: dict[str, Any], report: Report) -> None:
    _save(data / MARKER, {"key": key, "counts": report.counts, "warnings": report.warnings})
    shutil.rmtree(data / WORK)


def _save(path: Path, value: Any) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(value, indent=1))
    part.replace(path)
