"""AUROC and average precision from logits in three states: each class is sorted once.

N rows, R draws, T rates, A strata, P places, M rows that move. What a class ranks are rows in a
state; a draw only says which of them count. Needs neither torch nor ray.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from dfpl.draws import Moves, Strata
from dfpl.metrics import BLOCK, Probabilities, Weights, areas, at_levels, places, truth
from dfpl.predictions import STATES, Predictions

IN_CACHE = 2**16
"""Numbers that several draws are worked through with at once."""


@dataclass(frozen=True)
class ClassRanks:
    """Where each row, in each state, ranks for one class among all rows in all states."""

    place: Int[np.ndarray, "3 N"]
    num_levels: int
    num_places: int
    positive: Bool[np.ndarray, " N"]


def ranks_of_classes(predictions: Predictions) -> Iterator[ClassRanks]:
    """Yield the ranks of one class after the other; a few classes are in memory at a time."""
    num_classes = len(predictions.class_names)
    positive = truth(predictions.label, num_classes)
    exists = [predictions.exists(state) for state in STATES]
    known = [
        Probabilities.of(_only(predictions.logits[state], rows), predictions.task)
        for state, rows in zip(STATES, exists, strict=True)
    ]
    size = max(1, BLOCK // max(1, len(STATES) * len(predictions)))
    for start in range(0, num_classes, size):
        part = slice(start, min(start + size, num_classes))
        scores = np.full((part.stop - start, len(STATES), len(predictions)), np.nan)
        for state, (rows, found) in enumerate(zip(exists, known, strict=True)):
            scores[:, state, rows] = found.of_classes(part).T
        for own, column in zip(scores, range(start, part.stop), strict=True):
            mine = positive[:, column]
            place, num_levels, num_places = places(own.ravel(), np.tile(mine, len(STATES)))
            yield ClassRanks(place.reshape(own.shape), num_levels, num_places, mine)


def _only(logits: Float[np.ndarray, "N C"], rows: Bool[np.ndarray, " N"]) -> np.ndarray:
    return logits if rows.all() else logits[rows]


def pairs_won(
    ranks: ClassRanks, strata: Strata, weight: Float[np.ndarray, " N"]
) -> Float[np.ndarray, "A A"]:
    """How many positives of one stratum rank above negatives of another, ties counting half."""
    at = strata.of * ranks.num_places + ranks.place.ravel()[strata.at]
    found = np.bincount(at, weight[strata.row], len(strata) * ranks.num_places)
    by_stratum = found.reshape(len(strata), ranks.num_places)
    positives, _, beaten = at_levels(by_stratum, ranks.num_levels)
    return np.einsum("ak,bk->ab", positives, beaten)


def areas_of_draws(
    ranks: ClassRanks,
    home: Int[np.ndarray, " N"],
    moves: Moves,
    weights: Weights | None = None,
) -> tuple[Float[np.ndarray, "R T"], Float[np.ndarray, "R T"]]:
    """AUROC and average precision of each draw at each rate; a draw may have weights of its own."""
    T, P = moves.num_steps, ranks.num_places
    at_home = ranks.place[home, np.arange(len(home))]
    start, moved = np.bincount(at_home, minlength=P), None
    size = max(1, IN_CACHE // (T * P + len(home)))
    slot = P * (T * np.arange(size)[:, None] + moves.step)
    found = []
    for first in range(0, len(moves.row), size):
        own = moves[first : first + size]
        if weights is not None:
            weight = weights[first : first + size]
            start = _sums(P * np.arange(len(weight))[:, None] + at_home, weight, len(weight) * P)
            moved = np.take_along_axis(weight, own.row.astype(np.intp), axis=1)
        change = _change(ranks, own, slot, moved)
        change[:, 0] += start.reshape(-1, P)
        for step in range(1, T):
            change[:, step] += change[:, step - 1]
        found.append(areas(change, ranks.num_levels))
    auroc, precision = zip(*found, strict=True)
    return np.concatenate(auroc), np.concatenate(precision)


def _change(
    ranks: ClassRanks,
    moves: Moves,
    slot: Int[np.ndarray, "draws M"],
    weight: Float[np.ndarray, "R M"] | None,
) -> Shaped[np.ndarray, "R T P"]:
    """What each place gains at each step; `slot` is where those of a draw and a step begin."""
    R, T, P = len(moves.row), moves.num_steps, ranks.num_places
    place = ranks.place.ravel()
    came, left = (
        _sums(slot[:R] + place.take(at.astype(np.intp)), weight, R * T * P)
        for at in (moves.to, moves.row)
    )
    return (came - left).reshape(R, T, P)


def _sums(
    at: Int[np.ndarray, "R N"], weight: Float[np.ndarray, "R N"] | None, size: int
) -> Shaped[np.ndarray, " size"]:
    """Add up the weights of what is at the same place."""
    if weight is None:
        return np.bincount(at.ravel(), minlength=size)
    return np.bincount(at.ravel(), weight.ravel(), size).astype(np.float64, copy=False)
