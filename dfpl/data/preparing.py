"""From raw samples to ready ones: those with a label and content, sorted, split, and in numbers."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32, Int32, Int64

from dfpl.data.packed import EMPTY, UNSEEN
from dfpl.data.raw import PackOptions, RawSamples
from dfpl.data.split import draw_split


def prepare(samples: RawSamples, options: PackOptions) -> RawSamples:
    """Leave out what has no label or no content, sort by id, draw the split, limit infinities."""
    return limited(usable(samples, options), options)


def usable(samples: RawSamples, options: PackOptions) -> RawSamples:
    """As `prepare`, with the infinities as they are."""
    samples = samples.drop(samples.label.isna().to_numpy(), "no label")
    empty = samples.image.isna().to_numpy() & ~samples.has_table
    samples = samples.drop(empty, "neither image nor table")
    ids = samples.id.fillna("").astype(str).tolist()
    samples = samples.take(np.array(sorted(range(len(ids)), key=ids.__getitem__), dtype=np.int64))
    if samples.split is not None:
        return samples
    return dataclasses.replace(samples, split=draw_split(samples, options))


def limited(samples: RawSamples, options: PackOptions) -> RawSamples:
    """Replace each infinity by its column's extreme finite number among the training rows."""
    if options.infinite == "error":
        return samples
    numbers = numbers_of(samples)
    assert samples.split is not None
    train = numbers[(samples.split == "train").to_numpy()]
    finite = np.isfinite(train)
    numbers = np.where(np.isposinf(numbers), train.max(0, where=finite, initial=-np.inf), numbers)
    numbers = np.where(np.isneginf(numbers), train.min(0, where=finite, initial=np.inf), numbers)
    frame = pd.DataFrame(numbers, columns=samples.numeric.columns)
    return dataclasses.replace(samples, numeric=frame)


def has_content(ready: RawSamples) -> Bool[np.ndarray, " N"]:
    """Which samples have an image or a table."""
    return ready.image.notna().to_numpy() | ready.has_table


def numbers_of(samples: RawSamples) -> Float32[np.ndarray, "N Fn"]:
    """The numeric cells as they are stored; a number beyond float32 becomes an infinity."""
    with np.errstate(over="ignore"):
        return samples.numeric.to_numpy(dtype=np.float64, na_value=np.nan).astype(np.float32)


def sample_table(ready: RawSamples) -> pd.DataFrame:
    """The rows of `PackedDataset.sample`."""
    columns = {"id": ready.id, "group": ready.group, "split": ready.split}
    texts = {name: part.astype(str).where(part.notna()) for name, part in columns.items()}
    return pd.DataFrame(
        {**texts, "has_image": ready.image.notna().to_numpy(), "has_table": ready.has_table}
    )


def labels_of(
    ready: RawSamples,
) -> tuple[list[str], Int64[np.ndarray, " N"] | Float32[np.ndarray, "N C"]]:
    """The names of the classes, and the label of each sample in their order."""
    if ready.labels is not None:
        return [str(name) for name in ready.labels], ready.labels.to_numpy(dtype=np.float32)
    classes = sorted(ready.label.unique())
    place = np.searchsorted(np.array(classes, dtype=object), ready.label.to_numpy(dtype=object))
    return [str(name) for name in classes], place.astype(np.int64)


def members_of(ready: RawSamples) -> dict[str, Bool[np.ndarray, " N"]]:
    """By class, which samples are of it."""
    names, label = labels_of(ready)
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
