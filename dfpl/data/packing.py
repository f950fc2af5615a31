"""From raw samples to a PackedDataset: what every source shares.

A source reads its files into `RawSamples`; `check` lists all that is wrong with them, and `pack`
does the rest: rows sorted by id, split, pixels, codes, and a folder that is there whole or not.
"""

import dataclasses
import hashlib
import json
import os
import shutil
import sys
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32, Int32, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import Field, model_validator

from dfpl.data.packed import (
    EMPTY,
    SPLITS,
    UNSEEN,
    DataError,
    PackedDataset,
    Schema,
    Split,
    sample_problems,
)
from dfpl.fields import Config, ConfigError

Vocabulary = Mapping[str, list[str]]
"""The levels of each categorical column, in order of their codes."""

PROBED = 20  # pictures that `check` decodes
SHOWN = 20  # bad files that a message lists
CHUNK = 64  # pictures that a worker process reads at a time


@dataclass(frozen=True, kw_only=True)
class RawSamples:
    """What a source found: one row per sample in every member, in the same order."""

    name: str
    """Name of the data set."""
    source: str
    """Adapter and version of the raw data, for the schema."""
    id: pd.Series
    """Unique text."""
    group: pd.Series
    """Text: samples of one group (patient, lesion) never lie in two splits."""
    label: pd.Series
    """Class name as text; empty: the sample is left out, with that reason."""
    split: pd.Series | None
    """train, val or test; None: drawn by `pack`, by group, stratified by label."""
    image: pd.Series
    """Path of the picture, or None where the sample has none."""
    numeric: pd.DataFrame
    """Float columns, NaN for an empty cell."""
    category: pd.DataFrame
    """Text columns, None for an empty cell."""
    dropped: pd.DataFrame
    """Rows left out so far: columns id, reason."""

    def __post_init__(self) -> None:
        assert {len(part) for part in self._rowwise().values()} == {len(self)}

    def __len__(self) -> int:
        return len(self.id)

    @property
    def has_table(self) -> Bool[np.ndarray, " N"]:
        """Whether any cell of the sample is filled."""
        filled = [self.numeric.notna().to_numpy(), self.category.notna().to_numpy()]
        return np.asarray(np.concatenate(filled, axis=1).any(axis=1))

    def take(self, rows: np.ndarray) -> "RawSamples":
        """The samples at these positions, or where this mask is True, numbered anew."""
        parts: dict[str, Any] = {
            name: part.iloc[rows].reset_index(drop=True) for name, part in self._rowwise().items()
        }
        return dataclasses.replace(self, **parts)

    def drop(self, bad: Bool[np.ndarray, " N"], reason: str | Sequence[str]) -> "RawSamples":
        """The samples outside the mask; the others go to `dropped` with their reason."""
        lines = pd.DataFrame({"id": self.id[bad].astype(str), "reason": reason}, dtype=str)
        dropped = pd.concat([self.dropped, lines], ignore_index=True)
        return dataclasses.replace(self.take(~bad), dropped=dropped)

    def _rowwise(self) -> dict[str, pd.Series | pd.DataFrame]:
        names = ("id", "group", "label", "split", "image", "numeric", "category")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


def column(frame: pd.DataFrame, name: str) -> pd.Series:
    """One column of a frame whose column names are unique."""
    found = frame[name]
    assert isinstance(found, pd.Series)
    return found


def nothing_dropped() -> pd.DataFrame:
    """The `dropped` member of a source that left out no row."""
    return pd.DataFrame({"id": [], "reason": []}, dtype=str)


