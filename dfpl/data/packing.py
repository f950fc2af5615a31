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
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32, Int32, Int64
from pandas.core.util.hashing import hash_pandas_object

from dfpl.data.packed import (
    EMPTY,
    SPLITS,
    UNSEEN,
    DataError,
    PackedDataset,
    Schema,
    sample_problems,
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
from dfpl.data.split import draw_split

PROBED = 20  # files of each kind that `check` reads
SHOWN = 20  # bad files that a message lists
KEY = "packing.json"
NOTHING = "neither modality is left"


def check(samples: RawSamples, options: PackOptions) -> Report:
    """List every problem of these samples, without stopping at the first.

    All files are looked for, and 20 of each kind, evenly spread, are read; `pack` reads all.
    """
    usable = _usable(samples, options)
    ready = _limited(usable, options)
    problems, notes, left = problems_of(ready), _warnings(usable, ready), ready
    for member, files in _files(ready, options).items():
        if bad := _probe(files, _jobs(ready, member)):
            stop = options.bad_file == "error"
            (problems if stop else notes).append(_bad_files(files, bad, options))
            left = left if stop else _without(left, member, dict(bad))
    if left is not ready and not problems:
        problems = problems_of(left.drop(~_has_content(left), NOTHING))
    return Report(counts=_counts(ready), problems=problems, warnings=notes)


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
    table = [_sample(ready), ready.label, ready.numeric, ready.category, ready.dropped]
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


def prepare(samples: RawSamples, options: PackOptions) -> RawSamples:
    """Leave out what has no label or no content, sort by id, draw the split, limit infinities."""
    return _limited(_usable(samples, options), options)


def _usable(samples: RawSamples, options: PackOptions) -> RawSamples:
    samples = samples.drop(samples.label.isna().to_numpy(), "no label")
    empty = samples.image.isna().to_numpy() & ~samples.has_table
    samples = samples.drop(empty, "neither image nor table")
    ids = samples.id.fillna("").astype(str).tolist()
    samples = samples.take(np.array(sorted(range(len(ids)), key=ids.__getitem__), dtype=np.int64))
    if samples.split is not None:
        return samples
    return dataclasses.replace(samples, split=draw_split(samples, options))


def _numbers(samples: RawSamples) -> Float32[np.ndarray, "N Fn"]:
    """The numeric cells as they are stored; a number beyond float32 becomes an infinity."""
    with np.errstate(over="ignore"):
        return samples.numeric.to_numpy(dtype=np.float64, na_value=np.nan).astype(np.float32)


def _limited(samples: RawSamples, options: PackOptions) -> RawSamples:
    """Replace each infinity by its column's extreme finite number among the training rows."""
    if options.infinite == "error":
        return samples
    numbers = _numbers(samples)
    assert samples.split is not None
    train = numbers[(samples.split == "train").to_numpy()]
    finite = np.isfinite(train)
    numbers = np.where(np.isposinf(numbers), train.max(0, where=finite, initial=-np.inf), numbers)
    numbers = np.where(np.isneginf(numbers), train.min(0, where=finite, initial=np.inf), numbers)
    frame = pd.DataFrame(numbers, columns=samples.numeric.columns)
    return dataclasses.replace(samples, numeric=frame)


def problems_of(ready: RawSamples) -> list[str]:
    """Everything in prepared samples that makes training wrong, the pictures' files apart."""
    if not len(ready):
        return ["no sample is left: none has a label and an image or a filled cell"]
    found = [*sample_problems(_sample(ready)), *_class_problems(ready)]
    if ready.image.isna().all():
        found.append("no sample has an image; check the image column or the folder of images")
    return [*found, *_column_problems(ready)]


def _sample(ready: RawSamples) -> pd.DataFrame:
    columns = {"id": ready.id, "group": ready.group, "split": ready.split}
    texts = {name: part.astype(str).where(part.notna()) for name, part in columns.items()}
    return pd.DataFrame(
        {**texts, "has_image": ready.image.notna().to_numpy(), "has_table": ready.has_table}
    )


def _class_problems(ready: RawSamples) -> list[str]:
    if ready.labels is not None:
        return _label_problems(ready, ready.labels)
    classes = sorted(ready.label.unique())
    if len(classes) < 2:
        return [f"the label has one class only ({classes[0]!r}); nothing can be learned"]
    found = []
    for name in classes:
        here = (ready.label == name).to_numpy()
        seen = set(ready.split[here]) if ready.split is not None else set()
        absent = [split for split in SPLITS if split not in seen]
        if absent:
            groups = len(set(ready.group[here].tolist()))
            way_out = "leave its rows out or merge it with another class"
            found.append(
                f"class {name!r} is absent from {' and '.join(absent)}: it has {here.sum()} "
                f"samples in {groups} groups"
                + (f", and 3 splits need 3 groups; {way_out}" if groups < 3 else f"; {way_out}")
            )
    return found


def _label_problems(ready: RawSamples, labels: pd.DataFrame) -> list[str]:
    """Of a multi-label task: a class that training cannot learn from is a warning."""
    wrong = [str(name) for name, cells in labels.items() if not cells.isin([0, 1]).all()]
    found = [f"label {name!r} holds something other than 0 and 1" for name in wrong]
    if not wrong and not any(_learnable(ready, labels, "train").values()):
        found.append("in the training split no label has both 0 and 1; nothing can be learned")
    return found


def _learnable(ready: RawSamples, labels: pd.DataFrame, split: str) -> dict[str, bool]:
    """Which labels have both 0 and 1 in a split."""
    assert ready.split is not None
    here = (ready.split == split).to_numpy()
    return {str(name): set(cells[here]) >= {0, 1} for name, cells in labels.items()}


def _column_problems(ready: RawSamples) -> list[str]:
    table = pd.concat([ready.numeric, ready.category], axis=1)
    if not table.shape[1] and ready.series is None:
        return ["no numeric or category column is left; a sample is an image and a table"]
    found = []
    twice = sorted(set(table.columns[table.columns.duplicated()]))
    if twice:
        found.append(f"columns {', '.join(map(repr, twice))} occur more than once")
    train = (ready.split == "train").to_numpy() if ready.split is not None else []
    for name, filled in zip(table.columns, table.notna().to_numpy().T, strict=True):
        if not filled[train].any():
            where = "in all training rows" if filled.any() else "in all rows"
            found.append(f"column {name!r} is empty {where}; exclude it")
    return [*found, *_infinities(ready)]


def _infinities(samples: RawSamples) -> list[str]:
    infinite = np.isinf(_numbers(samples))
    ids = samples.id.to_numpy()
    return [
        f"column {name!r} holds {here.sum()} infinite numbers, first in sample "
        f"{ids[here.argmax()]!r}; mend them, or choose infinite=limit"
        for name, here in zip(samples.numeric.columns, infinite.T, strict=True)
        if here.any()
    ]


def _warnings(usable: RawSamples, ready: RawSamples) -> list[str]:
    """What a person should know: rows left out, limits taken, levels unseen in training."""
    reasons = Counter(ready.dropped["reason"].tolist())
    found = [f"{count} rows left out: {reason}" for reason, count in reasons.most_common(SHOWN)]
    infinite = (np.isinf(_numbers(usable)) & np.isfinite(_numbers(ready))).sum(axis=0)
    found += [
        f"column {name!r}: {count} infinite numbers are replaced by the training rows' limits"
        for name, count in zip(ready.numeric.columns, infinite, strict=True)
        if count
    ]
    for name, levels in vocabulary(ready).items():
        unseen = int((category_codes(column(ready.category, name), levels) == UNSEEN).sum())
        if unseen:
            found.append(f"column {name!r}: {unseen} samples have a level unseen in training")
    return found + _one_sided(ready)


def _one_sided(ready: RawSamples) -> list[str]:
    if ready.labels is None:
        return []
    return [
        f"label {name!r} is the same for all samples of {split}: it has no PRAUC there"
        for split in SPLITS
        for name, learnable in _learnable(ready, ready.labels, split).items()
        if not learnable
    ]


def _counts(ready: RawSamples) -> list[tuple[str, int | str, int | str | None]]:
    found: list[tuple[str, int | str, int | str | None]] = [
        ("samples", len(ready), None),
        ("left out", len(ready.dropped), None),
        ("groups", int(ready.group.nunique()), None),
        ("classes", len(_labels(ready)[0]), None),
        ("with image", int(ready.image.notna().sum()), None),
        ("with table", int(ready.has_table.sum()), None),
    ]
    assert ready.split is not None
    found += [(split, int((ready.split == split).sum()), None) for split in SPLITS]
    for name, has in _members(ready).items():
        here = Counter(ready.split[has])
        parts = ", ".join(f"{here[split]} {split}" for split in SPLITS)
        found.append((f"class {name}", f"{here.total()} ({parts})", None))
    empty = pd.concat([ready.numeric, ready.category], axis=1).isna().mean()
    return found + [(f"empty in {name}", f"{share:.1%}", None) for name, share in empty.items()]


def _members(ready: RawSamples) -> dict[str, Bool[np.ndarray, " N"]]:
    """By class, which samples are of it."""
    names, label = _labels(ready)
    one_hot = label == 1 if label.ndim == 2 else label[:, None] == np.arange(len(names))
    return dict(zip(names, one_hot.T, strict=True))


def vocabulary(ready: RawSamples) -> dict[str, list[str]]:
    """The levels of each category column that training rows show, sorted."""
    assert ready.split is not None
    train = (ready.split == "train").to_numpy()
    return {
        str(name): sorted({str(level) for level in cells[train] if not pd.isna(level)})
        for name, cells in ready.category.items()
    }


def category_codes(values: pd.Series, levels: Sequence[str]) -> Int32[np.ndarray, " N"]:
    """Codes of text cells: 0 an empty one, 1 a level that training never showed, 2... `levels`."""
    codes = pd.Index(levels, dtype=object).get_indexer(pd.Index(values, dtype=object))
    codes = np.where(codes < 0, UNSEEN, codes + 2)
    return np.where(values.isna(), EMPTY, codes).astype(np.int32)


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
    keep = _has_content(ready)
    if keep.all():
        return ready
    (part / DONE).unlink(missing_ok=True)  # rows move
    for files in kinds.values():
        for name in files.arrays:
            _keep_rows(part / f"{name}.npy", keep)
    return ready.drop(~keep, NOTHING)


def _has_content(ready: RawSamples) -> Bool[np.ndarray, " N"]:
    return ready.image.notna().to_numpy() | ready.has_table


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
    classes, label = _labels(ready)
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
        numeric=_numbers(ready),
        category=np.stack(codes, axis=1) if codes else np.zeros((len(ready), 0), dtype=np.int32),
        label=label,
        sample=_sample(ready),
        **{name: np.load(part / f"{name}.npy", mmap_mode="r") for name in series},
    )


def _labels(
    ready: RawSamples,
) -> tuple[list[str], Int64[np.ndarray, " N"] | Float32[np.ndarray, "N C"]]:
    """The names of the classes, and the label of each sample in their order."""
    if ready.labels is not None:
        return [str(name) for name in ready.labels], ready.labels.to_numpy(dtype=np.float32)
    classes = sorted(ready.label.unique())
    place = np.searchsorted(np.array(classes, dtype=object), ready.label.to_numpy(dtype=object))
    return [str(name) for name in classes], place.astype(np.int64)


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
