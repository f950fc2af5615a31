"""PackedDataset x Scenario x split -> batches. What a scenario hides is never read."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Bool, Int
from pydantic import Field
from torch import Tensor

from dfpl.config import AugmentConfig
from dfpl.data.augment import augment, sample_keys, uniforms
from dfpl.data.batch import Batch
from dfpl.data.packed import UNSEEN, PackedDataset, Split
from dfpl.data.scenario import IMAGE, TABULAR, Scenario
from dfpl.fields import Config

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as encoders expect


class Statistics(Config):
    """What is learned from the available cells of the training split before any training."""

    mean: list[float]
    """Of each numeric column."""
    std: list[Annotated[float, Field(gt=0)]]
    """Of each numeric column; 1 where the column does not vary."""
    seen: list[list[bool]]
    """For each categorical column, which codes occur."""

    def numbers(self, numeric: np.ndarray) -> np.ndarray:
        """Standardise; empty cells stay NaN."""
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        return (numeric - mean) / std if numeric.shape[1] else numeric

    def codes(self, category: np.ndarray) -> np.ndarray:
        """Mark the levels that no available training cell shows."""
        found = category.astype(np.int64)
        for column, seen in enumerate(self.seen):
            known = np.array(seen)[found[:, column]] | (found[:, column] == 0)
            found[:, column] = np.where(known, found[:, column], UNSEEN)
        return found


@dataclass(frozen=True)
class View:
    """The samples of one split under one scenario, and which modality of each is there."""

    packed: PackedDataset
    rows: Int[np.ndarray, " N"]
    available: Bool[np.ndarray, "N 2"]

    @classmethod
    def of(cls, packed: PackedDataset, split: Split, scenario: Scenario | None = None) -> "View":
        """Without a scenario, whatever the data has by nature."""
        rows = packed.rows(split)
        present = packed.present(rows)
        if scenario is None:
            return cls(packed, rows, present)
        return cls(packed, rows, scenario.hide(packed.ids(rows), present))

    def statistics(self) -> Statistics:
        """Means, deviations and levels over the tables that are available here."""
        numeric, category = self.packed.tables(self.rows[self.available[:, TABULAR]])
        numeric = numeric.astype(np.float64)
        filled = np.maximum((~np.isnan(numeric)).sum(axis=0), 1)
        mean = np.nansum(numeric, axis=0) / filled
        std = np.sqrt(np.nansum((numeric - mean) ** 2, axis=0) / filled)
        sizes = self.packed.schema.category_sizes
        seen = [np.bincount(category[:, i], minlength=size) > 0 for i, size in enumerate(sizes)]
        return Statistics(
            mean=mean.tolist(),
            std=np.where(std > 0, std, 1.0).tolist(),
            seen=[column.tolist() for column in seen],
        )


class Loader:
    """Reads the batches of a view, on one of several workers, onto a device."""

    def __init__(
        self, view: View, statistics: Statistics, batch_size: int, device: torch.device
    ) -> None:
        """`batch_size` is that of the global batch, summed over all workers."""
        self.view = view
        self.statistics = statistics
        self.batch_size = batch_size
        self.device = device
        self.keys = sample_keys(view.packed.ids(view.rows))

    @property
    def steps(self) -> int:
        """Batches of an epoch; they differ in size by one at most, and none is left out."""
        return max(1, -(-len(self.view.rows) // self.batch_size))

    def epoch(
        self, epoch: int, seed: int, config: AugmentConfig, shard: tuple[int, int] = (0, 1)
    ) -> Iterator[Batch]:
        """Every training sample once, in an order fixed by (seed, epoch), augmented.

        `shard` is (rank, number of workers): each takes its part of every global batch.
        """
        order = np.random.default_rng([seed, epoch]).permutation(len(self.view.rows))
        for batch in np.array_split(order, self.steps):
            mine = batch[shard[0] :: shard[1]]
            draws = torch.from_numpy(uniforms(self.keys[mine], seed, epoch))
            yield self.read(mine, (draws.to(self.device), config))

    def in_order(self, shard: tuple[int, int] = (0, 1)) -> Iterator[tuple[np.ndarray, Batch]]:
        """Every sample once, as it is; yields positions in the view and the batch."""
        mine = np.arange(len(self.view.rows))[shard[0] :: shard[1]]
        for start in range(0, len(mine), self.batch_size):
            positions = mine[start : start + self.batch_size]
            yield positions, self.read(positions)

    def read(
        self,
        positions: Int[np.ndarray, " B"],
        augmentation: tuple[Tensor, AugmentConfig] | None = None,
    ) -> Batch:
        """Read what is available of these samples; the rest is zeros."""
        available = self.view.available[positions]
        rows = self.view.rows[positions]
        numeric, category = self._tables(rows, available[:, TABULAR])
        label = torch.from_numpy(self.view.packed.label[rows]).to(self.device)
        return Batch(
            image=self._images(rows, available[:, IMAGE], augmentation),
            numeric=torch.from_numpy(numeric).to(self.device),
            category=torch.from_numpy(category).to(self.device),
            available=torch.from_numpy(available).to(self.device),
            label=label,
        )

    def _images(
        self,
        rows: Int[np.ndarray, " B"],
        present: Bool[np.ndarray, " B"],
        augmentation: tuple[Tensor, AugmentConfig] | None,
    ) -> Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(self.view.packed.images(rows[present])))
        image = pixels.to(self.device).permute(0, 3, 1, 2).float() / 255
        where = torch.from_numpy(np.flatnonzero(present)).to(self.device)
        if augmentation is not None and len(where):
            image = augment(image, augmentation[0][where], augmentation[1])
        mean, std = (image.new_tensor(x).view(1, 3, 1, 1) for x in (_MEAN, _STD))
        batch = image.new_zeros(len(rows), *image.shape[1:])
        return batch.index_copy(0, where, (image - mean) / std)

    def _tables(
        self, rows: Int[np.ndarray, " B"], present: Bool[np.ndarray, " B"]
    ) -> tuple[np.ndarray, np.ndarray]:
        schema = self.view.packed.schema
        numeric = np.zeros((len(rows), len(schema.numeric)), dtype=np.float32)
        category = np.zeros((len(rows), len(schema.category)), dtype=np.int64)
        numbers, codes = self.view.packed.tables(rows[present])
        numeric[present] = self.statistics.numbers(numbers)
        category[present] = self.statistics.codes(codes)
        return numeric, category
