"""How the arithmetic of a run is done: no part of its config, but kept in its record.

Importing this does not import torch.
"""

from dataclasses import dataclass
from typing import Literal

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class Compute:
    """Choices that make a step faster; they may change the last digits of its numbers, bfloat16
    more than that. So all runs of a study share them."""

    precision: Precision = "float32"
    """Of the forward pass in training: bfloat16 is torch's autocast. Losses, statistics, weights
    and evaluation stay in float32 (in which torch lets a GPU's convolutions use TF32)."""
    compile: bool = False
    """Let torch.compile write kernels for the model's forward and backward pass, not for its
    losses; needs a compiler."""
