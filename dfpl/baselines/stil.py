"""STiL: specific and shared features of each modality, read by one layer in three streams.

Source       Du et al., "STiL: Semi-supervised Tabular-Image Learning for Comprehensive
             Task-Relevant Information Exploration in Multimodal Classification", CVPR 2025, and
             the mathematics of its public code, revision e5e4efb
What we kept two maps per modality, of its tokens (specific) and of one vector (shared); one
             transformer layer whose weights serve three streams: a joint token that sees all, the
             image and the table, which see themselves; heads on all three and on each modality; the
             contrastive loss of the shared vectors; CLUB with the loss of its estimator
Deviations   supervised, as all samples have labels: no pseudo-labels and no averaged teacher to
             make them; nor the loss of class prototypes, which serve to smooth pseudo-labels
             a modality may be absent, of which the code knows nothing: the joint token does not see
             it, in place of its shared vector and of its stream's mean there is 0, and each term is
             a mean over the samples that have what it is of
             weights of 1 for the contrastive loss and 0.5 for CLUB, beside 1 for predictions. The
             paper's 3, 0.5 and 0.2, for few labels and pre-trained encoders, are 15, 2.5 and 1
             here: Adam does not see a factor that all terms have in common
             dropout of what the layer adds to its input, by entries and by streams, and not of
             attention weights nor inside the feed-forward part; what it drops is a matter of run,
             step and sample, not of the number of workers
             nothing is pre-trained by TIP; the encoders, of which the image's maps its cells to D,
             Adam and the budget are those of all methods

B samples, C classes, L tokens, D width, P width of what is contrasted; streams in the order joint,
image, table.
"""

from typing import Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from dfpl.blocks import TransformerBlock
from dfpl.contrastive import contrastive_loss
from dfpl.data.batch import Batch
from dfpl.data.packed import Schema
from dfpl.data.scenario import IMAGE, TABULAR
from dfpl.distributed import global_sum
from dfpl.encoders.config import PlainEncodersConfig
from dfpl.encoders.image import PlainImageEncoder
from dfpl.encoders.series import seen_by_all, token_mean, valid_tokens
from dfpl.encoders.tabular import PlainTabularEncoder
from dfpl.fields import FloatRange
from dfpl.losses import mean_over, task_loss, task_losses
from dfpl.method import MODALITIES, STATES, Method
from dfpl.noise import StepNoise

HEADS = 4
"""Attention heads of the layer over three streams."""
CONTRASTED = 128
"""P, width of the vectors that the contrastive loss compares."""
SIDES = ("image", "tabular")
Club = Literal["code", "detached"]
_ATTENDED, _FED = 0, 2  # purposes of random numbers; two for each part of the layer


class Config(PlainEncodersConfig):
    """The weights of STiL's terms beside the classification losses, its size and its switches."""

    name: Literal["stil"] = "stil"
    contrastive_weight: Annotated[float, Field(ge=0)] = 1.0
    """Of the contrastive loss between the shared vectors; the paper's: 15."""
    disentanglement_weight: Annotated[float, Field(ge=0)] = 0.5
    """Of CLUB and of its estimator's loss, for each modality; the paper's: 2.5. Both are sums over
    D: an equally strong weight falls with `width`."""
    temperature: Annotated[float, Field(gt=0)] = 0.1
    """What the cosines of the contrastive loss are divided by."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of what the layer over three streams adds to its input that is dropped in training:
    of its entries, and of whole streams."""
    club: Club = "code"
    """Both losses of CLUB move features and estimator, as in the public code; or each its own, as
    CLUB is meant: the bound moves the features, the estimator's loss the estimator."""
    width: Annotated[int, Field(ge=8, multiple_of=HEADS)] = 512
    """D, size of every token."""


SEARCH_SPACE = {
    "method.contrastive_weight": FloatRange(0.1, 15.0, log=True),
    "method.disentanglement_weight": FloatRange(0.01, 2.5, log=True),
    "method.temperature": FloatRange(0.05, 0.5, log=True),
    "method.dropout": FloatRange(0.0, 0.3),
}


class Features(NamedTuple):
    """What one modality says about each sample, before the layer."""

    specific: Float[Tensor, "B L D"]
    """One vector per token."""
    shared: Float[Tensor, "B D"]
    valid: Bool[Tensor, "B L"] | None = None
    """Which tokens are no padding; None: all."""


class Side(NamedTuple):
    """What the losses of one modality read; of no meaning where it is absent."""

    logits: Float[Tensor, "B C"]
    """From this modality alone."""
    shared: Float[Tensor, "B D"]
    contrasted: Float[Tensor, "B P"]
    guess: Float[Tensor, "B D"]
    """The shared vector, estimated from the specific ones; moves what the bound is to move."""
    fit: Float[Tensor, "B D"]
    """The same numbers; moves what the estimator's loss is to move."""


class Output(NamedTuple):
    """What `forward` found; all that the losses read besides the batch."""

    logits: Float[Tensor, "B C"]
    image: Side
    tabular: Side


