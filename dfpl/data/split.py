"""Raw samples without a split get train, val and test here, before they are packed."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping

import pandas as pd

from dfpl.data.packed import SPLITS, Split
from dfpl.data.raw import PackOptions, RawSamples


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
