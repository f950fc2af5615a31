"""From predictions and metrics to the numbers of a record: expectations, intervals, differences."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from dfpl.config import Metric
from dfpl.data.scenario import Scenario
from dfpl.metrics import (
    METRICS,
    Scores,
    Weights,
    measure,
    num_classes_scored,
    probabilities,
    truth,
    weighted_decisions,
    weighted_ranks,
    weighted_scores,
)
from dfpl.predictions import (
    PER_ROW,
    STATES,
    Label,
    PredictionError,
    Predictions,
    Task,
    expected_correct,
)


class Interval(NamedTuple):
    """Where a score lies but for chance; NaN where it exists in no resample."""

    low: float
    high: float


class Estimate(NamedTuple):
    """A score and its interval."""

    value: float
    low: float
    high: float


class Difference(NamedTuple):
    """The score of `a` minus that of `b`, and its interval."""

    difference: float
    low: float
    high: float


def resample_weights(
    groups: Shaped[np.ndarray, " N"], resamples: int, seed: int | list[int]
) -> Weights:
    """How often each row occurs when as many groups as there are are drawn with replacement.

    Groups are drawn by the order of their names, so the order of the rows does not matter.
    """
    names, group_of_row = np.unique(groups, return_inverse=True)
    G = len(names)
    drawn = np.random.default_rng(seed).integers(0, G, (resamples, G))
    drawn += G * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.reshape(-1), minlength=resamples * G).reshape(resamples, G)
    return counts.astype(np.float64)[:, group_of_row]


def interval_of(
    logits: Float[np.ndarray, "N C"],
    label: Label,
    groups: Shaped[np.ndarray, " N"],
    task: Task,
    *,
    resamples: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Intervals of the four metrics for one selection of rows, from resampled groups."""
    weights = _unit_and_resampled(groups, resamples, seed)
    scores = weighted_scores(logits, label, weights, task)
    return _intervals({metric: found[0] for metric, found in scores.items()}, scores, level)


def expected(predictions: Predictions, scenario: Scenario, *, draws: int = 20) -> dict[str, float]:
    """The metrics under a scenario, whichever samples it happens to hit.

    Accuracy and balanced accuracy are exact expectations over all draws; AUROC and PRAUC are
    means over `draws` of them.
    """
    return _expected(predictions, scenario, _resampled_draws(predictions, scenario, draws, 0, 0))


