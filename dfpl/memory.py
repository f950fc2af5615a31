"""How much memory training will take on each device, told before it starts.

    weights, gradients, Adam's two moments     4 numbers of 4 bytes per parameter that learns
    activations                                what autograd keeps of the encoders for the backward
                                               pass, counted on a batch without content
                                               (PyTorch's meta device): nothing is computed
    batch                                      images and tables

An estimate from below: it leaves out what a method keeps behind its encoders, the workspace of
convolutions and what the allocator holds in reserve.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dfpl.config import RunConfig
from dfpl.data.batch import Batch
from dfpl.data.packed import Schema
from dfpl.encoders.image import ImageEncoder, PlainImageEncoder
from dfpl.encoders.tabular import PlainTabularEncoder, TabularEncoder, table_of
from dfpl.method import build

PER_PARAMETER = 16
"""Bytes: a weight, its gradient and two moments, in float32."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Bytes that one worker needs."""

    model: int
    activations: int
    """Of the encoders, in float32."""
    batch: int

    @property
    def total(self) -> int:
        return self.model + self.activations + self.batch

    def __str__(self) -> str:
        parts = f"model {_gb(self.model)}, encoders' activations {_gb(self.activations)}"
        return f"at least {_gb(self.total)} per worker in float32 ({parts})"


def estimate(run: RunConfig, schema: Schema, workers: int = 1) -> Estimate:
    """What training `run` takes on each of `workers` devices."""
    batch = empty_batch(schema, -(-run.optim.batch_size // workers))
    with torch.device("meta"):
        method = build(run.method, schema).train()
    learns = sum(p.numel() for p in method.parameters() if p.requires_grad)
    return Estimate(
        model=PER_PARAMETER * learns,
        activations=sum(_kept(module, batch) for module in method.modules()),
        batch=sum(part.nbytes for part in batch),
    )


def empty_batch(schema: Schema, size: int) -> Batch:
    """A batch of so many samples that has shapes and no content."""
    high, wide, depth = schema.image_shape
    image = (3, high, wide) if schema.image_kind == "picture" else (1, high, wide, depth)
    with torch.device("meta"):
        return Batch(
            image=torch.empty(size, *image),
            numeric=torch.empty(size, len(schema.numeric)),
            category=torch.empty(size, len(schema.category), dtype=torch.long),
            series=torch.empty(size, schema.steps, len(schema.series)),
            length=torch.empty(size, dtype=torch.long),
            available=torch.empty(size, 2, dtype=torch.bool),
            label=torch.empty(size, dtype=torch.long),
        )


def _kept(module: nn.Module, batch: Batch) -> int:
    inputs: tuple[Tensor, ...]
    match module:
        case ImageEncoder() | PlainImageEncoder():
            inputs = (batch.image,)
        case TabularEncoder() | PlainTabularEncoder():
            inputs = table_of(batch)
        case _:
            return 0
    with SavedBytes([*module.parameters(), *batch]) as saved:
        module._encode(*inputs)
    return saved.total


class SavedBytes(AbstractContextManager["SavedBytes"]):
    """Counts what autograd keeps for the backward pass: the memory that grows with the batch.

    Each storage counts once, parameters (given as `without`) not at all. The same on any device.
    """

    def __init__(self, without: list[Tensor]) -> None:
        self._known = {_storage_of(tensor) for tensor in without}
        self._kept: list[Tensor] = []  # so that no storage is used twice
        self.total = 0
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._count, lambda saved: saved)

    def _count(self, tensor: Tensor) -> Tensor:
        if _storage_of(tensor) not in self._known:
            self._known.add(_storage_of(tensor))
            self._kept.append(tensor.detach())
            self.total += tensor.untyped_storage().nbytes()
        return tensor

    def __enter__(self) -> "SavedBytes":
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._hooks.__exit__(*error)


def _storage_of(tensor: Tensor) -> int:
    """What two tensors have in common that share their memory, even where they have none."""
    return tensor.untyped_storage()._cdata


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
