"""How well classes part in a space of vectors: two numbers of each model, and their difference.

N samples, E size of a vector, R resamples. Intervals: bootstrap over groups, the same resamples for
both models. What a sample is compared with stays as it is, so that intervals hold the chance of who
is looked at, not of who is around.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped

from analysis.curves import bounded
from dfpl.intervals import Estimate, difference, estimate, resample_weights

NEIGHBOURS = 10
RESAMPLES = 1000
SILHOUETTE, SHARE = "silhouette", "neighbours of its class"


def scores_of(
    names: Sequence[str],
    vectors: Sequence[Float[np.ndarray, "N _"]],
    of_class: Int[np.ndarray, " N"],
    groups: Shaped[np.ndarray, " N"],
) -> pd.DataFrame:
    """One line per measure for each of two models, then one for the second minus the first."""
    drawn = resample_weights(groups, RESAMPLES, seed=0)
    weights = np.concatenate([np.ones((1, len(groups))), drawn])
    size = {"n": len(groups), "groups": len(set(groups.tolist()))}
    lines: list[dict[str, Any]] = []
    for measure, bound in ((SILHOUETTE, estimate), (SHARE, bounded)):
        sides = [_scores(measure, own, of_class, groups, weights) for own in vectors]
        found = {name: bound(side) for name, side in zip(names, sides, strict=True)}
        found[f"{names[1]} minus {names[0]}"] = Estimate(*difference(sides[1], sides[0]))
        lines += [
            {"measure": measure, "model": name, **own._asdict(), **size}
            for name, own in found.items()
        ]
    return pd.DataFrame(lines)


def _scores(
    measure: str,
    vectors: Float[np.ndarray, "N E"],
    of_class: Int[np.ndarray, " N"],
    groups: Shaped[np.ndarray, " N"],
    weights: Float[np.ndarray, "R N"],
) -> Float[np.ndarray, " R"]:
    """Of the samples as they are, then of each resample."""
    if measure == SILHOUETTE:
        return weights @ silhouettes(vectors, of_class) / weights.sum(axis=1)
    return mean_of_classes(shares(vectors, of_class, groups), of_class, weights)


def silhouettes(
    vectors: Float[np.ndarray, "N E"], of_class: Int[np.ndarray, " N"]
) -> Float[np.ndarray, " N"]:
    """(b - a) / max(a, b) of each sample (Rousseeuw 1987), with cosine distances: a, the mean to
    others of its class; b, the least mean to another class. 1: far apart, 0: alike, below: astray.
    """
    from sklearn.metrics import silhouette_samples

    return np.asarray(silhouette_samples(vectors, of_class, metric="cosine"), dtype=np.float64)


def shares(
    vectors: Float[np.ndarray, "N E"],
    of_class: Int[np.ndarray, " N"],
    groups: Shaped[np.ndarray, " N"],
) -> Float[np.ndarray, " N"]:
    """Which share of the 10 samples nearest by cosine, none of its own group, is of its class."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    directions = vectors / np.where(length > 0, length, 1.0)
    close = directions @ directions.T
    _, own = np.unique(groups, return_inverse=True)
    close[own[:, None] == own] = -np.inf
    nearest = np.argsort(-close, axis=1, kind="stable")[:, :NEIGHBOURS]
    counted = np.isfinite(np.take_along_axis(close, nearest, axis=1))
    same = counted & (of_class[nearest] == of_class[:, None])
    return same.sum(axis=1) / np.maximum(counted.sum(axis=1), 1)


def mean_of_classes(
    values: Float[np.ndarray, " N"],
    of_class: Int[np.ndarray, " N"],
    weights: Float[np.ndarray, "R N"],
) -> Float[np.ndarray, " R"]:
    """Each class counts alike, so that chance is 1 / classes; of a resample, those that it has."""
    member = (of_class[:, None] == np.arange(of_class.max() + 1)).astype(np.float64)
    count = weights @ member
    total = weights @ (member * values[:, None])
    return np.nanmean(np.where(count > 0, total / np.maximum(count, 1), np.nan), axis=1)


def line(row: dict[str, Any]) -> str:
    """A number with its interval: silhouettes as they are, shares in percent."""
    if row["measure"] == SILHOUETTE:
        return f"silhouette {row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
    value, low, high = (100 * row[name] for name in ("value", "low", "high"))
    what = f"of {NEIGHBOURS} neighbours of its class"
    return f"{value:.1f} % [{low:.1f}, {high:.1f}] {what}"
