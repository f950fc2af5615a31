"""A data set as arrays on disk, memory-mapped, with the facts that models and tables need.

On disk: `image.npy` (N, S, S, 3) uint8, of volumes (N, S, S, S); `numeric.npy` (N, Fn) float32
with NaN for an empty cell, `category.npy` (N, Fc) int32, `label.npy` (N,) int64 or (N, C) float32;
where there are time series, `series.npy` (N, T, Fs) float32 and `length.npy` (N,) int64, the valid
steps; `sample.parquet` (id, group, split, has_image, has_table), `dropped.parquet` (id, reason),
`schema.json`.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Float32, Int, Int64, UInt8
from pydantic import Field

from dfpl.data.raw import ChannelKind, ImageKind
from dfpl.data.scenario import IMAGE, TABULAR
from dfpl.fields import Config

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
EMPTY, UNSEEN = 0, 1  # category codes: an empty cell, a level that training never showed
FORMAT = 1
ARRAYS = ("image", "numeric", "category", "label")
SERIES = ("series", "length")


class Schema(Config):
    """The facts of a data set that a model needs to be built and a new row to be read."""

    name: str
    """Name of the data set, as in `RunConfig.dataset`."""
    task: Literal["multiclass", "multilabel"] = "multiclass"
    class_names: list[str]
    image_size: Annotated[int, Field(ge=1)]
    """Height and width in pixels, of a volume also its depth."""
    image_kind: ImageKind = "picture"
    """Whether an image is H x W x 3 or S x S x S."""
    numeric: list[str]
    """Names of the numeric columns, in order."""
    category: dict[str, list[str]]
    """Levels of each categorical column, seen in the training split, in order of their codes
    (code = position + 2)."""
    series: dict[str, ChannelKind] = Field(default_factory=dict)
    """Channels of the time series that is part of the table, in order."""
    steps: Annotated[int, Field(ge=0)] = 0
    """T, the most steps that a time series has; 0: there is none."""
    private: bool = False
    """Whether ids are hashed in what is exported, because the samples are people."""
    source: str = ""
    """Which adapter packed it, from which version of the raw data."""
    content_hash: str = ""
    """Hash over arrays, samples and the facts above; fills `RunConfig.data_hash`."""
    format: int = FORMAT

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Of one image as it is packed."""
        size = self.image_size
        return (size, size, 3 if self.image_kind == "picture" else size)

    @property
    def category_sizes(self) -> list[int]:
        """Number of codes of each categorical column, the two special ones included."""
        return [len(levels) + 2 for levels in self.category.values()]


class DataError(ValueError):
    """The data is not as it should be; the message lists every problem with the place to mend."""


