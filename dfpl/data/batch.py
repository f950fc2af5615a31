"""The one type that travels from the loader to every method.

Dimensions: B samples, H x W picture or S x S x S volume, Fn numeric and Fc categorical columns, T
steps of a time series with Fs channels, C classes.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def layout(device: torch.device, dimensions: int = 4) -> torch.memory_format:
    """How images and the weights of convolutions lie in memory: as N, H, W, C on a GPU, where
    that is faster; as N, C, H, W on a CPU, whose BatchNorm loses two digits in the other.

    `dimensions`: of a batch of images, 4 of pictures and 5 of volumes.
    """
    if device.type != "cuda":
        return torch.contiguous_format
    return torch.channels_last if dimensions == 4 else torch.channels_last_3d


class Batch(NamedTuple):
    """What is absent holds zeros and must never be read: `available` says what is there."""

    image: Float[Tensor, "B 3 H W"] | Float[Tensor, "B 1 S S S"]
    """Normalised pixels."""
    numeric: Float[Tensor, "B Fn"]
    """Standardised numbers; NaN marks an empty cell."""
    category: Int[Tensor, "B Fc"]
    """Codes: 0 an empty cell, 1 a level unseen in training, 2... the levels."""
    series: Float[Tensor, "B T Fs"]
    """Standardised time series, part of the table; (B, 0, 0) where the data has none. NaN in all
    channels marks an empty step: a loader gives none, a method may hide one."""
    length: Int[Tensor, " B"]
    """How many of the T steps are valid; the others are padding, never to be read."""
    available: Bool[Tensor, "B 2"]
    """Columns IMAGE and TABULAR."""
    label: Int[Tensor, " B"] | Float[Tensor, "B C"]
    """Class index, or one 0/1 column per class for a multi-label task."""

    def to(self, device: torch.device | str) -> "Batch":
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self))
