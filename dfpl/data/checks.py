"""What is wrong with ready samples, what a person should know of them, and how many there are."""

from collections import Counter

import numpy as np
import pandas as pd

from dfpl.data.packed import SPLITS, UNSEEN, sample_problems
from dfpl.data.preparing import (
    category_codes,
    labels_of,
    members_of,
    numbers_of,
    sample_table,
    vocabulary,
)
from dfpl.data.raw import RawSamples, column

SHOWN = 20
"""Lines of one kind that a message lists."""


def problems_of(ready: RawSamples) -> list[str]:
    """Everything in prepared samples that makes training wrong, the pictures' files apart."""
    if not len(ready):
        return ["no sample is left: none has a label and an image or a filled cell"]
    found = [*sample_problems(sample_table(ready)), *_class_problems(ready)]
    if ready.image.isna().all():
        found.append("no sample has an image; check the image column or the folder of images")
    return [*found, *_column_problems(ready)]


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
    infinite = np.isinf(numbers_of(samples))
    ids = samples.id.to_numpy()
    return [
        f"column {name!r} holds {here.sum()} infinite numbers, first in sample "
        f"{ids[here.argmax()]!r}; mend them, or choose infinite=limit"
        for name, here in zip(samples.numeric.columns, infinite.T, strict=True)
        if here.any()
    ]


def warnings_of(usable: RawSamples, ready: RawSamples) -> list[str]:
    """What a person should know: rows left out, limits taken, levels unseen in training."""
    reasons = Counter(ready.dropped["reason"].tolist())
    found = [f"{count} rows left out: {reason}" for reason, count in reasons.most_common(SHOWN)]
    infinite = (np.isinf(numbers_of(usable)) & np.isfinite(numbers_of(ready))).sum(axis=0)
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


def counts_of(ready: RawSamples) -> list[tuple[str, int | str, int | str | None]]:
    found: list[tuple[str, int | str, int | str | None]] = [
        ("samples", len(ready), None),
        ("left out", len(ready.dropped), None),
        ("groups", int(ready.group.nunique()), None),
        ("classes", len(labels_of(ready)[0]), None),
        ("with image", int(ready.image.notna().sum()), None),
        ("with table", int(ready.has_table.sum()), None),
    ]
    assert ready.split is not None
    found += [(split, int((ready.split == split).sum()), None) for split in SPLITS]
    for name, has in members_of(ready).items():
        here = Counter(ready.split[has])
        parts = ", ".join(f"{here[split]} {split}" for split in SPLITS)
        found.append((f"class {name}", f"{here.total()} ({parts})", None))
    empty = pd.concat([ready.numeric, ready.category], axis=1).isna().mean()
    return found + [(f"empty in {name}", f"{share:.1%}", None) for name, share in empty.items()]
