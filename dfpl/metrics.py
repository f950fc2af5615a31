"""From logits to numbers: four metrics, with intervals over groups of samples and mask draws.

N rows, C classes, L = 1 (multiclass) or C (multilabel), R resamples. Every metric is a mean over
classes: AUROC and PRAUC one class against the rest, PRAUC as average precision (AP, a sum over
steps, not the trapezoid). A class without positives has neither and is left out of the mean;
`num_classes_scored` says how many are in it. A resample is a weight for each row (how often
its group was drawn), so scores are computed from weights. Importing this needs no torch.
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
    STATES,
    Label,
    PredictionError,
    Predictions,
    Task,
    correct,
    expected_correct,
)

METRICS: tuple[Metric, ...] = get_args(Metric)
LINEAR = ("accuracy", "balanced_accuracy")
"""Metrics that are linear in which state each row is in: their expectation is exact."""
Scores = dict[str, Float[np.ndarray, " R"]]


class Interval(NamedTuple):
    """Quantiles of a resampled score; NaN where the score exists in no resample."""

    low: float
    high: float


class Difference(NamedTuple):
    """Score of a minus score of b, and its interval."""

    difference: float
    low: float
    high: float


def probabilities(logits: Float[np.ndarray, "N C"], task: Task) -> Float[np.ndarray, "N C"]:
    """Softmax or sigmoid in double precision, so that sure predictions do not become ties."""
    if not np.isfinite(logits).all():
        rows = int((~np.isfinite(logits).all(axis=1)).sum())
        raise PredictionError(f"the logits of {rows} of {len(logits)} rows are not finite")
    values = logits.astype(np.float64)
    return softmax(values, axis=1) if task == "multiclass" else expit(values)


def truth(label: Label, num_classes: int) -> Bool[np.ndarray, "N C"]:
    """Which classes each row belongs to."""
    if label.ndim == 2:
        return label > 0.5
    return label[:, None] == np.arange(num_classes)


def num_classes_scored(label: Label, num_classes: int) -> int:
    """Number of classes that have positives; only these have a recall, an AUROC and a PRAUC."""
    return int(truth(label, num_classes).any(axis=0).sum())


def measure(
    logits: Float[np.ndarray, "N C"], label: Label, task: Task
) -> dict[str, float]:
    """The four metrics of one set of rows, by torchmetrics; NaN if no class can be scored.

    accuracy           share of right rows; multilabel: of right (row, label) pairs at 0.5
    balanced_accuracy  mean recall over the classes with positives; multilabel: mean over labels
                       of the mean of sensitivity and specificity, those of the two that exist
    auroc              mean over the classes with positives and negatives, one against the rest
    prauc              mean average precision over the classes with positives
    """
    import torch
    from torchmetrics.functional.classification import binary_auroc, binary_average_precision

    scores = torch.from_numpy(probabilities(logits, task))  # else torchmetrics may softmax again
    positive = torch.from_numpy(truth(label, logits.shape[1])).long()
    scored = [c for c in range(logits.shape[1]) if positive[:, c].any()]
    ranked = [c for c in scored if not positive[:, c].all()]
    return {
        **_measure_decisions(scores, label, task),
        "auroc": _mean([float(binary_auroc(scores[:, c], positive[:, c])) for c in ranked]),
        "prauc": _mean(
            [float(binary_average_precision(scores[:, c], positive[:, c])) for c in scored]
        ),
    }
