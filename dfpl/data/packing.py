"""From raw samples to a PackedDataset: what every source shares.

A source reads its files into `RawSamples`; `check` lists all that is wrong with them, and `pack`
does the rest: rows sorted by id, split, pixels, series, codes, and a folder that is there whole or
not. What a pack that broke off has read is kept for the next one.
"""

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool
from pandas.core.util.hashing import hash_pandas_object

from dfpl.data.checks import SHOWN, counts_of, problems_of, warnings_of
from dfpl.data.packed import (
    DataError,
    PackedDataset,
    Schema,
)
from dfpl.data.preparing import (
    category_codes,
    has_content,
    labels_of,
    limited,
    numbers_of,
    prepare,
    sample_table,
    usable,
    vocabulary,
)
from dfpl.data.raw import PackOptions, RawSamples, Report, column
from dfpl.data.reading import (
    DONE,
    Bad,
    Files,
    ImageFiles,
    Job,
    SeriesFiles,
    Spread,
    absent,
    digest,
    fill,
)

PROBED = 20  # files of each kind that `check` reads
KEY = "packing.json"
NOTHING = "neither modality is left"


def read_all(find: Callable[[Report], RawSamples | None]) -> RawSamples:
    """What a source finds, all problems of which go to its report. Raises DataError with them."""
    report = Report()
    samples = find(report)
    if samples is None or report.problems:
        raise DataError("\n".join(report.problems))
    return samples


def check(samples: RawSamples, options: PackOptions) -> Report:
    """List every problem of these samples, without stopping at the first.

    All files are looked for, and 20 of each kind, evenly spread, are read; `pack` reads all.
    """
    found = usable(samples, options)
    ready = limited(found, options)
    problems, notes, left = problems_of(ready), warnings_of(found, ready), ready
    for member, files in _files(ready, options).items():
        if bad := _probe(files, _jobs(ready, member)):
            stop = options.bad_file == "error"
            (problems if stop else notes).append(_bad_files(files, bad, options))
            left = left if stop else _without(left, member, dict(bad))
    if left is not ready and not problems:
        problems = problems_of(left.drop(~has_content(left), NOTHING))
    return Report(counts=counts_of(ready), problems=problems, warnings=notes)


def pack(
    samples: RawSamples, out: Path, options: PackOptions, workers: int | Spread | None = None
) -> PackedDataset:
    """Write the packed data set to the folder `out`. Raises DataError listing all problems.

    The folder appears whole, by a rename, or not at all. A packed data set of the same name that
    is there already is replaced, and left as it is where nothing has changed; any other folder
    with content is refused. `workers` processes read the files (1: this process; None: as many as
    there are cores and work for), or a cluster does.
    """
    out = out.resolve()
    _refuse_to_overwrite(out, samples.name)
    ready = prepare(samples, options)
    if problems := problems_of(ready):
        raise DataError("\n".join(problems))
    key = _key(ready, options)
    if (out / KEY).is_file() and (out / KEY).read_text() == key:
        return PackedDataset.load(out)
    with _unfinished(out) as part:
        _write(ready, part, options, workers)
        (part / KEY).write_text(key)
        _replace(out, part)
    return PackedDataset.load(out)


@contextmanager
def _unfinished(out: Path) -> Iterator[Path]:
    """The folder beside `out` in which one process at a time packs, perhaps begun by another.

    It stays where packing breaks off, unless no file was read yet. Raises DataError where another
    process is at it.
    """
    part = out.with_name(f".{out.name}.part")
    part.mkdir(parents=True, exist_ok=True)
    lock = os.open(part, os.O_RDONLY)
    try:
        _lock(lock, out)
        yield part
    finally:
        os.close(lock)
        with suppress(OSError):  # not empty, or in its place as `out`
            part.rmdir()


def _lock(folder: int, out: Path) -> None:
    import fcntl

    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DataError(f"another process is packing into {out}; wait for it") from None
    except OSError:  # a file system without locks
        return


def _key(ready: RawSamples, options: PackOptions) -> str:
    """What the packed data set depends on; equal keys, equal data sets."""
    found = hashlib.blake2b(digest_size=16)
    facts = [ready.name, ready.source, options.to_dict(), list(ready.numeric), list(ready.category)]
    found.update(json.dumps(facts).encode())
    table = [sample_table(ready), ready.label, ready.numeric, ready.category, ready.dropped]
    for part in [*table, *([] if ready.labels is None else [ready.labels])]:
        found.update(hash_pandas_object(part, index=False).to_numpy().tobytes())
    for member, files in _files(ready, options).items():
        found.update(digest(files, len(ready), _jobs(ready, member)).encode())
    return found.hexdigest()


def _files(ready: RawSamples, options: PackOptions) -> dict[str, Files]:
    """By member of the samples: the files that it names."""
    found: dict[str, Files] = {"image": ImageFiles(ready.image_kind, options.image_size)}
    if ready.reader is not None:
        found["series"] = SeriesFiles(ready.reader)
    return found


def _jobs(ready: RawSamples, member: str) -> list[Job]:
    """(row, path) of each sample that should have a file of this kind."""
    paths = getattr(ready, member)
    return [(row, str(path)) for row, path in enumerate(paths) if not pd.isna(path)]