@dataclass(frozen=True, kw_only=True)
class PackedDataset:
    """Arrays of one data set. What a sample holds is read only through `images`, `tables` and
    `time_series`."""

    schema: Schema
    image: UInt8[np.ndarray, "N H W E"]
    """E: 3 colours of a picture, or the depth of a volume."""
    numeric: Float[np.ndarray, "N Fn"]
    category: Int[np.ndarray, "N Fc"]
    label: Int[np.ndarray, " N"] | Float[np.ndarray, "N C"]
    sample: pd.DataFrame
    """One row per sample: id, group, split, has_image, has_table."""
    series: Float32[np.ndarray, "N T Fs"] | None = None
    length: Int64[np.ndarray, " N"] | None = None

    def __len__(self) -> int:
        return len(self.sample)

    def rows(self, split: Split) -> Int[np.ndarray, " R"]:
        """Positions of the samples of a split, in the order of the arrays."""
        return np.flatnonzero(self.sample["split"].to_numpy() == split)

    def ids(self, rows: Int[np.ndarray, " R"]) -> list[str]:
        return self.sample["id"].to_numpy()[rows].tolist()

    def present(self, rows: Int[np.ndarray, " R"]) -> Bool[np.ndarray, "R 2"]:
        """Which modality each sample has by nature, before any scenario hides one."""
        return self.sample[["has_image", "has_table"]].to_numpy(dtype=bool)[rows]

    def images(self, rows: Int[np.ndarray, " R"]) -> UInt8[np.ndarray, "R H W E"]:
        """Read the pixels of these samples, and of no other."""
        return self.image[rows]

    def tables(
        self, rows: Int[np.ndarray, " R"]
    ) -> tuple[Float[np.ndarray, "R Fn"], Int[np.ndarray, "R Fc"]]:
        """Read the cells of these samples, and of no other."""
        return self.numeric[rows], self.category[rows]

    def time_series(
        self, rows: Int[np.ndarray, " R"]
    ) -> tuple[Float32[np.ndarray, "R T Fs"], Int64[np.ndarray, " R"]]:
        """Read the series of these samples, and of no other, and how many steps are valid."""
        if self.series is None or self.length is None:
            return np.zeros((len(rows), 0, 0), np.float32), np.zeros(len(rows), np.int64)
        return self.series[rows], self.length[rows]

    def problems(self) -> list[str]:
        """Everything that makes training on this data wrong, all at once; empty if nothing."""
        found = [*sample_problems(self.sample), *self._label_problems()]
        for column, (name, size) in enumerate(
            zip(self.schema.category, self.schema.category_sizes, strict=True)
        ):
            codes = self.category[:, column]
            outside = codes[(codes < 0) | (codes >= size)].tolist()
            if outside:
                found.append(
                    f"category column {name!r} holds code {outside[0]}, "
                    f"but codes run from 0 to {size - 1}"
                )
        if np.isinf(self.numeric).any():
            found.append("the numeric columns hold infinities; empty cells are NaN")
        if self.series is not None and not np.isfinite(self.series).all():
            found.append("the time series hold numbers that are not finite")
        return found

    def _label_problems(self) -> list[str]:
        if self.schema.task == "multilabel":
            if np.isin(self.label, (0, 1)).all():
                return []
            return ["a label of a multi-label task is 0 or 1, and some are neither"]
        names = self.schema.class_names
        if len(names) < 2:
            return [f"the label has one class only ({', '.join(names)}); nothing can be learned"]
        outside = self.label[(self.label < 0) | (self.label >= len(names))].tolist()
        if outside:
            return [f"a label is {outside[0]}, but labels run from 0 to {len(names) - 1}"]
        found = []
        for split in SPLITS:
            here = set(np.unique(self.label[self.rows(split)]).tolist())
            absent = [name for code, name in enumerate(names) if code not in here]
            if absent and here:
                found.append(f"no sample of class {', '.join(absent)} in the {split} split")
        return found

    def save(self, folder: Path) -> "PackedDataset":
        """Write everything below `folder`; the schema, with the content hash, comes last.

        Pixels that are mapped from `folder` itself are already where they belong.
        """
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "schema.json").unlink(missing_ok=True)
        for name in self._arrays:
            _save_array(folder / f"{name}.npy", getattr(self, name))
        self.sample.to_parquet(folder / "sample.parquet", index=False)
        schema = self.schema.with_values({"content_hash": self.hash()})
        part = folder / "schema.json.part"
        part.write_text(json.dumps(schema.to_dict(), indent=1))
        part.replace(folder / "schema.json")
        return PackedDataset.load(folder)

    @property
    def _arrays(self) -> tuple[str, ...]:
        return ARRAYS + (SERIES if self.schema.steps else ())

    def hash(self) -> str:
        """A hash of the content: equal data has the same on every machine, whatever its path."""
        digest = hashlib.blake2b(digest_size=8)
        facts = {k: v for k, v in self.schema.to_dict().items() if k != "content_hash"}
        digest.update(json.dumps(facts, sort_keys=True).encode())
        digest.update(self.sample.to_csv(index=False, lineterminator="\n").encode())
        for name in self._arrays[1:]:
            digest.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        for start in range(0, len(self), 1024):
            digest.update(np.ascontiguousarray(self.image[start : start + 1024]).tobytes())
        return digest.hexdigest()

    @staticmethod
    def is_packed(folder: Path) -> bool:
        return (folder / "schema.json").is_file()

    @classmethod
    def load(cls, folder: Path) -> "PackedDataset":
        """Open a packed folder; pixels stay on disk until they are read."""
        if not cls.is_packed(folder):
            raise DataError(
                f"no packed data set in {folder} (looked for {folder / 'schema.json'}); "
                "pack raw data with: dfpl data pack SOURCE RAW OUT"
            )
        try:
            values = dict(json.loads((folder / "schema.json").read_text()))
            if values.get("format") != FORMAT:
                raise DataError(
                    f"{folder} has format {values.get('format')}, this version reads {FORMAT}; "
                    "pack the raw data again"
                )
            schema = Schema.from_dict(values)
            modes: dict[str, Literal["r"] | None] = dict.fromkeys((*ARRAYS, *SERIES), "r")
            modes |= {"label": None, "length": None}
            names = ARRAYS + (SERIES if schema.steps else ())
            packed = cls(
                schema=schema,
                sample=pd.read_parquet(folder / "sample.parquet"),
                **{name: np.load(folder / f"{name}.npy", mmap_mode=modes[name]) for name in names},
            )
        except DataError:
            raise
        except (OSError, EOFError, TypeError, ValueError) as error:
            raise DataError(f"the packed data set in {folder} is damaged: {error}") from None
        if wrong := packed._misfits():
            raise DataError(f"the packed data set in {folder} is damaged: {'; '.join(wrong)}")
        return packed

    def _misfits(self) -> list[str]:
        """Arrays whose shape is not what the samples and the schema say."""
        schema = self.schema
        wide = (schema.num_classes,) if schema.task == "multilabel" else ()
        inner = {
            "image": schema.image_shape,
            "numeric": (len(schema.numeric),),
            "category": (len(schema.category),),
            "label": wide,
        }
        if schema.steps:
            inner |= {"series": (schema.steps, len(schema.series)), "length": ()}
        return [
            f"{name} has shape {getattr(self, name).shape}, expected {(len(self), *shape)}"
            for name, shape in inner.items()
            if getattr(self, name).shape != (len(self), *shape)
        ]


