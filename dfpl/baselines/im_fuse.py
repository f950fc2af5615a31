"""IM-Fuse: a state-space layer fuses two sequences of tokens, interleaved with learned ones.

Source       "IM-Fuse: A Mamba-based Fusion Block for Brain Tumor Segmentation with Incomplete
             Modalities", MICCAI 2025, and the mathematics of its public code, revision fbbd48e
What we kept a transformer layer of its own for each modality, with learned positions; features of
             an absent modality set to 0 after it; the order image, table, learned token at each
             position; one Mamba block, of which the learned tokens go on; a transformer layer over
             them; unimodal predictions by one head, as an auxiliary loss of weight 1
Deviations   classes of samples for segments of volumes: no pyramid of levels, no decoders; a mean
             over positions and a linear map in their place, cross-entropy in place of Dice
             the image's sequence is its mean and its cells, the table's its columns; the shorter
             one is filled up with zeros, and one more than 4 times as long is averaged to twice the
             shorter
             16 states per channel (the code: up to 256, with 16 times the memory); see `mamba`
             unimodal losses of available modalities alone; the code simulates what is absent and
             trains them on what it then hides. So nothing is hidden on top of the scenario, unless
             `drop` says so
             dropout where a layer's two parts are added to its input, and nowhere else; what it
             drops is a matter of run, step and sample, not of the number of workers
             no part that is never used (the code has a second fusion and per-modality maps)
             the encoders, Adam and the budget are those of all methods

B samples, C classes, P positions, D width.
"""

from typing import Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from dfpl.blocks import TransformerBlock
from dfpl.data.batch import Batch
from dfpl.data.packed import Schema
from dfpl.data.scenario import IMAGE, TABULAR
from dfpl.encoders.config import PlainEncodersConfig
from dfpl.encoders.image import PlainImageEncoder, count_tokens
from dfpl.encoders.series import seen_by_all, token_mean, valid_tokens
from dfpl.encoders.tabular import PlainTabularEncoder
from dfpl.fields import Choice, FloatRange
from dfpl.losses import mean_over, task_loss, task_losses
from dfpl.mamba import MambaBlock
from dfpl.method import STATES, Method
from dfpl.noise import StepNoise, drop_modality

MOST_UNEVEN = 4
"""How many times as long as the other a sequence may be before it is averaged."""
_COMBINATION, _IMAGE, _TABULAR, _FUSED = 0, 1, 3, 5  # purposes of random numbers; two per layer


class Config(PlainEncodersConfig):
    """IM-Fuse's hyperparameters, its size and its switches."""

    name: Literal["im_fuse"] = "im_fuse"
    unimodal_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the losses of the two unimodal predictions."""
    num_states: Annotated[int, Field(ge=1, le=256)] = 16
    """States of each channel of the Mamba layer; more than 16 cost time instead of memory."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of what a transformer layer adds to its input that is dropped in training."""
    drop: Literal["all", "none"] = "none"
    """Put each complete sample into one of the three states at random in each step, or none."""


SEARCH_SPACE = {
    "method.unimodal_weight": FloatRange(0.1, 10.0, log=True),
    "method.num_states": Choice((16, 64)),
    "method.dropout": FloatRange(0.0, 0.3),
}


class Output(NamedTuple):
    """What `forward` found; all that the losses read besides the batch."""

    logits: Float[Tensor, "B C"]
    image_logits: Float[Tensor, "B C"]
    """From the image alone; of no meaning where it is absent."""
    tabular_logits: Float[Tensor, "B C"]
    """From the table alone; of no meaning where it is absent."""