class Modality(nn.Module):
    """The maps of one modality: to its features, its own prediction and what its losses compare."""

    def __init__(self, width: int, num_classes: int, club: Club) -> None:
        super().__init__()
        self.club: Club = club
        self.specific = two_maps(width)
        self.shared = two_maps(width)
        self.classifier = nn.Linear(2 * width, num_classes)
        self.contrasted = nn.Linear(width, CONTRASTED)
        self.estimator = two_maps(width)

    def features(
        self,
        tokens: Float[Tensor, "B L D"],
        whole: Float[Tensor, "B D"],
        valid: Bool[Tensor, "B L"] | None = None,
    ) -> Features:
        """`whole`: one vector for all tokens."""
        return Features(self.specific(tokens), self.shared(whole), valid)

    def side(self, features: Features, fused: Float[Tensor, "B D"]) -> Side:
        logits = self.classifier(torch.cat([fused, features.shared], dim=1))
        estimates = self._estimates(token_mean(features.specific, features.valid))
        return Side(logits, features.shared, self.contrasted(features.shared), *estimates)

    def _estimates(
        self, specific: Float[Tensor, "B D"]
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
        """For the bound, and for the estimator's own loss."""
        fit = self.estimator(specific.detach() if self.club == "detached" else specific)
        if self.club == "code":
            return fit, fit
        frozen = {name: p.detach() for name, p in self.estimator.named_parameters()}
        return functional_call(self.estimator, frozen, (specific,)), fit


class StreamLayer(TransformerBlock):
    """One pre-norm transformer layer, whose weights are the same for all streams of tokens:

        x = x + drop(attention(norm x));  x = x + drop(feed_forward(norm x))

    drop zeroes entries, and all that is added to a stream of a sample, each with probability
    `dropout` in training, and scales what is left up. The feed-forward part is D wide inside.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__(width, HEADS, ratio=1)
        self.qkv = nn.Linear(width, 3 * width)
        self.dropout = dropout

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        tokens: Float[Tensor, "B L D"],
        visible: Bool[Tensor, "B L L"],
        stream: Int[Tensor, " L"],
        noise: StepNoise,
    ) -> Float[Tensor, "B L D"]:
        attended = self._attend(self.attention_norm(tokens), visible)
        tokens = tokens + self._drop(attended, stream, noise, _ATTENDED)
        found = self.feed_forward(self.feed_forward_norm(tokens))
        return tokens + self._drop(found, stream, noise, _FED)

    def _drop(
        self,
        values: Float[Tensor, "B L D"],
        stream: Int[Tensor, " L"],
        noise: StepNoise,
        purpose: int,
    ) -> Float[Tensor, "B L D"]:
        if not self.training or not self.dropout:
            return values
        B, L, D = values.shape
        entries = noise.uniform(B, (L, D), purpose) >= self.dropout
        streams = noise.uniform(B, (3,), purpose + 1)[:, stream] >= self.dropout
        kept = entries & streams[:, :, None]
        return torch.where(kept, values, 0.0) / (1 - self.dropout) ** 2


class Model(Method):
    """STiL for one schema."""

    def __init__(self, config: Config, schema: Schema) -> None:
        super().__init__()
        c = self.config = config
        D, C = c.width, schema.num_classes
        self.task_loss = "bce" if schema.task == "multilabel" else c.task_loss
        self.image_encoder = PlainImageEncoder(
            c.image_network, D, c.encode_missing, schema.image_kind
        )
        self.tabular_encoder = PlainTabularEncoder(
            schema, D, c.tabular_depth, c.tabular_heads, c.encode_missing
        )
        self.image = Modality(D, C, c.club)
        self.tabular = Modality(D, C, c.club)
        self.joint = nn.Linear(2 * D, D)
        self.layer = StreamLayer(D, c.dropout)
        self.classifier = nn.Linear(3 * D, C)
        self.noise = StepNoise()

    def forward(self, batch: Batch) -> Output:
        image, tabular = self._encode(batch)
        fused = self._fuse(image, tabular, batch.available)
        return Output(
            self.classifier(fused.flatten(1)),
            self.image.side(image, fused[:, 1 + IMAGE]),
            self.tabular.side(tabular, fused[:, 1 + TABULAR]),
        )

    def final_layer(self) -> nn.Module:
        return self.classifier

    def state_logits(self, batch: Batch) -> dict[str, Float[Tensor, "B C"]]:
        """Encoders once, the rest three times: features do not see the other modality."""
        sides, there = self._encode(batch), batch.available
        logits = {}
        for state, available in STATES.items():
            fused = self._fuse(*sides, there & torch.tensor(available, device=there.device))
            logits[state] = self.classifier(fused.flatten(1))
        return logits

    def representations(self, batch: Batch) -> dict[str, Float[Tensor, "B _"]]:
        """Before the layer over the streams, which mixes them."""
        found = {}
        for modality, features in zip(MODALITIES, self._encode(batch), strict=True):
            found[f"{modality} shared vectors"] = features.shared
            found[f"{modality} specific tokens"] = token_mean(features.specific, features.valid)
        return found

    def _encode(self, batch: Batch) -> tuple[Features, Features]:
        """The shared vectors are of the mean of the image's cells, and of the table's CLS."""
        has_image, has_table = batch.available[:, IMAGE], batch.available[:, TABULAR]
        cells = self.image_encoder(batch.image, has_image)
        columns, valid = self.tabular_encoder(batch, has_table), valid_tokens(batch)
        valid = None if valid is None else valid[:, 1:]
        return (
            self.image.features(cells, cells.mean(dim=1)),
            self.tabular.features(columns[:, 1:], columns[:, 0], valid),
        )

    def _fuse(
        self, image: Features, tabular: Features, available: Bool[Tensor, "B 2"]
    ) -> Float[Tensor, "B 3 D"]:
        """The mean of each stream after the layer."""
        shared = torch.stack([image.shared, tabular.shared], dim=1)
        joint = self.joint(torch.where(available[..., None], shared, 0.0).flatten(1))
        parts = (joint[:, None], image.specific, tabular.specific)
        lengths = [part.shape[1] for part in parts]
        stream = torch.cat(
            [torch.full((length,), n, device=joint.device) for n, length in enumerate(lengths)]
        )
        there = torch.cat([available.new_ones(len(available), 1), available], dim=1)  # (B, 3)
        tokens = torch.cat(parts, dim=1)
        visible, valid = what_is_seen(stream, there), tabular.valid
        if valid is not None:
            valid = F.pad(valid, (len(stream) - lengths[2], 0), value=True)
            visible = visible & seen_by_all(tokens, valid)
        tokens = self.layer(tokens, visible, stream, self.noise)
        streams = zip(tokens.split(lengths, dim=1), (None, None, tabular.valid), strict=True)
        means = [token_mean(*part) for part in streams]
        return torch.where(there[..., None], torch.stack(means, dim=1), 0.0)

    def losses(self, output: Output, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """The terms of the objective, each over the samples that have what it is of, unweighted."""
        terms = {
            "task": task_loss(output.logits, batch.label, self.task_loss),
            "contrastive": contrastive_loss(
                output.image.contrasted,
                output.tabular.contrasted,
                batch.available.all(dim=1),
                self.config.temperature,
            ),
        }
        for column, (name, side) in enumerate(zip(SIDES, output[1:], strict=True)):
            present = batch.available[:, column]
            known = side.shared.detach() if self.config.club == "detached" else side.shared
            own = task_losses(side.logits, batch.label, self.task_loss).mean(dim=1)
            terms[f"{name}_task"] = mean_over(own, present)
            terms[f"{name}_club"] = club_bound(side.guess, side.shared, present)
            terms[f"{name}_estimation"] = estimation_loss(side.fit, known, present)
        return terms

    def weight(self, term: str) -> float:
        match term.removeprefix("image_").removeprefix("tabular_"):
            case "contrastive":
                return self.config.contrastive_weight
            case "club" | "estimation":
                return self.config.disentanglement_weight
            case _:
                return 1.0

    def after_step(self) -> None:
        self.noise.advance()


def two_maps(width: int) -> nn.Sequential:
    """Linear, ReLU, Linear, all of the same width."""
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))


def what_is_seen(stream: Int[Tensor, " L"], there: Bool[Tensor, "B 3"]) -> Bool[Tensor, "B L L"]:
    """`visible[b, q, k]`: tokens see their own stream, and the joint one all that are there."""
    own = stream[:, None] == stream  # (L, L)
    return own | ((stream == 0)[:, None] & there[:, None, stream])


def club_bound(
    guess: Float[Tensor, "B D"], shared: Float[Tensor, "B D"], present: Bool[Tensor, " B"]
) -> Float[Tensor, ""]:
    """CLUB's bound of what the specific features say about the shared ones, for variance 1.

    With the guesses mu_i, the shared vectors a_i, and i and j over the n present samples:

    L = 1/n sum_i [ -1/2 |mu_i - a_i|^2 + 1/(2n) sum_j |mu_i - a_j|^2 ]
      = 1/n sum_i (mu_i - mean mu) . (a_i - mean a)

    The squares of mu and a are the same in both sums, and of the products the covariance of mu and
    a is left, summed over D. It needs no pairs.
    """
    both = torch.stack([guess, shared], dim=1).where(present[:, None, None], 0.0)  # (B, 2, D)
    count = global_sum(present.sum().to(both.dtype)).detach()
    mean = global_sum(both.sum(dim=0)) / count.clamp(min=1)
    from_mean = both - mean
    return mean_over((from_mean[:, 0] * from_mean[:, 1]).sum(dim=1), present)


def estimation_loss(
    guess: Float[Tensor, "B D"], shared: Float[Tensor, "B D"], present: Bool[Tensor, " B"]
) -> Float[Tensor, ""]:
    """How far the estimator is off: mean over present samples of |mu_i - a_i|^2."""
    return mean_over((guess - shared).square().sum(dim=1), present)
