"""Tabular encoder: a transformer over columns, with learned tokens for empty cells, and over the
steps of a time series where the table has one.

Source       TIP's tabular encoder (ECCV 2024), as the paper follows it; its blocks parted into
             shared lower ones and one set per branch
Deviations   an empty cell is a learned token and invisible to other columns, as in TIP; a level
             that training never showed is a zero vector plus its column's embedding
"""

from itertools import accumulate

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dfpl.blocks import TransformerBlock
from dfpl.data.batch import Batch
from dfpl.data.packed import EMPTY, UNSEEN, Schema
from dfpl.encoders import EncodeMissing, Tokens, encode_present, encode_present_plainly
from dfpl.encoders.series import StepEmbedding, filled_steps
from dfpl.fields import ConfigError


def check_heads(width: int, heads: int) -> None:
    """Raise ConfigError where a method's width cannot be shared out to its attention heads."""
    if width % heads:
        raise ConfigError(
            f"method.width must be a multiple of method.tabular_heads={heads}, got {width}"
        )


class TabularEncoder(nn.Module):
    """Table to L = 1 + Fc + Fn + T tokens per branch: CLS, categorical, numeric columns, steps."""

    def __init__(
        self, schema: Schema, width: int, depth: tuple[int, int], heads: int, missing: EncodeMissing
    ) -> None:
        """`depth`: number of blocks shared by both branches, and of blocks in each branch."""
        super().__init__()
        self.missing: EncodeMissing = missing
        self.embed = CellEmbedding(schema, width)
        self.lower = _blocks(depth[0], width, heads)
        self.shared = _blocks(depth[1], width, heads)
        self.specific = _blocks(depth[1], width, heads)
        self.apply(initialise)

    def forward(self, batch: Batch, present: Bool[Tensor, " B"]) -> Tokens:
        """`present`: whose table is read."""
        return encode_present(self._encode, table_of(batch), present, self.missing)

    def _encode(self, *table: Tensor) -> Tokens:
        tokens, visible = self.embed(*table)
        lower = _run(self.lower, tokens, visible)
        return Tokens(_run(self.shared, lower, visible), _run(self.specific, lower, visible))


class PlainTabularEncoder(nn.Module):
    """The same transformer without branches: table to L tokens in the same order."""

    def __init__(
        self, schema: Schema, width: int, depth: int, heads: int, missing: EncodeMissing
    ) -> None:
        super().__init__()
        self.missing: EncodeMissing = missing
        self.embed = CellEmbedding(schema, width)
        self.blocks = _blocks(depth, width, heads)
        self.apply(initialise)

    def forward(self, batch: Batch, present: Bool[Tensor, " B"]) -> Float[Tensor, "B L D"]:
        """`present`: whose table is read."""
        return encode_present_plainly(self._encode, table_of(batch), present, self.missing)

    def _encode(self, *table: Tensor) -> Float[Tensor, "B L D"]:
        tokens, visible = self.embed(*table)
        return _run(self.blocks, tokens, visible)


def table_of(batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What an encoder of tables reads."""
    return batch.numeric, batch.category, batch.series, batch.length


class CellEmbedding(nn.Module):
    """One token per column plus CLS; numbers share one affine map, columns are told apart by
    their own embedding (TIP). Then one per step of the time series."""

    offsets: Tensor

    def __init__(self, schema: Schema, width: int) -> None:
        super().__init__()
        *offsets, num_levels = accumulate((len(x) for x in schema.category.values()), initial=0)
        self.register_buffer("offsets", torch.tensor(offsets, dtype=torch.long), persistent=False)
        if schema.category:
            self.levels = nn.Embedding(max(num_levels, 1), width)
        if schema.numeric:
            self.number = nn.Linear(1, width)
        self.cls = nn.Parameter(torch.empty(width))
        self.empty = nn.Parameter(torch.empty(width))
        self.column = nn.Embedding(1 + len(schema.category) + len(schema.numeric), width)
        self.norm = nn.LayerNorm(width)
        self.steps = StepEmbedding(schema, width) if schema.steps else None
        nn.init.trunc_normal_(self.cls, std=0.02)
        nn.init.trunc_normal_(self.empty, std=0.02)

    def forward(
        self,
        numeric: Float[Tensor, "B Fn"],
        category: Int[Tensor, "B Fc"],
        series: Float[Tensor, "B T Fs"],
        length: Int[Tensor, " B"],
    ) -> tuple[Float[Tensor, "B L D"], Bool[Tensor, "B L L"]]:
        """Return the tokens, and which token may look at which: an empty cell or step, or one that
        is padding, is seen by itself alone."""
        cls = self.cls.expand(len(numeric), 1, -1)
        tokens = torch.cat([cls, *self._category(category), *self._numeric(numeric)], dim=1)
        empty = torch.cat([category == EMPTY, numeric.isnan()], dim=1)  # (B, Fc + Fn)
        hidden = F.pad(empty, (1, 0))
        tokens = torch.where(hidden[..., None], self.empty, tokens)
        tokens = self.norm(tokens + self.column.weight)
        if self.steps:
            filled = filled_steps(series, length)
            steps = self.norm(self.steps(series, filled, self.empty))
            tokens = torch.cat([tokens, steps], dim=1)
            hidden = torch.cat([hidden, ~filled], dim=1)
        own = torch.eye(hidden.shape[1], dtype=torch.bool, device=hidden.device)
        return tokens, ~hidden[:, None, :] | own

    def _category(self, category: Int[Tensor, "B Fc"]) -> list[Float[Tensor, "B Fc D"]]:
        if not category.shape[1]:
            return []
        known = category > UNSEEN
        position = (category - UNSEEN - 1).clamp(min=0) + self.offsets
        return [self.levels(position.where(known, 0)) * known[..., None]]

    def _numeric(self, numeric: Float[Tensor, "B Fn"]) -> list[Float[Tensor, "B Fn D"]]:
        if not numeric.shape[1]:
            return []
        return [self.number(numeric.nan_to_num(0.0)[..., None])]


def _blocks(depth: int, width: int, heads: int) -> nn.ModuleList:
    return nn.ModuleList(TransformerBlock(width, heads) for _ in range(depth))


def _run(
    blocks: nn.ModuleList, tokens: Float[Tensor, "B L D"], visible: Bool[Tensor, "B L L"]
) -> Float[Tensor, "B L D"]:
    for block in blocks:
        tokens = block(tokens, visible)
    return tokens


def initialise(module: nn.Module) -> None:
    """TIP's initial values: N(0, 0.02) for maps and embeddings, 0 for biases."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
