"""Late fusion: two classifiers that know nothing of each other, and the mean of what they say.

Source       none: a reference row, with the encoders that all methods share
What we kept each classifier learns from the samples that have its modality; the probabilities of
             those that are available are averaged, without weights
Deviations   none; one run trains both, so that they share the learning rate and the best epoch,
             and no parameter

B samples, C classes, M = 2 modalities.
"""

from math import inf
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from dfpl.data.batch import Batch
from dfpl.data.packed import Schema
from dfpl.fields import Choice, IntRange
from dfpl.losses import mean_over, task_losses
from dfpl.method import Method
from dfpl.unimodal import ImageClassifier, ImageConfig, TableClassifier, TableConfig, each_state


class Config(ImageConfig, TableConfig):
    """The sizes of the two classifiers."""

    name: Literal["late_fusion"] = "late_fusion"


SEARCH_SPACE = {
    "method.width": Choice((128, 256, 512)),
    "method.tabular_depth": IntRange(1, 8),
}


class Output(NamedTuple):
    """What `forward` found; all that the losses read besides the batch."""

    logits: Float[Tensor, "B C"]
    unimodal: Float[Tensor, "B M C"]
    """Of image and table; of no meaning where the modality is absent."""


class Model(Method):
    """Both classifiers for one schema."""

    def __init__(self, config: Config, schema: Schema) -> None:
        super().__init__()
        self.config = config
        self.multilabel = schema.task == "multilabel"
        self.task_loss = "bce" if self.multilabel else config.task_loss
        self.image = ImageClassifier(config, schema)
        self.tabular = TableClassifier(config, schema)

    def forward(self, batch: Batch) -> Output:
        unimodal = self._unimodal(batch)
        return Output(mean_logits(unimodal, batch.available, self.multilabel), unimodal)

    def state_logits(self, batch: Batch) -> dict[str, Float[Tensor, "B C"]]:
        """Both classifiers once: neither sees the other modality."""
        unimodal = self._unimodal(batch)
        return {
            state: mean_logits(unimodal, left, self.multilabel)
            for state, left in each_state(batch.available).items()
        }

    def _unimodal(self, batch: Batch) -> Float[Tensor, "B M C"]:
        return torch.stack([self.image(batch), self.tabular(batch)], dim=1)

    def losses(self, output: Output, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """L = L(image) + L(table), each over the samples that have the modality."""
        terms = {}
        for column, side in enumerate(("image", "tabular")):
            losses = task_losses(output.unimodal[:, column], batch.label, self.task_loss)
            terms[f"{side}_task"] = mean_over(losses.mean(dim=1), batch.available[:, column])
        return terms


def mean_logits(
    unimodal: Float[Tensor, "B M C"], available: Bool[Tensor, "B M"], multilabel: bool
) -> Float[Tensor, "B C"]:
    """Logits of the mean of the available modalities' probabilities, from logarithms alone:

    log mean_m softmax(z_m),   or   log mean_m sigma(z_m) - log mean_m sigma(-z_m)
    """
    if not multilabel:
        return _log_mean(unimodal.log_softmax(dim=2), available)
    return _log_mean(F.logsigmoid(unimodal), available) - _log_mean(
        F.logsigmoid(-unimodal), available
    )


def _log_mean(logs: Float[Tensor, "B M C"], available: Bool[Tensor, "B M"]) -> Float[Tensor, "B C"]:
    there = torch.where(available[..., None], logs, -inf)
    return there.logsumexp(dim=1) - available.sum(dim=1, keepdim=True).log()
