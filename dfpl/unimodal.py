"""Classifiers of one modality alone, of which the reference rows of a comparison are made.

Their encoders are those of all methods. They skip what is absent by default: each is to be the
best that its modality gives, and learns from the samples that have it and from no others.

B samples, C classes, D width.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dfpl.data.batch import Batch
from dfpl.data.loader import Statistics, View
from dfpl.data.packed import Schema
from dfpl.data.scenario import IMAGE, TABULAR
from dfpl.encoders import EncodeMissing
from dfpl.encoders.config import ImageEncoderConfig, PlainTabularEncoderConfig
from dfpl.encoders.image import PlainImageEncoder
from dfpl.encoders.series import token_mean, valid_tokens
from dfpl.encoders.tabular import PlainTabularEncoder
from dfpl.losses import Label, task_loss
from dfpl.method import STATES, Method

LEAST = 1e-9
"""A probability is never less, so that its logarithm is finite."""


class ImageConfig(ImageEncoderConfig):
    """A classifier of images."""

    encode_missing: EncodeMissing = "skip"
    """Skip an absent modality, or encode a zero input for it."""


class TableConfig(PlainTabularEncoderConfig):
    """A classifier of tables."""

    encode_missing: EncodeMissing = "skip"
    """Skip an absent modality, or encode a zero input for it."""


class ImageClassifier(nn.Module):
    """logits = W mean_l t_l + b  of the image's tokens t; of no meaning where it is absent."""

    def __init__(self, config: ImageConfig, schema: Schema) -> None:
        super().__init__()
        c = config
        self.encoder = PlainImageEncoder(
            c.image_network, c.width, c.encode_missing, schema.image_kind
        )
        self.classifier = nn.Linear(c.width, schema.num_classes)

    def forward(self, batch: Batch) -> Float[Tensor, "B C"]:
        tokens = self.encoder(batch.image, batch.available[:, IMAGE])
        return self.classifier(tokens.mean(dim=1))


class TableClassifier(nn.Module):
    """logits = W mean_l t_l + b  of the table's tokens t; of no meaning where it is absent."""

    def __init__(self, config: TableConfig, schema: Schema) -> None:
        super().__init__()
        c = config
        self.encoder = PlainTabularEncoder(
            schema, c.width, c.tabular_depth, c.tabular_heads, c.encode_missing
        )
        self.classifier = nn.Linear(c.width, schema.num_classes)

    def forward(self, batch: Batch) -> Float[Tensor, "B C"]:
        tokens = self.encoder(batch, batch.available[:, TABULAR])
        return self.classifier(token_mean(tokens, valid_tokens(batch)))


class Output(NamedTuple):
    """What `forward` found; all that the losses read besides the batch."""

    logits: Float[Tensor, "B C"]


class Unimodal(Method):
    """One modality's classifier, and the same logits for all samples that lack it:

        logits = classifier(sample)  where it is available,  prior  elsewhere

    The prior starts at how frequent the classes of the training split are. Where it is a
    parameter, one cross-entropy trains it with the classifier; it can learn nothing else.
    """

    prior: Tensor

    def __init__(self, classifier: nn.Module, column: int, schema: Schema, task_loss: str) -> None:
        """`column`: of `Batch.available`, the modality that is read."""
        super().__init__()
        self.task_loss = "bce" if schema.task == "multilabel" else task_loss
        self.column = column
        self.classifier = classifier
        zeros = torch.zeros(schema.num_classes)
        if list(classifier.parameters()):
            self.prior = nn.Parameter(zeros)
        else:
            self.register_buffer("prior", zeros)

    def prepare(self, train: View, statistics: Statistics, seed: int) -> None:
        label = torch.from_numpy(train.packed.label[train.rows])
        with torch.no_grad():
            self.prior.copy_(prior_logits(label, len(self.prior)))

    def forward(self, batch: Batch) -> Output:
        return Output(self._decide(self.classifier(batch), batch.available))

    def state_logits(self, batch: Batch) -> dict[str, Float[Tensor, "B C"]]:
        """The classifier once: it does not see the other modality."""
        found = self.classifier(batch)
        return {
            state: self._decide(found, left) for state, left in each_state(batch.available).items()
        }

    def _decide(
        self, found: Float[Tensor, "B C"], available: Bool[Tensor, "B 2"]
    ) -> Float[Tensor, "B C"]:
        return torch.where(available[:, self.column, None], found, self.prior)

    def losses(self, output: Output, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        return {"task": task_loss(output.logits, batch.label, self.task_loss)}


def each_state(available: Bool[Tensor, "B 2"]) -> dict[str, Bool[Tensor, "B 2"]]:
    """What is left of the availability in each of the three states."""
    return {
        state: available & torch.tensor(there, device=available.device)
        for state, there in STATES.items()
    }


def logits_of(probabilities: Float[Tensor, "*B C"], multilabel: bool) -> Float[Tensor, "*B C"]:
    """Logits with these probabilities, in float64: log p, or log p - log(1 - p) where classes do
    not exclude each other."""
    p = probabilities.double().clamp(LEAST, 1 - LEAST if multilabel else None)
    return p.log() - (-p).log1p() if multilabel else p.log()


def prior_logits(label: Label, num_classes: int) -> Float[Tensor, " C"]:
    """Logits whose probabilities are the frequencies of the classes."""
    multilabel = label.is_floating_point()
    positive = label if multilabel else F.one_hot(label, num_classes)
    return logits_of(positive.double().mean(dim=0), multilabel)
