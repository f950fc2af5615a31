"""A plain transformer over the tokens that are there: what fusion gives without any idea of what
is shared, specific or missing.

Source       none: a reference row, with the encoders that all methods share
What we kept a class token, the image's tokens with learned positions and the table's tokens, each
             with an embedding of its modality; pre-norm blocks in which a token that is absent is
             seen by no other; the class token's last state decides
Deviations   none; the tabular encoder's own class token and those of empty cells are tokens too

B samples, C classes, I image and T table tokens, N = 1 + I + T, D width.
"""

from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from dfpl.blocks import TransformerBlock
from dfpl.data.batch import Batch
from dfpl.data.packed import Schema
from dfpl.data.scenario import IMAGE, TABULAR
from dfpl.encoders.image import PlainImageEncoder, count_tokens
from dfpl.encoders.series import valid_tokens
from dfpl.encoders.tabular import PlainTabularEncoder
from dfpl.fields import IntRange
from dfpl.losses import task_loss
from dfpl.method import Method
from dfpl.unimodal import ImageConfig, Output, TableConfig, each_state


class Config(ImageConfig, TableConfig):
    """The sizes of the encoders and of the transformer over both modalities."""

    name: Literal["masked_transformer"] = "masked_transformer"
    depth: Annotated[int, Field(ge=1)] = 2
    """Transformer blocks over the tokens of both modalities."""


SEARCH_SPACE = {
    "method.depth": IntRange(1, 6),
    "method.tabular_depth": IntRange(1, 8),
}


class Model(Method):
    """The transformer for one schema."""

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
        cells = count_tokens(c.image_network, schema.image_size, schema.image_kind)
        self.position = _parameter(cells, c.width)
        self.modality = _parameter(2, c.width)
        self.cls = _parameter(1, c.width)
        self.blocks = nn.ModuleList(
            TransformerBlock(c.width, c.tabular_heads) for _ in range(c.depth)
        )
        self.norm = nn.LayerNorm(c.width)
        self.classifier = nn.Linear(c.width, schema.num_classes)

    def forward(self, batch: Batch) -> Output:
        return Output(self._fuse(*self._encode(batch), batch.available, valid_tokens(batch)))

    def final_layer(self) -> nn.Module:
        return self.classifier

    def state_logits(self, batch: Batch) -> dict[str, Float[Tensor, "B C"]]:
        """Encoders once, the transformer three times: tokens do not see the other modality before
        it."""
        sides, valid = self._encode(batch), valid_tokens(batch)
        return {
            state: self._fuse(*sides, left, valid)
            for state, left in each_state(batch.available).items()
        }

    def _encode(self, batch: Batch) -> tuple[Float[Tensor, "B I D"], Float[Tensor, "B T D"]]:
        has_image, has_table = batch.available[:, IMAGE], batch.available[:, TABULAR]
        image = self.image_encoder(batch.image, has_image)
        tabular = self.tabular_encoder(batch, has_table)
        return image + self.position + self.modality[IMAGE], tabular + self.modality[TABULAR]

    def _fuse(
        self,
        image: Float[Tensor, "B I D"],
        tabular: Float[Tensor, "B T D"],
        available: Bool[Tensor, "B 2"],
        valid: Bool[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B C"]:
        tokens = torch.cat([self.cls.expand(len(image), 1, -1), image, tabular], dim=1)
        visible = visible_tokens(available, image.shape[1], tabular.shape[1], valid)
        for block in self.blocks:
            tokens = block(tokens, visible)
        return self.classifier(self.norm(tokens[:, 0]))

    def losses(self, output: Output, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        return {"task": task_loss(output.logits, batch.label, self.task_loss)}


def visible_tokens(
    available: Bool[Tensor, "B 2"],
    num_image: int,
    num_tabular: int,
    valid: Bool[Tensor, "B T"] | None = None,
) -> Bool[Tensor, "B N N"]:
    """Which token may look at which: at the class token, and at those of available modalities,
    of the table's at the valid ones (None: all)."""
    B, N = len(available), 1 + num_image + num_tabular
    parts = available.new_ones(B, 1), *available.split(1, dim=1)
    lengths = (1, num_image, num_tabular)
    keys = [part.expand(B, length) for part, length in zip(parts, lengths, strict=True)]
    if valid is not None:
        keys[2] = keys[2] & valid
    return torch.cat(keys, dim=1)[:, None].expand(B, N, N)


def _parameter(rows: int, width: int) -> nn.Parameter:
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(rows, width), std=0.02))
