"""PackedDataset x Scenario x split -> batches. What a scenario hides is never read.

A thread reads batches into memory ahead of their use; the rest is done on the device.

Dimensions: as in `batch`; R of the B samples have an image, H x W x E pixels (E = 3, or a depth).
"""

import time
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from pydantic import Field
from torch import Tensor

from dfpl.config import AugmentConfig
from dfpl.data.augment import augment, augment_volume, sample_keys, uniforms
from dfpl.data.batch import Batch, layout
from dfpl.data.packed import UNSEEN, PackedDataset, Split
from dfpl.data.scenario import IMAGE, TABULAR, Scenario
from dfpl.fields import Config

AHEAD = 2  # batches that are read while one is in use
NOTHING = AugmentConfig(flip=0.0, crop=1.0, rotation=0.0, colour=0.0)
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as encoders expect
EXTREME = 10.0
"""A standardised number of a time series that is farther from 0 counts as an error of entry: it
becomes 0, as in the MIMIC-III benchmark (Harutyunyan et al. 2019)."""
CLIPPED = 0.001
"""Share of the numbers of a channel, at each end, that its mean and deviation take for the nearest
of the others."""


class Statistics(Config):
    """What is learned from the available cells of the training split before any training."""

    mean: list[float]
    """Of each numeric column."""
    std: list[Annotated[float, Field(gt=0)]]
    """Of each numeric column; 1 where the column does not vary."""
    seen: list[list[bool]]
    """For each categorical column, which codes occur."""
    series_mean: list[float] = Field(default_factory=list)
    """Of each channel of the time series; 0 for a flag."""
    series_std: list[Annotated[float, Field(gt=0)]] = Field(default_factory=list)
    """Of each channel of the time series; 1 for a flag, and where it does not vary."""

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

    def steps(self, series: np.ndarray, length: np.ndarray) -> np.ndarray:
        """Standardise time series; what is no number that can be, and all padding, is 0."""
        mean, std = (np.array(x, np.float32) for x in (self.series_mean, self.series_std))
        found = (series - mean) / std if series.shape[2] else series
        valid = np.arange(series.shape[1]) < length[:, None]
        return np.where(valid[..., None] & (np.abs(found) <= EXTREME), found, np.float32(0))


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
        series = _series_statistics(self.packed, self.rows[self.available[:, TABULAR]])
        seen = [np.bincount(category[:, i], minlength=size) > 0 for i, size in enumerate(sizes)]
        return Statistics(
            mean=mean.tolist(),
            std=np.where(std > 0, std, 1.0).tolist(),
            seen=[column.tolist() for column in seen],
            series_mean=[mean for mean, _ in series],
            series_std=[std for _, std in series],
        )


def _series_statistics(packed: PackedDataset, rows: np.ndarray) -> list[tuple[float, float]]:
    """Mean and deviation of each channel over the valid steps, extremes clipped."""
    series, length = packed.time_series(rows)
    valid = np.arange(series.shape[1]) < length[:, None]
    found = []
    for at, kind in enumerate(packed.schema.series.values()):
        values = series[..., at][valid].astype(np.float64)
        if kind == "flag" or not len(values):
            found.append((0.0, 1.0))
            continue
        clipped = values.clip(*np.quantile(values, [CLIPPED, 1 - CLIPPED]))
        std = float(clipped.std())
        found.append((float(clipped.mean()), std if std > 0 else 1.0))
    return found


class Piece(NamedTuple):
    """What was read of a batch; its pictures are made from this on the device."""

    pixels: UInt8[Tensor, "R H W E"]
    place: Int[Tensor, " R"]
    """Where in the batch each picture belongs."""
    draws: Float[Tensor, "R 9"]
    """Random numbers of the augmentation."""
    numeric: Float[Tensor, "B Fn"]
    category: Int[Tensor, "B Fc"]
    series: Float[Tensor, "B T Fs"]
    length: Int[Tensor, " B"]
    available: Bool[Tensor, "B 2"]
    label: Int[Tensor, " B"] | Float[Tensor, "B C"]

    def pinned(self) -> "Piece":
        """In memory from which a GPU copies while everything else goes on."""
        return Piece(*(part.pin_memory() for part in self))

    def to(self, device: torch.device) -> "Piece":
        return Piece(*(part.to(device, non_blocking=True) for part in self))


