"""Batches and models of a given shape, for benchmarks: random inputs, real sizes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from dfpl.compute import Compute
from dfpl.config import OptimConfig
from dfpl.data.batch import Batch, layout
from dfpl.data.packed import PackedDataset, Schema
from dfpl.method import Method, build, place
from dfpl.model import Config
from dfpl.step import Stepper

LEVELS = 6  # of each categorical column


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The paper's shape for DVM-CAR, but for the batch, which is 256 there."""

    batch: int = 32
    image_size: int = 128
    image_network: str = "resnet50"
    width: int = 512
    prototypes: int = 5
    classes: int = 286
    numeric: int = 13
    category: int = 4


def schema(shape: Shape) -> Schema:
    return Schema(
        name="made_up",
        class_names=[f"class {i}" for i in range(shape.classes)],
        image_size=shape.image_size,
        numeric=[f"number {i}" for i in range(shape.numeric)],
        category={f"column {i}": [str(j) for j in range(LEVELS)] for i in range(shape.category)},
    )


def packed_of(shape: Shape, rows: int) -> PackedDataset:
    """A training split of noise, with every class in turn."""
    rng, size = np.random.default_rng(0), shape.image_size
    names = [f"s{i}" for i in range(rows)]
    return PackedDataset(
        schema=schema(shape),
        image=rng.integers(0, 256, (rows, size, size, 3), dtype=np.uint8),
        numeric=rng.normal(size=(rows, shape.numeric)).astype(np.float32),
        category=rng.integers(2, 2 + LEVELS, (rows, shape.category)).astype(np.int32),
        label=np.arange(rows) % shape.classes,
        sample=pd.DataFrame(
            {"id": names, "group": names, "split": "train", "has_image": True, "has_table": True}
        ),
    )


def batch_of(shape: Shape, device: str, image_missing: float = 0.0) -> Batch:
    """Standard normal inputs as the loader gives them; a share of the images is missing."""
    generator = torch.Generator().manual_seed(0)
    B, size = shape.batch, shape.image_size
    available = torch.ones(B, 2, dtype=torch.bool)
    available[: round(image_missing * B), 0] = False
    image = torch.randn(B, 3, size, size, generator=generator)
    return Batch(
        image=image.where(available[:, :1, None, None], 0.0).to(
            memory_format=layout(torch.device(device))
        ),
        numeric=torch.randn(B, shape.numeric, generator=generator),
        category=torch.randint(2, 2 + LEVELS, (B, shape.category), generator=generator),
        series=torch.zeros(B, 0, 0),
        length=torch.zeros(B, dtype=torch.long),
        available=available,
        label=torch.arange(B) % shape.classes,
    ).to(device)


def dfpl_of(shape: Shape, device: str, **values: Any) -> Method:
    torch.manual_seed(0)
    config = Config.from_dict(
        {
            "name": "dfpl",
            "image_network": shape.image_network,
            "width": shape.width,
            "num_prototypes": shape.prototypes,
            **values,
        }
    )
    return place(build(config, schema(shape)), torch.device(device)).train()


class Plain(Method):
    """The encoders of DFPL, both branches of both, with one linear map of their token means."""

    def __init__(self, like: Any, num_classes: int) -> None:
        super().__init__()
        self.image_encoder, self.tabular_encoder = like.image_encoder, like.tabular_encoder
        self.classify = nn.Linear(4 * like.config.width, num_classes)

    def encode(self, batch: Batch) -> list[Tensor]:
        image = self.image_encoder(batch.image, batch.available[:, 0])
        table = self.tabular_encoder(batch, batch.available[:, 1])
        return [*image, *table]

    def forward(self, batch: Batch) -> Tensor:
        return self.classify(torch.cat([tokens.mean(dim=1) for tokens in self.encode(batch)], 1))

    def losses(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {"task": nn.functional.cross_entropy(output, batch.label)}


def stepper(method: Method, compute: Compute | None = None) -> Stepper:
    return Stepper(method, OptimConfig(), compute or Compute())
