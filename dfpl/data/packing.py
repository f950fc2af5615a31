"""From raw samples to a PackedDataset: what every source shares.

A source reads its files into `RawSamples`; `check` lists all that is wrong with them, and `pack`
does the rest: rows sorted by id, split, pixels, codes, and a folder that is there whole or not.
"""

import dataclasses
import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32, Int32

from dfpl.data.images import SHOWN, _bad_images, _jobs, _probe, _read_images
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
from dfpl.data.split import draw_split

"""The levels of each categorical column, in order of their codes."""


def check(samples: RawSamples, options: PackOptions) -> Report:
    """List every problem of these samples, without stopping at the first.

    All picture files are looked for, and 20 of them, evenly spread, are decoded; `pack` decodes
    all.
    """
    usable = _usable(samples, options)
    ready = _limited(usable, options)
    bad = [text for _, text in _probe(ready, options)]
    problems, notes = problems_of(ready), _warnings(usable, ready)
    if bad:
        stop = options.bad_image == "error"
        (problems if stop else notes).append(_bad_images(bad, options))
    return Report(counts=_counts(ready), problems=problems, warnings=notes)


def pack(
    samples: RawSamples, out: Path, options: PackOptions, workers: int | None = None
) -> PackedDataset:
    """Write the packed data set to the folder `out`. Raises DataError listing all problems.

    The folder appears whole, by a rename, or not at all. A packed data set of the same name that
    is there already is replaced; any other folder with content is refused. `workers` processes
    decode the pictures (1: this process; None: as many as there are cores and work for).
    """
    out = out.resolve()
    _refuse_to_overwrite(out, samples.name)
    ready = prepare(samples, options)
    if problems := problems_of(ready):
        raise DataError("\n".join(problems))
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    part.mkdir(parents=True)
    try:
        _write(ready, part, options, workers)
        _replace(out, part)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return PackedDataset.load(out)


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


def _column_problems(ready: RawSamples) -> list[str]:
    table = pd.concat([ready.numeric, ready.category], axis=1)
    if not table.shape[1]:
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
    return found


def _counts(ready: RawSamples) -> list[tuple[str, int | str, int | str | None]]:
    found: list[tuple[str, int | str, int | str | None]] = [
        ("samples", len(ready), None),
        ("left out", len(ready.dropped), None),
        ("groups", int(ready.group.nunique()), None),
        ("classes", int(ready.label.nunique()), None),
        ("with image", int(ready.image.notna().sum()), None),
        ("with table", int(ready.has_table.sum()), None),
    ]
    assert ready.split is not None
    found += [(split, int((ready.split == split).sum()), None) for split in SPLITS]
    for name in sorted(ready.label.unique()):
        here = Counter(ready.split[ready.label == name])
        parts = ", ".join(f"{here[split]} {split}" for split in SPLITS)
        found.append((f"class {name}", f"{here.total()} ({parts})", None))
    empty = pd.concat([ready.numeric, ready.category], axis=1).isna().mean()
    return found + [(f"empty in {name}", f"{share:.1%}", None) for name, share in empty.items()]


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


def _write(ready: RawSamples, part: Path, options: PackOptions, workers: int | None) -> None:
    """Write pixels, arrays and samples below `part`, the schema last."""
    jobs, target = _jobs(ready), part / "image.npy"
    _create(target, (len(ready), options.image_size, options.image_size, 3))
    workers = workers or max(1, min(os.cpu_count() or 1, len(jobs) // 1024))
    bad = _read_images(target, jobs, workers)
    if bad and options.bad_image == "error":
        raise DataError(_bad_images(list(bad.values()), options))
    ready = _without_bad_images(ready, bad, target)
    dataset = _assemble(ready, target, options)
    if problems := dataset.problems():
        raise DataError("\n".join(problems))
    ready.dropped.to_parquet(part / "dropped.parquet", index=False)
    dataset.save(part)


def _create(target: Path, shape: tuple[int, ...]) -> None:
    """Make an array file of zeros. Raises DataError where the disk cannot hold it."""
    need, free = int(np.prod(shape)), shutil.disk_usage(target.parent).free
    if need > free:
        raise DataError(
            f"the images need {need / 1e9:.1f} GB, but {target.parent.parent} has "
            f"{free / 1e9:.1f} GB free; choose a smaller image_size or another disk"
        )
    np.lib.format.open_memmap(target, mode="w+", dtype=np.uint8, shape=shape).flush()


def _without_bad_images(ready: RawSamples, bad: Mapping[int, str], target: Path) -> RawSamples:
    """Samples with a bad picture lose it, and leave altogether where they have no table."""
    rows = np.array(list(bad), dtype=np.int64)
    table = ready.has_table
    notes = [
        "image treated as missing: " + why if table[row] else "no table, and no image: " + why
        for row, why in bad.items()
    ]
    lines = pd.DataFrame({"id": ready.id.iloc[rows].to_numpy(), "reason": notes}, dtype=str)
    image = ready.image.astype(object).where(~ready.id.index.isin(rows), None)
    dropped = pd.concat([ready.dropped, lines], ignore_index=True)
    keep = image.notna().to_numpy() | table
    if not keep.all():
        _keep_rows(target, keep)
    return dataclasses.replace(ready, image=image, dropped=dropped).take(keep)


def _keep_rows(target: Path, keep: Bool[np.ndarray, " N"]) -> None:
    before = np.load(target, mmap_mode="r")
    after = target.with_suffix(".kept")
    shape = (int(keep.sum()), *before.shape[1:])
    kept = np.lib.format.open_memmap(after, mode="w+", dtype=np.uint8, shape=shape)
    for row, old in enumerate(np.flatnonzero(keep)):
        kept[row] = before[old]
    kept.flush()
    after.replace(target)


def _assemble(ready: RawSamples, target: Path, options: PackOptions) -> PackedDataset:
    levels, classes = vocabulary(ready), sorted(ready.label.unique())
    codes = [category_codes(column(ready.category, name), found) for name, found in levels.items()]
    schema = Schema(
        name=ready.name,
        class_names=[str(name) for name in classes],
        image_size=options.image_size,
        numeric=[str(name) for name in ready.numeric.columns],
        category=levels,
        source=ready.source,
    )
    return PackedDataset(
        schema=schema,
        image=np.load(target, mmap_mode="r"),
        numeric=_numbers(ready),
        category=np.stack(codes, axis=1) if codes else np.zeros((len(ready), 0), dtype=np.int32),
        label=np.searchsorted(np.array(classes, dtype=object), ready.label.to_numpy(dtype=object)),
        sample=_sample(ready),
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
    if out.exists():
        out.rename(old)
    part.rename(out)
    shutil.rmtree(old, ignore_errors=True)
