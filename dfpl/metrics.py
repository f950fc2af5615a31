"""From logits to numbers: four metrics, with intervals over groups of samples and mask draws.

N rows, C classes, R resamples; L = 1 (multiclass) or C (multilabel). AUROC and PRAUC are means
over classes, one against the rest, and PRAUC is average precision (AP, a sum over steps, not
the trapezoid). A class without positives has neither and is left out; `num_classes_scored` says
how many are in. A resample is a weight per row: how often its group was drawn. Importing this
does not import torch.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, get_args

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.sparse import csc_array
from scipy.special import expit, softmax

from dfpl.config import Metric
from dfpl.data.scenario import Scenario
from dfpl.predictions import (
    PER_ROW,
    STATES,
    Label,
    PredictionError,
    Predictions,
    Task,
    correct,
    expected_correct,
)

METRICS: tuple[Metric, ...] = get_args(Metric)
Weights = Float[np.ndarray, "R N"]
Scores = dict[str, Float[np.ndarray, " R"]]


class Interval(NamedTuple):
    """Where a score lies but for chance; NaN where it exists in no resample."""

    low: float
    high: float


class Difference(NamedTuple):
    """The score of `a` minus that of `b`, and its interval."""

    difference: float
    low: float
    high: float


def probabilities(logits: Float[np.ndarray, "N C"], task: Task) -> Float[np.ndarray, "N C"]:
    """Softmax or sigmoid in double precision, so that sure predictions do not become ties."""
    broken = ~np.isfinite(logits).all(axis=1)
    if broken.any():
        raise PredictionError(f"the logits of {broken.sum()} of {len(logits)} rows are not finite")
    values = logits.astype(np.float64)
    return softmax(values, axis=1) if task == "multiclass" else expit(values)


def truth(label: Label, num_classes: int) -> Bool[np.ndarray, "N C"]:
    """Which classes each row belongs to."""
    if label.ndim == 2:
        return label > 0.5
    return label[:, None] == np.arange(num_classes)


def num_classes_scored(label: Label, num_classes: int) -> int:
    """How many classes have positives: only these have a recall, an AUROC and a PRAUC."""
    return int(truth(label, num_classes).any(axis=0).sum())


def measure(logits: Float[np.ndarray, "N C"], label: Label, task: Task) -> dict[str, float]:
    """The four metrics of one set of rows, by torchmetrics; NaN if no class can be scored.

    accuracy           share of right rows; multilabel: of right (row, label) pairs, cut at 0.5
    balanced_accuracy  mean recall over the classes with positives; multilabel: mean over labels
                       of the mean of sensitivity and specificity, of the two those that exist
    auroc              mean over the classes that have positives and negatives
    prauc              mean average precision over the classes that have positives
    """
    import torch
    from torchmetrics.functional.classification import binary_auroc, binary_average_precision

    if len(label) == 0:
        raise PredictionError("there are no rows to measure")
    positive = truth(label, logits.shape[1])
    shares = probabilities(logits, task)  # given logits, torchmetrics would guess their scale
    scores = torch.from_numpy(shares)
    target = torch.from_numpy(positive).long()
    scored = np.flatnonzero(positive.any(axis=0))
    ranked = [c for c in scored if not positive[:, c].all()]
    precisions = [float(binary_average_precision(scores[:, c], target[:, c])) for c in scored]
    areas = [float(binary_auroc(scores[:, c], target[:, c])) for c in ranked]
    return {
        **_measure_decisions(shares, label, task),
        "auroc": float(np.mean(areas)) if areas else np.nan,
        "prauc": float(np.mean(precisions)) if precisions else np.nan,
    }


def _measure_decisions(
    shares: Float[np.ndarray, "N C"], label: Label, task: Task
) -> dict[str, float]:
    """Accuracy and balanced accuracy from torchmetrics' counts of each class."""
    import torch
    from torchmetrics.functional.classification import (
        multiclass_stat_scores,
        multilabel_stat_scores,
    )

    scores, target = torch.from_numpy(shares), torch.from_numpy(np.array(label)).long()
    C = shares.shape[1]
    if task == "multiclass":
        counts = multiclass_stat_scores(scores, target, C, average=None)
    else:
        counts = multilabel_stat_scores(scores, target, C, average=None, validate_args=False)
    tp, fp, tn, fn, _ = counts.reshape(C, 5).numpy().astype(np.float64).T
    if task == "multiclass":
        accuracy, recalls = tp.sum() / len(label), _ratio(tp, tp + fn)
    else:
        accuracy = (tp + tn).sum() / label.size
        recalls = _mean_of_existing(np.stack([_ratio(tp, tp + fn), _ratio(tn, tn + fp)], axis=1))
    return {
        "accuracy": float(accuracy),
        "balanced_accuracy": float(_mean_of_existing(recalls[None])[0]),
    }


def weighted_scores(
    logits: Float[np.ndarray, "N C"], label: Label, weights: Weights, task: Task
) -> Scores:
    """The four metrics under each row of weights.

    Unit weights give `measure`; whole weights give what repeating the rows would give.
    """
    positive = truth(label, logits.shape[1])
    hits = correct(logits, label).astype(np.float64)
    return {
        **weighted_decisions(hits, positive, weights),
        **weighted_ranks(probabilities(logits, task), positive, weights),
    }


