"""From raw samples to a PackedDataset: what every source shares.

A source reads its files into `RawSamples`; `pack` does the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
from pydantic import Field

from dfpl.data.packed import PackedDataset
from dfpl.fields import Config


@dataclass(frozen=True, kw_only=True)
class RawSamples:
    """What a source found: one row per sample in every member, in the same order."""

    name: str
    """Name of the data set."""
    source: str
    """Adapter and version of the raw data, for the schema."""
    id: pd.Series
    """Unique text."""
    group: pd.Series
    """Text: samples of one group (patient, lesion) never lie in two splits."""
    label: pd.Series
    """Class name as text."""
    split: pd.Series | None
    """train, val or test; None: drawn by `pack`, by group, stratified by label."""
    image: pd.Series
    """Path of the picture, or None where the sample has none."""
    numeric: pd.DataFrame
    """Float columns, NaN for an empty cell."""
    category: pd.DataFrame
    """Text columns, None for an empty cell."""
    dropped: pd.DataFrame
    """Rows left out so far: columns id, reason."""


class PackOptions(Config):
    """How raw samples become a packed data set."""

    image_size: Annotated[int, Field(ge=8)] = 128
    """Height and width in pixels."""
    bad_image: Literal["error", "treat_as_missing"] = "error"
    """What to do with a picture that is absent, truncated or no image: list all and stop, or go on
    with the image modality absent for that sample (listed in dropped.parquet)."""
    val: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the samples in the validation split, where the split is drawn."""
    test: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the samples in the test split, where the split is drawn."""
    split_seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the split, where it is drawn."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What `dfpl data check` prints: counts next to what was expected, and all problems at once."""

    counts: list[tuple[str, int | str, int | str | None]] = field(default_factory=list)
    """(what, found, expected or None)."""
    problems: list[str] = field(default_factory=list)
    """What makes training impossible."""
    warnings: list[str] = field(default_factory=list)
    """What a person should know and may accept."""


def check(samples: RawSamples, options: PackOptions) -> Report:
    """List every problem of these samples, without stopping at the first."""
    raise NotImplementedError


def pack(
    samples: RawSamples, out: Path, options: PackOptions, workers: int | None = None
) -> PackedDataset:
    """Write the packed data set below `out`. Raises DataError listing all problems."""
    raise NotImplementedError


Vocabulary = Mapping[str, list[str]]
