"""What each modality adds to a score: the Shapley values of a game of two players.

The players are the image and the table, v(S) the score where only S is available:

    phi_image   = 1/2 ((v(image) - v(nothing)) + (v(both) - v(tabular)))
    phi_tabular = 1/2 ((v(tabular) - v(nothing)) + (v(both) - v(image)))
    interaction = v(both) - v(image) - v(tabular) + v(nothing)

phi_image + phi_tabular = v(both) - v(nothing). An interaction above 0 says that the two together
are worth more than each alone, one below 0 that they tell the same (Shapley, 1953; Grabisch and
Roubens, 1999). N rows, C classes, R resamples. Needs neither torch nor ray.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from dfpl.config import Metric
from dfpl.metrics import (
    Weights,
    class_ranks,
    mean_of_existing,
    probabilities,
    ratio,
    truth,
)
from dfpl.predictions import STATES, PredictionError, Predictions, correct

Values = Float[np.ndarray, "4 *shape"]
"""v of nothing, then of both, of the image and of the table alone (the order of STATES)."""


class Contribution(NamedTuple):
    image: Float[np.ndarray, "*shape"]
    tabular: Float[np.ndarray, "*shape"]
    interaction: Float[np.ndarray, "*shape"]


def shapley(values: Values) -> Contribution:
    """What each modality contributes, and what only both together do."""
    nothing, both, image, tabular = values
    return Contribution(
        image=((image - nothing) + (both - tabular)) / 2,
        tabular=((tabular - nothing) + (both - image)) / 2,
        interaction=both - image - tabular + nothing,
    )


def scores_by_class(
    predictions: Predictions, metric: Metric, weights: Weights
) -> Float[np.ndarray, "4 R C"]:
    """The score of each class in each state and without any input, under each row of weights; NaN
    for a class that cannot be scored.

    Take rows that can be in every state (`complete`), else the states are of other samples. The
    score of a class, and that of a guess that knows the share p of the class alone:

        one label per row
            accuracy, balanced_accuracy   recall; p, how often a guess drawn by the shares is right
        several labels
            accuracy                      share of right rows; p^2 + (1 - p)^2, of the same guess
            balanced_accuracy             mean of sensitivity and specificity; 1/2
        auroc                             one against the rest; 1/2
        prauc                             average precision; p, the precision of any order drawn
    """
    positive = truth(predictions.label, len(predictions.class_names))
    states = [_in_state(predictions, state, positive, metric, weights) for state in STATES]
    share = ratio(weights @ positive, np.repeat(weights.sum(1)[:, None], positive.shape[1], 1))
    guessed = _of_a_guess(share, metric, several=predictions.task == "multilabel")
    known = ~np.isnan(states[0])
    return np.stack([np.where(known, guessed, np.nan), *states])


def complete(predictions: Predictions) -> Predictions:
    """The rows that have an image and a table by nature. Raises PredictionError without any."""
    rows = np.flatnonzero(predictions.exists("both"))
    if len(rows) == 0:
        raise PredictionError("no sample has an image and a table: nothing tells them apart")
    return predictions.take(rows)


def mean_over_classes(scores: Float[np.ndarray, "4 R C"]) -> Float[np.ndarray, "4 R 1"]:
    """The mean over the classes that can be scored, in the place of a class."""
    return mean_of_existing(scores)[..., None]


def _in_state(
    predictions: Predictions,
    state: str,
    positive: Bool[np.ndarray, "N C"],
    metric: Metric,
    weights: Weights,
) -> Float[np.ndarray, "R C"]:
    logits = predictions.logits[state]
    if metric in ("auroc", "prauc"):
        by_row = np.ascontiguousarray(weights.T)
        scores = probabilities(logits, predictions.task)
        place = ("auroc", "prauc").index(metric)
        columns = zip(np.ascontiguousarray(scores.T), positive.T, strict=True)
        return np.stack([class_ranks(own, mine, by_row)[place] for own, mine in columns], axis=1)
    hits = correct(logits, predictions.label).astype(np.float64)
    recalls = ratio(weights @ (positive * hits), weights @ positive)
    if predictions.task == "multiclass":
        return recalls
    if metric == "accuracy":
        return weights @ hits / weights.sum(axis=1, keepdims=True)
    specificities = ratio(weights @ (~positive * hits), weights @ ~positive)
    return mean_of_existing(np.stack([recalls, specificities], axis=2))


def _of_a_guess(
    share: Float[np.ndarray, "R C"], metric: Metric, *, several: bool
) -> Float[np.ndarray, "R C"]:
    if metric == "auroc" or (several and metric == "balanced_accuracy"):
        return np.full_like(share, 0.5)
    if several and metric == "accuracy":
        return share**2 + (1 - share) ** 2
    return share
