"""From logits to numbers: four metrics, of the rows as they are or under weights.

N rows, C classes, R resamples; L = 1 (multiclass) or C (multilabel). AUROC and PRAUC are means
over classes, one against the rest, and PRAUC is average precision (AP, a sum over steps, not
the trapezoid). A class without positives has neither and is left out; `num_classes_scored` says
how many are in. A resample is a weight per row: how often its group was drawn. Importing this
does not import torch.
"""

from dataclasses import dataclass
from typing import get_args

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.sparse import csc_array
from scipy.special import expit

from dfpl.config import Metric
from dfpl.predictions import Label, PredictionError, Task, correct

METRICS: tuple[Metric, ...] = get_args(Metric)
Weights = Float[np.ndarray, "R N"]
Scores = dict[str, Float[np.ndarray, " R"]]
BLOCK = 2**22
"""Numbers in double precision that are held at once where a table is worked through in parts."""


def probabilities(logits: Float[np.ndarray, "N C"], task: Task) -> Float[np.ndarray, "N C"]:
    """Softmax or sigmoid in double precision, so that sure predictions do not become ties."""
    return Probabilities.of(logits, task).of_classes(slice(None))


@dataclass(frozen=True)
class Probabilities:
    """The same, some classes at a time: a large table never exists whole in double precision."""

    logits: Float[np.ndarray, "N C"]
    peak: Float[np.ndarray, "N 1"] | None
    """The largest logit of each row; None where classes do not exclude each other."""
    total: Float[np.ndarray, "N 1"] | None

    @classmethod
    def of(cls, logits: Float[np.ndarray, "N C"], task: Task) -> "Probabilities":
        if broken := int((~np.isfinite(logits).all(axis=1)).sum()):
            raise PredictionError(f"the logits of {broken} of {len(logits)} rows are not finite")
        if task == "multilabel" or not logits.size:
            return cls(logits, None, None)
        peak = logits.max(axis=1, keepdims=True).astype(np.float64)
        step = max(1, BLOCK // logits.shape[1])
        starts = range(0, len(logits), step)
        parts = [np.exp(logits[at : at + step] - peak[at : at + step]) for at in starts]
        total = np.concatenate([part.sum(axis=1, keepdims=True) for part in parts])
        return cls(logits, peak, total)

    def of_classes(self, classes: slice) -> Float[np.ndarray, "N c"]:
        values = np.ascontiguousarray(self.logits[:, classes], dtype=np.float64)
        if self.peak is None:
            return expit(values)
        return np.exp(values - self.peak) / self.total


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


def class_prauc(
    logits: Float[np.ndarray, "N C"], label: Label, task: Task
) -> Float[np.ndarray, " C"]:
    """Average precision of each class against the rest; NaN for a class without positives. Their
    mean over the others is `prauc`."""
    scores, positive = probabilities(logits, task), truth(label, logits.shape[1])
    once = np.ones((len(label), 1))
    of_class = zip(np.ascontiguousarray(scores.T), np.ascontiguousarray(positive.T), strict=True)
    return np.array([class_ranks(own, mine, once)[1][0] for own, mine in of_class])


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
        accuracy, recalls = tp.sum() / len(label), ratio(tp, tp + fn)
    else:
        accuracy = (tp + tn).sum() / label.size
        recalls = mean_of_existing(np.stack([ratio(tp, tp + fn), ratio(tn, tn + fp)], axis=1))
    return {
        "accuracy": float(accuracy),
        "balanced_accuracy": float(mean_of_existing(recalls[None])[0]),
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
    """Accuracy and balanced accuracy from what is right (1) and what is wrong (0).

        recall_c = sum_{i in c} w_i hit_i / sum_{i in c} w_i

    They are the sums of `decision_shares`, for all weights at once.
    """
    recalls = ratio(weights @ (positive * hits), weights @ positive)  # (R, C)
    if hits.shape[1] == positive.shape[1]:  # each label is a decision of its own
        negative = ~positive
        specificities = ratio(weights @ (negative * hits), weights @ negative)
        recalls = mean_of_existing(np.stack([recalls, specificities], axis=2))
    return {
        "accuracy": ratio(weights @ hits.mean(axis=1), weights.sum(axis=1)),
        "balanced_accuracy": mean_of_existing(recalls),
    }


def decision_shares(
    label: Label, num_classes: int, weight: Float[np.ndarray, " N"]
) -> Float[np.ndarray, "2 N L"]:
    """How much each prediction counts in accuracy and in balanced accuracy, under weights.

    Both are sums of shares over what is right; they equal `weighted_decisions`.
    """
    if label.ndim == 1:
        of_class = np.bincount(label, weight, num_classes)
        balanced = (ratio(weight, of_class[label]) / (of_class > 0).sum())[:, None]
    else:
        positive = truth(label, num_classes)
        P, N = weight @ positive, weight @ ~positive
        sides = (P > 0).astype(np.float64) + (N > 0)
        own_side = np.where(positive, P, N)
        each = np.broadcast_to(weight[:, None], own_side.shape)
        balanced = ratio(each, own_side) / sides / (sides > 0).sum()
    share = np.broadcast_to(weight[:, None] / (weight.sum() * balanced.shape[1]), balanced.shape)
    return np.nan_to_num(np.stack([share, balanced]))


def weighted_ranks(
    scores: Float[np.ndarray, "N C"], positive: Bool[np.ndarray, "N C"], weights: Weights
) -> Scores:
    """AUROC and PRAUC: means of `class_ranks` over the classes with positive weight."""
    by_row = np.ascontiguousarray(weights.T)
    of_class = zip(np.ascontiguousarray(scores.T), np.ascontiguousarray(positive.T), strict=True)
    pairs = [class_ranks(own, mine, by_row) for own, mine in of_class]
    auroc, prauc = (np.stack(found, axis=1) for found in zip(*pairs, strict=True))
    return {"auroc": mean_of_existing(auroc), "prauc": mean_of_existing(prauc)}


def class_ranks(
    scores: Float[np.ndarray, " N"],
    positive: Bool[np.ndarray, " N"],
    by_row: Float[np.ndarray, "N R"],
) -> tuple[Float[np.ndarray, " R"], Float[np.ndarray, " R"]]:
    """AUROC and average precision of one class under each column of weights; NaN if undefined."""
    place, num_levels, num_places = places(scores, positive)
    return areas(sums(place, by_row, num_places).T, num_levels)


def places(
    scores: Float[np.ndarray, " N"], positive: Bool[np.ndarray, " N"]
) -> tuple[Int[np.ndarray, " N"], int, int]:
    """Where each row ranks among the scores that positives have; how many levels and places.

    With u_0 < ... < u_(K-1) these levels, negatives above k levels and at none have place k,
    positives at u_k have K + 1 + k, negatives tied with them 2K + 1 + k (no such place exists
    where none is tied). NaN counts as above all levels.
    """
    exists = ~np.isnan(scores)
    levels = np.unique(scores[positive & exists])
    K, order = len(levels), np.argsort(scores)  # NaN comes last
    in_order = scores[order]
    ends = np.stack([np.searchsorted(in_order, levels, side) for side in ("left", "right")], 1)
    lengths = np.diff(ends.reshape(-1), prepend=0, append=len(scores))
    between_and_at = np.arange(2 * K + 1, dtype=np.int32) // 2
    between_and_at[1::2] += 2 * K + 1
    place = np.empty(len(scores), dtype=np.int32)
    place[order] = np.repeat(between_and_at, lengths)
    tied = place > 2 * K
    place[tied & positive] -= K
    return place, K, 3 * K + 1 if (tied & ~positive).any() else 2 * K + 1


def areas(
    weight: Shaped[np.ndarray, "*draws P"], num_levels: int
) -> tuple[Float[np.ndarray, "*draws"], Float[np.ndarray, "*draws"]]:
    """AUROC and average precision from the weight of the rows in each of the `places`.

    With P_k and N_k the weight of positives and of negatives at u_k, P_<k and N_<k that below:

        AUROC = sum_k P_k (N_<k + N_k / 2) / (P N)
        AP    = sum_k P_k (P - P_<k) / (P - P_<k + N - N_<k) / P
    """
    at, below, beaten = at_levels(weight, num_levels)
    P = at.sum(axis=-1)
    N = weight.sum(axis=-1) - P
    found = P[..., None] + at - np.cumsum(at, axis=-1)
    drawn = found + (N[..., None] - below)
    precision = found / (drawn + (drawn == 0))  # nothing drawn: nothing found
    return (
        ratio(np.einsum("...k,...k->...", at, beaten), P * N),
        ratio(np.einsum("...k,...k->...", at, precision), P),
    )


def at_levels(
    weight: Shaped[np.ndarray, "*draws P"], num_levels: int
) -> tuple[
    Shaped[np.ndarray, "*draws K"], Shaped[np.ndarray, "*draws K"], Shaped[np.ndarray, "*draws K"]
]:
    """At each level: the positives there, the negatives below, and the negatives that a positive
    there beats: those below and half of those tied."""
    K = num_levels
    at, tied = weight[..., K + 1 : 2 * K + 1], weight[..., 2 * K + 1 :]
    below = np.cumsum(weight[..., :K], axis=-1)
    if not tied.shape[-1]:
        return at, below, below
    below = below + np.cumsum(tied, axis=-1) - tied
    return at, below, below + tied / 2


def sums(
    place: Int[np.ndarray, " N"], by_row: Float[np.ndarray, "N R"], num_places: int
) -> Float[np.ndarray, "P R"]:
    """Add up the rows that have the same place."""
    N = len(place)
    membership = csc_array((np.ones(N), place, np.arange(N + 1)), shape=(num_places, N))
    return membership @ by_row


def ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """top / bottom, and NaN where there is nothing to divide by."""
    return np.divide(top, bottom, out=np.full(np.shape(top), np.nan), where=bottom > 0)


def mean_of_existing(values: Float[np.ndarray, "*rows C"]) -> Float[np.ndarray, "*rows"]:
    """Mean over the last axis of what is not NaN; NaN if all are."""
    exists = ~np.isnan(values)
    return ratio(np.where(exists, values, 0.0).sum(axis=-1), exists.sum(axis=-1))