def interval(
    predictions: Predictions,
    scenario: Scenario,
    *,
    draws: int = 20,
    resamples: int = 10,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Intervals of the metrics under one draw of a scenario, on one sample of groups.

    Each of `draws` draws of who is incomplete is met by `resamples` resamples of its own. So the
    interval holds both sources of chance, as a number measured once (the paper's) does.
    """
    scores = _resampled_draws(predictions, scenario, draws, resamples, seed)
    return _intervals(_expected(predictions, scenario, scores), scores, level)


def paired_difference(
    a: Sequence[Predictions],
    b: Sequence[Predictions],
    scenario: Scenario,
    metric: Metric,
    *,
    draws: int = 20,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """How much better `a` is than `b` (each a list over seeds) on the same samples and masks.

        difference = mean over seeds of score(a) - mean over seeds of score(b)

    Both sides get the same resamples of groups, so what makes a sample hard for both cancels;
    the interval is that of the difference expected over mask draws, for the seeds given.
    """
    first = a[0]
    weights = _unit_and_resampled(first.groups, resamples, seed)
    of_a = _over_seeds(a, first, scenario, metric, weights, draws)
    gap = of_a - _over_seeds(b, first, scenario, metric, weights, draws)
    return Difference(float(gap[0]), *_around(gap[0], gap[1:], level))


def mean_over_seeds(
    runs: Sequence[Predictions],
    scenario: Scenario,
    metric: Metric,
    *,
    draws: int = 20,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Score of one config, a list over seeds: expected over mask draws, averaged over seeds, with
    the bootstrap interval over groups for the seeds given."""
    weights = _unit_and_resampled(runs[0].groups, resamples, seed)
    scores = _over_seeds(runs, runs[0], scenario, metric, weights, draws)
    return Estimate(float(scores[0]), *_around(scores[0], scores[1:], level))


def _over_seeds(
    runs: Sequence[Predictions],
    first: Predictions,
    scenario: Scenario,
    metric: Metric,
    weights: Weights,
    draws: int,
) -> Float[np.ndarray, " R"]:
    """The score of each resample, averaged over runs that are put in the order of `first`."""
    aligned = [_same_samples(run, first) for run in runs]
    if metric in ("accuracy", "balanced_accuracy"):
        scores = [_expected_decisions(run, scenario, weights) for run in aligned]
    else:
        scores = [_expected_ranks(run, scenario, weights, draws) for run in aligned]
    return np.mean([found[metric] for found in scores], axis=0)


def summarise(predictions: Predictions, scenario: Scenario) -> dict[str, float]:
    """All numbers of one split for a record: under the scenario, and in each of the states.

    Keys are `scenario/accuracy`, `scenario/accuracy_low`, `both/accuracy`, ..., and `n` and
    `classes_scored` for each. A state counts the rows that can be in it. A metric that does not
    exist (no class to score) has no key, a state that no row can be in has `n` alone.
    """
    if len(splits := np.unique(predictions.split).tolist()) != 1:
        raise PredictionError(f"summarise takes the rows of one split, got {splits}")
    scores = _resampled_draws(predictions, scenario, draws=20, resamples=10, seed=0)
    means = _expected(predictions, scenario, scores)
    found = dict(_named("scenario", predictions, means, _intervals(means, scores, level=0.95)))
    for state in STATES:
        part = predictions.take(np.flatnonzero(predictions.exists(state)))
        if len(part) == 0:
            found[f"{state}/n"] = 0.0
            continue
        rows = part.logits[state], part.label
        scores = measure(*rows, part.task)
        found.update(_named(state, part, scores, interval_of(*rows, part.groups, part.task)))
    return found


def _named(
    prefix: str,
    predictions: Predictions,
    scores: dict[str, float],
    intervals: dict[str, Interval],
) -> Iterator[tuple[str, float]]:
    """Yield what exists under the names of a record."""
    yield f"{prefix}/n", float(len(predictions))
    num_classes = len(predictions.class_names)
    yield f"{prefix}/classes_scored", float(num_classes_scored(predictions.label, num_classes))
    for metric in METRICS:
        low, high = intervals[metric]
        for end, value in (("", scores[metric]), ("_low", low), ("_high", high)):
            if np.isfinite(value):
                yield f"{prefix}/{metric}{end}", float(value)


def _draws(
    predictions: Predictions, scenario: Scenario, draws: int
) -> Iterator[Float[np.ndarray, "N C"]]:
    """Yield the logits picked by several draws of a scenario; the first is its own."""
    for draw in range(draws):
        yield predictions.pick_scenario(scenario.with_values({"seed": scenario.seed + draw}))


def _unit_and_resampled(
    groups: Shaped[np.ndarray, " N"], resamples: int, seed: int | list[int]
) -> Weights:
    """The rows as they are, then resampled."""
    return np.concatenate([np.ones((1, len(groups))), resample_weights(groups, resamples, seed)])


def _resampled_draws(
    predictions: Predictions, scenario: Scenario, draws: int, resamples: int, seed: int
) -> dict[str, Float[np.ndarray, "draws R"]]:
    """Scores of each draw: in column 0 of the rows as they are, then of resampled groups."""
    found = [
        weighted_scores(
            logits,
            predictions.label,
            _unit_and_resampled(predictions.groups, resamples, [seed, draw]),
            predictions.task,
        )
        for draw, logits in enumerate(_draws(predictions, scenario, draws))
    ]
    return {metric: np.stack([scores[metric] for scores in found]) for metric in METRICS}


def _expected(
    predictions: Predictions,
    scenario: Scenario,
    scores: dict[str, Float[np.ndarray, "draws R"]],
) -> dict[str, float]:
    exact = _expected_decisions(predictions, scenario, np.ones((1, len(predictions))))
    means = {metric: found[:, 0].mean() for metric, found in scores.items()}
    return {**{m: float(v) for m, v in means.items()}, **{m: float(v[0]) for m, v in exact.items()}}


def _intervals(
    means: dict[str, float], scores: dict[str, Float[np.ndarray, "*draws R"]], level: float
) -> dict[str, Interval]:
    """Intervals around the means, within the range of a score; column 0 is not a resample."""
    found = {}
    for metric, mean in means.items():
        low, high = _around(mean, scores[metric][..., 1:].reshape(-1), level)
        found[metric] = Interval(max(low, 0.0), min(high, 1.0))  # NaN stays NaN
    return found


def _expected_decisions(predictions: Predictions, scenario: Scenario, weights: Weights) -> Scores:
    """Accuracy and balanced accuracy, expected over all draws, under each row of weights."""
    hits = expected_correct(predictions, scenario)
    positive = truth(predictions.label, len(predictions.class_names))
    return weighted_decisions(hits, positive, weights)


def _expected_ranks(
    predictions: Predictions, scenario: Scenario, weights: Weights, draws: int
) -> Scores:
    positive = truth(predictions.label, len(predictions.class_names))
    found = [
        weighted_ranks(probabilities(logits, predictions.task), positive, weights)
        for logits in _draws(predictions, scenario, draws)
    ]
    return {name: np.mean([scores[name] for scores in found], axis=0) for name in found[0]}


def _same_samples(run: Predictions, first: Predictions) -> Predictions:
    """The rows of `run` in the order of `first`, which must be the same samples."""
    run = run.in_order_of(first.ids)
    if not all(np.array_equal(getattr(run, name), getattr(first, name)) for name in PER_ROW):
        raise PredictionError("the predictions differ in groups, split, labels or modalities")
    return run


def _around(
    score: float | np.floating, resampled: Float[np.ndarray, " R"], level: float
) -> Interval:
    """The quantiles of the resampled scores, moved so that their mean is the score.

    Resampling repeats rows. A repeated positive of a rare class ranks with itself, so resampled
    PRAUC lies too high: with 70 positives per class its quantiles missed the score altogether.
    """
    exists = resampled[~np.isnan(resampled)]
    if len(exists) == 0:
        return Interval(np.nan, np.nan)
    low, high = np.quantile(exists, [(1 - level) / 2, (1 + level) / 2]) - exists.mean() + score
    return Interval(float(low), float(high))
