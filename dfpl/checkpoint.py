"""Save and resume: weights by safetensors, the rest as tensors that need no unpickling of code."""

import io
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from dfpl.distributed import of_rank_0
from dfpl.fields import Row
from dfpl.storage import Storage

Weights = dict[str, Tensor]
LAST = "last.pt"
ZIP = b"PK\x03\x04"
"""How every file of torch.save begins."""


@dataclass(kw_only=True)
class Progress:
    """All that a half-trained run needs to go on as if nothing had happened."""

    epochs_done: int = 0
    model: Weights = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    best: Weights = field(default_factory=dict)
    """Weights of the best epoch so far."""
    best_epoch: int = -1
    best_value: float = float("-inf")
    rows: list[Row] = field(default_factory=list)
    """One dictionary per finished epoch."""
    seconds: float = 0.0
    generator: Tensor = field(default_factory=torch.get_rng_state)

    def save(self, folder: Storage) -> None:
        """Write the checkpoint atomically; a kill leaves the previous one."""
        stream = io.BytesIO()
        torch.save({**vars(self), "generator": torch.get_rng_state()}, stream)
        folder.write(LAST, stream.getvalue())

    @classmethod
    def load(cls, folder: Storage) -> "Progress | None":
        """The last checkpoint, or None where there is none or it cannot be read whole.

        Rank 0 reads it for all workers: they must not differ in where they go on.
        """
        content = of_rank_0(lambda: folder.read(LAST) if folder.exists(LAST) else None)
        if content is None or not content.startswith(ZIP):
            return None
        try:
            return cls(**torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
        except (RuntimeError, EOFError, KeyError, TypeError, ValueError):
            return None  # torn, or of another version: the run starts anew


def clone(weights: Weights) -> Weights:
    """A copy that later steps do not change."""
    return {name: tensor.detach().clone() for name, tensor in weights.items()}


def save_weights(weights: Weights, folder: Storage, name: str = "model.safetensors") -> None:
    folder.write(name, save({key: value.contiguous().cpu() for key, value in weights.items()}))


def load_weights(folder: Storage, name: str = "model.safetensors") -> Weights:
    return load(folder.read(name))
