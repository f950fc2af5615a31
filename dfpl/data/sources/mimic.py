"""MIMIC: 25 diagnoses of an ICU stay from its first 48 hours and a chest film.

Raw files    the benchmark that nyuad-cai/MedFuse @ 3f8b54ec extracts from MIMIC-IV 1.0
             (credentialed, PhysioNet), in RAW, RAW/data, RAW/benchmark or RAW/mimic4extract/data:
             stays     root/all_stays.csv
             labels    phenotyping/{train,val,test}_listfile.csv, or as dorothy-yao/drfuse names
                       them, ehr/ehr_list_phenotyping_48h_{train,val,test}.csv
             series    phenotyping/{train,test}/<subject>_episode<k>_timeseries.csv
             and MIMIC-CXR-JPG 2.0.0 in RAW, or a usual place below, or in `cxr`:
             films     mimic-cxr-2.0.0-metadata.csv(.gz), and resized/<dicom_id>.jpg or
                       files/pNN/pNNNNNNNN/sNNNNNNNN/<dicom_id>.jpg
             Instead of the benchmark raw MIMIC-IV may lie there; `dfpl.data.extraction` then
             extracts it first, to the folder `extracted`.
Recipe       `process metadata.ipynb` of dorothy-yao/drfuse @ a1489790: of a stay's AP films of its
             first 48 hours the last; stays without one are left out. 10,637 stays, 10,630 of them
             in the list files.
Split        by subject, as in the list files: 7,637 / 857 / 2,136
Deviations   Numbers are packed as they are: scaling is fitted later, on the training split alone.
             A film is resized whole, not cropped. Nothing but hours and variables of the series
             and pixels of the film is a feature: diagnoses, discharge, death and the length of a
             stay beyond its first hours are known later.
Privacy      Messages tell files, lines and ids to find a row by, and nothing else of a row.
"""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import Field

from dfpl.data import packing
from dfpl.data.episodes import EpisodeReader
from dfpl.data.extraction import Options as Extraction
from dfpl.data.extraction import extract, find_raw
from dfpl.data.packed import SPLITS, DataError, PackedDataset
from dfpl.data.raw import PackOptions, RawSamples, Report
from dfpl.data.reading import Spread
from dfpl.data.sources._mimic_films import (
    choose_films,
    film_paths,
    find_metadata,
    no_metadata,
    read_films,
)
from dfpl.data.sources._mimic_lists import (
    LABELS,
    Benchmark,
    find_benchmark,
    nothing_found,
    read_lists,
    read_stays,
    series_entries,
    tell_other_subjects,
)
from dfpl.fields import ConfigError

Frame = Any
"""A pandas table or column: pandas' own types do not tell the two apart."""

FILMS, STAYS_WITH_FILM, PAIRS = 377_110, 10_637, 10_630
ROWS = {"train": 7_637, "val": 857, "test": 2_136}


class Options(PackOptions):
    """Which stays and films of MIMIC are packed."""

    image_size: Annotated[int, Field(ge=8)] = 224
    """Height and width in pixels."""
    hours: Annotated[int, Field(ge=1, le=350)] = 48
    """First hours of a stay of which the time series is read, in steps of one hour."""
    window: Literal["48h", "stay"] = "48h"
    """Films of the first 48 hours of a stay, as in DrFuse, or of the whole, as in MedFuse."""
    views: str = "AP"
    """View positions of films that are taken, separated by commas."""
    unpaired: Literal["drop", "keep"] = "drop"
    """What to do with stays without a film: leave them out, or keep them with the image absent."""
    cxr: str = ""
    """Folder of MIMIC-CXR-JPG; default: found below the raw folder."""
    lists: str = ""
    """Folder of the list files; default: found below the raw folder."""
    recipe: Literal["reproduce", "repair"] = "repair"
    """Where the benchmark is extracted from raw MIMIC-IV: with the reference's defects or not."""
    phenotypes: str = ""
    """File that maps ICD codes to the 25 labels; default: MedFuse's, in the raw folder."""
    testset: str = ""
    """File of the test subjects; default: testset_iv.csv in the raw folder, else drawn."""
    valset: str = ""
    """File of the val subjects; default: valset_iv.csv in the raw folder, else drawn."""
    extracted: str = ""
    """Folder for the extracted benchmark; default: beside the raw folder, `<raw>_benchmark`."""


def looks_raw(path: Path) -> bool:
    """Whether `path` is a folder of the MIMIC-IV benchmark, or of raw MIMIC-IV."""
    return find_benchmark(path, "") is not None or find_raw(path) is not None


def read(raw: Path, options: Options) -> RawSamples:
    """Follow the recipe from the raw files to samples. Raises DataError with all problems."""
    return packing.read_all(lambda report: _read(raw, options, report))


def check(raw: Path, options: Options) -> Report:
    """Count what every step leaves, next to the published counts, and list all problems."""
    report = Report()
    samples = _read(raw, options, report)
    if samples is None:
        return report
    return report + packing.check(samples, options)


def pack(
    raw: Path, out: Path, options: Options, workers: int | Spread | None = None
) -> PackedDataset:
    """Pack the raw data set in `raw` below `out`."""
    return packing.pack(read(raw, options), out, options, workers)


