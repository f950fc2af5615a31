"""The mean through which every loss passes, and the classification losses."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dfpl.distributed import global_sum

Label = Int[Tensor, " B"] | Float[Tensor, "B C"]


def mean_over(values: Float[Tensor, " B"], mask: Bool[Tensor, " B"]) -> Float[Tensor, ""]:
    """Mean over the samples in `mask`, of all workers; exactly 0, without gradient, if none."""
    own = torch.stack([values.where(mask, 0.0).sum(), mask.sum().to(values.dtype)])
    total, count = global_sum(own)
    return total / count.detach().clamp(min=1)


def one_hot(label: Label, logits: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
    """One 0/1 column per class, from class indices or as given (multi-label)."""
    positive = label if label.is_floating_point() else F.one_hot(label, logits.shape[1])
    return positive.to(logits.dtype)


def task_loss(logits: Float[Tensor, "B C"], label: Label, kind: str) -> Float[Tensor, ""]:
    """Classification loss L_cls (Eq. 12), mean over the global batch.

    "bce": binary cross-entropy with logits, mean over classes and samples, one-hot targets for
    single-label data, as the paper writes it. "ce": softmax cross-entropy (single-label only).
    """
    per_sample = task_losses(logits, label, kind).mean(dim=1)
    return mean_over(per_sample, per_sample.new_ones(len(per_sample)).bool())


def task_losses(logits: Float[Tensor, "B C"], label: Label, kind: str) -> Float[Tensor, "B R"]:
    """What `task_loss` is the mean of: one loss per class for "bce", and for "ce" only one."""
    if kind == "ce":
        return F.cross_entropy(logits, label, reduction="none")[:, None]
    target = one_hot(label, logits)
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none")
