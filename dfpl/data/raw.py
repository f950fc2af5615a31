"""What a source hands to `check` and `pack`: raw samples, the options of packing, and a report."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32
from pydantic import Field, model_validator

from dfpl.fields import Config, ConfigError

ImageKind = Literal["picture", "volume"]
"""A photograph or film (H, W, 3), or a scan of a body (S, S, S)."""
ChannelKind = Literal["number", "flag"]
"""A measured quantity, standardised before use, or something that is 0 or 1 and stays so."""


@runtime_checkable
class SeriesReader(Protocol):
    """How the time series of one sample is read. It travels to other processes: plain data."""

    @property
    def channels(self) -> dict[str, ChannelKind]:
        """Names of the channels, in order, and their kinds."""
        ...

    @property
    def steps(self) -> int:
        """T: the most steps, such as hours, that a series has."""
        ...

    def read(self, path: Path) -> Float32[np.ndarray, "L Fs"]:
        """The valid steps of a series, 1 to T of them, all finite. Raises DataError naming the
        file, the place in it, and the rule."""
        ...


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
    """Class name as text; empty: the sample is left out, with that reason."""
    split: pd.Series | None
    """train, val or test; None: drawn by `pack`, by group, stratified by label."""
    image: pd.Series
    """Path of the picture or volume, or None where the sample has none."""
    numeric: pd.DataFrame
    """Float columns, NaN for an empty cell."""
    category: pd.DataFrame
    """Text columns, None for an empty cell."""
    dropped: pd.DataFrame
    """Rows left out so far: columns id, reason."""
    labels: pd.DataFrame | None = None
    """For a multi-label task: a column of 0 and 1 per class. `label` is then any text."""
    private: bool = False
    """Whether the samples are people whose data is given out to named users only."""
    image_kind: ImageKind = "picture"
    """What the files of `image` are."""
    series: pd.Series | None = None
    """Path of the sample's time series, part of its table, or None where it has none; a `#` and
    its length may follow."""
    reader: SeriesReader | None = None
    """Reads `series`."""

    def __post_init__(self) -> None:
        assert {len(part) for part in self._rowwise().values()} == {len(self)}

    def __len__(self) -> int:
        return len(self.id)

    @property
    def has_table(self) -> Bool[np.ndarray, " N"]:
        """Whether the sample has a time series or any filled cell."""
        filled = [self.numeric.notna().to_numpy(), self.category.notna().to_numpy()]
        if self.series is not None:
            filled.append(self.series.notna().to_numpy()[:, None])
        return np.asarray(np.concatenate(filled, axis=1).any(axis=1))

    def take(self, rows: np.ndarray) -> "RawSamples":
        """The samples at these positions, or where this mask is True, numbered anew."""
        parts: dict[str, Any] = {
            name: part.iloc[rows].reset_index(drop=True) for name, part in self._rowwise().items()
        }
        return dataclasses.replace(self, **parts)

    def drop(self, bad: Bool[np.ndarray, " N"], reason: str | Sequence[str]) -> "RawSamples":
        """The samples outside the mask; the others go to `dropped` with their reason."""
        lines = pd.DataFrame({"id": self.id[bad].astype(str), "reason": reason}, dtype=str)
        dropped = pd.concat([self.dropped, lines], ignore_index=True)
        return dataclasses.replace(self.take(~bad), dropped=dropped)

    def _rowwise(self) -> dict[str, pd.Series | pd.DataFrame]:
        names = ("id", "group", "label", "split", "image", "numeric", "category")
        names += ("labels", "series")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


def column(frame: pd.DataFrame, name: str) -> pd.Series:
    """One column of a frame whose column names are unique."""
    found = frame[name]
    assert isinstance(found, pd.Series)
    return found


def nothing_dropped() -> pd.DataFrame:
    """The `dropped` member of a source that left out no row."""
    return pd.DataFrame({"id": [], "reason": []}, dtype=str)


class PackOptions(Config):
    """How raw samples become a packed data set."""

    image_size: Annotated[int, Field(ge=8)] = 128
    """Height and width in pixels, of a volume also its depth."""
    bad_file: Literal["error", "treat_as_missing"] = "error"
    """What to do with a picture that is absent, truncated or no image: list all and stop, or go on
    with the image modality absent for that sample (listed in dropped.parquet)."""
    infinite: Literal["error", "limit"] = "error"
    """What to do with infinite numbers, as in a laboratory value beyond the limit of detection:
    list the columns and stop, or take the largest (smallest) finite number of the column among the
    training rows."""
    val: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the samples in the validation split, where the split is drawn."""
    test: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the samples in the test split, where the split is drawn."""
    split_seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the split, where it is drawn."""

    @model_validator(mode="after")
    def _something_is_left_to_train(self) -> "PackOptions":
        if self.val + self.test >= 1:
            raise ConfigError(
                f"val + test must leave a share for training, got {self.val} + {self.test}"
            )
        return self


@dataclass(frozen=True, kw_only=True)
class Report:
    """What `dfpl data check` prints: counts next to what was expected, and all problems at once."""

    counts: list[tuple[str, int | str, int | str | None]] = field(default_factory=list)
    """(what, found, expected or None)."""
    problems: list[str] = field(default_factory=list)
    """What makes training impossible."""
    warnings: list[str] = field(default_factory=list)
    """What a person should know and may accept."""

    def __add__(self, other: "Report") -> "Report":
        """One after the other."""
        return Report(
            counts=self.counts + other.counts,
            problems=self.problems + other.problems,
            warnings=self.warnings + other.warnings,
        )