def weighted_decisions(
    hits: Float[np.ndarray, "N L"], positive: Bool[np.ndarray, "N C"], weights: Weights
) -> Scores:
    """Accuracy and balanced accuracy from how far (0 to 1) each prediction is right.

        recall_c = sum_{i in c} w_i hit_i / sum_{i in c} w_i

    Both are linear in the hits, so hits may be expectations over mask draws.
    """
    recalls = _ratio(weights @ (positive * hits), weights @ positive)  # (R, C)
    if hits.shape[1] == positive.shape[1]:  # each label is a decision of its own
        negative = ~positive
        specificities = _ratio(weights @ (negative * hits), weights @ negative)
        recalls = _mean_of_existing(np.stack([recalls, specificities], axis=2))
    return {
        "accuracy": _ratio(weights @ hits.mean(axis=1), weights.sum(axis=1)),
        "balanced_accuracy": _mean_of_existing(recalls),
    }


def weighted_ranks(
    scores: Float[np.ndarray, "N C"], positive: Bool[np.ndarray, "N C"], weights: Weights
) -> Scores:
    """AUROC and PRAUC: means of `class_ranks` over the classes with positive weight."""
    by_row = np.ascontiguousarray(weights.T)
    of_class = zip(np.ascontiguousarray(scores.T), np.ascontiguousarray(positive.T), strict=True)
    pairs = [class_ranks(own, mine, by_row) for own, mine in of_class]
    auroc, prauc = (np.stack(found, axis=1) for found in zip(*pairs, strict=True))
    return {"auroc": _mean_of_existing(auroc), "prauc": _mean_of_existing(prauc)}


def class_ranks(
    scores: Float[np.ndarray, " N"],
    positive: Bool[np.ndarray, " N"],
    by_row: Float[np.ndarray, "N R"],
) -> tuple[Float[np.ndarray, " R"], Float[np.ndarray, " R"]]:
    """AUROC and average precision of one class under each column of weights; NaN if undefined.

    Only the scores that positives have matter. With u_1 < ... < u_K these levels, P_k and A_k
    the weight of positives and of all rows at u_k, and P_<k and A_<k that below u_k:

        AUROC = sum_k P_k (A_<k - P_<k + (A_k - P_k) / 2) / (P (A - P))
        AP    = sum_k P_k (P - P_<k) / (A - A_<k) / P
    """
    levels = np.unique(scores[positive])
    if len(levels) == 0:
        nothing = np.full(by_row.shape[1], np.nan)
        return nothing, nothing
    place = np.searchsorted(levels, scores)
    at_level = levels[np.minimum(place, len(levels) - 1)] == scores
    everyone = _sums(2 * place + at_level, by_row, 2 * len(levels) + 1)  # between, at, between, ...
    P_at = _sums(place[positive], by_row[positive], len(levels))  # (K, R)
    A_at = everyone[1::2]
    up_to = np.cumsum(everyone, axis=0)
    P_below, A_below = np.cumsum(P_at, axis=0) - P_at, up_to[:-1:2]
    P, A = P_at.sum(axis=0), up_to[-1]
    won = (P_at * (A_below - P_below + (A_at - P_at) / 2)).sum(axis=0)
    found, drawn = P - P_below, A - A_below
    precision = np.divide(found, drawn, out=np.zeros_like(found), where=drawn > 0)
    return _ratio(won, P * (A - P)), _ratio((P_at * precision).sum(axis=0), P)


def _sums(
    place: Int[np.ndarray, " N"], by_row: Float[np.ndarray, "N R"], num_places: int
) -> Float[np.ndarray, "P R"]:
    """Add up the rows that have the same place."""
    N = len(place)
    membership = csc_array((np.ones(N), place, np.arange(N + 1)), shape=(num_places, N))
    return membership @ by_row


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """top / bottom, and NaN where there is nothing to divide by."""
    return np.divide(top, bottom, out=np.full(np.shape(top), np.nan), where=bottom > 0)


def _mean_of_existing(values: Float[np.ndarray, "*rows C"]) -> Float[np.ndarray, "*rows"]:
    """Mean over the last axis of what is not NaN; NaN if all are."""
    exists = ~np.isnan(values)
    return _ratio(np.where(exists, values, 0.0).sum(axis=-1), exists.sum(axis=-1))


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

    def mean_over_seeds(runs: Sequence[Predictions]) -> Float[np.ndarray, " R"]:
        aligned = [_same_samples(run, first) for run in runs]
        if metric in ("accuracy", "balanced_accuracy"):
            scores = [_expected_decisions(run, scenario, weights) for run in aligned]
        else:
            scores = [_expected_ranks(run, scenario, weights, draws) for run in aligned]
        return np.mean([found[metric] for found in scores], axis=0)

    gap = mean_over_seeds(a) - mean_over_seeds(b)
    return Difference(float(gap[0]), *_around(gap[0], gap[1:], level))


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