def _probe(files: Files, jobs: Sequence[Job]) -> list[Bad]:
    """What is wrong with these files: all are looked for, 20 are read."""
    bad = {row: why for row, path in jobs if (why := absent(files, path))}
    for at in np.unique(np.linspace(0, len(jobs) - 1, min(PROBED, len(jobs)), dtype=np.int64)):
        row, path = jobs[at]
        try:
            files.read(path)
        except DataError as error:
            bad[row] = str(error)
    return sorted(bad.items())


def _bad_files(files: Files, bad: Sequence[Bad], options: PackOptions) -> str:
    lines = [why for _, why in bad[:SHOWN]]
    lines += [f"and {len(bad) - SHOWN} more"] if len(bad) > SHOWN else []
    rule = "mend them, or choose bad_file=treat_as_missing to go on without them"
    if options.bad_file == "treat_as_missing":
        rule = "these samples lose that modality"
    return "\n  ".join([f"{len(bad)} {files.what} cannot be read; {rule}:", *lines])


def _write(
    ready: RawSamples, part: Path, options: PackOptions, workers: int | Spread | None
) -> None:
    """Write what the files hold, arrays and samples below `part`, the schema last."""
    (part / "schema.json").unlink(missing_ok=True)
    kinds = _files(ready, options)
    found = {
        member: fill(part, files, _jobs(ready, member), len(ready), workers)
        for member, files in kinds.items()
    }
    bad = {name: list(bad.items()) for name, bad in found.items() if bad}
    if options.bad_file == "error" and bad:
        lists = [_bad_files(kinds[name], lines, options) for name, lines in bad.items()]
        raise DataError("\n".join(lists))
    for member, lines in found.items():
        ready = _without(ready, member, lines)
    ready = _with_content(ready, part, kinds)
    if problems := problems_of(ready):
        raise DataError("\n".join(problems))
    dataset = _assemble(ready, part, options)
    if problems := dataset.problems():
        raise DataError("\n".join(problems))
    ready.dropped.to_parquet(part / "dropped.parquet", index=False)
    dataset.save(part)
    (part / DONE).unlink(missing_ok=True)


def _without(ready: RawSamples, member: str, bad: Mapping[int, str]) -> RawSamples:
    """The samples with a bad file lose it, and are noted in `dropped`."""
    rows = np.array(list(bad), dtype=np.int64)
    what = "image" if member == "image" else "time series"
    notes = [f"{what} treated as missing: {why}" for why in bad.values()]
    lines = pd.DataFrame({"id": ready.id.iloc[rows].to_numpy(), "reason": notes}, dtype=str)
    paths = getattr(ready, member).astype(object).where(~ready.id.index.isin(rows), None)
    dropped = pd.concat([ready.dropped, lines], ignore_index=True)
    return dataclasses.replace(ready, dropped=dropped, **{member: paths})


def _with_content(ready: RawSamples, part: Path, kinds: Mapping[str, Files]) -> RawSamples:
    """Samples that are left with neither modality leave the arrays, too."""
    keep = has_content(ready)
    if keep.all():
        return ready
    (part / DONE).unlink(missing_ok=True)  # rows move
    for files in kinds.values():
        for name in files.arrays:
            _keep_rows(part / f"{name}.npy", keep)
    return ready.drop(~keep, NOTHING)


def _keep_rows(target: Path, keep: Bool[np.ndarray, " N"]) -> None:
    before = np.load(target, mmap_mode="r")
    after = target.with_suffix(".kept")
    shape = (int(keep.sum()), *before.shape[1:])
    kept = np.lib.format.open_memmap(after, mode="w+", dtype=before.dtype, shape=shape)
    for row, old in enumerate(np.flatnonzero(keep)):
        kept[row] = before[old]
    kept.flush()
    after.replace(target)


def _assemble(ready: RawSamples, part: Path, options: PackOptions) -> PackedDataset:
    levels, reader = vocabulary(ready), ready.reader
    codes = [category_codes(column(ready.category, name), found) for name, found in levels.items()]
    classes, label = labels_of(ready)
    schema = Schema(
        name=ready.name,
        task="multiclass" if ready.labels is None else "multilabel",
        class_names=classes,
        image_size=options.image_size,
        image_kind=ready.image_kind,
        numeric=[str(name) for name in ready.numeric.columns],
        category=levels,
        series=dict(reader.channels) if reader else {},
        steps=reader.steps if reader else 0,
        private=ready.private,
        source=ready.source,
    )
    series = ("series", "length") if reader else ()
    return PackedDataset(
        schema=schema,
        image=np.load(part / "image.npy", mmap_mode="r"),
        numeric=numbers_of(ready),
        category=np.stack(codes, axis=1) if codes else np.zeros((len(ready), 0), dtype=np.int32),
        label=label,
        sample=sample_table(ready),
        **{name: np.load(part / f"{name}.npy", mmap_mode="r") for name in series},
    )


def _refuse_to_overwrite(out: Path, name: str) -> None:
    """Only a packed data set of the same name may be replaced. Raises DataError."""
    if PackedDataset.is_packed(out):
        there = json.loads((out / "schema.json").read_text()).get("name")
        if there != name:
            raise DataError(
                f"{out} holds the packed data set {there!r}, which {name!r} may not replace; "
                "choose another folder or delete this one"
            )
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(
            f"{out} exists and is no packed data set, so it is not replaced; choose another folder"
        )


def _replace(out: Path, part: Path) -> None:
    """Put the finished folder in its place."""
    old = part.with_suffix(".old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    part.rename(out)
    shutil.rmtree(old, ignore_errors=True)