class Loader:
    """Reads the batches of a view, on one of several workers, onto a device.

    Each pass has a thread that reads ahead; it ends with the pass, or when the iterator is closed
    or dropped. What goes wrong in it is raised by the iterator.
    """

    def __init__(
        self, view: View, statistics: Statistics, batch_size: int, device: torch.device
    ) -> None:
        """`batch_size` is that of the global batch, summed over all workers."""
        self.view = view
        self.statistics = statistics
        self.batch_size = batch_size
        self.device = device
        self.keys = sample_keys(view.packed.ids(view.rows))
        self.waited_s = 0.0
        """Seconds for which the last pass was held up because a batch was not read yet."""
        self._mean, self._std = (
            torch.tensor(x, device=device).view(1, 3, 1, 1) for x in (_MEAN, _STD)
        )
        self.volumes = view.packed.schema.image_kind == "volume"

    @property
    def steps(self) -> int:
        """Batches of an epoch; they differ in size by one at most, and none is left out."""
        return max(1, -(-len(self.view.rows) // self.batch_size))

    def epoch(
        self, epoch: int, seed: int, config: AugmentConfig, shard: tuple[int, int] = (0, 1)
    ) -> Generator[Batch, None, None]:
        """Every training sample once, in an order fixed by (seed, epoch), augmented.

        `shard` is (rank, number of workers): each takes its part of every global batch.
        """
        order = np.random.default_rng([seed, epoch]).permutation(len(self.view.rows))
        parts = [batch[shard[0] :: shard[1]] for batch in np.array_split(order, self.steps)]
        for piece in self._ahead(parts, seed, epoch):
            yield self.build(piece, config)

    def in_order(
        self, shard: tuple[int, int] = (0, 1)
    ) -> Generator[tuple[np.ndarray, Batch], None, None]:
        """Every sample once, as it is; yields positions in the view and the batch."""
        mine = np.arange(len(self.view.rows))[shard[0] :: shard[1]]
        starts = range(0, len(mine), self.batch_size)
        parts = [mine[start : start + self.batch_size] for start in starts]
        for positions, piece in zip(parts, self._ahead(parts), strict=True):
            yield positions, self.build(piece, NOTHING)

    def read(self, positions: Int[np.ndarray, " B"], seed: int = 0, epoch: int = 0) -> Piece:
        """Read what is available of these samples into memory; of tables, the rest is zeros."""
        rows, available = self.view.rows[positions], self.view.available[positions]
        there = available[:, IMAGE]
        parts = (
            self.view.packed.images(rows[there]),
            np.flatnonzero(there),
            uniforms(self.keys[positions[there]], seed, epoch),
            *self._tables(rows, available[:, TABULAR]),
            available,
            self.view.packed.label[rows],
        )
        piece = Piece(*(torch.from_numpy(np.ascontiguousarray(part)) for part in parts))
        return piece.pinned() if self.device.type == "cuda" else piece

    def build(self, piece: Piece, config: AugmentConfig) -> Batch:
        """Make the batch of what was read, on the device; absent images are zeros."""
        here = piece.to(self.device)
        return Batch(
            image=self._images(here, config),
            numeric=here.numeric,
            category=here.category,
            series=here.series,
            length=here.length,
            available=here.available,
            label=here.label,
        )

    def _ahead(
        self, parts: Sequence[Int[np.ndarray, "..."]], seed: int = 0, epoch: int = 0
    ) -> Generator[Piece, None, None]:
        """Read these parts of the view in order, in a thread that is ahead of their use."""
        self.waited_s = 0.0
        pending: deque[Future[Piece]] = deque()
        reader = ThreadPoolExecutor(1, "reader")
        try:
            for part in parts:
                pending.append(reader.submit(self.read, part, seed, epoch))
                if len(pending) > AHEAD:
                    yield self._wait_for(pending.popleft())
            while pending:
                yield self._wait_for(pending.popleft())
        finally:
            reader.shutdown(cancel_futures=True)

    def _wait_for(self, piece: Future[Piece]) -> Piece:
        start = time.perf_counter()
        try:
            return piece.result()
        finally:
            self.waited_s += time.perf_counter() - start

    def _images(
        self, piece: Piece, config: AugmentConfig
    ) -> Float[Tensor, "B 3 H W"] | Float[Tensor, "B 1 S S S"]:
        pixels = piece.pixels[:, None] if self.volumes else piece.pixels.permute(0, 3, 1, 2)
        image = pixels.float().div_(255)
        if len(image):
            image = (augment_volume if self.volumes else augment)(image, piece.draws, config)
        image = self._standardised(image)
        shape = (len(piece.available), *image.shape[1:])
        memory_format = layout(self.device, image.dim())
        if image.shape == shape:
            return image.contiguous(memory_format=memory_format)
        batch = torch.empty(shape, device=self.device, memory_format=memory_format)
        return batch.zero_().index_copy_(0, piece.place, image)

    def _standardised(self, image: Tensor) -> Tensor:
        """Pictures by ImageNet's mean and deviation of each colour; a volume by its own."""
        if self.volumes:
            inner = tuple(range(1, image.dim()))
            std, mean = torch.std_mean(image, dim=inner, keepdim=True)
            return image.sub_(mean).div_(std.clamp(min=1e-3))
        return image.sub_(self._mean).div_(self._std)

    def _tables(
        self, rows: Int[np.ndarray, " B"], present: Bool[np.ndarray, " B"]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        schema = self.view.packed.schema
        numeric = np.zeros((len(rows), len(schema.numeric)), dtype=np.float32)
        category = np.zeros((len(rows), len(schema.category)), dtype=np.int64)
        numbers, codes = self.view.packed.tables(rows[present])
        numeric[present] = self.statistics.numbers(numbers)
        category[present] = self.statistics.codes(codes)
        series = np.zeros((len(rows), schema.steps, len(schema.series)), dtype=np.float32)
        length = np.zeros(len(rows), dtype=np.int64)
        steps, length[present] = self.view.packed.time_series(rows[present])
        series[present] = self.statistics.steps(steps, length[present])
        return numeric, category, series, length
