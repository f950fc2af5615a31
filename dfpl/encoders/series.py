"""Time series as tokens: one per step, which the tabular encoder's transformer reads with the rest.

Source       DrFuse's encoder of hourly bins (AAAI 2024): a linear map of all channels, a learned
             vector per position, transformer blocks that see valid steps alone; shared lower
             blocks and a set per branch, as for columns
Deviations   a class token before the steps, as before columns; pre-norm blocks; no dropout

Dimensions: B samples, T steps, Fs channels, L tokens of the table (class token, columns, steps), D
width.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dfpl.data.batch import Batch
from dfpl.data.packed import Schema
from dfpl.data.scenario import TABULAR


class StepEmbedding(nn.Module):
    """One token per step: W x_t + b + position_t, and a vector for empty cells + position_t where
    nothing is to be read."""

    def __init__(self, schema: Schema, width: int) -> None:
        super().__init__()
        self.channels = nn.Linear(len(schema.series), width)
        self.position = nn.Embedding(schema.steps, width)

    def forward(
        self,
        series: Float[Tensor, "B T Fs"],
        filled: Bool[Tensor, "B T"],
        empty: Float[Tensor, " D"],
    ) -> Float[Tensor, "B T D"]:
        read = filled[..., None]
        steps = torch.where(read, self.channels(series.where(read, 0.0)), empty)
        return steps + self.position.weight


def valid_steps(series: Float[Tensor, "B T Fs"], length: Int[Tensor, " B"]) -> Bool[Tensor, "B T"]:
    """Which steps are no padding."""
    return torch.arange(series.shape[1], device=length.device) < length[:, None]


def filled_steps(series: Float[Tensor, "B T Fs"], length: Int[Tensor, " B"]) -> Bool[Tensor, "B T"]:
    """Which valid steps are not empty: an empty one is NaN in all channels."""
    return valid_steps(series, length) & ~series.isnan().all(dim=2)


def valid_tokens(batch: Batch) -> Bool[Tensor, "B L"] | None:
    """Which tokens of the tabular encoder are no padding; None: all. An absent table has no step,
    whatever `length` says."""
    if not batch.series.shape[1]:
        return None
    columns = 1 + batch.category.shape[1] + batch.numeric.shape[1]
    valid = valid_steps(batch.series, batch.length.where(batch.available[:, TABULAR], 0))
    return torch.cat([valid.new_ones(len(valid), columns), valid], dim=1)


def token_mean(
    tokens: Float[Tensor, "B L D"], valid: Bool[Tensor, "B L"] | None
) -> Float[Tensor, "B D"]:
    """Mean over the valid tokens (None: over all); 0 where there is none."""
    if valid is None:
        return tokens.mean(dim=1)
    total = tokens.where(valid[..., None], 0.0).sum(dim=1)
    return total / valid.sum(dim=1, keepdim=True).clamp(min=1)


def seen_by_all(
    tokens: Float[Tensor, "B L D"], valid: Bool[Tensor, "B L"] | None
) -> Bool[Tensor, "B L L"]:
    """`visible[b, q, k]`: every token looks at the valid ones (None: at all), and at itself."""
    B, L, _ = tokens.shape
    if valid is None:
        return torch.ones(B, L, L, dtype=torch.bool, device=tokens.device)
    return valid[:, None] | torch.eye(L, dtype=torch.bool, device=tokens.device)