class Model(Method):
    """IM-Fuse for one schema."""

    def __init__(self, config: Config, schema: Schema) -> None:
        super().__init__()
        c = self.config = config
        self.task_loss = "bce" if schema.task == "multilabel" else c.task_loss
        self.image_encoder = PlainImageEncoder(
            c.image_network, c.width, c.encode_missing, schema.image_kind
        )
        self.tabular_encoder = PlainTabularEncoder(
            schema, c.width, c.tabular_depth, c.tabular_heads, c.encode_missing
        )
        cells = 1 + count_tokens(c.image_network, schema.image_size, schema.image_kind)
        columns = len(schema.numeric) + len(schema.category) + schema.steps
        self.lengths = even(cells, columns)
        self.noise = StepNoise()
        image_length, tabular_length = self.lengths
        self.image_layer = PositionedLayer(image_length, c.width, c.tabular_heads, c.dropout)
        self.tabular_layer = PositionedLayer(tabular_length, c.width, c.tabular_heads, c.dropout)
        self.query = nn.Parameter(torch.randn(max(self.lengths), c.width))
        self.fusion = MambaBlock(c.width, c.num_states)
        self.fused_layer = PositionedLayer(max(self.lengths), c.width, c.tabular_heads, c.dropout)
        self.norm = nn.LayerNorm(c.width)
        self.classifier = nn.Linear(c.width, schema.num_classes)
        self.unimodal = nn.Linear(c.width, schema.num_classes)

    def forward(self, batch: Batch) -> Output:
        image, tabular, valid = self._encode(batch)
        return Output(
            self._fuse(image, tabular, valid, self._dropped(batch.available)),
            self.unimodal(image.mean(dim=1)),
            self.unimodal(token_mean(tabular, valid)),
        )

    def final_layer(self) -> nn.Module:
        return self.classifier

    def state_logits(self, batch: Batch) -> dict[str, Float[Tensor, "B C"]]:
        """Encoders once, the rest three times: tokens do not see the other modality before."""
        sides, there = self._encode(batch), batch.available
        return {
            state: self._fuse(*sides, there & torch.tensor(available, device=there.device))
            for state, available in STATES.items()
        }

    def _encode(
        self, batch: Batch
    ) -> tuple[Float[Tensor, "B I D"], Float[Tensor, "B T D"], Bool[Tensor, "B T"] | None]:
        """The tokens of each modality after its own layer, and which of the table's are valid."""
        has_image, has_table = batch.available[:, IMAGE], batch.available[:, TABULAR]
        cells = self.image_encoder(batch.image, has_image)
        columns = self.tabular_encoder(batch, has_table)[:, 1:]  # no CLS
        image = average_to(torch.cat([cells.mean(dim=1, keepdim=True), cells], 1), self.lengths[0])
        valid = valid_tokens(batch)
        if valid is not None:
            valid = valid[:, 1:]
            columns = columns.where(valid[..., None], 0.0)
        tabular = average_to(columns, self.lengths[1])
        if valid is not None:
            share = average_to(valid[..., None].to(columns.dtype), self.lengths[1])  # of its window
            tabular, valid = tabular / share.where(share > 0, 1.0), share[..., 0] > 0
        return (
            self.image_layer(image, self.noise, _IMAGE),
            self.tabular_layer(tabular, self.noise, _TABULAR, valid),
            valid,
        )

    def _dropped(self, available: Bool[Tensor, "B 2"]) -> Bool[Tensor, "B 2"]:
        if not self.training or self.config.drop == "none":
            return available
        uniform = self.noise.uniform(len(available), (1,), _COMBINATION)[:, 0]
        return drop_modality(available, uniform, available.new_ones(3))

    def _fuse(
        self,
        image: Float[Tensor, "B I D"],
        tabular: Float[Tensor, "B T D"],
        valid: Bool[Tensor, "B T"] | None,
        available: Bool[Tensor, "B 2"],
    ) -> Float[Tensor, "B C"]:
        there = available[:, :, None, None]
        has_token = there[:, TABULAR] if valid is None else there[:, TABULAR] & valid[..., None]
        image = self._filled(torch.where(there[:, IMAGE], image, 0.0))
        tabular = self._filled(torch.where(has_token, tabular, 0.0))
        query = self.query.expand(len(image), -1, -1)
        fused = self.fusion(interleave(image, tabular, query))[:, 2::3]
        fused = self.fused_layer(fused, self.noise, _FUSED)
        return self.classifier(self.norm(fused.mean(dim=1)))

    def _filled(self, tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B P D"]:
        """With zeros for positions that the other modality alone has."""
        return F.pad(tokens, (0, 0, 0, len(self.query) - tokens.shape[1]))

    def losses(self, output: Output, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """L = L(fused) + L(image) + L(table), each over the samples that have what it is of."""
        sides = {"image": output.image_logits, "tabular": output.tabular_logits}
        terms = {"task": task_loss(output.logits, batch.label, self.task_loss)}
        for column, (side, logits) in enumerate(sides.items()):
            losses = task_losses(logits, batch.label, self.task_loss).mean(dim=1)
            terms[f"{side}_task"] = mean_over(losses, batch.available[:, column])
        return terms

    def weight(self, term: str) -> float:
        return 1.0 if term == "task" else self.config.unimodal_weight

    def after_step(self) -> None:
        self.noise.advance()


class PositionedLayer(TransformerBlock):
    """A pre-norm transformer layer over all tokens, which are given their position first:

        x = x + position;  x = x + drop(attention(norm x));  x = x + drop(feed_forward(norm x))

    drop zeroes entries with probability `dropout` in training and scales the others up.
    """

    def __init__(self, length: int, width: int, heads: int, dropout: float) -> None:
        super().__init__(width, heads, ratio=8)
        self.position = nn.Parameter(torch.zeros(length, width))
        self.dropout = dropout

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        tokens: Float[Tensor, "B L D"],
        noise: StepNoise,
        purpose: int,
        valid: Bool[Tensor, "B L"] | None = None,
    ) -> Float[Tensor, "B L D"]:
        visible = seen_by_all(tokens, valid)
        tokens = tokens + self.position
        attended = self._attend(self.attention_norm(tokens), visible)
        tokens = tokens + self._drop(attended, noise, purpose)
        found = self.feed_forward(self.feed_forward_norm(tokens))
        return tokens + self._drop(found, noise, purpose + 1)

    def _drop(
        self, values: Float[Tensor, "B L D"], noise: StepNoise, purpose: int
    ) -> Float[Tensor, "B L D"]:
        if not self.training or not self.dropout:
            return values
        kept = noise.uniform(len(values), tuple(values.shape[1:]), purpose) >= self.dropout
        return values * kept / (1 - self.dropout)


def interleave(
    image: Float[Tensor, "B P D"], tabular: Float[Tensor, "B P D"], query: Float[Tensor, "B P D"]
) -> Float[Tensor, "B threeP D"]:
    """I_1, T_1, Q_1, I_2, T_2, Q_2, ..."""
    return torch.stack([image, tabular, query], dim=2).flatten(1, 2)


def even(first: int, second: int) -> tuple[int, int]:
    """The lengths after averaging: one more than 4 times the other becomes twice the other."""
    shorter = min(first, second)
    most = MOST_UNEVEN * shorter
    return tuple(2 * shorter if length > most else length for length in (first, second))  # pyright: ignore[reportReturnType]


def average_to(tokens: Float[Tensor, "B N D"], length: int) -> Float[Tensor, "B L D"]:
    """Means over neighbouring tokens, so that `length` of them remain."""
    if tokens.shape[1] == length:
        return tokens
    return F.adaptive_avg_pool1d(tokens.mT, length).mT