def _save_array(path: Path, array: np.ndarray) -> None:
    if isinstance(array, np.memmap) and path.exists() and path.samefile(str(array.filename)):
        assert np.load(path, mmap_mode="r").shape == array.shape
        return
    np.save(path, array)


def sample_problems(sample: pd.DataFrame) -> list[str]:
    """What is wrong with the samples of a data set: ids, groups, splits, modalities."""
    found = []
    for column in ("id", "group", "split"):
        blank = np.flatnonzero(sample[column].isna().to_numpy())
        if len(blank):
            found.append(f"{len(blank)} samples have no {column}, first in row {blank[0]}")
    ids = sample["id"].dropna()
    twice = ids[ids.duplicated()].tolist()
    if twice:
        found.append(f"{len(twice)} ids occur more than once, e.g. {twice[0]!r}")
    other = sorted(set(sample["split"].dropna()) - set(SPLITS))
    if other:
        found.append(
            f"a split is one of {', '.join(SPLITS)}, found {', '.join(map(repr, other[:5]))}"
        )
    for split in SPLITS:
        if split not in set(sample["split"]):
            found.append(f"the {split} split is empty")
    splits: dict[str, set[str]] = {}
    for group, split in zip(sample["group"].tolist(), sample["split"].tolist(), strict=True):
        splits.setdefault(group, set()).add(split)
    shared = [group for group, found_in in splits.items() if len(found_in) > 1]
    if shared:
        found.append(f"{len(shared)} groups lie in more than one split, e.g. {shared[0]!r}")
    either = sample[["has_image", "has_table"]].to_numpy(dtype=bool).any(axis=1)
    neither = sample["id"].to_numpy()[~either].tolist()
    if neither:
        found.append(f"{len(neither)} samples have neither image nor table, e.g. {neither[0]!r}")
    return found


__all__ = [
    "EMPTY",
    "IMAGE",
    "SPLITS",
    "TABULAR",
    "UNSEEN",
    "DataError",
    "PackedDataset",
    "Schema",
    "Split",
    "sample_problems",
]
