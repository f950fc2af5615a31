"""The one type that travels from the loader to every method.

Dimensions: B samples, H x W image, Fn numeric and Fc categorical columns, C classes.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def layout(device: torch.device) -> torch.memory_format:
    """How images and the weights of convolutions lie in memory: as N, H, W, C on a GPU, where
    that is faster; as N, C, H, W on a CPU, whose BatchNorm loses two digits in the other."""
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


class Batch(NamedTuple):
    """What is absent holds zeros and must never be read: `available` says what is there."""

    image: Float[Tensor, "B 3 H W"]
    """Normalised pixels."""
    numeric: Float[Tensor, "B Fn"]
    """Standardised numbers; NaN marks an empty cell."""
    category: Int[Tensor, "B Fc"]
    """Codes: 0 an empty cell, 1 a level unseen in training, 2... the levels."""
    available: Bool[Tensor, "B 2"]
    """Columns IMAGE and TABULAR."""
    label: Int[Tensor, " B"] | Float[Tensor, "B C"]
    """Class index, or one 0/1 column per class for a multi-label task."""

    def to(self, device: torch.device | str) -> "Batch":
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self))
