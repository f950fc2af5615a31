"""From logits to numbers: four metrics, of the rows as they are or under weights.

N rows, C classes, R resamples; L = 1 (multiclass) or C (multilabel). AUROC and PRAUC are means
over classes, one against the rest, and PRAUC is average precision (AP, a sum over steps, not
the trapezoid). A class without positives has neither and is left out; `num_classes_scored` says
how many are in. A resample is a weight per row: how often its group was drawn. Importing this
does not import torch.
"""

from typing import get_args

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csc_array
from scipy.special import expit, softmax

from dfpl.config import Metric
from dfpl.predictions import Label, PredictionError, Task, correct

METRICS: tuple[Metric, ...] = get_args(Metric)
Weights = Float[np.ndarray, "R N"]
Scores = dict[str, Float[np.ndarray, " R"]]


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