def _read(raw: Path, options: Options, report: Report) -> RawSamples | None:
    """What `read` returns, or None where `report` tells why there is nothing to return."""
    benchmark = find_benchmark(raw, options.lists) or _extract(raw, options, report)
    if benchmark is None:
        return None
    listed = read_lists(benchmark, report)
    stays = read_stays(benchmark, report)
    metadata = find_metadata(raw, options.cxr)
    films = None if metadata is None else read_films(metadata, report)
    if metadata is None:
        report.problems.append(no_metadata(raw, options.cxr))
    if listed is None or stays is None or films is None or metadata is None or report.problems:
        return None
    tell_other_subjects(listed, stays, report)
    report.counts.append(("films in the metadata", len(films), FILMS))
    chosen = choose_films(films, stays, options.window, options.views, report)
    if report.problems:
        return None
    standard = _is_standard(options)
    report.counts.append(("stays with a film", len(chosen), STAYS_WITH_FILM if standard else None))
    steps = _follow_recipe(benchmark, listed, chosen, metadata.parent, options, report)
    if steps.left.empty:
        report.problems.append(_nothing_left(report))
    if report.problems:
        return None
    samples = _to_samples(steps, options)
    _compare(samples, options, report)
    return samples


def _extract(raw: Path, options: Options, report: Report) -> Benchmark | None:
    """Extract the benchmark from raw MIMIC-IV, unless that was done before."""
    layout = find_raw(raw)
    if layout is None:
        report.problems.append(nothing_found(raw))
        return None
    beside = raw.resolve().with_name(f"{raw.resolve().name}_benchmark")
    out = Path(options.extracted).expanduser() if options.extracted else beside
    print(f"the benchmark of {layout.folder} is extracted to {out}", file=sys.stderr)
    report.counts.append(("benchmark extracted to", str(out), None))
    if layout.persons != "core":
        report.warnings.append(
            f"{layout.folder} is MIMIC-IV 2 or later (no core/): the paper's counts need 1.0"
        )
    try:
        extract(raw, out, _extraction(options), report)
    except (DataError, ConfigError) as error:
        report.problems.append(str(error))
        return None
    except OSError as error:
        report.problems.append(f"{out} cannot be written ({error}); choose a folder with extracted")
        return None
    return find_benchmark(out, options.lists)


def _extraction(options: Options) -> Extraction:
    """The part of the options that an extraction is told."""
    return Extraction(**{name: getattr(options, name) for name in Extraction.model_fields})


def _is_standard(options: Options) -> bool:
    """Whether the published counts are to be expected."""
    return (options.window, options.views, options.unpaired) == ("48h", "AP", "drop")


class _Steps:
    """Stays on their way through the recipe: those left, those dropped and why."""

    def __init__(self, stays: Frame, report: Report) -> None:
        self.left = stays
        self.dropped = [pd.DataFrame({"id": [], "reason": []}, dtype=str)]
        self.report = report

    def keep(self, step: str, rows: Frame, reason: str, expected: int | None) -> None:
        ids = self.left["stay_id"][~rows]
        self.dropped.append(pd.DataFrame({"id": ids, "reason": reason}, dtype=str))
        self.left = self.left[rows].reset_index(drop=True)
        self.report.counts.append((step, len(self.left), expected))


def _follow_recipe(
    benchmark: Benchmark, listed: Frame, chosen: Frame, cxr: Path, options: Options, report: Report
) -> _Steps:
    pairs = PAIRS if _is_standard(options) else None
    report.counts.append(("stays in the list files", len(listed), None))
    chosen = chosen.drop(columns="subject_id").assign(image=film_paths(chosen, cxr, report))
    joined = listed.merge(chosen, how="left", on="stay_id")
    steps = _Steps(joined, report)
    if options.unpaired == "drop":
        reason = f"no {options.views} film within the window ({options.window})"
        steps.keep("of them with a film", joined["image"].notna(), reason, pairs)
    steps.left["series"] = series_entries(benchmark, steps.left, report)
    there = steps.left["series"].notna()
    steps.keep("of them with a time series", there, "no time-series file", pairs)
    return steps


def _nothing_left(report: Report) -> str:
    steps = ", ".join(f"{found} {what}" for what, found, _ in report.counts)
    told = "; ".join(report.warnings)
    return f"no stay is left ({steps})" + (f"; {told}" if told else "")


def _to_samples(steps: _Steps, options: Options) -> RawSamples:
    left = steps.left
    none = pd.DataFrame(index=left.index)
    return RawSamples(
        name="mimic",
        private=True,
        source=f"MIMIC-IV benchmark, first {options.hours} hours, last {options.views} film of "
        f"{options.window}, stays without one: {options.unpaired}",
        id=left["stay_id"],
        group=left["subject_id"],
        label=pd.Series("phenotypes", index=left.index, dtype=object),
        labels=left[LABELS].astype(int),
        split=left["split"],
        image=left["image"].astype(object).where(left["image"].notna(), None),
        numeric=none,
        category=none,
        series=left["series"],
        reader=EpisodeReader(hours=options.hours),
        dropped=pd.concat(steps.dropped, ignore_index=True),
    )


def _compare(samples: RawSamples, options: Options, report: Report) -> None:
    """Set the totals beside the published ones, and say it where they differ."""
    standard = _is_standard(options)
    assert samples.split is not None
    rows = {split: int((samples.split == split).sum()) for split in SPLITS}
    report.counts.extend(
        (f"{split} rows", count, ROWS[split] if standard else None) for split, count in rows.items()
    )
    report.counts.append(("labels", len(LABELS), 25))
    if standard and rows != ROWS:
        found = " / ".join(f"{count:,}" for count in rows.values())
        published = " / ".join(f"{count:,}" for count in ROWS.values())
        report.warnings.append(
            f"{PAIRS:,} pairs expected ({published}), got {len(samples):,} ({found})"
        )
