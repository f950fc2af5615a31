"""Encoders turn one modality into shared and specific tokens, and hide what is absent."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

EncodeMissing = Literal["zeros", "skip"]


class Tokens(NamedTuple):
    """Token-level features of one modality in its two branches."""

    shared: Float[Tensor, "B L D"]
    specific: Float[Tensor, "B L D"]


def encode_present(
    encode: Callable[..., Tokens],
    inputs: tuple[Tensor, ...],
    present: Bool[Tensor, " B"],
    missing: EncodeMissing,
) -> Tokens:
    """Encode the samples that have the modality; nothing absent reaches the result.

    "zeros" runs the encoder on every sample, with a zero input where the modality is absent, as
    the paper does. "skip" runs it on the present samples alone and leaves zero tokens elsewhere:
    the same numbers for the present samples in eval mode, without the work for the others.
    """
    if missing == "zeros":
        return encode(*(zero_where_absent(value, present) for value in inputs))
    rows = present.nonzero().squeeze(1)
    found = encode(*(value[rows] for value in inputs))
    return Tokens(*(_scatter(tokens, rows, len(present)) for tokens in found))


def encode_present_plainly(
    encode: Callable[..., Tensor],
    inputs: tuple[Tensor, ...],
    present: Bool[Tensor, " B"],
    missing: EncodeMissing,
) -> Float[Tensor, "B L D"]:
    """As `encode_present`, for an encoder without branches."""

    def twice(*values: Tensor) -> Tokens:
        tokens = encode(*values)
        return Tokens(tokens, tokens)

    return encode_present(twice, inputs, present, missing).shared


def zero_where_absent(value: Tensor, present: Bool[Tensor, " B"]) -> Tensor:
    """Zero the rows of absent samples, whatever they hold (NaN times 0 would be NaN)."""
    there = present.view(-1, *[1] * (value.dim() - 1))
    return torch.where(there, value, value.new_zeros(()))  # unlike masked_fill, keeps the layout


def _scatter(
    tokens: Float[Tensor, "R L D"], rows: Tensor, num_samples: int
) -> Float[Tensor, "B L D"]:
    return tokens.new_zeros(num_samples, *tokens.shape[1:]).index_copy(0, rows, tokens)
