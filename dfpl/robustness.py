"""How good a model is whatever goes missing: curves over rates, from one pass over the rows.

N rows, L predictions of a row, S scenarios, R draws or resamples, T rates, A strata. Accuracy and
balanced accuracy are linear in what is right, AUROC in pairs of rows: their expectations over
mask draws are exact. PRAUC is not linear; it is averaged over draws. Needs neither torch nor ray.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from dfpl.config import Metric
from dfpl.data.scenario import PATTERNS, Pattern, Scenario
from dfpl.draws import Moves, Strata, draw_moves, states_by_nature
from dfpl.metrics import METRICS, Weights, decision_shares, mean_of_existing, ratio
from dfpl.predictions import STATES, PredictionError, Predictions, correct
from dfpl.ranks import areas_of_draws, pairs_won, ranks_of_classes

DECISIONS: tuple[Metric, ...] = ("accuracy", "balanced_accuracy")
RANKS: tuple[Metric, ...] = ("auroc", "prauc")


class Point(NamedTuple):
    """One metric under one scenario; a list of these makes a data frame."""

    scenario: str
    pattern: Pattern
    rate: float
    metric: Metric
    value: float
    """Expected over all draws of who is incomplete; for PRAUC, the mean over `draws` of them."""
    low: float
    high: float
    """What a single draw gives lies between these, for the same rows."""
    draws: int
    n: int


def curves(
    predictions: Predictions,
    scenarios: Sequence[Scenario],
    *,
    metrics: Sequence[Metric] = METRICS,
    draws: int = 100,
    level: float = 0.95,
    seed: int = 0,
) -> list[Point]:
    """Each metric under each scenario, with the interval over mask draws.

    The scenarios of a pattern share their draws, nested in the rate, so a curve is smooth. The
    interval says nothing of other rows than these: `intervals.intervals_around` does.
    """
    drawn = scores_of_draws(predictions, scenarios, metrics, draws=draws, seed=seed)
    means = expectations(predictions, scenarios, metrics)
    found = []
    for metric in metrics:
        values = means[metric][:, 0] if metric in means else drawn[metric].mean(axis=1)
        ends = np.quantile(drawn[metric], [(1 - level) / 2, (1 + level) / 2], axis=1)
        for scenario, value, low, high in zip(scenarios, values, *ends, strict=True):
            facts = str(scenario), scenario.pattern, scenario.rate, metric
            numbers = float(value), float(low), float(high)
            found.append(Point(*facts, *numbers, draws, len(predictions)))
    return found


def expectations(
    predictions: Predictions,
    scenarios: Sequence[Scenario],
    metrics: Sequence[Metric] = METRICS,
    weights: Weights | None = None,
) -> dict[str, Float[np.ndarray, "S R"]]:
    """What the metrics are expected to be over all draws: exact. There is none for PRAUC.

    For each row of weights; without any, of the rows as they are.
    """
    weights = np.ones((1, len(predictions))) if weights is None else weights
    strata = Strata.among(predictions)
    found: dict[str, Float[np.ndarray, "S R"]] = {}
    if wanted := [metric for metric in DECISIONS if metric in metrics]:
        both = _expected_decisions(predictions, scenarios, strata, weights)
        found |= {metric: both[DECISIONS.index(metric)] for metric in wanted}
    if "auroc" in metrics:
        found["auroc"] = _expected_auroc(predictions, scenarios, strata, weights)
    return found


def _expected_decisions(
    predictions: Predictions, scenarios: Sequence[Scenario], strata: Strata, weights: Weights
) -> Float[np.ndarray, "2 S R"]:
    """E[score] = sum over strata of  P(a row of it is in its state) * (its share of the score)"""
    shares = np.stack([strata.shares(scenario) for scenario in scenarios])
    parts_of = _parts_of_one_label if predictions.label.ndim == 1 else _parts_of_labels
    return shares @ parts_of(predictions, strata, weights)


def _parts_of_one_label(
    predictions: Predictions, strata: Strata, weights: Weights
) -> Float[np.ndarray, "2 A R"]:
    """What each stratum adds to both scores, from the weight of what is right by class."""
    A, C, label = len(strata), len(predictions.class_names), predictions.label
    right = _hits(predictions).ravel()[strata.at]
    row = strata.row[right]
    cell = strata.of[right] * C + label[row]
    parts = np.empty((2, A, len(weights)))
    for column, weight in enumerate(weights):
        found = np.bincount(cell, weight[row], A * C).reshape(A, C)
        of_class = np.bincount(label, weight, C)
        there = of_class > 0
        parts[0, :, column] = ratio(found.sum(axis=1), np.full(A, weight.sum()))
        recalls = found[:, there] / of_class[there]
        parts[1, :, column] = ratio(recalls.sum(axis=1), np.full(A, float(there.sum())))
    return np.nan_to_num(parts)


def _parts_of_labels(
    predictions: Predictions, strata: Strata, weights: Weights
) -> Float[np.ndarray, "2 A R"]:
    hits = _hits(predictions)
    parts = np.empty((2, len(strata), len(weights)))
    for column, weight in enumerate(weights):
        for metric, values in enumerate(_values(predictions, hits, weight)):
            parts[metric, :, column] = np.bincount(strata.of, values[strata.at], len(strata))
    return parts


def _expected_auroc(
    predictions: Predictions, scenarios: Sequence[Scenario], strata: Strata, weights: Weights
) -> Float[np.ndarray, "S R"]:
    """Mean over classes of

    E[AUROC] = sum over pairs of strata (a, b) of  P(a positive is in a and a negative in b)
               * (the positives of a that rank above negatives of b) / (P N)
    """
    pairs = np.stack([strata.pairs(scenario) for scenario in scenarios])
    found = []
    for ranks in ranks_of_classes(predictions):
        won = np.stack([pairs_won(ranks, strata, weight) for weight in weights])
        P = weights[:, ranks.positive].sum(axis=1)
        found.append(ratio(np.tensordot(pairs, won, ([1, 2], [1, 2])), P * (weights.sum(1) - P)))
    return mean_of_existing(np.stack(found, axis=-1))


def scores_of_draws(
    predictions: Predictions,
    scenarios: Sequence[Scenario],
    metrics: Sequence[Metric] = METRICS,
    *,
    draws: int,
    seed: int,
    weights: Weights | None = None,
) -> dict[str, Float[np.ndarray, "S R"]]:
    """The metrics under each of `draws` draws of each scenario; each draw may have weights."""
    if len(predictions) == 0:
        raise PredictionError("there are no rows to score")
    if draws < 1:
        raise PredictionError(f"draws must be at least 1, got {draws}")
    asked = {scenario.pattern for scenario in scenarios}
    patterns: list[Pattern] = [pattern for pattern in PATTERNS if pattern in asked]
    rates = {p: sorted({s.rate for s in scenarios if s.pattern == p}) for p in patterns}
    moves = [draw_moves(predictions, p, rates[p], draws, seed) for p in patterns]
    columns = [(p, rate) for p in patterns for rate in rates[p]]
    of_scenario = [columns.index((s.pattern, s.rate)) for s in scenarios]
    found: dict[str, Float[np.ndarray, "S R"]] = {}
    for kind, score in ((DECISIONS, _draw_decisions), (RANKS, _draw_ranks)):
        if set(kind) & set(metrics):
            scores = score(predictions, moves, weights)
            found |= {m: scores[i][of_scenario] for i, m in enumerate(kind) if m in metrics}
    return found


def _draw_decisions(
    predictions: Predictions, moves: Sequence[Moves], weights: Weights | None
) -> Float[np.ndarray, "2 T R"]:
    """Sums of shares, changed by the rows that move."""
    N, hits = len(predictions), _hits(predictions)
    at_home = N * states_by_nature(predictions) + np.arange(N)
    found = [np.empty((2, own.num_steps, len(own.row))) for own in moves]
    values = start = np.zeros(0)
    for draw in range(len(moves[0].row)):
        if draw == 0 or weights is not None:
            weight = np.ones(N) if weights is None else weights[draw]
            values = _values(predictions, hits, weight)
            start = values[:, at_home].sum(axis=1, keepdims=True)
        for own, scores in zip(moves, found, strict=True):
            change = np.zeros((2, own.row.shape[1] + 1))
            np.cumsum(values[:, own.to[draw]] - values[:, own.row[draw]], 1, out=change[:, 1:])
            scores[:, :, draw] = start + change[:, own.num_moved]
    return np.concatenate(found, axis=1)


def _draw_ranks(
    predictions: Predictions, moves: Sequence[Moves], weights: Weights | None
) -> Float[np.ndarray, "2 T R"]:
    home = states_by_nature(predictions)
    classes = [
        np.concatenate([areas_of_draws(ranks, home, own, weights) for own in moves], axis=2)
        for ranks in ranks_of_classes(predictions)
    ]
    return mean_of_existing(np.stack(classes, axis=-1)).swapaxes(1, 2)


def _hits(predictions: Predictions) -> Bool[np.ndarray, "3 N L"]:
    """What is right, by state; of no meaning where a row cannot be in the state."""
    return np.stack([correct(predictions.logits[state], predictions.label) for state in STATES])


def _values(
    predictions: Predictions, hits: Bool[np.ndarray, "3 N L"], weight: Float[np.ndarray, " N"]
) -> Float[np.ndarray, "2 threeN"]:
    """What each row, in each state, adds to accuracy and balanced accuracy."""
    shares = decision_shares(predictions.label, len(predictions.class_names), weight)
    return np.einsum("mnl,snl->msn", shares, hits).reshape(2, -1)