class PackOptions(Config):
    """How raw samples become a packed data set."""

    image_size: Annotated[int, Field(ge=8)] = 128
    """Height and width in pixels."""
    bad_image: Literal["error", "treat_as_missing"] = "error"
    """What to do with a picture that is absent, truncated or no image: list all and stop, or go on
    with the image modality absent for that sample (listed in dropped.parquet)."""
    infinite: Literal["error", "limit"] = "error"
    """What to do with infinite numbers, as in a laboratory value beyond the limit of detection:
    list the columns and stop, or take the largest (smallest) finite number of the column among the
    training rows."""
    val: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the samples in the validation split, where the split is drawn."""
    test: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the samples in the test split, where the split is drawn."""
    split_seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the split, where it is drawn."""

    @model_validator(mode="after")
    def _something_is_left_to_train(self) -> "PackOptions":
        if self.val + self.test >= 1:
            raise ConfigError(
                f"val + test must leave a share for training, got {self.val} + {self.test}"
            )
        return self


@dataclass(frozen=True, kw_only=True)
class Report:
    """What `dfpl data check` prints: counts next to what was expected, and all problems at once."""

    counts: list[tuple[str, int | str, int | str | None]] = field(default_factory=list)
    """(what, found, expected or None)."""
    problems: list[str] = field(default_factory=list)
    """What makes training impossible."""
    warnings: list[str] = field(default_factory=list)
    """What a person should know and may accept."""


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


def draw_split(samples: RawSamples, options: PackOptions) -> pd.Series:
    """Draw train, val and test by group, so that each class has its share in each.

    Groups are dealt one after another, large ones first and else in an order drawn from
    `split_seed` and their names, each to the split where it lowers the misfit most:

        sum over classes c and splits s of  (filled_cs - target_cs)^2 / target_cs

    A class with three groups or more is in every split, unless another class that shares a group
    with it needs that group elsewhere. Row order has no influence.
    """
    seed, shares = options.split_seed, {"val": options.val, "test": options.test}
    shares = {"train": 1 - options.val - options.test, **shares}
    groups = samples.group.fillna("").tolist()
    content: dict[str, Counter[str]] = defaultdict(Counter)
    for group, label in zip(groups, samples.label.tolist(), strict=True):
        content[group][label] += 1
    target = Counter(samples.label.tolist())
    left = Counter(label for counts in content.values() for label in counts)
    filled: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    place: dict[str, str] = {}

    def misfit(split: str) -> float:
        aims = {label: shares[split] * target[label] for label in sorted(counts)}
        return sum(
            counts[label] * (counts[label] - 2 * (aim - filled[split][label])) / aim
            for label, aim in aims.items()
        )

    def order(group: str) -> tuple[int, bytes]:
        lot = hashlib.blake2b(f"{seed}/{group}".encode(), digest_size=8).digest()
        return -content[group].total().bit_length(), lot

    for group in sorted(content, key=order):
        counts = content[group]
        place[group] = min(_lacking(counts, left, filled) or SPLITS, key=misfit)
        filled[place[group]].update(counts)
        left.subtract(counts.keys())
    return pd.Series([place[group] for group in groups], dtype=str)


def _lacking(
    counts: Counter[str], left: Counter[str], filled: Mapping[str, Counter[str]]
) -> list[Split]:
    """The splits that must get this group, because a class has no more groups than gaps."""
    for label in sorted(counts):
        gaps: list[Split] = [split for split in SPLITS if not filled[split][label]]
        if gaps and left[label] <= len(gaps):
            return gaps
    return []


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


def read_image(path: Path, size: int) -> UInt8[np.ndarray, "S S 3"]:
    """Read a picture as RGB of `size` x `size` pixels. Raises DataError with path and reason.

    The whole picture is resized, whatever its shape; it is turned as its EXIF tag says, laid on
    white where it is transparent, and greys of more than 8 bits are stretched from its own
    darkest to its own brightest. A picture over Pillow's limit of pixels is refused undecoded.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                picture.draft("RGB", (2 * size, 2 * size))
                ImageOps.exif_transpose(picture, in_place=True)
                rgb = _as_rgb(picture)
        resized = rgb.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=2.0)
        return np.asarray(resized, dtype=np.uint8)
    except Exception as error:  # damaged files make Pillow raise nearly anything
        raise DataError(f"{path}: {_reason(path, error)}") from None


def _as_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith(("I", "F")):  # convert() would clip them at 255
        grey = np.asarray(picture, dtype=np.float64)
        if not np.isfinite(grey).all():
            raise ValueError("its pixels are not all finite")
        low, high = grey.min(), grey.max()
        scaled = (grey - low) * (255 / max(high - low, 1e-12))
        picture = Image.fromarray(scaled.round().astype(np.uint8))
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


