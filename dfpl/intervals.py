"""From predictions and metrics to the numbers of a record: expectations, intervals, differences."""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from math import erfc, sqrt
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from dfpl.config import Metric
from dfpl.data.scenario import Scenario
from dfpl.draws import states_of_draws
from dfpl.metrics import (
    METRICS,
    Weights,
    measure,
    num_classes_scored,
    probabilities,
    truth,
    weighted_ranks,
    weighted_scores,
)
from dfpl.predictions import STATES, Label, PredictionError, Predictions, Task
from dfpl.robustness import Point, curves, expectations, scores_of_draws


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


def resample_weights(groups: Shaped[np.ndarray, " N"], resamples: int, seed: int) -> Weights:
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
    return {m: _interval(float(found[0]), found[1:], level) for m, found in scores.items()}


def expected(predictions: Predictions, scenario: Scenario, *, draws: int = 100) -> dict[str, float]:
    """The metrics under a scenario, whichever samples it happens to hit.

    Accuracy, balanced accuracy and AUROC are exact expectations over all draws; PRAUC is the
    mean over `draws` of them.
    """
    return {point.metric: point.value for point in curves(predictions, [scenario], draws=draws)}


def intervals_around(
    points: Sequence[Point],
    predictions: Predictions,
    *,
    draws: int = 100,
    level: float = 0.95,
    seed: int = 0,
) -> list[Interval]:
    """For each point of `robustness.curves`, what another draw gives on other groups.

    Each draw of who is incomplete meets a resample of the groups of its own. So the interval
    holds both sources of chance, as a number measured once (the paper's) does; `low` and `high`
    of a point hold the first alone.
    """
    scenarios = list(dict.fromkeys(Scenario(pattern=p.pattern, rate=p.rate) for p in points))
    asked = {point.metric for point in points}
    metrics: list[Metric] = [metric for metric in METRICS if metric in asked]
    weights = resample_weights(predictions.groups, draws, seed)
    scores = scores_of_draws(
        predictions, scenarios, metrics, draws=draws, seed=seed, weights=weights
    )
    column = {(scenario.pattern, scenario.rate): at for at, scenario in enumerate(scenarios)}
    return [
        _interval(point.value, scores[point.metric][column[point.pattern, point.rate]], level)
        for point in points
    ]


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
    settings = {"draws": draws, "resamples": resamples, "seed": seed}
    scores = [own[0] for own in resampled_scores([*a, *b], [scenario], metric, **settings)]
    return difference(np.mean(scores[: len(a)], axis=0), np.mean(scores[len(a) :], axis=0), level)


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
    settings = {"draws": draws, "resamples": resamples, "seed": seed}
    scores = [own[0] for own in resampled_scores(runs, [scenario], metric, **settings)]
    return estimate(np.mean(scores, axis=0), level)


def resampled_scores(
    runs: Iterable[Predictions],
    scenarios: Sequence[Scenario],
    metric: Metric,
    *,
    draws: int = 20,
    resamples: int = 1000,
    seed: int = 0,
) -> Iterator[Float[np.ndarray, "S R"]]:
    """Yield the scores of each run under each scenario, expected over mask draws: first of the
    rows as they are, then of each resample of groups.

    All runs, which must be of the same samples, get the same resamples, so their scores may be
    subtracted one by one. One run is held at a time.
    """
    rows, weights = None, np.empty((0, 0))
    for run in runs:
        if rows is None:
            rows, weights = run.rows, _kept(tuple(run.groups.tolist()), resamples, seed)
        run = run.like(rows)
        if metric == "prauc":
            yield np.stack([_expected_precision(run, own, weights, draws) for own in scenarios])
        else:
            yield expectations(run, scenarios, [metric], weights)[metric]


def estimate(scores: Float[np.ndarray, " R"], level: float = 0.95) -> Estimate:
    """A score and its interval, from the score itself and those of the resamples."""
    return Estimate(float(scores[0]), *_around(scores[0], scores[1:], level))


def difference(
    a: Float[np.ndarray, " R"], b: Float[np.ndarray, " R"], level: float = 0.95
) -> Difference:
    """How much better `a` is than `b` on the same resamples."""
    gap = a - b
    return Difference(float(gap[0]), *_around(gap[0], gap[1:], level))


def p_value(a: Float[np.ndarray, " R"], b: Float[np.ndarray, " R"]) -> float:
    """How probable so large a difference, either way, is between scores that do not differ.

        p = 2 Phi(-|d| / s),  s the standard deviation of the difference d over the resamples

    The share of resamples beyond 0 would be a multiple of 1 / R: too coarse where many
    comparisons are corrected for.
    """
    gap = a - b
    exists = gap[1:][~np.isnan(gap[1:])]
    if np.isnan(gap[0]) or len(exists) == 0:
        return np.nan
    if (spread := exists.std()) == 0:
        return float(gap[0] == 0)
    return erfc(abs(gap[0]) / spread / sqrt(2))


def summarise(predictions: Predictions, scenario: Scenario) -> dict[str, float]:
    """All numbers of one split for a record: under the scenario, and in each of the states.

    Keys are `scenario/accuracy`, `scenario/accuracy_low`, `both/accuracy`, ..., and `n` and
    `classes_scored` for each. A state counts the rows that can be in it. A metric that does not
    exist (no class to score) has no key, a state that no row can be in has `n` alone.
    """
    if len(splits := np.unique(predictions.split).tolist()) != 1:
        raise PredictionError(f"summarise takes the rows of one split, got {splits}")
    points = curves(predictions, [scenario])
    around = intervals_around(points, predictions)
    means = {point.metric: point.value for point in points}
    own = {point.metric: interval for point, interval in zip(points, around, strict=True)}
    return {**dict(_named("scenario", predictions, means, own)), **summarise_states(predictions)}


def summarise_states(predictions: Predictions) -> dict[str, float]:
    """The numbers of a record in each state, with intervals over groups."""
    found: dict[str, float] = {}
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


def _unit_and_resampled(groups: Shaped[np.ndarray, " N"], resamples: int, seed: int) -> Weights:
    """The rows as they are, then resampled."""
    return np.concatenate([np.ones((1, len(groups))), resample_weights(groups, resamples, seed)])


@lru_cache(maxsize=1)
def _kept(groups: tuple[Any, ...], resamples: int, seed: int) -> Weights:
    """The same, kept for the next run of the same samples: seconds, with as many as DVM-CAR has."""
    weights = _unit_and_resampled(np.array(groups), resamples, seed)
    weights.setflags(write=False)
    return weights


def _expected_precision(
    predictions: Predictions, scenario: Scenario, weights: Weights, draws: int
) -> Float[np.ndarray, " R"]:
    """PRAUC under each row of weights: the mean over draws."""
    positive = truth(predictions.label, len(predictions.class_names))
    logits, rows = np.stack([predictions.logits[s] for s in STATES]), np.arange(len(predictions))
    drawn = np.stack(list(states_of_draws(predictions, scenario, draws, seed=0)))
    unlike, counts = np.unique(drawn, axis=0, return_counts=True)  # one where all rows are hit
    scores = [
        weighted_ranks(probabilities(logits[states, rows], predictions.task), positive, weights)
        for states in unlike
    ]
    return np.average([own["prauc"] for own in scores], axis=0, weights=counts)


def _interval(score: float, resampled: Float[np.ndarray, " R"], level: float) -> Interval:
    """The interval around a score, within the range that a score has."""
    low, high = _around(score, resampled, level)
    return Interval(max(low, 0.0), min(high, 1.0))  # NaN stays NaN


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