def _reason(path: Path, error: Exception | None) -> str:
    """Why a picture cannot be read; empty if it is a file and nothing went wrong."""
    if not path.exists():
        return "there is no such file"
    if not path.is_file():
        return "it is not a file"
    match error:
        case None:
            return ""
        case UnidentifiedImageError():
            return f"it is no image that Pillow knows ({path.stat().st_size} bytes)"
        case Image.DecompressionBombWarning() | Image.DecompressionBombError():
            return f"it is too large, refused undecoded: {error}"
        case _:
            return f"it is truncated or damaged: {error or type(error).__name__}"


def _probe(ready: RawSamples, options: PackOptions) -> list[tuple[int, str]]:
    jobs = _jobs(ready)
    bad = {row: f"{path}: {why}" for row, path in jobs if (why := _reason(Path(path), None))}
    for at in np.unique(np.linspace(0, len(jobs) - 1, min(PROBED, len(jobs)), dtype=np.int64)):
        row, path = jobs[at]
        try:
            read_image(Path(path), options.image_size)
        except DataError as error:
            bad[row] = str(error)
    return sorted(bad.items())


def _jobs(ready: RawSamples) -> list[tuple[int, str]]:
    """(row, path) of each sample that should have a picture."""
    return [(row, str(path)) for row, path in enumerate(ready.image) if not pd.isna(path)]


def _bad_images(bad: Sequence[str], options: PackOptions) -> str:
    lines = [*bad[:SHOWN], *([f"and {len(bad) - SHOWN} more"] if len(bad) > SHOWN else [])]
    rule = "mend them, or choose bad_image=treat_as_missing to go on without them"
    if options.bad_image == "treat_as_missing":
        rule = "these samples lose the image modality"
    return "\n  ".join([f"{len(bad)} images cannot be read; {rule}:", *lines])


def write_images(target: Path, jobs: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    """Read pictures into their rows of `target`; return (row, what is wrong) of the bad ones."""
    pixels = np.load(target, mmap_mode="r+")
    bad = []
    for row, path in jobs:
        try:
            pixels[row] = read_image(Path(path), pixels.shape[1])
        except DataError as error:
            bad.append((row, str(error)))
    return bad


def _read_images(target: Path, jobs: list[tuple[int, str]], workers: int) -> dict[int, str]:
    """Fill `target` by `workers` processes; return what is wrong with which row, sorted."""
    chunks = [jobs[start : start + CHUNK] for start in range(0, len(jobs), CHUNK)]
    bad: list[tuple[int, str]] = []
    with _progress(len(jobs)) as advance:
        if workers == 1:
            for chunk in chunks:
                bad += write_images(target, chunk)
                advance(len(chunk))
            return dict(bad)
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            sizes = {pool.submit(write_images, target, chunk): len(chunk) for chunk in chunks}
            try:
                for done in as_completed(sizes):
                    bad += done.result()
                    advance(sizes[done])
            except BrokenProcessPool:
                raise DataError(
                    f"one of {workers} processes that read images was killed, perhaps for want of "
                    "memory; try fewer workers"
                ) from None
            finally:
                pool.shutdown(cancel_futures=True)
    return dict(sorted(bad))


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Show how many of `total` pictures are read: a bar on a terminal, else a line each 10 s."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(*Progress.get_default_columns(), console=Console(stderr=True)) as bar:
            task = bar.add_task("images", total=total)
            yield lambda count: bar.advance(task, count)
        return
    start = told = time.monotonic()
    done = 0

    def advance(count: int) -> None:
        nonlocal done, told
        done, now = done + count, time.monotonic()
        if now - told >= 10 or done == total:
            told, rate = now, done / max(now - start, 1e-9)
            left = f"{(total - done) / rate:.0f} s left"
            print(f"images: {done} of {total}, {rate:.0f} per second, {left}", file=sys.stderr)

    yield advance


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
